"""What a session sets for its process, and what a trial is given."""

import platform
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from stn_train.data.prebuilt import build_prebuilt
from stn_train.data.sources import load_images
from stn_train.errors import UserError
from stn_train.experiment.runtime import Runtime, load_trial_data, open_runtime
from stn_train.specs import DatasetSpec, ExperimentSpec, SourceSpec, trials_of

FAULTS = """
import resource
import torch
from stn_train.experiment.runtime import open_runtime

open_runtime("cpu", 1, None)

def use():
    torch.ones(1 << 24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

for _ in range(10):  # until what is small has found places of its own
    before = use()
for _ in range(10):
    after = use()
print(after - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left as they are")
@pytest.mark.slow
def test_memory_that_a_tensor_has_freed_is_not_fetched_anew_for_the_next():
    """Ten tensors of 64 MB; one or two may find their place taken by something small, and get another."""
    ended = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    pages = 2**26 // resource.getpagesize()
    assert int(ended.stdout) < 3 * pages


@pytest.mark.parametrize("device", ["mps", "meta", "xpu", "cuda:9", "cpu:1", "privateuseone", "gpu", "", "cuda:x"])
def test_a_device_that_is_not_here_is_told_in_one_clear_sentence(device):
    if device == "mps" and torch.backends.mps.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(UserError) as caught:
        open_runtime(device, None, None)
    sentence = str(caught.value)
    assert sentence.startswith(f"--device {device}")
    assert "cpu" in sentence
    assert len(sentence) < 120


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> str:
    folder: Path = tmp_path_factory.mktemp("prebuilt")
    train, test = (digits.subset(torch.arange(200)) for digits in load_images("digits"))
    build_prebuilt(
        DatasetSpec.model_validate("r"), SourceSpec.model_validate("digits"), {"train": train, "test": test}, folder
    )
    return str(folder)


def test_a_built_folder_may_lie_at_home(built, monkeypatch):
    monkeypatch.setenv("HOME", str(Path(built).parent))
    keys = {
        "source": "digits",
        "datasets": ["r"],
        "models": ["cnn"],
        "training": {"elastic_augmentation": 0.0},
        "prebuilt": "any",
    }
    (trial,) = trials_of(ExperimentSpec.model_validate({"name": "home", **keys}))
    _, digits, _ = load_trial_data(trial, Runtime(torch.device("cpu"), prebuilt=f"~/{Path(built).name}"))
    assert digits == 200


@pytest.mark.parametrize(("pose", "given"), [("predicted", False), ("supervised", True), ("oracle", True)])
@pytest.mark.parametrize("drawn_once", [False, True])
def test_poses_are_given_in_training_as_the_model_wants_them(pose, given, drawn_once, built):
    model = {"name": "st", "base": "st_cnn", "transformer": {"pose": pose}}
    keys = {"prebuilt": built} if drawn_once else {}
    spec = ExperimentSpec.model_validate(
        {
            "name": "given",
            "source": "digits",
            "datasets": ["r"],
            "models": [model],
            "training": {"elastic_augmentation": 0.0},
            **keys,
        }
    )
    data, _, _ = load_trial_data(trials_of(spec)[0], Runtime(torch.device("cpu"), prebuilt=keys.get("prebuilt")))
    batch = next(data.batches(0, 0, 10))
    assert (batch.poses is not None) == given
