"""From a draw to images: whatever the batch, the same bytes; and clutter, laid out again pixel by pixel."""

import numpy as np
import pytest
import torch
from made_up import draw_of, draws_of, first, order, outline_of, spec_of
from torch import Tensor

from stn_train.data.datasets import OnlineDataset, make_fixed_dataset, render
from stn_train.data.distortion import true_poses
from stn_train.data.prebuilt import PrebuiltDataset
from stn_train.geometry import HOMOGRAPHY, bilinear_sampler

CLUTTERED = {"canvas": [30, 40], "rotation": 30, "translation": 1, "clutter": {"patches": 5, "size": 7}}


def quantised(images: Tensor) -> Tensor:
    return (images * 255).round().byte()


@pytest.mark.parametrize(
    "spec",
    [spec_of("rts"), spec_of(**CLUTTERED), spec_of("p"), spec_of("e"), spec_of("addition")],
    ids=lambda spec: spec.name,
)
def test_an_image_depends_neither_on_the_size_nor_on_the_order_of_batches(real_digits, spec):
    digits = first(real_digits[0], 100, repeats=2)
    draws = draws_of(spec, digits)
    together = render(spec, digits, draws, torch.arange(200))
    assert together.shape == (200, 2 if spec.addition else 1, *spec.canvas)
    shuffled = torch.from_numpy(np.random.default_rng(0).permutation(200))
    for size in (1, 7, 100):
        for index in shuffled.split(size):
            assert torch.equal(render(spec, digits, draws, index), together[index])


def test_undistorted_image_j_of_n_digits_is_digit_j_modulo_n(real_digits):
    digits, spec = first(real_digits[0], 12, repeats=3), spec_of("plain")
    images = render(spec, digits, draws_of(spec, digits), torch.arange(36))
    assert torch.equal(quantised(images), digits.images.repeat(3, 1, 1, 1))


def test_pixels_lie_between_0_and_1(real_digits):
    digits = first(real_digits[0], 100)
    images = render(spec_of("tc"), digits, draws_of(spec_of("tc"), digits), torch.arange(100))
    assert images.dtype == torch.float32
    assert images.min() == 0
    assert 0.9 < images.max() <= 1


# --- clutter ------------------------------------------------------------------------------------------------------


def test_clutter_is_the_sources_pixels_laid_over_the_image_where_they_are_brighter(real_digits):
    digits, spec = first(real_digits[0], 50, repeats=2), spec_of(**CLUTTERED)
    drawn = draw_of(spec, digits)
    bare = spec_of(**{**CLUTTERED, "clutter": None})
    expected = render(bare, digits, draws_of(bare, digits), torch.arange(100))
    assert drawn.clutter is not None
    for number in range(100):
        for patch in range(5):
            digit, from_y, from_x, to_y, to_x = drawn.clutter[number, patch].tolist()
            for y in range(7):
                for x in range(7):
                    there = expected[number, 0, to_y + y, to_x + x]
                    value = digits.images[digit, 0, from_y + y, from_x + x].float() / 255
                    expected[number, 0, to_y + y, to_x + x] = max(there, value)
    assert torch.equal(render(spec, digits, (drawn,), torch.arange(100)), expected)


def test_clutter_comes_from_every_other_digit_and_every_place_lands_everywhere_and_never_out_of_bounds(real_digits):
    digits, spec = first(real_digits[0], 20, repeats=250), spec_of(**CLUTTERED)
    clutter = draw_of(spec, digits).clutter
    assert clutter is not None
    own = torch.arange(5000) % 20
    digit, from_y, from_x, to_y, to_x = clutter.unbind(-1)
    for number in range(20):
        assert digit[own == number].unique().tolist() == [other for other in range(20) if other != number]
    assert from_y.unique().tolist() == from_x.unique().tolist() == list(range(28 - 7 + 1))
    assert to_y.unique().tolist() == list(range(30 - 7 + 1))
    assert to_x.unique().tolist() == list(range(40 - 7 + 1))


@pytest.mark.parametrize("column", range(5))
def test_each_of_clutters_numbers_is_uniform_and_independent_of_the_others(real_digits, column):
    digits, spec = first(real_digits[0], 20, repeats=250), spec_of(**CLUTTERED)
    clutter = draw_of(spec, digits).clutter
    values = clutter[..., column].double().flatten()
    counts = values.long().bincount().double()
    chi_squared = ((counts - counts.mean()) ** 2 / counts.mean()).sum()
    assert chi_squared < len(counts) + 4 * (2 * len(counts)) ** 0.5
    for other in set(range(5)) - {column}:
        pair = torch.stack([values, clutter[..., other].double().flatten()])
        assert abs(float(torch.corrcoef(pair)[0, 1])) < 0.03


@pytest.mark.parametrize("bend", [{}, {"elastic": {"std": 1.5}}], ids=["pose", "elastic"])
def test_apart_patches_do_not_meet_the_digits_ink(real_digits, bend):
    digits = first(real_digits[0], 40)
    keys = {"canvas": [40, 50], "rotation": 30, "translation": 1, **bend}
    apart = spec_of(**keys, clutter={"patches": 4, "size": 6, "avoid_digit": True})
    drawn = draw_of(apart, digits)
    assert drawn.clutter is not None
    left, top, right, bottom = torch.from_numpy(outline_of(apart, digits, drawn).ink).T[..., None]
    for number, place in enumerate(zip(drawn.clutter[..., 4], drawn.clutter[..., 3], strict=True)):
        for x, y in zip(*place, strict=True):
            across = x + 5 >= left[number] and x <= right[number]
            down = y + 5 >= top[number] and y <= bottom[number]
            assert not (across and down)
    anywhere = draw_of(spec_of(**keys, clutter={"patches": 4, "size": 6}), digits).clutter
    assert anywhere is not None
    kept = (anywhere == drawn.clutter)[..., 3:].all(dim=-1)
    assert 0.3 < kept.double().mean() < 0.95
    assert torch.equal(anywhere[..., :3], drawn.clutter[..., :3])


def test_patches_without_room_stay_where_they_fell(real_digits):
    spec = spec_of(canvas=28, scale=[1.3, 1.3], clutter={"patches": 2, "size": 20, "avoid_digit": True})
    images = render(spec, first(real_digits[0], 5), draws_of(spec, first(real_digits[0], 5)), torch.arange(5))
    assert images.amax(dim=(1, 2, 3)).min() > 0.5


# --- addition -------------------------------------------------------------------------------------------------------


def test_addition_shows_two_digits_in_a_channel_each_and_their_sum_as_label(real_digits):
    digits, spec = first(real_digits[0], 200, repeats=2), spec_of("addition")
    draws = draws_of(spec, digits)
    assert len(draws) == 2
    assert draws[0].digit.tolist() == [*range(200)] * 2
    assert sorted(draws[1].digit.tolist()) == sorted(draws[0].digit.tolist())
    sums = digits.labels[draws[0].digit] + digits.labels[draws[1].digit]
    variant, *_ = make_fixed_dataset(spec, digits, "train", seed=0)
    assert torch.equal(variant.labels, sums)
    assert sums.unique().tolist() == list(range(19))
    images = render(spec, digits, draws, torch.arange(400))
    for channel, drawn in enumerate(draws):
        alone = render(spec_of("rts"), digits, (drawn,), torch.arange(400))
        assert torch.equal(images[:, [channel]], alone)


def test_the_two_digits_of_an_addition_are_drawn_apart(real_digits):
    one, other = draws_of(spec_of("addition"), first(real_digits[0], 200, repeats=20))
    for name in ("rotation", "scale"):
        assert abs(np.corrcoef(getattr(one, name), getattr(other, name))[0, 1]) < 0.05
    assert abs(np.corrcoef(one.shift[:, 0], other.shift[:, 0])[0, 1]) < 0.05
    assert abs(np.corrcoef(one.digit, other.digit)[0, 1]) < 0.05


def test_an_epoch_of_additions_gives_each_image_its_own_sum(real_digits):
    digits, spec = first(real_digits[0], 40), spec_of("addition")
    ((images, labels, _),) = OnlineDataset(spec, digits).batches(0, 0, 40)
    draws, index = draws_of(spec, digits), order(40, 0, 0)
    assert torch.equal(images, render(spec, digits, draws, index))
    assert labels.tolist() == [sum(int(digits.labels[drawn.digit[j]]) for drawn in draws) for j in index]


# --- batches ------------------------------------------------------------------------------------------------------


def test_an_epoch_shows_each_digits_distortions_once_with_its_label(real_digits):
    digits, spec = first(real_digits[0], 40, repeats=3), spec_of("r")
    data = OnlineDataset(spec, digits)
    assert len(data) == 120
    every = render(spec, digits, draws_of(spec, digits, seed=5, epoch=2), torch.arange(120))
    numbers = order(120, 5, 2).split(30)
    batches = list(data.batches(5, 2, 30))
    assert len(batches) == 4
    for (images, labels, _), index in zip(batches, numbers, strict=True):
        assert torch.equal(images, every[index])
        assert torch.equal(labels, digits.labels[index % 40])


@pytest.mark.parametrize(
    ("size", "batches"), [(50, [50, 50]), (60, [60, 60]), (120, [120]), (121, [120]), (1000, [120])]
)
def test_only_whole_batches_are_shown_but_at_least_one(real_digits, size, batches):
    digits = first(real_digits[0], 120)
    fresh = OnlineDataset(spec_of("plain"), digits)
    built = PrebuiltDataset(digits.images, digits.labels)
    for data in (fresh, built):
        assert [len(images) for images, *_ in data.batches(0, 0, size)] == batches


def test_every_epoch_and_seed_distorts_and_orders_afresh(real_digits):
    data = OnlineDataset(spec_of("r"), first(real_digits[0], 50))
    epochs = {origin: next(data.batches(*origin, 50)) for origin in ((0, 0), (0, 1), (1, 0))}
    again, *_ = next(data.batches(0, 1, 50))
    assert torch.equal(again, epochs[0, 1][0])
    assert not torch.equal(epochs[0, 0][1], epochs[0, 1][1])
    assert not torch.equal(epochs[0, 0][1], epochs[1, 0][1])
    totals = [sorted(images.sum(dim=(1, 2, 3)).tolist()) for images, *_ in epochs.values()]
    assert totals[0] != totals[1] != totals[2]


def test_built_images_are_shown_in_another_order_every_epoch_and_stay_as_they_are(real_digits):
    digits = first(real_digits[0], 60)
    data = PrebuiltDataset(digits.images, digits.labels)
    shown = []
    for epoch in (0, 1):
        index = order(60, 3, epoch)
        images, labels, _ = next(data.batches(3, epoch, 60))
        assert images.dtype == torch.float32
        assert torch.equal(quantised(images), digits.images[index])
        assert torch.equal(labels, digits.labels[index])
        shown.append(images)
    assert not torch.equal(*shown)


@pytest.mark.parametrize("name", ["rts", "shear", "tc", "p_outward"])
def test_the_true_pose_brings_every_digit_back(real_digits, name):
    """Sampled with it, images are the digits again, but for what a second interpolation blurs."""
    digits, spec = first(real_digits[0], 40), spec_of(name)
    data = OnlineDataset(spec.model_copy(update={"clutter": None}), digits, posed=True)
    images, _, poses = next(data.batches(0, 0, 40))
    back = bilinear_sampler(images, HOMOGRAPHY.grid(poses, (28, 28)))[:, 0]
    originals = digits.images[order(40, 0, 0), 0].float() / 255
    apart = (back - originals).abs().mean(dim=(1, 2)) / originals.mean(dim=(1, 2))
    moved = (originals.roll(1, dims=2) - originals).abs().mean(dim=(1, 2)) / originals.mean(dim=(1, 2))
    assert float(apart.median()) < 0.5 * float(moved.median()), "nearer than one pixel beside"


def test_built_images_come_with_the_same_poses(real_digits):
    digits, spec = first(real_digits[0], 40), spec_of("rts")
    variant, *_ = make_fixed_dataset(spec, digits, "train", seed=0)
    built = PrebuiltDataset(variant.images, variant.labels, true_poses(spec, variant.theta))
    fresh = OnlineDataset(spec, digits, posed=True)
    for mine, theirs in zip(built.batches(0, 0, 10), fresh.batches(0, 0, 10), strict=True):
        assert torch.equal(mine.poses, theirs.poses)
