"""`stn-train predict`: pictures of the user's, by any run or by the networks that ship with the package."""

import io
import json
import re
import shutil
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import stn_train
from stn_train.experiment.load import SHIPPED, checkpoints_in

TWENTY = Path(__file__).parents[1] / "twenty"
TRIAL = "runs/small/trials/r/st_cnn/seed-0"
PAGE = (Path(__file__).parents[2] / "docs/predict.md").read_text(encoding="utf-8")


@pytest.fixture
def seven(stn) -> str:
    shutil.copy(TWENTY / "picture_02.jpg", "seven.jpg")
    return "seven.jpg"


def predicted(stn: Any, *arguments: str) -> list[dict[str, Any]]:
    ended = stn("predict", *arguments, "--json")
    assert (ended.code, ended.err) == (0, "")
    found: list[dict[str, Any]] = json.loads(ended.out)
    return found


def test_without_a_run_the_networks_that_ship_read_it(stn, seven):
    found = predicted(stn, seven)
    assert [one["network"] for one in found] == ["cnn", "st_cnn_keypoints"]
    assert [(one["picture"], one["predicted"]) for one in found] == [(seven, "7")] * 2
    for one in found:
        ranked = sorted(one["probabilities"].items(), key=lambda entry: -entry[1])
        assert ranked[:2] == [(one["predicted"], one["probability"]), (one["runner_up"], one["runner_up_probability"])]
        assert sum(one["probabilities"].values()) == pytest.approx(1)
    assert [len(one["transformations"]) for one in found] == [0, 1]
    assert set(found[1]["transformations"][0]) == {"rotation", "scale", "x", "y", "theta"}


def test_the_table_says_the_same_in_80_columns(stn, seven):
    shutil.copy(seven, "another_picture_whose_name_is_rather_long.jpg")
    ended = stn("predict", seven, "another_picture_whose_name_is_rather_long.jpg")
    assert (ended.code, ended.err) == (0, "")
    assert max(map(len, ended.out.splitlines())) <= 80
    one = predicted(stn, seven)[1]
    row = re.search(rf"st_cnn_keypoints +7 +{100 * one['probability']:.1f} % +{one['runner_up']} \(", ended.out)
    assert row, ended.out
    motion = one["transformations"][0]
    way = "clockwise" if motion["rotation"] > 0 else "counter-clockwise"
    assert f"{abs(motion['rotation']):.0f}° {way}" in ended.out
    assert f"{motion['scale']:.2f}" in ended.out


@pytest.mark.parametrize("target", ["runs/small", TRIAL, f"{TRIAL}/checkpoint.pt"])
def test_networks_of_ones_own_read_it(trained, stn, seven, target):
    names = [one["network"] for one in predicted(stn, target, seven)]
    assert names == (["cnn", "st_cnn"] if target == "runs/small" else ["st_cnn"])


def test_networks_are_told_apart_by_what_differs(trained, stn, seven):
    shutil.copytree("runs/small/trials/r/cnn", "runs/small/trials/r/cnn-again")
    assert [one["network"] for one in predicted(stn, trained, seven)] == ["cnn", "cnn", "st_cnn"]


def test_a_folder_and_standard_input(stn, seven, monkeypatch):
    Path("few").mkdir()
    for name in ("b.png", "a.JPG", "notes.txt"):
        shutil.copy(TWENTY / "picture_03.png", Path("few", name))
    assert [one["picture"] for one in predicted(stn, "few", seven)][::2] == ["few/a.JPG", "few/b.png", seven]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(Path(seven).read_bytes())))
    (first, _) = predicted(stn, "-")
    assert first["probabilities"] == predicted(stn, seven)[0]["probabilities"]


def test_it_is_drawn(stn, seven):
    shutil.copy(seven, named := "\udcff.jpg")  # a name that is no text in UTF-8
    ended = stn("predict", named, "--picture", "out.png")
    assert ended.code == 0
    with Image.open("out.png") as drawn:
        assert min(drawn.size) > 400


@pytest.mark.parametrize("drawn", [(), pytest.param(("--picture", "out.png"), marks=pytest.mark.slow)])
def test_many_large_pictures_take_the_memory_of_few(stn, drawn):
    with Image.open(TWENTY / "picture_02.jpg") as picture:
        picture.resize((1600, 1200)).save("large.jpg")
    network, _ = checkpoints_in(SHIPPED)
    peaks = []
    for count in (2, 5):
        tracemalloc.start()
        assert stn("predict", str(network), *["large.jpg"] * count, *drawn).code == 0
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


def test_inverted_it_reads_another_picture(stn, seven):
    Image.fromarray(255 - np.asarray(Image.open(seven))).save("inverted.png")
    assert predicted(stn, "inverted.png")[1]["predicted"] == "7"
    assert predicted(stn, "inverted.png", "--no-invert")[1]["predicted"] == "7"
    assert predicted(stn, seven, "--invert") == predicted(stn, seven)


def test_mistakes_are_told(stn, seven, trained, monkeypatch):
    Path("no.png").write_text("no picture")
    Path("empty").mkdir()
    assert stn("predict", "nowhere.png").sentence.startswith("nowhere.png does not exist")
    assert stn("predict", "empty").sentence.startswith("empty holds no pictures")
    assert stn("predict", trained).sentence.startswith("name a picture")
    assert stn("predict", "no.png").sentence.startswith("no.png is not a picture")
    assert stn("predict", seven, "--as-is").sentence.startswith(f"{seven} has 600 x 800 pixels")
    assert stn("predict", seven, "--picture", "out.txt").code == 2
    assert stn("predict", "runs/typo", seven).sentence.startswith("runs/typo does not exist")
    Path("it.onnx").touch()
    assert "exported" in stn("predict", "it.onnx", seven).sentence
    monkeypatch.setattr(sys, "stdin", None)
    assert stn("predict", "-").sentence.startswith("standard input is closed")
    ended = stn("predict", "no.png", seven)
    assert ended.code == 1
    assert "seven.jpg:" in ended.out
    assert ended.err.startswith("failed: no.png is not a picture")


def test_many_pictures_are_not_drawn_at_once(stn, seven):
    ended = stn("predict", *[seven] * 60, "--picture", "out.png")
    assert "--picture" in ended.sentence
    assert not Path("out.png").exists()


def test_the_page_about_it_does_what_it_says(stn, seven):
    """Its commands, and its Python, in a folder where the picture lies."""
    commands = re.findall(r"^stn-train (predict [^#\n]*)", PAGE, re.MULTILINE)
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert commands
    assert blocks
    shutil.copytree(TWENTY, "pictures")
    (Path("runs/rts")).mkdir(parents=True)
    shutil.copytree(Path(stn_train.__file__).parent / "shipped", "runs/rts", dirs_exist_ok=True)
    for command in commands:
        assert stn(*command.split()).code == 0, command
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block, names)
    assert names["prediction"].predicted == "7"
