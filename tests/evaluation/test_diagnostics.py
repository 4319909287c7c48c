"""Health: what a transformer does to a batch, by hand, and what of the gradient reaches it."""

import math
from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stn_train.evaluation.diagnostics import diagnose
from stn_train.geometry import FAMILIES
from stn_train.models.network import Network, build_model
from stn_train.models.transformer import SpatialTransformer
from stn_train.run_folder import Diagnostics
from stn_train.specs import ModelSpec

COUNT = 6


class Fixed(nn.Module):
    """A localisation network that predicts the same theta for every image, or one for each."""

    def __init__(self, theta: Tensor) -> None:
        super().__init__()
        self.theta = nn.Parameter(theta)

    def forward(self, images: Tensor) -> Tensor:
        return self.theta.expand(len(images), -1)


def images_of(size: int = 20) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(COUNT, 1, size, size, generator=generator), torch.arange(COUNT)


def health_of(family: str, theta: list[float] | Tensor, size: tuple[int, int] = (10, 10)) -> Diagnostics:
    torch.manual_seed(0)
    transformer = SpatialTransformer(Fixed(torch.as_tensor(theta)), FAMILIES[family], size)
    network = nn.Sequential(
        OrderedDict(transformer=transformer, classifier=nn.Sequential(nn.Flatten(), nn.Linear(math.prod(size), 10)))
    )
    (diagnostics,) = diagnose(network, *images_of())
    return diagnostics


SIZES = [(10, 10), (1, 10), (10, 1), (1, 1)]
"""Of what is put out: behind pooling, a map may have a single row or column."""


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_identity_is_at_rest(family, size):
    diagnostics = health_of(family, list(FAMILIES[family].identity), size)
    assert (diagnostics.outside, diagnostics.folded) == (0, 0)
    assert (diagnostics.scale, diagnostics.moved, diagnostics.std) == pytest.approx((1, 0, 0), abs=1e-6)
    assert diagnostics.gradient > 0 or size == (1, 1), "a point in the middle stays there"


def test_a_zoom_is_its_size():
    diagnostics = health_of("attention", [0.25, 0.0, 0.0])
    assert diagnostics.scale == pytest.approx(0.25)
    # points at ±0.1, ±0.3, ... ±0.9 along both axes are brought to a quarter
    squares = sum(2 * (0.1 + 0.2 * step) ** 2 for step in range(5)) / 10
    assert diagnostics.moved == pytest.approx(0.75 * math.sqrt(2 * squares))
    assert diagnostics.std == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_maps_of_any_size_tell_size_and_mirroring(size):
    diagnostics = health_of("affine", [-0.5, 0, 0, 0, 0.5, 0], size)
    assert diagnostics.scale == pytest.approx(0.5)
    assert diagnostics.folded == 1
    assert health_of("translation", [3.0, 0.0], size).outside == 1


def test_outside_is_the_share_of_the_points_that_are():
    assert health_of("translation", [0.6, 0.0]).outside == pytest.approx(0.3)  # 0.5, 0.7 and 0.9 of ten columns
    assert health_of("translation", [0.0, -3.0]).outside == 1


def test_mirrored_and_folded_images_are_counted():
    assert health_of("affine", [-1.0, 0, 0, 0, 1, 0]).folded == 1
    turned = torch.tensor([[1.0, 0, 0, 0, 1, 0]] * COUNT)
    turned[:2, 4] = -1
    assert health_of("affine", turned).folded == pytest.approx(2 / COUNT)
    bent = torch.tensor(FAMILIES["tps"].identity)
    bent[10] += 1.0  # a control point in the middle, over its neighbour
    assert health_of("tps", bent).folded == 1
    assert health_of("rotation", [math.pi]).folded == 0


def test_spread_is_over_images():
    shift = torch.zeros(COUNT, 2)
    shift[:3, 0] = 0.4
    assert health_of("translation", shift).std == pytest.approx(0.2)


def network_of(**transformer: Any) -> Network:
    torch.manual_seed(0)
    model = {"name": "made_up", "classifier": "cnn", "transformer": transformer}
    return build_model(ModelSpec.model_validate(model), (20, 20))


def test_every_transformer_has_its_own_in_the_order_of_the_forward_pass():
    network = network_of(before=[0, 2], localisation="fc_paper", output_size=20)
    nn.init.constant_(network.classifier[2].transformer.localisation[-1].bias, 0.1)
    first, second = diagnose(network, *images_of())
    assert first.moved == 0 < second.moved
    assert len(diagnose(network_of(parallel=3), *images_of())) == 3


def test_gradient_is_the_share_of_the_rest():
    """Against one backward pass."""
    network = network_of().eval()
    images, labels = images_of()
    nn.functional.cross_entropy(network(images), labels).backward()
    inside = [parameter.grad for parameter in network.transformer.localisation.parameters()]
    outside = [parameter.grad for parameter in network.classifier.parameters()]
    norms = [math.sqrt(sum(float(grad.square().sum()) for grad in grads)) for grads in (inside, outside)]
    network.zero_grad()
    (diagnostics,) = diagnose(network, images, labels)
    assert diagnostics.gradient == pytest.approx(norms[0] / norms[1], rel=1e-4)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_what_is_not_used_gets_no_gradient():
    class Ignoring(nn.Module):
        """Keeps a transformer and classifies the image as it is."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network_of(output_size=20)

        def forward(self, images: Tensor) -> Tensor:
            self.network.transformer(images)
            return self.network.classifier(images)

    (diagnostics,) = diagnose(Ignoring(), *images_of())
    assert diagnostics.gradient == 0


def test_a_network_without_transformers_has_none_to_examine():
    assert diagnose(nn.Sequential(nn.Flatten(), nn.Linear(400, 10)), *images_of()) == ()


def test_examining_changes_nothing():
    network = network_of()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    diagnose(network, *images_of())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(not module._forward_hooks for module in network.modules())


def test_a_gradient_that_is_not_finite_is_told_as_large():
    network = network_of()
    with torch.no_grad():
        next(network.classifier.parameters()).fill_(float("nan"))
    (diagnostics,) = diagnose(network, *images_of())
    assert diagnostics.gradient == 1e9
