"""Pictures from outside: whatever they come as, networks read of them what they would read of a training image."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from stn_train.data.pictures import BOX, Picture, pen_width, prepare, read_picture
from stn_train.errors import UserError
from stn_train.experiment.load import SHIPPED, checkpoints_in, load_trained
from stn_train.experiment.runtime import Runtime
from stn_train.specs import ExperimentSpec, TrialSpec, trials_of

TWENTY = Path(__file__).parents[1] / "twenty"
LABELS = {row["file"]: int(row["label"]) for row in csv.DictReader((TWENTY / "labels.csv").open())}


def trial_of(dataset: Any = "plain", source: str = "mnist") -> TrialSpec:
    experiment = {"name": "made_up", "source": source, "datasets": [dataset], "models": ["cnn"]}
    return trials_of(ExperimentSpec.model_validate(experiment))[0]


def prepared(grey: np.ndarray, **how: Any) -> np.ndarray:
    """A picture, H x W from 0 to 1, as a network of undistorted digits reads it: 28 x 28, from 0 to 255."""
    picture = Picture("it", np.repeat(grey[:, :, None], 3, axis=2))
    return prepare(picture, trial_of(), **how).image[0].numpy().astype(int)


def drawn(width: int = 20, size: int = 300, dark: bool = True) -> np.ndarray:
    """A seven of a pen of so many pixels on a picture of so many, from 0 to 1."""
    image = Image.new("L", (size, size), 255 if dark else 0)
    points = [(0.3 * size, 0.2 * size), (0.7 * size, 0.2 * size), (0.45 * size, 0.8 * size)]
    ImageDraw.Draw(image).line(points, fill=0 if dark else 255, width=width, joint="curve")
    return np.asarray(image, float) / 255


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """How far two images are from each other, as a share of the ink of the first."""
    return float(np.abs(one - other).sum() / one.sum())


# --- what is drawn elsewhere ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("checkpoint", checkpoints_in(SHIPPED), ids=lambda path: path.parent.parent.name)
def test_of_twenty_pictures_by_somebody_who_had_not_seen_the_preparation_seventeen_are_right(checkpoint):
    trained = load_trained(checkpoint, Runtime(torch.device("cpu")))
    pictures = [prepare(read_picture(TWENTY / name), trained.trial).image for name in LABELS]
    with torch.no_grad():
        predicted = trained.network(torch.stack(pictures).float() / 255).argmax(dim=1)
    right = predicted == torch.tensor(list(LABELS.values()))
    assert len(right) == 20
    assert int(right.sum()) >= 17, [name for name, one in zip(LABELS, right, strict=True) if not one]


def test_the_networks_that_ship_are_small():
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()) < 600_000


# --- what does not matter ---------------------------------------------------------------------------------------------


def test_a_digit_is_as_mnist_has_it():
    image = prepared(drawn())
    rows, columns = (np.flatnonzero(image.any(axis=axis)) for axis in (1, 0))
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == BOX["mnist"]
    weights = image / image.sum()
    assert np.abs([(weights.sum(axis=axis) * np.arange(28)).sum() - 13.5 for axis in (0, 1)]).max() <= 0.5
    assert (image.min(), image.max()) == (0, 255)


def test_whether_ink_is_dark_or_bright_does_not_matter():
    assert apart(prepared(drawn()), prepared(1 - drawn())) < 0.01


def test_where_it_lies_does_not_matter():
    there = np.roll(drawn(), (40, -50), axis=(0, 1))
    assert apart(prepared(drawn()), prepared(there)) < 0.02


@pytest.mark.parametrize("size", [40, 90, 700, 1500])
def test_how_large_it_is_does_not_matter(size):
    assert apart(prepared(drawn()), prepared(drawn(size // 15, size))) < 0.2


def test_what_light_falls_on_the_paper_does_not_matter():
    light = np.linspace(0.4, 1, 300)[None] * np.linspace(0.7, 1, 300)[:, None]
    noise = np.random.default_rng(0).normal(0, 0.02, (300, 300))
    assert apart(prepared(drawn()), prepared((light * (0.2 + 0.6 * drawn()) + noise).clip(0, 1))) < 0.1


@pytest.mark.parametrize("width", [2, 5, 12, 40, 60])
def test_every_pen_writes_as_wide_as_mnists(width):
    ink = np.kron(prepared(drawn(width)) >= 128, np.ones((8, 8), bool))
    assert 1.5 < pen_width(ink) / 8 < 4


def test_what_is_prepared_stays_as_it_is():
    once = prepared(drawn(24))
    assert apart(once, prepared(once / 255)) < 0.2


def test_a_digit_in_parts_is_one_and_two_digits_are_told():
    grey = drawn(size=200)
    grey[90:96] = 1  # the stroke is broken
    picture = Picture("it", np.repeat(grey[:, :, None], 3, axis=2))
    assert prepare(picture, trial_of()).notes == ()
    beside = np.concatenate([drawn(size=200), np.ones((200, 40)), drawn(size=200)[::-1]], axis=1)
    (note,) = prepare(Picture("it", np.repeat(beside[:, :, None], 3, axis=2)), trial_of()).notes
    assert "2 digits" in note


def test_the_table_under_the_paper_is_no_ink():
    grey = drawn()
    grey[:, :12] = 0.2
    assert apart(prepared(drawn()), prepared(grey)) < 0.05


# --- what it may come as ----------------------------------------------------------------------------------------------

SEVEN = (drawn(size=120, width=10) * 255).astype(np.uint8)


def saved(image: Image.Image, kind: str, **how: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


def transparent() -> Image.Image:
    """Black ink on nothing, which is black, too, where nobody looks."""
    image = Image.new("RGBA", SEVEN.shape, (0, 0, 0, 0))
    image.putalpha(Image.fromarray(255 - SEVEN))
    return image


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(Image.fromarray(SEVEN).transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)


COMES_AS = {
    "an array": SEVEN,
    "a tensor": torch.from_numpy(SEVEN),
    "three channels first": torch.from_numpy(SEVEN).expand(3, -1, -1),
    "from 0 to 1": SEVEN / 255,
    "float32": (SEVEN / 255).astype(np.float32)[:, :, None],
    "bool": SEVEN > 127,
    "uint16": SEVEN.astype(np.uint16) * 257,
    "an image": Image.fromarray(SEVEN),
    "png": saved(Image.fromarray(SEVEN), "PNG"),
    "jpeg": saved(Image.fromarray(SEVEN).convert("RGB"), "JPEG", quality=90),
    "cmyk": saved(Image.fromarray(SEVEN).convert("CMYK"), "JPEG", quality=90),
    "gif": saved(Image.fromarray(SEVEN).convert("P"), "GIF"),
    "one bit": saved(Image.fromarray(SEVEN).convert("1"), "PNG"),
    "16 bits": saved(Image.fromarray(SEVEN.astype(np.uint16) * 257), "PNG"),
    "16 bits in a tiff": saved(Image.fromarray(SEVEN.astype(np.uint16) * 257), "TIFF"),
    "floats in a tiff": saved(Image.fromarray((SEVEN / 255).astype(np.float32)), "TIFF"),
    "transparent": saved(transparent(), "PNG"),
    "turned by its exif": turned(),
}


@pytest.mark.parametrize("source", COMES_AS.values(), ids=COMES_AS)
def test_a_picture_is_the_same_whatever_it_comes_as(source):
    expected = prepare(read_picture(SEVEN), trial_of()).image[0].numpy().astype(int)
    found = prepare(read_picture(source), trial_of()).image[0].numpy().astype(int)
    assert apart(expected, found) < 0.06


def damaged_dds() -> bytes:
    """Of a kind of pixels that there is not, at which Pillow raises NotImplementedError."""
    content = bytearray(saved(Image.fromarray(SEVEN).convert("RGB"), "DDS"))
    content[80] = 0
    return bytes(content)


REFUSED = {
    "0 to 255 as floats": (SEVEN.astype(np.float32), "0 to 255.*divide"),
    "normalised": ((SEVEN / 255 - 0.13) / 0.31, "expected 0 to 1"),
    "not a number": (np.full((30, 30), np.nan), "expected 0 to 1"),
    "int64": (SEVEN.astype(np.int64), "int64; expected uint8"),
    "a batch": (np.zeros((2, 1, 28, 28)), "2 x 1 x 28 x 28; expected one picture"),
    "two channels": (np.zeros((28, 28, 2)), "expected one picture"),
    "no pixels": (np.zeros((0, 28)), "expected one picture"),
    "text": (b"hello", "not a picture"),
    "nothing": (b"", "not a picture"),
    "cut short": (saved(Image.fromarray(SEVEN).convert("RGB"), "JPEG")[:1000], "cannot be read"),
    "a damaged dds": (damaged_dds(), "cannot be read"),
    "not a number in a tiff": (saved(Image.fromarray(np.full((30, 30), np.nan, np.float32)), "TIFF"), "not finite"),
    "infinite in a tiff": (saved(Image.fromarray(np.full((30, 30), np.inf, np.float32)), "TIFF"), "not finite"),
    "white": (np.full((60, 60), 255, np.uint8), "blank"),
    "black": (np.zeros((60, 60)), "blank"),
    "a speck": (np.pad([[0.0]], 40, constant_values=1), "blank"),
}


@pytest.mark.parametrize(("source", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_read_is_told_by_name(source, said):
    with pytest.raises(UserError, match=f"^it .*{said}"):
        prepare(read_picture(source, "it"), trial_of())


def test_bytes_are_not_told_by_what_is_in_them():
    with pytest.raises(UserError, match=r"^the picture is not a picture"):
        read_picture(b"hello")
    assert read_picture(COMES_AS["png"]).name == "the picture"


# --- what networks read of it -----------------------------------------------------------------------------------------


def test_it_lies_in_the_middle_of_the_canvas():
    picture = read_picture(SEVEN)
    plain = prepare(picture, trial_of()).image
    assert torch.equal(prepare(picture, trial_of("rts")).image[:, 7:-7, 7:-7], plain)
    assert prepare(picture, trial_of("rts")).image.shape == (1, 42, 42)
    small = {"name": "small", "canvas": [24, 30]}
    assert torch.equal(prepare(picture, trial_of(small)).image[:, :, 1:-1], plain[:, 2:-2])


@pytest.mark.parametrize("size", [28, 42])
def test_as_it_is_no_pixel_changes(size):
    image = np.random.default_rng(size).integers(0, 256, (size, size), np.uint8)
    found = prepare(read_picture(image), trial_of("rts"), as_is=True).image[0].numpy()
    margin = (42 - size) // 2
    assert np.array_equal(found[margin : 42 - margin, margin : 42 - margin], image)
    inverted = prepare(read_picture(image), trial_of("rts"), invert=True, as_is=True).image[0].numpy()
    assert np.array_equal(inverted[margin : 42 - margin, margin : 42 - margin], 255 - image)


def test_as_it_is_another_size_is_told():
    with pytest.raises(UserError, match=r"^it has 30 x 20 pixels.* 42 x 42"):
        prepare(read_picture(np.zeros((30, 20)), "it"), trial_of("rts"), as_is=True)


def test_of_a_source_without_ink_the_whole_picture_is_fitted():
    image = np.random.default_rng(0).integers(0, 256, (60, 120), np.uint8)
    found = prepare(read_picture(image), trial_of(source="fashion_mnist")).image[0].numpy()
    assert (found.any(axis=1).sum(), found.any(axis=0).sum()) == (14, 28)


def test_two_channels_of_two_digits_have_no_picture():
    with pytest.raises(UserError, match="two digits"):
        prepare(read_picture(SEVEN), trial_of("addition"))
