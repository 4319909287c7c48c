"""Laws of `draw`: what is drawn, from what, and where the ink comes to lie, pixel by pixel."""

from itertools import combinations

import numpy as np
import pytest
import torch
from made_up import draw_of, first, order, outline_of, spec_of
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy.stats import kstest, spearmanr
from torch.nn import functional as F
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from stn_train.data.datasets import hold_out, render
from stn_train.data.distortion import Distortion
from stn_train.data.images import ImageSet
from stn_train.specs import DatasetSpec

MANY = {
    "canvas": [64, 60],
    "rotation": [-30, 45],
    "scale": [0.7, 1.2],
    "shear": [-10, 20],
    "translation": [-0.5, 1],
}
"""Everything at once, with no interval symmetric and room for any digit."""
CRAMPED = {"canvas": [18, 24], "rotation": 180, "scale": [0.5, 1.5], "shear": 30}
"""A canvas that many digits do not fit on."""


def everything_in(drawn: Distortion) -> list[bytes]:
    arrays = [drawn.theta, drawn.rotation, drawn.scale, drawn.shear, drawn.shift]
    if drawn.clutter is not None:
        arrays.append(drawn.clutter)
    return [np.asarray(array).tobytes() for array in arrays]


def extents(
    drawn: Distortion, digits: ImageSet, canvas: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The lowest and highest (column, row) on the canvas of each image's inked pixels, every one of them pushed
    forward, from the digit to the canvas, by the inverse of the image's theta: M x 2 each."""

    def to_normalised(height: int, width: int) -> NDArray[np.float64]:
        return np.array([[2 / width, 0, 1 / width - 1], [0, 2 / height, 1 / height - 1], [0, 0, 1]])

    matrix = np.tile(np.eye(3), (len(drawn.theta), 1, 1))
    matrix[:, :2] = drawn.theta.double().view(-1, 2, 3).numpy()
    forward = np.linalg.inv(to_normalised(*canvas)) @ np.linalg.inv(matrix) @ to_normalised(28, 28)
    low, high = np.empty((2, len(drawn.theta), 2))
    for number in range(len(drawn.theta)):
        rows, columns = digits.images[number % len(digits), 0].numpy().nonzero()
        points = forward[number] @ np.stack([columns, rows, np.ones(len(rows))])
        low[number], high[number] = points[:2].min(axis=1), points[:2].max(axis=1)
    return low, high


# --- what is drawn ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ten_thousand(real_digits):
    """10,000 poses with everything drawn, and the shares of the room taken, recomputed from where the ink lies."""
    digits, spec = first(real_digits[0], 500, repeats=20), spec_of(**MANY)
    drawn = draw_of(spec, digits)
    low, high = extents(drawn, digits, spec.canvas)
    room = np.array([spec.canvas[1], spec.canvas[0]]) - 1 - (high - low)
    assert room.min() > 0
    share = low / room * 2 - 1
    return {
        "rotation": (drawn.rotation, -30, 45),
        "scale": (drawn.scale, 0.7, 1.2),
        "shear": (drawn.shear, -10, 20),
        "share across": (share[:, 0], -0.5, 1),
        "share down": (share[:, 1], -0.5, 1),
    }


@pytest.mark.parametrize("quantity", ["rotation", "scale", "shear", "share across", "share down"])
def test_each_quantity_is_uniform_over_its_interval(ten_thousand, quantity):
    values, low, high = ten_thousand[quantity]
    assert len(values) == 10_000
    assert (values.min(), values.max()) == pytest.approx((low, high), abs=0.002 * (high - low))
    assert kstest(values, "uniform", args=(low, high - low)).pvalue > 0.01


def test_the_quantities_are_independent_of_each_other(ten_thousand):
    for (one, _, _), (other, _, _) in combinations(ten_thousand.values(), 2):
        assert abs(spearmanr(one, other).statistic) < 0.04


def test_what_is_absent_is_not_applied(real_digits):
    drawn = draw_of(spec_of("plain"), first(real_digits[0], 50))
    assert torch.equal(drawn.theta, torch.tensor([[1.0, 0, 0, 0, 1, 0]]).expand(50, 6))
    assert not drawn.rotation.any()
    assert (drawn.scale == 1).all()
    assert not drawn.shear.any()
    assert not drawn.shift.any()
    assert drawn.clutter is None


# --- from what it is drawn ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [MANY, {**MANY, "clutter": {}}], ids=["pose", "pose and clutter"])
def test_the_same_seed_split_and_epoch_give_the_same_bytes_and_any_other_give_others(real_digits, keys):
    digits, spec = first(real_digits[0], 30, repeats=2), spec_of(**keys)
    origins = [
        {},
        {"seed": 1},
        {"seed": 2},
        {"epoch": 1},
        {"epoch": 2},
        {"seed": 1, "epoch": 1},
        {"split": "test"},
        {"split": "validation"},
    ]
    drawn = [everything_in(draw_of(spec, digits, **origin)) for origin in origins]
    assert drawn == [everything_in(draw_of(spec, digits, **origin)) for origin in origins]
    for one, other in combinations(drawn, 2):
        assert all(a != b for a, b in zip(one, other, strict=True))


def test_an_images_pose_and_clutter_do_not_depend_on_how_many_are_drawn(real_digits):
    spec = spec_of(**MANY, clutter={})
    once, thrice = (draw_of(spec, first(real_digits[0], 40, repeats)) for repeats in (1, 3))
    assert (len(once.theta), len(thrice.theta)) == (40, 120)
    assert torch.equal(once.clutter, thrice.clutter[:40])
    fewer = draw_of(spec, first(real_digits[0], 10))
    assert torch.equal(once.theta, thrice.theta[:40])
    assert torch.equal(fewer.theta, once.theta[:10])


def test_each_repeat_of_a_digit_is_distorted_differently(real_digits):
    theta = draw_of(spec_of("rts"), first(real_digits[0], 10, repeats=3)).theta.view(3, 10, 6)
    assert (theta[0] != theta[1]).any(dim=1).all()
    assert (theta[1] != theta[2]).any(dim=1).all()


def test_the_order_of_an_epoch_is_a_permutation_of_its_own():
    orders = [order(100, seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert all(torch.equal(numbers.sort().values, torch.arange(100)) for numbers in orders)
    assert not any(torch.equal(one, other) for one, other in combinations(orders, 2))
    assert torch.equal(orders[0], order(100, 0, 0))


# --- where the ink comes to lie -----------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["plain", "r", "rts_wide", "translation", "scale", "shear", "rotation", "tc"])
def test_every_inked_pixel_stays_on_the_canvas(real_digits, preset):
    digits, spec = first(real_digits[0], 300), spec_of(preset)
    drawn = draw_of(spec, digits)
    low, high = extents(drawn, digits, spec.canvas)
    last = np.array([spec.canvas[1], spec.canvas[0]]) - 1
    assert not outline_of(spec, digits, drawn).clipped.any()
    assert low.min() > -1e-3
    assert (high - last).max() < 1e-3


@pytest.mark.parametrize("keys", [CRAMPED, {**CRAMPED, "translation": 1}], ids=["in the middle", "translated"])
def test_clipped_are_the_digits_that_are_too_large_and_they_lie_in_the_middle(real_digits, keys):
    digits, spec = first(real_digits[0], 300), spec_of(**keys)
    drawn = draw_of(spec, digits)
    low, high = extents(drawn, digits, spec.canvas)
    last = np.array([spec.canvas[1], spec.canvas[0]]) - 1
    fits = high - low <= last
    clipped = outline_of(spec, digits, drawn).clipped
    assert 0 < clipped.sum() < len(drawn.theta)
    assert np.array_equal(clipped, ~fits.all(axis=1))
    assert np.abs((low + high - last)[~fits]).max() < 1e-3
    assert low[fits].min() > -1e-3
    assert (high - last)[fits].max() < 1e-3


def test_without_translation_a_digit_moves_only_as_far_as_its_ink_needs(real_digits):
    digits, spec = first(real_digits[0], 300), spec_of(canvas=[24, 26], rotation=180, scale=[0.8, 1.1])
    drawn = draw_of(spec, digits)
    low, high = extents(drawn, digits, spec.canvas)
    last = np.array([spec.canvas[1], spec.canvas[0]]) - 1
    fits, moved = high - low <= last, drawn.shift != 0
    assert (moved & fits).any()
    assert (~moved).any()
    touches = np.where(drawn.shift > 0, np.abs(low), np.abs(high - last))
    assert touches[moved & fits].max() < 1e-3


def test_a_digit_without_ink_is_no_harm():
    blank = ImageSet(torch.zeros(3, 1, 28, 28, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64))
    drawn = draw_of(spec_of("rts"), blank)
    assert torch.isfinite(drawn.theta).all()
    assert not outline_of(spec_of("rts"), blank, drawn).clipped.any()


# --- which way ----------------------------------------------------------------------------------------------------


def one_digit(ink: list[list[int]], top: int, left: int) -> ImageSet:
    images = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    values = torch.tensor(ink, dtype=torch.uint8)
    images[0, 0, top : top + len(values), left : left + values.shape[1]] = values
    return ImageSet(images, torch.zeros(1, dtype=torch.int64))


def pixels_of(spec: DatasetSpec, digits: ImageSet) -> torch.Tensor:
    return (render(spec, digits, (draw_of(spec, digits),), torch.arange(1)) * 255).round().byte()[0, 0]


def test_a_positive_rotation_turns_clockwise():
    digits = one_digit([[10, 20, 30], [40, 50, 60]], top=5, left=12)
    turned = pixels_of(spec_of(rotation=[90, 90]), digits)
    corner = turned[12:15, 21:23]
    assert corner.tolist() == [[40, 10], [50, 20], [60, 30]]
    assert turned.sum() == corner.sum()


@pytest.mark.parametrize(
    ("share", "rows", "columns"), [(1, slice(22, 24), slice(33, 36)), (-1, slice(0, 2), slice(0, 3))]
)
def test_a_positive_share_goes_right_and_down_until_the_ink_touches(share, rows, columns):
    digits = one_digit([[10, 20, 30], [40, 50, 60]], top=5, left=12)
    moved = pixels_of(spec_of(canvas=[24, 36], translation=[share, share]), digits)
    assert moved[rows, columns].tolist() == [[10, 20, 30], [40, 50, 60]]
    assert moved.sum() == 210


def test_a_positive_shear_pushes_what_is_low_to_the_right():
    digits = one_digit([[10], [0], [0], [0], [20]], top=11, left=13)
    slanted = pixels_of(spec_of(canvas=[28, 28], shear=[45, 45]), digits)
    # 13.5 is the middle: row 11 goes 2.5 pixels to the left, row 15 goes 1.5 to the right.
    assert slanted[11, 10:12].tolist() == [5, 5]
    assert slanted[15, 14:16].tolist() == [10, 10]


def test_a_scale_above_one_enlarges(real_digits):
    digits = first(real_digits[0], 20)
    drawn = draw_of(spec_of(canvas=60, scale=[2, 2]), digits)
    plain = draw_of(spec_of(canvas=60), digits)
    sizes = [np.subtract(*extents(each, digits, (60, 60))[::-1]) for each in (drawn, plain)]
    assert np.allclose(sizes[0], 2 * sizes[1], atol=1e-3)


def test_a_distorted_digit_is_what_torchvision_makes_of_its_words(real_digits):
    """Rotation, scale, shear and shift, as torchvision applies them to the digit in the middle of the canvas."""
    digits = first(real_digits[0], 40)
    spec = spec_of(canvas=[64, 60], rotation=180, scale=[0.7, 1.2], shear=20, translation=1)
    drawn = draw_of(spec, digits)
    images = render(spec, digits, (drawn,), torch.arange(40))
    for number in range(40):
        before = F.pad(digits.images[number][None].double() / 255, (16, 16, 18, 18))
        after = tv.affine(
            before,
            angle=drawn.rotation[number],
            translate=drawn.shift[number].tolist(),
            scale=drawn.scale[number],
            shear=[-drawn.shear[number], 0.0],  # torchvision's goes to the left
            interpolation=InterpolationMode.BILINEAR,
        )
        assert torch.allclose(images[number].double(), after[0], rtol=0, atol=2e-5)


# --- clutter's source and size --------------------------------------------------------------------------------------


def test_no_clutter_for_training_is_cut_from_a_held_out_digit():
    images = torch.full((60, 1, 28, 28), 100, dtype=torch.uint8)
    images[50:] = 200
    rest, held = hold_out(ImageSet(images, torch.zeros(60, dtype=torch.int64), repeats=20))
    assert (rest.images == 100).all()
    assert (held.images == 200).all()
    spec = spec_of(canvas=40, clutter={"patches": 4, "size": 8})
    for part, value in ((rest, 100), (held, 200)):
        shown = render(spec, part, (draw_of(spec, part),), torch.arange(len(part) * 20))
        assert float(shown.amax()) == pytest.approx(value / 255)


def test_a_patch_that_does_not_fit_on_the_canvas_is_refused():
    with pytest.raises(ValidationError):
        spec_of(canvas=16, clutter={"patches": 1, "size": 20})
