"""scripts/place.py: the ink is moved where it says, angles are read off maps, and `r_centred` hides what R tells."""

import place
import pytest
import torch

import stn_train as st
from stn_train.data.datasets import FixedDataset
from stn_train.geometry import AFFINE, ink_place


@pytest.fixture(scope="module")
def told() -> dict[str, FixedDataset]:
    return {name: st.make_dataset(name, source="digits") for name in ("r", "r_centred")}


def test_the_ink_is_moved_to_the_middle_or_as_far_from_it_elsewhere(told):
    images = told["r"].images[:200].float()
    where = ink_place(images)[:, :2]
    assert ink_place(place.moved(images, where))[:, :2].abs().max() < 0.01
    turned = torch.stack([-where[:, 1], where[:, 0]], dim=1)  # by a quarter, whatever the direction
    assert torch.allclose(ink_place(place.moved(images, where - turned))[:, :2], turned, atol=0.01)


def test_angles_lie_off_their_mean_by_less_than_half_a_turn_whichever_way_they_are_counted():
    angle = torch.tensor([3.0, 3.1, -3.1, -3.0])
    assert torch.allclose(place.off_mean(angle), place.off_mean(angle + 1.0), atol=1e-3)
    assert place.off_mean(angle).abs().max() < 10


def test_a_centred_digit_lies_in_the_middle_by_its_box(told):
    images = told["r_centred"].images[:200]
    for along in (2, 3):
        inked = (images > 0).any(dim=along)[:, 0]
        first, last = inked.int().argmax(dim=1), 27 - inked.flip(1).int().argmax(dim=1)
        assert ((first + last - 27).abs() <= 2).all()  # either end may show one pixel more, where ink is between pixels
    assert torch.equal(AFFINE.matrix(told["r"].theta)[:, :2, :2], AFFINE.matrix(told["r_centred"].theta)[:, :2, :2])
