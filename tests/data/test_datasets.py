"""Variants: fixed once drawn; built, they come back as they were, and are refused where they are not."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_up import draw_of, order, outline_of

from stn_train.data import datasets as datasets_module
from stn_train.data import prebuilt as prebuilt_module
from stn_train.data.datasets import OnlineDataset, make_fixed_dataset, render
from stn_train.data.images import ImageSet
from stn_train.data.prebuilt import build_prebuilt, load_prebuilt
from stn_train.errors import UserError
from stn_train.specs import DatasetSpec, SourceSpec
from stn_train.storage import folder_lock

FILES = tuple(
    f"{split}/{name}" for split in ("train", "test") for name in ("images.npy", "digits.npy", "parameters.npz")
)
DIGITS = SourceSpec.model_validate("digits")
CLUTTERED = {"canvas": [30, 40], "rotation": 30, "translation": 1, "clutter": {"patches": 3, "size": 5}}


def spec_of(**keys: Any) -> DatasetSpec:
    return DatasetSpec.model_validate({"name": "made_up", **CLUTTERED, **keys})


def splits(real_digits: tuple[ImageSet, ImageSet]) -> dict[Any, ImageSet]:
    """A few digits, each shown twice."""
    train, test = real_digits
    return {
        "train": ImageSet(train.images[:30], train.labels[:30], 2),
        "test": ImageSet(test.images[:20], test.labels[:20]),
    }


@pytest.fixture
def threads():
    """Sets torch's number of threads; afterwards it is as it was."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", ["rts", "p", "e", "tc", "addition"])
def test_the_fixed_images_and_poses_do_not_depend_on_the_number_of_threads(real_digits, threads, name):
    spec, digits = DatasetSpec.model_validate(name), real_digits[1].subset(torch.arange(300))
    drawn = []
    for count in (1, 2):
        threads(count)
        variant, *_ = make_fixed_dataset(spec, digits, "test")
        drawn.append((variant.images, variant.theta))
    assert all(map(torch.equal, *drawn))


def test_the_fixed_images_are_rounded_to_grey_values_and_do_not_depend_on_batches(real_digits, monkeypatch):
    spec, digits = spec_of(), splits(real_digits)["train"]
    variant, draws, _ = make_fixed_dataset(spec, digits, "test")
    monkeypatch.setattr(datasets_module, "_BATCH", 7)
    assert torch.equal(make_fixed_dataset(spec, digits, "test")[0].images, variant.images)
    assert variant.images.dtype == torch.uint8
    assert torch.equal(variant.digit, torch.arange(60) % 30)
    assert torch.equal(variant.labels, digits.labels.repeat(2))
    for number in range(60):
        exact = render(spec, digits, draws, torch.tensor([number]))[0] * 255
        assert (variant.images[number] - exact).abs().max() <= 0.5


def test_the_test_images_differ_from_training_and_validation_images_of_the_same_digits(real_digits):
    digits = splits(real_digits)["train"]
    drawn = [make_fixed_dataset(spec_of(), digits, split)[0].images for split in ("train", "test", "validation")]
    assert len({images.numpy().tobytes() for images in drawn}) == 3


def test_what_was_built_is_read_back_as_it_was_drawn(real_digits, tmp_path):
    spec, digits = spec_of(canvas=[24, 40], scale=[0.8, 1.5]), splits(real_digits)  # not all of which fit
    assert build_prebuilt(spec, DIGITS, digits, tmp_path) == tmp_path / "made_up"
    built = load_prebuilt(spec, DIGITS, tmp_path)
    assert set(built) == {"train", "test"}
    test, *_ = make_fixed_dataset(spec, digits["test"], "test")
    assert 0 < test.clipped < 20
    for name in ("images", "labels", "digit", "theta", "sources", "clipped"):
        assert np.array_equal(getattr(built["test"], name), getattr(test, name))


def test_built_training_images_are_those_that_seed_0_sees_in_its_first_epoch(real_digits, tmp_path):
    spec, digits = spec_of(), splits(real_digits)
    build_prebuilt(spec, DIGITS, digits, tmp_path)
    built = load_prebuilt(spec, DIGITS, tmp_path)["train"]
    fresh = OnlineDataset(spec, digits["train"])
    ((images, labels, _),) = fresh.batches(seed=0, epoch=0, size=60)
    index = order(60, 0, 0)
    assert torch.equal(built.images[index], (images * 255).round().byte())
    assert torch.equal(built.labels[index], labels)


def test_building_twice_gives_the_same_bytes(real_digits, tmp_path):
    for folder in ("one", "other"):
        build_prebuilt(spec_of(), DIGITS, splits(real_digits), tmp_path / folder)
    for name in (*FILES, "manifest.json"):
        one, other = ((tmp_path / folder / "made_up" / name).read_bytes() for folder in ("one", "other"))
        assert one == other


def test_numpy_alone_opens_the_files(real_digits, tmp_path):
    spec, digits = spec_of(), splits(real_digits)
    build_prebuilt(spec, DIGITS, digits, tmp_path)
    drawn = draw_of(spec, digits["train"])
    lies = outline_of(spec, digits["train"], drawn)
    assert drawn.clutter is not None
    images = np.load(tmp_path / "made_up/train/images.npy", mmap_mode="r", allow_pickle=False)
    assert (images.shape, images.dtype) == ((60, 30, 40), np.uint8)
    with np.load(tmp_path / "made_up/train/parameters.npz", allow_pickle=False) as parameters:
        for name in ("theta", "rotation", "scale", "shear", "shift", "digit"):
            assert np.array_equal(parameters[name], getattr(drawn, name))
        for name, values in (("frame", lies.frame), ("ink_box", lies.ink), ("clipped", lies.clipped)):
            assert np.array_equal(parameters[name], values)
        corners = parameters["frame_box"].reshape(-1, 2, 2)
        assert np.array_equal(corners, np.stack([lies.frame.min(axis=1), lies.frame.max(axis=1)], axis=1))
        for column, name in enumerate(("digit", "from_y", "from_x", "to_y", "to_x")):
            assert np.array_equal(parameters[f"clutter_{name}"], drawn.clutter[..., column])
        assert np.array_equal(parameters["digit"], np.arange(60) % 30)
        assert np.array_equal(parameters["label"], digits["train"].labels.repeat(2))


def test_with_two_channels_the_files_have_an_axis_for_them(real_digits, tmp_path):
    spec, digits = DatasetSpec.model_validate("addition"), splits(real_digits)
    build_prebuilt(spec, DIGITS, digits, tmp_path)
    built = load_prebuilt(spec, DIGITS, tmp_path)["test"]
    test, draws, _ = make_fixed_dataset(spec, digits["test"], "test")
    for name in ("images", "labels", "digit", "theta", "sources", "clipped"):
        assert np.array_equal(getattr(built, name), getattr(test, name))
    assert np.array_equal(test.digit, np.stack([drawn.digit for drawn in draws], axis=1))
    assert np.load(tmp_path / "addition/test/images.npy").shape == (20, 2, 42, 42)
    with np.load(tmp_path / "addition/test/parameters.npz") as parameters:
        for channel, drawn in enumerate(draws):
            for name in ("theta", "digit", "shift"):
                assert np.array_equal(parameters[name][:, channel], getattr(drawn, name))
        assert parameters["frame"].shape == (20, 2, 4, 2)


def test_the_manifest_says_what_was_built_of_what(real_digits, tmp_path):
    build_prebuilt(spec_of(), DIGITS, splits(real_digits), tmp_path)
    manifest = json.loads((tmp_path / "made_up/manifest.json").read_text())
    assert (manifest["source"], manifest["family"]) == ("digits", "affine")
    assert DatasetSpec.model_validate(manifest["dataset"]) == spec_of()
    assert manifest["images"] == {"train": 60, "test": 20}
    assert manifest["files"] == {
        name: hashlib.sha256((tmp_path / "made_up" / name).read_bytes()).hexdigest() for name in FILES
    }


# --- what is refused ----------------------------------------------------------------------------------------------


def refusal(folder: Path, spec: DatasetSpec | None = None, source: SourceSpec = DIGITS) -> str:
    with pytest.raises(UserError) as caught:
        load_prebuilt(spec or spec_of(), source, folder)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert f"stn-train data build --config CONFIG --output-dir {folder}" in sentence
    return sentence


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_or_a_missing_file_is_refused_by_name(real_digits, tmp_path, name):
    build_prebuilt(spec_of(), DIGITS, splits(real_digits), tmp_path)
    path = tmp_path / "made_up" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert str(path) in refusal(tmp_path)
    path.unlink()
    assert str(path) in refusal(tmp_path)


@pytest.mark.parametrize(
    "damage", [lambda text: text[:-20], lambda text: "", lambda text: text.replace('"format": 5', '"format": 3')]
)
def test_a_damaged_or_missing_manifest_is_refused_by_name(real_digits, tmp_path, damage):
    build_prebuilt(spec_of(), DIGITS, splits(real_digits), tmp_path)
    path = tmp_path / "made_up/manifest.json"
    path.write_text(damage(path.read_text()))
    assert f"{path} is damaged" in refusal(tmp_path)
    path.unlink()
    assert f"{path.parent} holds no prebuilt dataset" in refusal(tmp_path)


def test_another_specification_of_the_same_name_and_another_source_are_refused(real_digits, tmp_path):
    build_prebuilt(spec_of(), DIGITS, splits(real_digits), tmp_path)
    assert f"{tmp_path / 'made_up'} holds another dataset" in refusal(tmp_path, spec_of(rotation=31))
    assert f"{tmp_path / 'made_up'} holds another dataset" in refusal(
        tmp_path, source=SourceSpec.model_validate("mnist")
    )


def test_a_build_that_was_cut_off_is_refused(real_digits, tmp_path, monkeypatch):
    monkeypatch.setattr(prebuilt_module.storage, "write_record", lambda path, value: None)
    build_prebuilt(spec_of(), DIGITS, splits(real_digits), tmp_path)
    assert "holds no prebuilt dataset" in refusal(tmp_path)


def test_a_folder_that_another_process_builds_in_is_left_alone(real_digits, tmp_path):
    with folder_lock(tmp_path / "made_up"), pytest.raises(UserError, match=r"another process is at work in .*made_up"):
        build_prebuilt(spec_of(), "mnist", splits(real_digits), tmp_path)
    assert [path.name for path in (tmp_path / "made_up").iterdir()] == [".lock"]


def test_what_a_killed_build_left_half_written_goes(real_digits, tmp_path):
    half = tmp_path / "made_up/test/.images.npy.0123abcd.tmp"
    half.parent.mkdir(parents=True)
    half.touch()
    build_prebuilt(spec_of(), "mnist", splits(real_digits), tmp_path)
    assert not half.exists()
