"""A recipe's parts: the optimiser, the schedule of its rate, and the average of the weights."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from stn_train.specs import TrainingSpec

_WARM_UP = 0.2


def make_optimiser(network: nn.Module, recipe: TrainingSpec) -> torch.optim.Optimizer:
    """AdamW or SGD over a network's parameters.

    The localisation networks' rate has a factor of its own; only weights decay, not biases or normalisation. Each
    group's `factor` multiplies the scheduled rate.
    """
    localising = {
        id(parameter)
        for name, module in network.named_modules()
        if name.endswith("localisation")
        for parameter in module.parameters()
    }
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in network.parameters():
        factor = recipe.localisation_rate if id(parameter) in localising else 1.0
        decay = recipe.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((factor, decay), []).append(parameter)
    described = [
        {"params": parameters, "factor": factor, "weight_decay": decay}
        for (factor, decay), parameters in groups.items()
    ]
    if recipe.optimiser == "adamw":
        return torch.optim.AdamW(described, lr=recipe.rate, fused=True)
    return torch.optim.SGD(described, lr=recipe.rate, fused=True)


def scheduled_rate(recipe: TrainingSpec, progress: float) -> float:
    """The rate when a share `progress`, from 0 to 1, of all steps is done.

    one_cycle: see there. steps: divided by 10 after each third (paper, appendix A).
    """
    if recipe.schedule == "steps":
        return recipe.rate / (1.0, 10.0, 100.0)[min(int(3 * progress), 2)]
    return one_cycle(recipe.rate, progress)


def one_cycle(highest: float, progress: float) -> float:
    """The rate goes linearly up to the highest over the first fifth of the steps, then down to zero along a cosine."""
    if progress < _WARM_UP:
        return highest * (progress / _WARM_UP)
    return highest * (1 + math.cos(math.pi * (progress - _WARM_UP) / (1 - _WARM_UP))) / 2


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Give every group of parameters this rate times its factor."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["factor"]


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
