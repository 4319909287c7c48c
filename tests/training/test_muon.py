"""Muon: steps that are orthogonal for hidden weights, AdamW's for the rest."""

from typing import Any

import pytest
import torch
from torch import nn

from stn_train.models.network import build_model
from stn_train.models.transformer import ThetaHead
from stn_train.specs import RECIPES, ModelSpec, TrainingSpec
from stn_train.training.loop import make_optimizer, set_lr
from stn_train.training.muon import Muon, orthogonalised


def recipe_of(**changes: Any) -> TrainingSpec:
    return TrainingSpec.model_validate({**RECIPES["default"], "optimizer": "muon", **changes})


def muon_over(network: nn.Module, **changes: Any) -> torch.optim.Optimizer:
    return make_optimizer(network, recipe_of(**changes))


@pytest.mark.parametrize("shape", [(6, 40), (40, 6), (30, 30)], ids=str)
def test_orthogonalising_keeps_the_singular_vectors_and_makes_their_values_near_1(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    inside = left.T @ orthogonalised(matrix) @ right.T
    assert torch.linalg.svdvals(orthogonalised(matrix)).max() < 1.3
    assert inside.diagonal().min() > 0.5
    assert (inside - inside.diagonal().diag()).abs().max() < 0.1


def test_orthogonalising_does_not_depend_on_the_length():
    torch.manual_seed(0)
    matrix = torch.randn(8, 20)
    assert torch.equal(orthogonalised(matrix), orthogonalised(2.0**30 * matrix))
    assert torch.equal(orthogonalised(torch.zeros(3, 4)), torch.zeros(3, 4))


@pytest.mark.parametrize("name", ["st_cnn_paper", "st_fcn_tps", "cnn"])
def test_what_puts_out_theta_and_the_logits_and_what_is_no_matrix_is_left_to_adamw(name):
    network = build_model(ModelSpec.model_validate(name), (28, 28))
    groups = muon_over(network).param_groups
    turned = {id(parameter) for group in groups if group["orthogonal"] for parameter in group["params"]}
    layers = [module for module in network.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    theta = [layer for layer in layers if isinstance(layer, ThetaHead)]
    assert len(theta) == name.startswith("st_")
    assert turned == {id(layer.weight) for layer in layers[:-1] if layer not in theta}


def test_the_first_step_moves_a_hidden_layer_by_its_orthogonal_gradient_as_far_as_adamw_would():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 16, 4), nn.Flatten(), nn.Linear(16, 2))
    optimizer = muon_over(network, weight_decay=0.0)
    weight = network[0].weight
    weight.grad = torch.randn_like(weight)
    before, gradient = weight.detach().clone(), weight.grad.clone()
    set_lr(optimizer, recipe_of(schedule="steps", lr=0.5), 0.0)
    optimizer.step()
    move = before - weight.detach()
    direction = orthogonalised(gradient.flatten(1)).view_as(move)
    assert torch.allclose(move, 0.5 * 0.2 * 48**0.5 * direction, atol=1e-5)
    assert 0.7 * 0.2 * 0.5 < move.square().mean().sqrt() < 1.2 * 0.2 * 0.5


def test_steps_follow_the_momentum_one_gradient_ahead_of_it():
    """Nesterov's: the direction is that of the momentum after a further step along the same gradient."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3))
    optimizer, weight = muon_over(network, weight_decay=0.0), network[0].weight
    set_lr(optimizer, recipe_of(schedule="steps", lr=0.5), 0.0)
    expected, momentum = weight.detach().clone(), torch.zeros(4, 5)
    for _ in range(3):
        weight.grad = gradient = torch.randn(4, 5)
        momentum = 0.95 * momentum + 0.05 * gradient
        expected -= 0.5 * 0.2 * 5**0.5 * orthogonalised(0.95 * momentum + 0.05 * gradient)
        optimizer.step()
        assert torch.allclose(weight, expected, atol=1e-2)


def test_all_else_moves_as_under_adamw():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3))
    twin = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3))
    twin.load_state_dict(network.state_dict())
    optimizer = muon_over(network)
    adamw = make_optimizer(twin, TrainingSpec.model_validate(RECIPES["default"]))
    assert isinstance(optimizer, Muon)
    for _ in range(3):
        for one, other in zip(network.parameters(), twin.parameters(), strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        optimizer.step()
        adamw.step()
    assert torch.equal(network[1].weight, twin[1].weight)
    assert torch.equal(network[0].bias, twin[0].bias)
    assert not torch.allclose(network[0].weight, twin[0].weight)


def test_hidden_weights_shrink_under_weight_decay():
    network = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3))
    before = network[0].weight.detach().clone()
    optimizer = muon_over(network, weight_decay=0.5)
    set_lr(optimizer, recipe_of(schedule="steps", lr=0.5), 0.0)
    network[0].weight.grad = torch.zeros(4, 5)
    optimizer.step()
    assert torch.allclose(network[0].weight, 0.75 * before)
