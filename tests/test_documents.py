"""What README.md, docs/ and the script of their pictures say: commands, options, configurations, scripts, Python."""

import re
import runpy
import shlex
import sys
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import torch
import typer

from stn_train import SpatialTransformer
from stn_train.cli import app
from stn_train.config import dump_commented, load_config
from stn_train.data.sources import load_digits
from stn_train.specs import ExperimentSpec, Spec, trials_of

ROOT = Path(__file__).parents[1]
DOCUMENTS = {
    path.relative_to(ROOT).as_posix(): path.read_text().replace("\\\n", "")
    for path in (ROOT / "README.md", *ROOT.glob("docs/**/*.md"), ROOT / "scripts/readme_figures.sh")
}
README = DOCUMENTS["README.md"]
COMMANDS = sorted(
    {
        shlex.join(takewhile(lambda word: word != ">", shlex.split(line, comments=True)))
        for text in DOCUMENTS.values()
        for line in re.findall(r"^(?:\| `)?(stn-train [^`\n]*)", text, re.MULTILINE)
    }
)


@pytest.fixture
def beside_mild(tmp_path, monkeypatch) -> None:
    """A folder with the documentation's own configurations in it."""
    (written,) = re.findall(r"```yaml\n# mild.yaml\n(.*?)```", DOCUMENTS["docs/configuration.md"], re.DOTALL)
    (tmp_path / "mild.yaml").write_text(written)
    (tmp_path / "mine.yaml").write_text(dump_commented(load_config("rts", ["name=mine"])))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_is_understood(beside_mild, line):
    command, arguments = typer.main.get_command(app), shlex.split(line)[1:]
    while hasattr(command, "commands"):
        command = command.commands[arguments.pop(0)]
    given = command.make_context(line, arguments).params
    if isinstance(given.get("config"), str):
        experiment = load_config(given["config"], given.get("overrides") or (), kind=Spec)
        assert not isinstance(experiment, ExperimentSpec) or trials_of(experiment, given.get("only", "*"))


def test_the_commands_were_found():
    assert len(COMMANDS) > 25
    assert "stn-train config copy rts mine.yaml --full" in COMMANDS


@pytest.mark.parametrize("script", sorted(set(re.findall(r"scripts/\w+\.\w+", "".join(DOCUMENTS.values())))))
def test_every_script_exists(script):
    assert (ROOT / script).is_file()


@pytest.mark.parametrize("document", ["README.md", "docs/python.md"])
def test_the_documents_python_does_what_it_says(document, tmp_path, monkeypatch):
    """All of it, in order, in one folder; of the bundled digits, few are enough."""
    training, test = (digits.subset(torch.arange(400)) for digits in load_digits("digits"))
    monkeypatch.setattr("stn_train.data.sources._scikit_digits", lambda: (training, test))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", DOCUMENTS[document], re.DOTALL):
        exec(block, names)
    model = names["model"].eval()
    places = {name for name, module in model.named_modules() if isinstance(module, SpatialTransformer)}
    if document == "README.md":
        assert places == {"transformer"}, "in front of all of it"
        return
    assert places == {"transformer", "module.layer2.transformer"}, "in front of all of it, and before layer2"
    assert len(names["data"]) == len(names["scores"].predicted) == len(names["run"].predictions("rts", "st_cnn_paper"))
    assert names["untrained"].eval()(names["data"][0][0][None]).shape == (1, 10)
    assert "# 8 x 1 x 28 x 28, and 8 x 6" in DOCUMENTS[document]
    assert (names["warped"].shape, names["theta"].shape) == ((8, 1, 28, 28), (8, 6))
    assert model(torch.rand(1, 3, 224, 224)).shape == (1, 1000)


ROOMS = re.findall(r"^  ([\w.]+/?) {2,}\S", README, re.MULTILINE)


def test_readme_names_every_room():
    package = ROOT / "stn_train"
    rooms = {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    files = {path.name for path in package.glob("*.py") if not path.name.startswith("__")} - {"yaml_nodes.py"}
    assert set(ROOMS) == rooms | files
    assert {name for name in re.findall(r"\b\w+\.py\b", README) if not any(ROOT.rglob(name))} == set()


@pytest.fixture
def script(monkeypatch) -> Callable[..., None]:
    """Run a script of ours in this process."""

    def run(name: str, *arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(ROOT / "scripts" / name), run_name="__main__")

    return run


@pytest.mark.slow
def test_the_resnet_example_tells_two_errors(script, capsys):
    script("resnet_example.py", "--epochs", "1", "--digits", "20", "--before", "layer3")
    assert len(re.findall(r"test error [\d.]+ %", capsys.readouterr().out)) == 2


def test_the_familys_grids_are_drawn(script, tmp_path):
    script("family_grids.py", str(tmp_path / "families.png"))
    assert (tmp_path / "families.png").read_bytes().startswith(b"\x89PNG")
