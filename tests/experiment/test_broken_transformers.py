"""Transformers broken on purpose are named, each by its own trouble, by what a trial records."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stn_train.evaluation.diagnostics import diagnose
from stn_train.evaluation.metrics import warnings_of
from stn_train.models.network import Network, build_model
from stn_train.models.transformer import SpatialTransformer
from stn_train.run_folder import EpochRecord
from stn_train.specs import RECIPES, ModelSpec, TrainingSpec


class PastIt(nn.Module):
    """A transformer at the input whose output goes nowhere: what follows reads the image as it came in."""

    def __init__(self, transformer: nn.Module) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, images: Tensor) -> Tensor:
        self.transformer(images)
        return images


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return build_model(ModelSpec.model_validate("st_cnn"), (28, 28), 60_000)


def recipe_of(**changes: Any) -> TrainingSpec:
    return TrainingSpec(**{**RECIPES["default"], **changes})


def faults(network: nn.Module) -> list[tuple[str, int]]:
    noise = torch.rand(20, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    images = noise * torch.linspace(0.2, 2, 20)[:, None, None, None]
    record = EpochRecord(
        epoch=4, loss=1.0, error=50.0, lr=0.1, transformers=diagnose(network, images, torch.arange(20) % 10)
    )
    return [(warning.fault, warning.number) for warning in warnings_of(record, recipe_of(epochs=8))]


def last(network: Network) -> nn.Linear:
    assert isinstance(network.transformer, SpatialTransformer)
    (*_, layer) = network.transformer.localisation.modules()
    assert isinstance(layer, nn.Linear)
    return layer


def test_one_that_works_has_none(network):
    nn.init.normal_(last(network).weight, std=0.1)
    assert faults(network) == []


def test_a_classifier_that_is_fed_the_untransformed_image(network):
    assert network.transformer is not None
    assert faults(Network(PastIt(network.transformer), network.classifier)) == [("unused", 1)]


def test_an_output_collapsed_to_a_dot(network):
    with torch.no_grad():
        last(network).bias.copy_(torch.tensor([-0.98, 0, 0, 0, -0.98, 0]))
    assert faults(network) == [("collapsed", 1)]


def test_an_output_beside_the_image(network):
    with torch.no_grad():
        last(network).bias[2] = 3.0
    assert faults(network) == [("out_of_bounds", 1)]
