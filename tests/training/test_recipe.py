"""A recipe's parts: the rate over time, who decays and who has a rate of its own."""

from collections import OrderedDict
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from stn_train.geometry import AFFINE
from stn_train.models.insert import insert_transformer
from stn_train.models.network import build_model
from stn_train.models.transformer import SpatialTransformer, ThetaHead
from stn_train.specs import RECIPES, ModelSpec, TrainingSpec
from stn_train.training.loop import make_optimizer, scheduled_lr, set_lr


def recipe_of(**changes: Any) -> TrainingSpec:
    return TrainingSpec.model_validate({**RECIPES["default"], **changes})


def constant(rate: float) -> TrainingSpec:
    """A recipe whose rate at the beginning is this."""
    return recipe_of(schedule="steps", lr=rate)


def small_network() -> nn.Sequential:
    """A transformer at the input and another in the middle."""

    def transformer(channels: int) -> SpatialTransformer:
        localisation = nn.Sequential(nn.Flatten(), nn.Linear(64 * channels, 4), nn.BatchNorm1d(4), ThetaHead(4, AFFINE))
        return SpatialTransformer(localisation, AFFINE, (8, 8))

    return nn.Sequential(
        OrderedDict(
            transformer=transformer(1),
            classifier=nn.Sequential(
                nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), transformer(2), nn.Flatten(), nn.Linear(128, 10)
            ),
        )
    )


# --- the rate over time -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("warmup", [0.05, 0.2])
def test_one_cycle_rises_once_from_zero_to_the_highest_rate_and_falls_once_to_zero(warmup):
    recipe = recipe_of(schedule="one_cycle", lr=0.5, warmup=warmup)
    rates = [scheduled_lr(recipe, step / 1000) for step in range(1001)]
    top = rates.index(max(rates))
    assert top == 1000 * warmup
    assert rates[0] == 0
    assert rates[top] == pytest.approx(0.5)
    assert rates[-1] == pytest.approx(0, abs=1e-12)
    assert all(before < after for before, after in pairwise(rates[: top + 1]))
    assert all(before > after for before, after in pairwise(rates[top:]))
    assert max(abs(before - after) for before, after in pairwise(rates)) < 1.01 * 0.5 / (1000 * warmup)


def test_one_cycle_falls_along_a_cosine():
    recipe = recipe_of(schedule="one_cycle", lr=0.5, warmup=0.2)
    shares = [scheduled_lr(recipe, 0.2 + 0.8 * share) / 0.5 for share in (1 / 4, 1 / 3, 1 / 2, 2 / 3)]
    assert shares == pytest.approx([(2 + 2**0.5) / 4, 3 / 4, 1 / 2, 1 / 4])


@pytest.mark.parametrize("steps", [3, 9, 300, 3 * 234])
def test_steps_divides_the_rate_by_ten_after_each_third(steps):
    recipe = recipe_of(schedule="steps", lr=0.5)
    rates = [scheduled_lr(recipe, step / steps) for step in range(steps)]
    third = steps // 3
    assert rates == [0.5] * third + [0.05] * third + [0.005] * third
    assert scheduled_lr(recipe, 1.0) == 0.005


# --- who decays, and who has a rate of its own --------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd"])
@pytest.mark.parametrize("factor", [0.1, 1.0])
def test_every_parameter_is_in_the_group_that_it_belongs_to(optimizer, factor):
    network = small_network()
    groups = make_optimizer(
        network, recipe_of(optimizer=optimizer, localisation_lr=factor, weight_decay=0.3)
    ).param_groups
    found = {id(p): (group["factor"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(found) == len(list(network.parameters()))
    for name, parameter in network.named_parameters():
        expected = (factor if "localisation" in name else 1.0, 0.3 if parameter.ndim > 1 else 0.0)
        assert found[id(parameter)] == expected, name


def test_setting_the_rate_keeps_each_groups_factor():
    optimizer = make_optimizer(small_network(), recipe_of(localisation_lr=0.1))
    for rate in (0.5, 0.25):
        set_lr(optimizer, constant(rate), 0.0)
        assert {(group["factor"], group["lr"]) for group in optimizer.param_groups} == {(1.0, rate), (0.1, 0.1 * rate)}


@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_in_their_head_start_only_localisation_networks_learn_at_the_full_rate(factor):
    recipe = recipe_of(lr=0.5, classifier_delay=0.3, localisation_lr=factor)
    network = small_network()
    optimizer = make_optimizer(network, recipe)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    for progress, held in ((0.0, 0.1), (0.29, 0.1), (0.3, 1.0), (0.9, 1.0)):
        set_lr(optimizer, recipe, progress)
        rate = scheduled_lr(recipe, progress)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                expected = factor if "localisation" in names[id(parameter)] else held
                assert group["lr"] == pytest.approx(rate * expected), names[id(parameter)]


def test_localisation_networks_side_by_side_and_between_layers_have_their_own_rate():
    spec = ModelSpec.model_validate({"name": "two", "base": "st_cnn", "transformer": {"parallel": 2}})
    network = insert_transformer(build_model(spec, (28, 28)), before="classifier.2", image=(1, 28, 28))
    optimizer = make_optimizer(network, recipe_of(localisation_lr=0.1))
    factors = {id(p): group["factor"] for group in optimizer.param_groups for p in group["params"]}
    slow = {name for name, parameter in network.named_parameters() if factors[id(parameter)] == 0.1}
    places = ("transformer.transformers.0.", "transformer.transformers.1.", "classifier.2.transformer.")
    assert slow == {name for name, _ in network.named_parameters() if name.startswith(places)}
    assert {name.split("localisation")[0] for name in slow} == set(places)


def test_a_step_moves_the_localisation_networks_by_their_factor_and_nothing_else():
    def moves(factor: float) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        network = small_network()
        optimizer = make_optimizer(network, recipe_of(optimizer="sgd", localisation_lr=factor, weight_decay=0))
        before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
        set_lr(optimizer, constant(0.125), 0.0)
        for parameter in network.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        return {name: before[name] - parameter.detach() for name, parameter in network.named_parameters()}

    for name, move in moves(4.0).items():
        expected = 0.5 if "localisation" in name else 0.125
        assert move.flatten().tolist() == pytest.approx([expected] * move.numel(), abs=1e-6), name


def test_only_weights_shrink_under_weight_decay():
    torch.manual_seed(0)
    network = small_network()
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    optimizer = make_optimizer(network, recipe_of(optimizer="adamw", weight_decay=0.5, localisation_lr=1.0))
    set_lr(optimizer, constant(1.0), 0.0)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in network.named_parameters():
        assert torch.allclose(parameter, before[name] * (0.5 if parameter.ndim > 1 else 1.0)), name
