"""A recipe's parts: the optimiser, the schedule of its rate, and the average of the weights."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from stn_train.models.transformer import Regression
from stn_train.specs import TrainingSpec
from stn_train.training.muon import Muon

_HELD = 0.1


def make_optimiser(network: nn.Module, recipe: TrainingSpec) -> torch.optim.Optimizer:
    """The recipe's optimiser over a network's parameters.

    The localisation networks' rate has a factor of its own; only weights decay, not biases or normalisation. Each
    group's `factor` multiplies the scheduled rate, and `localising` says whose it is. Muon turns the weights of hidden
    layers, those between the image and the classification layer or theta.
    """
    localising = {
        id(parameter)
        for name, module in network.named_modules()
        if name.endswith("localisation")
        for parameter in module.parameters()
    }
    hidden = _hidden_weights(network) if recipe.optimiser == "muon" else set()
    groups: dict[tuple[bool, float, bool], list[nn.Parameter]] = {}
    for parameter in network.parameters():
        decay = recipe.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((id(parameter) in localising, decay, id(parameter) in hidden), []).append(parameter)
    described = [
        {
            "params": parameters,
            "localising": localises,
            "factor": recipe.localisation_rate if localises else 1.0,
            "weight_decay": decay,
            "orthogonal": orthogonal,
        }
        for (localises, decay, orthogonal), parameters in groups.items()
    ]
    kinds: dict[str, type[torch.optim.Optimizer]] = {"adamw": torch.optim.AdamW, "muon": Muon, "sgd": torch.optim.SGD}
    return kinds[recipe.optimiser](described, lr=recipe.rate, fused=True)  # type: ignore[call-arg]


def _hidden_weights(network: nn.Module) -> set[int]:
    """The identities of the weights of all linear and convolutional layers but those that put out theta and the logits.

    The layer that puts out the logits is taken to be the last that is defined.
    """
    layers = [module for module in network.modules() if isinstance(module, nn.Linear | nn.modules.conv._ConvNd)]
    return {id(layer.weight) for layer in layers[:-1] if not isinstance(layer, Regression)}


def scheduled_rate(recipe: TrainingSpec, progress: float) -> float:
    """The rate when a share `progress`, from 0 to 1, of all steps is done.

    one_cycle: see there. steps: divided by 10 after each third (paper, appendix A).
    """
    if recipe.schedule == "steps":
        return recipe.rate / (1.0, 10.0, 100.0)[min(int(3 * progress), 2)]
    return one_cycle(recipe.rate, progress, recipe.warm_up)


def one_cycle(highest: float, progress: float, warm_up: float) -> float:
    """Goes linearly up to the highest rate over a share `warm_up` of the steps, then down to zero along a cosine."""
    if progress < warm_up:
        return highest * (progress / warm_up)
    return highest * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up))) / 2


def set_rate(optimiser: torch.optim.Optimizer, recipe: TrainingSpec, progress: float) -> None:
    """Give every group of parameters its rate when a share `progress`, from 0 to 1, of all steps is done.

    That of the schedule times the group's factor; during the head start of the localisation networks, all else learns
    slowly. A classifier that has learnt to read digits as they lie no longer asks for them to be turned.
    """
    rate = scheduled_rate(recipe, progress)
    for group in optimiser.param_groups:
        held = progress < recipe.head_start and not group["localising"]
        group["lr"] = rate * group["factor"] * (_HELD if held else 1.0)


def make_average(network: nn.Module, recipe: TrainingSpec) -> AveragedModel | None:
    """The exponential average of the weights, or None where the recipe has none.

    Its decay warms up, so that the first steps do not linger in it.
    """
    if not recipe.averaging:
        return None

    def average(averages: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        decay = min(recipe.averaging, (1 + int(count)) / (10 + int(count)))
        torch._foreach_lerp_(list(averages), list(current), 1 - decay)

    return AveragedModel(network, multi_avg_fn=average)
