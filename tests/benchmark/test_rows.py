"""The rows: what is compared does the same work on both sides."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmark.images import PilDigits, maps_for_opencv
from benchmark.rows import Setting, source_at_hand
from benchmark.steps import TRIALS
from benchmark.table import ROWS, rows_of
from benchmark.tutorial import TutorialNetwork

import stn_train
from stn_train.data.datasets import render
from stn_train.data.distortion import sample_distortion
from stn_train.experiment.runtime import Runtime
from stn_train.experiment.trial import size_of
from stn_train.specs import DatasetSpec

DOCUMENT = Path(stn_train.__file__).parents[1] / "docs/performance.md"


def test_every_row_has_a_name_of_its_own_and_is_described():
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names)
    sections = dict(re.findall(r"^## (.+)\n([^#]*)", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE))
    for section in ("How it is measured", "What it reaches"):
        assert re.findall(r"^\| `(.+?)` \|", sections[section], re.MULTILINE) == names, section


def test_rows_are_chosen_by_a_pattern():
    assert {row.name for row in rows_of("tutorial/*")} == {"tutorial/64", "tutorial/256"}
    assert rows_of("*") == list(ROWS)


@pytest.mark.slow
@pytest.mark.parametrize("row", rows_of("images/*"), ids=lambda row: row.name)
def test_every_row_about_images_can_be_measured(row, monkeypatch):
    monkeypatch.setattr("benchmark.images._BATCHES", 2)
    assert all(value > 0 for value in row.measure(Setting(Runtime(torch.device("cpu")), "digits")))


def test_opencv_is_asked_for_the_same_images():
    cv2 = pytest.importorskip("cv2")
    spec, digits = DatasetSpec.model_validate("rts"), Setting(Runtime(torch.device("cpu")), "digits").digits
    some = digits.subset(torch.arange(20))
    draws = sample_distortion(spec, some, 0, "train")
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    sources, maps = some.images[:, 0].numpy(), maps_for_opencv(spec, draws[0], (28, 28))
    theirs = [cv2.warpAffine(image, each, (42, 42), flags=flags) for image, each in zip(sources, maps, strict=True)]
    ours = 255 * render(spec, some, draws, torch.arange(20))[:, 0]
    assert (ours - torch.from_numpy(np.stack(theirs))).abs().max() < 1, "but for rounding to whole grey values"


def test_the_measured_networks_are_of_one_budget():
    sizes = {name: size_of(trial).parameters for name, trial in TRIALS.items()}
    assert all(abs(size / 400_000 - 1) <= 0.02 for size in sizes.values())
    assert [trial.model.transformer and trial.model.transformer.output_size for trial in TRIALS.values()] == [
        None,
        TRIALS["cnn"].dataset.canvas,
        (16, 16),
        (28, 28),
    ]


def test_the_tutorials_network_starts_at_the_identity_and_has_its_size():
    network = TutorialNetwork().eval()
    assert sum(parameter.numel() for parameter in network.parameters()) == 27_360
    images = torch.rand(2, 1, 28, 28)
    assert torch.allclose(network(images), network.classifier(images), atol=1e-4)


def test_a_small_source_is_shown_over_and_over():
    digits = Setting(Runtime(torch.device("cpu")), "digits").digits
    assert len(digits) == len(digits.labels) == 60_000
    assert digits.repeats == 1


@pytest.mark.parametrize("named", ["option", "variable", "nowhere"])
def test_mnist_is_taken_where_it_is_at_hand(named, tmp_path, monkeypatch):
    (tmp_path / "MNIST/raw").mkdir(parents=True)
    for name in ("train-images.idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (tmp_path / "MNIST/raw" / f"{name}-ubyte").touch()
    monkeypatch.delenv("STN_TRAIN_DATA", raising=False)
    if named == "variable":
        monkeypatch.setenv("STN_TRAIN_DATA", str(tmp_path))
    found = source_at_hand(str(tmp_path) if named == "option" else None)
    assert found == ("digits" if named == "nowhere" else "mnist")


def test_pil_images_show_the_digits(real_digits):
    digits = real_digits[0].subset(torch.arange(3))
    shown = PilDigits(digits, lambda image: image.size)
    assert [shown[number] for number in range(3)] == [((28, 28), int(label)) for label in digits.labels]
