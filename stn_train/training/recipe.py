"""A recipe's optimizer, and the schedule of its rate."""

import math

import torch
from torch import nn

from stn_train.models.transformer import ThetaHead
from stn_train.specs import TrainingSpec

_HELD = 0.1


def make_optimizer(network: nn.Module, recipe: TrainingSpec) -> torch.optim.Optimizer:
    """The recipe's optimizer over a network's parameters.

    The localisation networks' rate has a factor of its own; only weights decay, not biases or normalisation. Each
    group's `factor` multiplies the scheduled rate, and `localising` says whose it is. Muon turns the weights of hidden
    layers: all linear and convolutional ones but those that put out theta and, the last that is defined, the logits.
    """
    localising = {
        id(parameter)
        for name, module in network.named_modules()
        if name.endswith("localisation")
        for parameter in module.parameters()
    }
    layers = [module for module in network.modules() if isinstance(module, nn.Linear | nn.modules.conv._ConvNd)]
    hidden = {id(layer.weight) for layer in layers[:-1] if not isinstance(layer, ThetaHead)}
    groups: dict[tuple[bool, float, bool], list[nn.Parameter]] = {}
    for parameter in network.parameters():
        decay = recipe.weight_decay if parameter.ndim > 1 else 0.0
        orthogonal = recipe.optimizer == "muon" and id(parameter) in hidden
        groups.setdefault((id(parameter) in localising, decay, orthogonal), []).append(parameter)
    described = [
        {
            "params": parameters,
            "localising": localises,
            "factor": recipe.localisation_lr if localises else 1.0,
            "weight_decay": decay,
            "orthogonal": orthogonal,
        }
        for (localises, decay, orthogonal), parameters in groups.items()
    ]
    if recipe.optimizer == "muon":
        from stn_train.training.muon import Muon

        return Muon(described, lr=recipe.lr, fused=True)
    kind = torch.optim.SGD if recipe.optimizer == "sgd" else torch.optim.AdamW
    return kind(described, lr=recipe.lr, fused=True)


def scheduled_lr(recipe: TrainingSpec, progress: float) -> float:
    """The rate when a share `progress`, from 0 to 1, of all steps is done.

    one_cycle: see there. steps: divided by 10 after each third (paper, appendix A).
    """
    if recipe.schedule == "steps":
        return recipe.lr / (1.0, 10.0, 100.0)[min(int(3 * progress), 2)]
    return one_cycle(recipe.lr, progress, recipe.warmup)


def one_cycle(highest: float, progress: float, warmup: float) -> float:
    """Goes linearly up to the highest rate over a share `warmup` of the steps, then down to zero along a cosine."""
    if progress < warmup:
        return highest * (progress / warmup)
    return highest * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup))) / 2


def set_lr(optimizer: torch.optim.Optimizer, recipe: TrainingSpec, progress: float) -> None:
    """Give every group of parameters its rate when a share `progress`, from 0 to 1, of all steps is done.

    That of the schedule times the group's factor; during `classifier_delay`, all but the localisation networks have a
    tenth of theirs. A classifier that has learnt to read digits as they lie no longer asks for them to be turned.
    """
    rate = scheduled_lr(recipe, progress)
    for group in optimizer.param_groups:
        held = progress < recipe.classifier_delay and not group["localising"]
        group["lr"] = rate * group["factor"] * (_HELD if held else 1.0)
