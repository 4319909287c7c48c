"""A recipe's parts: the optimizer, the schedule of its rate, and the average of the weights."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from stn_train.models.transformer import ThetaHead
from stn_train.specs import TrainingSpec

_HELD = 0.1


def make_optimizer(network: nn.Module, recipe: TrainingSpec) -> torch.optim.Optimizer:
    """The recipe's optimizer over a network's parameters.

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
    hidden = _hidden_weights(network) if recipe.optimizer == "muon" else set()
    groups: dict[tuple[bool, float, bool], list[nn.Parameter]] = {}
    for parameter in network.parameters():
        decay = recipe.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((id(parameter) in localising, decay, id(parameter) in hidden), []).append(parameter)
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


def _hidden_weights(network: nn.Module) -> set[int]:
    """The identities of the weights of all linear and convolutional layers but those that put out theta and the logits.

    The layer that puts out the logits is taken to be the last that is defined.
    """
    layers = [module for module in network.modules() if isinstance(module, nn.Linear | nn.modules.conv._ConvNd)]
    return {id(layer.weight) for layer in layers[:-1] if not isinstance(layer, ThetaHead)}


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


def make_average(network: nn.Module, recipe: TrainingSpec) -> AveragedModel | None:
    """The exponential average of the weights, or None where the recipe has none.

    Its decay warms up, so that the first steps do not linger in it.
    """
    if not recipe.ema_decay:
        return None

    def average(averages: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        decay = min(recipe.ema_decay, (1 + int(count)) / (10 + int(count)))
        torch._foreach_lerp_(list(averages), list(current), 1 - decay)

    return AveragedModel(network, multi_avg_fn=average)
