"""`stn-train data`: what is built can be trained on, and what is drawn can be looked at."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from stn_train.specs import DATASETS

RUN = ("run", "--config", "small.yaml", "--threads", "1", "--quiet", "--only", "r/cnn")
BUILD = ("data", "build", "--config", "small.yaml", "--output-dir", "built")


def test_what_is_built_can_be_read_by_numpy_and_trained_on(stn):
    ended = stn(*BUILD)
    assert (ended.code, ended.out, ended.err) == (0, "wrote built/r\n", "")
    manifest = json.loads(Path("built/r/manifest.json").read_bytes())
    assert (manifest["source"], manifest["images"]) == ("digits", {"train": 480, "test": 120})
    for split, count in manifest["images"].items():
        images = np.load(f"built/r/{split}/images.npy", mmap_mode="r")
        assert (images.shape, images.dtype) == ((count, 28, 28), np.uint8)
        with np.load(f"built/r/{split}/parameters.npz") as parameters:
            assert parameters["theta"].shape == (count, 6)
            assert np.abs(parameters["rotation"]).max() <= 90

    assert stn(*RUN, "--set", "prebuilt=built").code == 0
    result = json.loads(Path("runs/small/trials/r/cnn/seed-0/result.json").read_bytes())
    assert result["trial"]["prebuilt"] is True
    assert (result["training_digits"], result["images"]) == (480, 120)

    again = stn(*RUN, "--set", "training.epochs=1")
    assert "built was True and is False" in again.sentence


def test_built_and_fresh_are_measured_on_the_same_images(stn, finished):
    assert stn(*BUILD).code == 0
    assert stn(*RUN, "--set", "prebuilt=built", "--set", "training.epochs=1").code == 0
    measured = (Path("runs/small"), finished[0])
    built, fresh = (np.load(folder / "trials/r/cnn/seed-0/predictions.npz") for folder in measured)
    for name in ("label", "digit"):
        assert np.array_equal(built[name], fresh[name])
    found = json.loads(stn("eval", "runs/small", "--json").out)["checkpoints"]
    result = json.loads(Path("runs/small/trials/r/cnn/seed-0/result.json").read_bytes())
    assert found[0]["confusion"] == result["confusion"]


def test_what_was_built_otherwise_or_not_at_all_is_refused(stn):
    sentence = stn(*RUN, "--set", "prebuilt=nowhere").sentence
    assert sentence.startswith("nowhere/r holds no prebuilt dataset; ")
    assert "stn-train data build" in sentence
    assert stn(*BUILD).code == 0
    other = stn(*RUN, "--set", "prebuilt=built", "--set", "datasets=[{name: r, base: r, rotation: 5}]")
    assert other.sentence.startswith("built/r holds another dataset than the configuration's r of digits; ")
    images = Path("built/r/test/images.npy")
    images.write_bytes(images.read_bytes()[:-1] + b"\x01")
    assert stn(*RUN, "--set", "prebuilt=built").sentence.startswith(f"{images} is missing or damaged")
    assert "prebuilt" in stn(*RUN, "--set", "prebuilt=built", "--validate").sentence


@pytest.mark.parametrize("datasets", ["addition", ",".join(DATASETS)])
def test_a_preview_is_a_picture_of_every_dataset(stn, datasets):
    ended = stn("data", "preview", "--config", "small.yaml", "--set", f"datasets=[{datasets}]", "-o", "new/sheet.png")
    assert (ended.code, ended.out, ended.err) == (0, "wrote new/sheet.png\n", "")
    content = Path("new/sheet.png").read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert content.endswith(b"IEND\xaeB`\x82")
    width, height = struct.unpack(">II", content[16:24])
    assert width > 1000
    rows = 1 + datasets.count(",") + 1
    assert height / width == pytest.approx(rows / 10, rel=0.35)


def test_a_preview_goes_to_a_file_of_its_own_name(stn):
    assert stn("data", "preview", "--config", "small.yaml").out == "wrote preview.png\n"
    assert Path("preview.png").read_bytes().startswith(b"\x89PNG")
    Path("folder.png").mkdir()
    assert "folder.png" in stn("data", "preview", "--config", "small.yaml", "-o", "folder.png").sentence


BEGINNINGS = {"png": b"\x89PNG", "SVG": b"<?xml", "pdf": b"%PDF", "jpg": b"\xff\xd8\xff", "webp": b"RIFF"}


def test_a_picture_has_the_format_of_its_ending_and_the_same_bytes_every_time(stn, trained, monkeypatch):
    """Also at another time: svg and pdf would note it, and svg would draw lots for its names."""
    few = ("--set", "training.train_size=120", "--set", "training.epochs=1", "--only", "r/cnn", "--output-dir", "few")
    assert stn(*RUN, *few).code == 0
    for ending, beginning in BEGINNINGS.items():
        for second, name in ((1, "one"), (10**9, "two")):
            monkeypatch.setenv("SOURCE_DATE_EPOCH", str(second))
            assert stn("compare", "runs/small", "few", "--plot", f"{name}.{ending}").code == 0
        one, two = (Path(f"{name}.{ending}").read_bytes() for name in ("one", "two"))
        assert one.startswith(beginning)
        assert one == two


@pytest.mark.parametrize("name", ["x.txt", "x", "x.gif"])
def test_another_ending_is_refused_before_anything_is_done(stn, monkeypatch, name):
    monkeypatch.setattr("stn_train.data.images.scikit_digits", None)
    for command, option in (
        (("data", "preview", "--config", "small.yaml"), "--output"),
        (("compare", "runs/one", "runs/two"), "--plot"),
    ):
        ended = stn(*command, option, name)
        assert (ended.code, ended.out) == (2, "")
        sentence, _ = ended.err.splitlines()
        assert all(word in sentence for word in (option, name, ".png", ".webp"))
    assert [path.name for path in Path().iterdir()] == ["small.yaml"]
