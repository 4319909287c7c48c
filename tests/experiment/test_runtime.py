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
from stn_train.experiment.run import run_trials
from stn_train.experiment.runtime import Runtime, load_trial_data, open_runtime
from stn_train.run_folder import RunFolder
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


LACKS = "The operator 'aten::grid_sampler_2d_backward' is not currently implemented for the MPS device."


def test_apples_gpu_is_chosen_where_there_is_one(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for there, device in ((True, "mps"), (False, "cpu")):
        monkeypatch.setattr("torch.backends.mps.is_available", lambda there=there: there)
        assert open_runtime(None, None, None).device == torch.device(device)


@pytest.mark.parametrize("error", [NotImplementedError(LACKS), TypeError("Cannot convert a MPS Tensor to float64")])
@pytest.mark.parametrize("device", ["mps", "cpu"])
def test_what_torch_lacks_on_apples_gpu_fails_a_trial_with_a_way_out(error, device, monkeypatch, tmp_path):
    def fails(*arguments):
        raise error
        yield

    monkeypatch.setattr("stn_train.experiment.run.run_trial", fails)
    keys = {"source": "digits", "datasets": ["r"], "models": ["cnn"], "training": {}}
    trials = trials_of(ExperimentSpec.model_validate({"name": "small", **keys}))
    (failure,) = (
        progress.failure
        for progress in run_trials(trials, RunFolder(tmp_path), Runtime(torch.device(device)))
        if progress.failure
    )
    assert str(error) in failure.why
    assert (failure.traceback is None) == (device == "mps")
    assert ("--device cpu" in failure.why and "PYTORCH_ENABLE_MPS_FALLBACK=1" in failure.why) == (device == "mps")
