"""Code that a stored file names is run only where the user says so; what a user's own configuration names always is."""

import sys
from pathlib import Path

import pytest
import torch

import stn_train as st
from stn_train import load_network
from stn_train.errors import UserError
from stn_train.training.checkpoint import read_checkpoint

NET = """
from pathlib import Path
from torch import nn

Path("was_run").touch()

def mine(size, channels, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size[0] * size[1], classes))
"""
CONFIG = """
source: digits
datasets: [r, plain]
models: [{name: mine, classifier: "net:mine"}]
training: {epochs: 1, batch_size: 96}
"""
RUN = "runs/config"
TRIAL = f"{RUN}/trials/r/mine/seed-0"


@pytest.fixture
def forget():
    """What makes the next import of `net` run its code; to be called when it may have been imported."""

    def forget() -> None:
        sys.modules.pop("net", None)
        Path("was_run").unlink(missing_ok=True)

    forget()  # another test's, of the same name
    yield forget
    sys.modules.pop("net", None)


@pytest.fixture
def run_of_a_stranger(stn, forget) -> str:
    Path("net.py").write_text(NET)
    Path("config.yaml").write_text(CONFIG)
    assert stn("run", "--config", "config.yaml", "-q").code == 0
    assert Path("was_run").exists()
    forget()
    return RUN


def test_a_stored_files_code_is_run_only_where_it_is_allowed(stn, run_of_a_stranger, forget, contents):
    before = contents(Path())
    for command, named_in in (
        (("eval", RUN), f"{RUN}/trials/plain/mine/seed-0/checkpoint.pt"),
        (("eval", TRIAL, "--dataset", "plain"), f"{TRIAL}/checkpoint.pt"),
        (("eval", f"{TRIAL}/checkpoint.pt"), f"{TRIAL}/checkpoint.pt"),
        (("robustness", RUN), f"{TRIAL}/checkpoint.pt"),
        (("visualize", TRIAL), f"{TRIAL}/checkpoint.pt"),
        (("run", "--config", f"{RUN}/config.yaml", "--output-dir", "again"), f"{RUN}/config.yaml"),
        (("run", "--config", f"{RUN}/config.yaml", "--dry-run"), f"{RUN}/config.yaml"),
    ):
        assert stn(*command).sentence.startswith(f"{named_in} names the classifier net:mine")
        assert contents(Path()) == before
    for command in (("eval", TRIAL), ("robustness", RUN), ("visualize", TRIAL, "--only", "confusion")):
        assert stn(*command, "--allow-imports").code == 0
        assert Path("was_run").exists()
        forget()


def test_a_notebook_too_runs_it_only_where_it_is_allowed(run_of_a_stranger):
    with pytest.raises(UserError, match="names the classifier net:mine"):
        st.run(f"{RUN}/config.yaml", output_dir="again", quiet=True)
    assert not Path("was_run").exists()
    st.run(f"{RUN}/config.yaml", output_dir="again", quiet=True, allow_imports=True)
    assert Path("was_run").exists()


def test_a_localisation_network_of_the_users_is_code_too(stn, forget):
    """The report's command says so, and the demo leaves its model out and shows the others."""
    Path("net.py").write_text(
        NET.replace("(size, channels, classes)", "(family, size, channels)").replace(
            "classes)", "len(family.identity))"
        )
    )
    model = '{name: mine, base: st_cnn_paper, transformer: {localisation: "net:mine"}}'
    Path("config.yaml").write_text(CONFIG.replace('{name: mine, classifier: "net:mine"}', f"cnn_paper, {model}"))
    assert stn("run", "--config", "config.yaml", "-q", "--set", "datasets=[r]").code == 0
    assert "config.yaml --allow-imports" in Path(f"{RUN}/report.md").read_text()
    forget()
    assert stn("demo", RUN, "--no-open").code == 0
    assert not Path("was_run").exists()
    assert "--allow-imports" in Path(f"{RUN}/demo.html").read_text()


def test_a_link_to_a_strangers_configuration_is_none_of_the_users(stn, run_of_a_stranger):
    Path("mine.yaml").symlink_to(f"{RUN}/config.yaml")
    assert stn("run", "--config", "mine.yaml", "--dry-run").sentence.startswith("mine.yaml names the classifier")
    assert not Path("was_run").exists()


def test_commands_that_need_no_network_run_no_code(stn, run_of_a_stranger):
    Path("runs/copy").symlink_to("config")
    for command in (
        ("report", RUN),
        ("status", RUN),
        ("compare", RUN, "runs/copy"),
        ("config", "show", f"{RUN}/config.yaml"),
    ):
        assert stn(*command).code == 0
    assert not Path("was_run").exists()


def test_check_builds_what_it_is_allowed_to(stn, run_of_a_stranger):
    refused = stn("config", "check", f"{RUN}/config.yaml")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert refused.err.startswith(f"{RUN}/config.yaml names the classifier net:mine")
    assert not Path("was_run").exists()
    assert stn("config", "check", f"{RUN}/config.yaml", "--allow-imports").code == 0
    assert Path("was_run").exists()


def test_taken_up_again_a_run_imports_what_the_users_configuration_names_and_no_checkpoint(stn, run_of_a_stranger):
    Path(TRIAL, "result.json").unlink()
    Path("mine.yaml").write_text(CONFIG.replace("net:mine", "other:mine"))
    Path("other.py").write_text(NET.replace("was_run", "my_own"))
    refused = stn("run", "--config", "mine.yaml", "--output-dir", RUN).sentence
    assert "holds another trial: model.classifier was net:mine and is other:mine" in refused
    assert Path("my_own").exists()
    assert not Path("was_run").exists()
    assert stn("run", "--config", "config.yaml", "-q").code == 0
    assert Path("was_run").exists()


def test_the_encoder_of_a_colocalisation_runs_no_code(stn, run_of_a_stranger, contents):
    """Its result may say that it is ours, and its checkpoint that it is not."""
    command = ("colocalise", "--config", "paper/colocalisation", "--set", "source=digits", "--only", "t/3", "-q")
    small = ("--set", "encoder.epochs=1", "--set", "localiser.steps=1", "--set", "localiser.batch_size=8")
    assert stn(*command, *small, "--output-dir", "where").code == 0
    Path("where/encoder/checkpoint.pt").write_bytes(Path(TRIAL, "checkpoint.pt").read_bytes())
    Path("where/cells/t/3/result.json").unlink()
    assert stn(*command, *small, "--output-dir", "where").sentence.startswith("where/encoder/checkpoint.pt")
    assert not Path("was_run").exists()


def test_from_python_it_is_asked_for_too(run_of_a_stranger):
    checkpoint = Path(TRIAL, "checkpoint.pt")
    with pytest.raises(UserError, match="whose code would be run"):
        load_network(checkpoint)
    assert read_checkpoint(checkpoint)["trial"].model.classifier == "net:mine"
    assert not Path("was_run").exists()
    assert load_network(checkpoint, allow_imports=True)(torch.zeros(1, 1, 28, 28)).shape == (1, 10)


def test_the_report_says_how_its_own_configuration_is_run(run_of_a_stranger):
    assert "\nstn-train run --config config.yaml --allow-imports\n" in Path(RUN, "report.md").read_text()
