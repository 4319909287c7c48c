"""Where digits are put: whole frames at whole pixels, or by their ink; and how clutter is laid over them."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from stn_train.data.datasets import make_fixed_dataset
from stn_train.data.distortion import sample_distortion
from stn_train.data.images import ImageSet
from stn_train.specs import DIGIT, DatasetSpec


def spec_of(**keys: object) -> DatasetSpec:
    return DatasetSpec.model_validate({"name": "made_up", "canvas": [42, 50], "translation": 1, **keys})


def digits_of(count: int) -> ImageSet:
    """White squares, as large as the frame."""
    return ImageSet(torch.full((count, 1, DIGIT, DIGIT), 255, dtype=torch.uint8), torch.zeros(count, dtype=torch.int64))


def corners(spec: DatasetSpec, digits: ImageSet) -> tuple[np.ndarray, np.ndarray]:
    """The upper left corner of each frame of round(28 s) pixels, (x, y) in pixels from the canvas's; its side."""
    (drawn,) = sample_distortion(spec, digits, 0, "test")
    side = np.rint(DIGIT * drawn.scale)[:, None]
    return drawn.shift + np.array([spec.canvas[1], spec.canvas[0]]) / 2 - side / 2, side


@pytest.mark.parametrize("scale", [[0.7, 1.2], [0.5, 0.5], [1.0, 1.0]])
@pytest.mark.parametrize("whole", [True, False])
def test_placement_of_frames_keeps_them_on_the_canvas(scale, whole):
    spec = spec_of(placement="frame", whole_pixels=whole, scale=scale, rotation=45)
    corner, side = corners(spec, digits_of(2000))
    room = np.array([50, 42]) - side
    assert (corner >= -1e-9).all()
    assert (corner <= room + 1e-9).all()
    assert bool(np.allclose(corner, corner.round(), atol=1e-9)) == whole
    assert np.allclose((corner / room).mean(axis=0), 0.5, atol=0.03), "no side is preferred"


def test_placement_in_whole_pixels_has_every_place_equally_often():
    corner, _ = corners(spec_of(placement="frame", whole_pixels=True), digits_of(23 * 400))
    for axis, places in ((0, 23), (1, 15)):
        counts = np.bincount(corner[:, axis].round().astype(int), minlength=places)
        assert len(counts) == places
        expected = len(corner) / places
        assert ((counts - expected) ** 2 / expected).sum() < 3 * places


def test_placement_in_whole_pixels_moves_the_pixels_as_they_are():
    digits = ImageSet(
        torch.randint(0, 256, (50, 1, DIGIT, DIGIT), dtype=torch.uint8), torch.zeros(50, dtype=torch.int64)
    )
    spec = spec_of(placement="frame", whole_pixels=True)
    fixed, (drawn,), _ = make_fixed_dataset(spec, digits, "test")
    for image, source, (x, y) in zip(fixed.images[:, 0], digits.images[:, 0], drawn.shift, strict=True):
        left, top = round(x + (50 - DIGIT) / 2), round(y + (42 - DIGIT) / 2)
        assert torch.equal(image[top : top + DIGIT, left : left + DIGIT], source)
        assert image.sum() == source.sum()


@pytest.mark.parametrize("translation", [None, 0.5, [0.5, 0.5], [-1, -1]])
@pytest.mark.parametrize("whole", [True, False])
def test_placement_of_frames_follows_the_share_of_the_room(translation, whole):
    spec = spec_of(placement="frame", whole_pixels=whole, translation=translation)
    corner, side = corners(spec, digits_of(500))
    low, high = spec.translation or (0.0, 0.0)
    share = 2 * corner / (np.array([50, 42]) - side) - 1
    slack = 1 / 14 if whole else 1e-9
    assert (share >= low - slack).all()
    assert (share <= high + slack).all()


def test_placement_puts_a_frame_that_is_too_large_in_the_middle():
    (drawn,) = sample_distortion(spec_of(placement="frame", scale=[2, 2]), digits_of(10), 0, "test")
    assert not drawn.shift.any()


def test_placement_by_ink_is_not_in_whole_pixels():
    with pytest.raises(ValidationError, match="whole_pixels is for placement: frame"):
        spec_of(whole_pixels=True)


@pytest.mark.parametrize("blend", ["add", "max"])
def test_clutter_is_blended_as_asked(blend, real_digits):
    digits = real_digits[1].subset(torch.arange(40))
    clutter = {"patches": 6, "size": 12}
    spec = spec_of(clutter={**clutter, "blend": blend})
    with_clutter = make_fixed_dataset(spec, digits, "test")[0].images[:, 0].int()
    without = make_fixed_dataset(spec.changed(clutter=None), digits, "test")[0].images[:, 0].int()
    assert (with_clutter >= without).all()
    (drawn,) = sample_distortion(spec, digits, 20_150_605, "test")
    for number in range(len(digits)):
        laid = without[number].clone()
        for patch in range(6):
            source, top, left, to_y, to_x = drawn.clutter[number, patch].tolist()
            piece = digits.images[source, 0, top : top + 12, left : left + 12].int()
            here = laid[to_y : to_y + 12, to_x : to_x + 12]
            here[:] = here + piece if blend == "add" else torch.maximum(here, piece)
        assert (with_clutter[number] - laid.clamp(max=255)).abs().max() <= 1, "but for rounding"
