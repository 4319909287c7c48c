"""Training without labels: the loss, the crops, and what does not depend on chance."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from stn_train.colocalisation.images import OneClass, crop_boxes
from stn_train.colocalisation.spec import LocaliserSpec
from stn_train.colocalisation.training import (
    Encoder,
    build_localiser,
    crop_size,
    random_theta,
    train_localiser,
    triplet_loss,
)
from stn_train.data.datasets import render
from stn_train.data.distortion import sample_distortion
from stn_train.data.images import ImageSet
from stn_train.models.network import build_model
from stn_train.specs import DatasetSpec, ModelSpec

SPEC = LocaliserSpec(localisation="keypoints", margin=1.0, steps=4, batch_size=8, lr=0.003)
CPU = torch.device("cpu")


# --- the loss -----------------------------------------------------------------------------------------------------


def test_the_loss_by_hand():
    crops = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    random = torch.tensor([[1.0, 0.0], [3.0, -2.0]])
    # n = 0: 25 - 1 + 1; n = 1: 25 - 36 + 1, which the hinge cuts off
    assert float(triplet_loss(crops, random, margin=1.0)) == pytest.approx((25 + 0) / 2)
    assert float(triplet_loss(crops, random, margin=20.0)) == pytest.approx((44 + 9) / 2)


def test_the_loss_counts_every_pair_once_and_no_crop_with_itself():
    generator = torch.Generator().manual_seed(0)
    crops, random = (torch.randn(5, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    hinges = [
        max(0.0, float((crops[n] - crops[m]).square().sum() - (crops[n] - random[n]).square().sum() + 0.7))
        for n in range(5)
        for m in range(5)
        if m != n
    ]
    assert float(triplet_loss(crops, random, 0.7)) == pytest.approx(sum(hinges) / 20)


def test_equal_crops_far_from_random_ones_lose_nothing_and_black_ones_the_margin():
    same = torch.ones(4, 3)
    assert float(triplet_loss(same, -same, 1.0)) == 0
    assert float(triplet_loss(same, same, 1.0)) == 1.0


def test_a_crop_is_drawn_to_the_others_and_pushed_from_its_random_one_alike():
    crops = torch.tensor([[0.0, 0.0], [2.0, 0.0]], requires_grad=True)
    random = torch.tensor([[0.0, 1.0], [2.0, 1.0]])
    triplet_loss(crops, random, 1.0).backward()
    # of (|e_0 - e_1|^2 - |e_0 - r_0|^2) / 2, e_1 held still
    assert crops.grad is not None
    assert torch.allclose(crops.grad[0], torch.tensor([-2.0, 1.0]))


# --- crops --------------------------------------------------------------------------------------------------------


def test_the_crop_shrinks_from_the_whole_canvas_to_a_digits_frame():
    sizes = [crop_size(1 / 3, step / 20) for step in range(20)]
    assert sizes[0] == 1
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == sizes[12] == pytest.approx(1 / 3)


def test_random_crops_lie_inside_the_canvas_and_reach_its_edges():
    boxes = crop_boxes(random_theta(2000, 1 / 3, torch.Generator().manual_seed(0)))
    assert boxes.min() >= -1.00001
    assert boxes.max() <= 1.00001
    assert boxes.amin(dim=0)[:2].max() < -0.99
    assert boxes.amax(dim=0)[2:].min() > 0.99


def test_a_fresh_localiser_crops_the_middle_at_the_size_of_a_frame():
    transformer = build_localiser("keypoints", (84, 84))
    crops, theta = transformer.warp(torch.rand(3, 1, 84, 84))
    assert crops.shape == (3, 1, 28, 28)
    assert torch.allclose(theta, torch.tensor([[1 / 3, 0.0, 0.0]] * 3))


@pytest.mark.parametrize("size", [1.0, 0.6, 1 / 3])
def test_a_crop_reaches_over_the_edge_by_half_a_frame_at_most(size):
    localiser = build_localiser("keypoints", (84, 84)).localisation
    localiser.size = size
    with torch.no_grad():
        localiser.network[-1].bias.fill_(1000.0)  # as far as it goes, right and down
        box = crop_boxes(localiser(torch.rand(2, 1, 84, 84)))[0]
    assert torch.allclose(box[2:], torch.tensor(1 + 1 / 3))


# --- the encoder --------------------------------------------------------------------------------------------------


def encoder_of(seed: int = 0) -> Encoder:
    torch.manual_seed(seed)
    return Encoder(build_model(ModelSpec.model_validate("cnn_paper"), (28, 28), 20_000).classifier)


def test_a_descriptor_has_every_activation_and_the_logits_and_unit_length():
    layers = nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=True)), nn.Linear(3, 2))
    images = torch.randn(6, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    hidden = layers[:2](images)
    expected = torch.cat([hidden, layers[2](hidden)], dim=1)
    found = Encoder(layers)(images)
    assert torch.allclose(found, expected / expected.norm(dim=1, keepdim=True))


def test_gradients_reach_the_crops_and_not_the_encoder():
    encoder, images = encoder_of(), torch.rand(2, 1, 28, 28, requires_grad=True)
    encoder(images).sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


# --- images of one class ------------------------------------------------------------------------------------------


def few(real_digits: tuple[ImageSet, ImageSet]) -> ImageSet:
    return ImageSet(real_digits[0].images[:100], real_digits[0].labels[:100])


def test_images_of_a_class_are_those_of_the_whole_dataset_clutter_of_other_classes_and_all(real_digits):
    digits = few(real_digits)
    spec = DatasetSpec.model_validate({"name": "tc", "base": "tc", "canvas": 84})
    members = (digits.labels == 3).nonzero()[:, 0]
    batch = next(OneClass.of(spec, digits, 3, CPU).batches(seed=5, size=len(members)))
    (drawn,) = draws = sample_distortion(spec, digits, 5, "train", 0)
    everything = render(spec, digits, draws, members)
    same = (batch[:, None] == everything).flatten(2).all(dim=2)
    assert same.sum(dim=0).tolist() == same.sum(dim=1).tolist() == [1] * len(members)  # each once, in some order
    assert drawn.clutter is not None
    assert {int(digits.labels[digit]) for digit in drawn.clutter[members, :, 0].flatten()} > {3}


def test_every_epoch_is_distorted_afresh(real_digits):
    spec = DatasetSpec.model_validate({"name": "t", "base": "translation", "canvas": 84})
    one = OneClass.of(spec, few(real_digits), 3, CPU)
    batches = one.batches(seed=0, size=len(one.members))
    first, second = next(batches), next(batches)
    assert not any(torch.equal(a, b) for a in first for b in second)


# --- training -----------------------------------------------------------------------------------------------------


class Seen(nn.Module):
    """Describes images by themselves; keeps those that it has described, and at which size of the crop."""

    def __init__(self, transformer: nn.Module) -> None:
        super().__init__()
        self.localiser = [transformer.localisation]
        self.crops: list[Tensor] = []
        self.random: list[Tensor] = []
        self.sizes: list[float] = []

    def forward(self, images: Tensor) -> Tensor:
        if images.requires_grad:
            self.crops.append(images.detach())
            self.sizes.append(self.localiser[0].size)
        else:
            self.random.append(images)
        return images.flatten(1)


def test_each_step_draws_shrinking_crops_together_and_away_from_random_ones(real_digits):
    transformer = build_localiser("keypoints", (56, 56))
    batch = torch.rand(4, 1, 56, 56, generator=torch.Generator().manual_seed(0))
    seen = Seen(transformer)
    losses = list(train_localiser(transformer, seen, iter([batch] * SPEC.steps), SPEC, seed=0))
    assert seen.sizes == pytest.approx([crop_size(0.5, step / SPEC.steps) for step in range(SPEC.steps)])
    for loss, crops, random in zip(losses, seen.crops, seen.random, strict=True):
        assert loss == pytest.approx(float(triplet_loss(crops.flatten(1), random.flatten(1), SPEC.margin)), rel=1e-5)


def trained(digits: ImageSet, seed: int) -> tuple[list[float], dict[str, Tensor]]:
    torch.manual_seed(seed)
    transformer = build_localiser("keypoints", (56, 56))
    spec = DatasetSpec.model_validate({"name": "t", "base": "translation", "canvas": 56})
    batches: Iterator[Tensor] = OneClass.of(spec, digits, 1, CPU).batches(seed, SPEC.batch_size)
    losses = list(train_localiser(transformer, encoder_of(), batches, SPEC, seed))
    assert transformer.localisation.size == transformer.localisation.smallest == 0.5
    return losses, transformer.state_dict()


def test_the_same_seed_gives_the_same_weights_and_another_others(real_digits):
    digits = few(real_digits)
    (losses, weights), (again, same), (other, _) = (trained(digits, seed) for seed in (3, 3, 4))
    assert losses == again
    assert len(losses) == SPEC.steps
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    assert losses != other
