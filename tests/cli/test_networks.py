"""Transformers anywhere, and a classifier of the user's own, from a configuration to the report."""

import sys
from pathlib import Path

import numpy as np
import pytest

from stn_train import load_network
from stn_train.report.snapshots import KINDS
from stn_train.run_folder import RunFolder
from stn_train.specs import trials_of

NETS = """
from torch import nn

def mine(size, channels, classes, width=8):
    w = round(width)
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(channels, w, 5), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Sequential(nn.Flatten(), nn.Linear(w * ((size[0] - 4) // 2) * ((size[1] - 4) // 2), classes)),
    )
"""
CONFIG = """
source: digits
datasets: [r]
models:
  - {name: mine, classifier: "nets:mine"}
  - name: two
    classifier: "nets:mine"
    transformer: {family: tps, localisation: fc_paper, parallel: 2, output_size: 16}
  - {name: deep, base: st_cnn_similarity, transformer: {before: [1, 2]}}
  - {name: row, base: st_fcn_attention, transformer: {before: [0, 0]}}
training: {epochs: 1, batch_size: 96}
"""


@pytest.fixture
def nets(stn):
    """The current directory holds a module `nets`, which nobody else shall find afterwards."""
    Path("nets.py").write_text(NETS)
    yield
    sys.modules.pop("nets", None)


@pytest.mark.usefixtures("nets")
@pytest.mark.slow
def test_every_kind_of_network_is_trained_saved_and_reported(stn):
    Path("networks.yaml").write_text(CONFIG)
    ended = stn("run", "--config", "networks.yaml", "-q")
    assert ended.code == 0, ended
    folder = RunFolder(Path("runs/networks"))
    files = {trial.model.name: folder.trial(trial).path for trial in trials_of(folder.load_experiment())}
    thetas = {name: _arrays(path / "predictions.npz", "theta") for name, path in files.items()}
    assert {name: [theta.shape for theta in found.values()] for name, found in thetas.items()} == {
        "mine": [],
        "two": [(120, 32)] * 2,
        "deep": [(120, 4)] * 2,
        "row": [(120, 3)] * 2,
    }
    assert list(thetas["two"]) == ["theta", "theta_1"]
    assert not (files["mine"] / "examples.npz").exists()
    assert not (files["deep"] / "examples.npz").exists()
    assert list(_arrays(files["two"] / "examples.npz", "out")) == ["output", "output_1", "outline", "outline_1"]
    assert list(_arrays(files["row"] / "training.npz", "out")) == ["output", "output_1", "outline"]
    figures = {path.name for path in folder.figures.iterdir()}
    drawn = {f"{kind}_{model}@r.{ending}" for kind, ending in KINDS.items() for model in ("two", "row")}
    assert figures == {
        "learning_curves@r.png",
        "costs@r.png",
        "courses@r.png",
        "confusions@r.png",
        "strip@r.png",
        *drawn,
    }
    assert stn("eval", str(files["two"]), "--allow-imports").code == 0
    assert (
        "transformer.transformers.1.localisation.1.weight"
        in load_network(files["two"] / "checkpoint.pt", allow_imports=True).state_dict()
    )
    assert "2 channels" in stn("eval", "runs/networks", "--allow-imports", "--dataset", "addition").sentence


def test_a_classifier_that_is_not_there_is_told_before_anything_is_trained(stn):
    sentence = stn(
        "run", "--config", "small.yaml", "--set", "models=[{name: mine, classifier: 'nowhere:mine'}]"
    ).sentence
    assert "nowhere cannot be imported" in sentence
    assert not Path("runs").exists()


def _arrays(path: Path, prefix: str) -> dict[str, np.ndarray]:
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays if name.startswith(prefix)}
