"""Training: the loop over epochs and steps, from a state that can be saved after any step; optimizer and schedule."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel

from stn_train.data.datasets import Batch
from stn_train.errors import Stopped, TrialError
from stn_train.models.network import Network, precision_on
from stn_train.models.transformer import ThetaHead
from stn_train.specs import TrainingSpec, divergence_advice

if TYPE_CHECKING:
    from stn_train.data.prebuilt import TrainingData
    from stn_train.models.equivariant import Templates

_CHECK_EVERY = 32
BN_IMAGES = 2048
_SEED_STRIDE = 1_000_003
"""The steps of two trainings draw from seeds so far apart."""
_HELD = 0.1
"""The share of its rate that a classifier has until its delay is over."""


@dataclass
class TrainingState:
    """Everything that a training changes: what a checkpoint holds.

    `final` is the network to evaluate: the averaged one where there is an `average`. `epoch` counts whole epochs;
    `step_losses` are the losses of the steps since; `seconds` is the time that all of it took.
    """

    network: Network
    optimizer: torch.optim.Optimizer
    average: AveragedModel | None
    final: Network
    epoch: int = 0
    step_losses: list[Tensor] = field(default_factory=list)
    seconds: float = 0.0

    @staticmethod
    def start(network: Network, recipe: TrainingSpec) -> "TrainingState":
        """The state before the first step.

        The average of the weights is an exponential one, whose decay warms up, so that the first steps do not linger.
        """

        def exponential(averages: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
            decay = min(recipe.ema_decay, (1 + int(count)) / (10 + int(count)))
            torch._foreach_lerp_(list(averages), list(current), 1 - decay)

        optimizer = make_optimizer(network, recipe)
        if not recipe.ema_decay:
            return TrainingState(network, optimizer, None, network)
        average = AveragedModel(network, multi_avg_fn=exponential)
        return TrainingState(network, optimizer, average, cast(Network, average.module))


def train(
    state: TrainingState,
    data: "TrainingData",
    recipe: TrainingSpec,
    seed: int,
    device: torch.device,
    after_step: Callable[[float], bool] = lambda epochs: False,
    templates: "Templates | None" = None,
    every: int = 1,
) -> Iterator[float]:
    """Train from `state` to the recipe's last epoch; yields after `every` so many, when it can be evaluated and saved.

    Yields the classifier's mean loss since the last time. Everything random is drawn from seed, epoch and step: a
    training taken up again ends with the same weights. `after_step` is told the epochs done, a fraction; where it asks
    to stop, raises Stopped, with `state` ready to be saved. An equivariant localisation network learns from
    `templates`. Raises TrialError where the loss or a weight is not finite, before such a state is saved.
    """
    if templates is not None:  # its localisation network does not learn from the classifier: nothing to wait for
        recipe = recipe.changed(classifier_delay=0.0)
    mixed = torch.autocast(device.type, torch.bfloat16, enabled=precision_on(device, recipe) == "bfloat16")
    steps = max(len(data) // recipe.batch_size, 1)
    while state.epoch < recipe.epochs:
        began = time.perf_counter()
        start, end = recipe.cycle(state.epoch)
        state.network.train()
        earlier = steps * min(state.epoch % every, state.epoch - start)  # steps of the epochs since it was evaluated
        batches = data.batches(seed, state.epoch, recipe.batch_size)
        for batch in islice(batches, len(state.step_losses) - earlier, None):
            step = state.epoch * steps + len(state.step_losses) - earlier
            torch.manual_seed(seed * _SEED_STRIDE + step)  # of what is random in a forward pass, such as dropout
            set_lr(state.optimizer, recipe, (step - start * steps) / ((end - start) * steps), first=start == 0)
            with mixed:
                loss, pose_loss = _losses(state.network, batch, recipe, templates)
            state.optimizer.zero_grad()
            (loss + pose_loss).backward()
            if recipe.grad_clip is not None:
                nn.utils.clip_grad_norm_(state.network.parameters(), recipe.grad_clip)
            state.optimizer.step()
            if state.average is not None:
                state.average.update_parameters(state.network)
            state.step_losses.append(loss.detach())
            stop = after_step((step + 1) / steps)
            if stop or len(state.step_losses) % _CHECK_EVERY == 0 or (step + 1) % steps == 0:
                _check_finite(state, recipe, step, steps)
            if stop:
                state.seconds += time.perf_counter() - began
                raise Stopped
        state.epoch += 1
        if state.epoch % every and state.epoch < end:
            state.seconds += time.perf_counter() - began
            continue
        torch.manual_seed(seed * _SEED_STRIDE + state.epoch * steps)
        if state.average is not None:
            ever = (data.batches(seed, epoch, recipe.batch_size) for epoch in reversed(range(state.epoch)))
            with mixed:
                update_batch_norm(state.final, islice(chain.from_iterable(ever), -(-BN_IMAGES // recipe.batch_size)))
        loss_since = float(torch.stack(state.step_losses).mean())
        state.step_losses.clear()
        state.seconds += time.perf_counter() - began
        yield loss_since


def _losses(
    network: Network, batch: Batch, recipe: TrainingSpec, templates: "Templates | None"
) -> tuple[Tensor, Tensor | float]:
    """The classifier's loss on a batch, and that of the pose where a localisation network learns it by itself."""
    images, labels, poses = batch
    images = images.to(memory_format=torch.channels_last)
    pose_loss: Tensor | float = 0.0
    if templates is None and network.pose != "supervised":
        logits = network(images, poses)
    else:
        logits, pose_loss = network.with_pose_loss(images, poses, labels, templates)
    return F.cross_entropy(logits.float(), labels, label_smoothing=recipe.label_smoothing), pose_loss


def _check_finite(state: TrainingState, recipe: TrainingSpec, step: int, steps: int) -> None:
    """Raise TrialError where a recent loss is not finite, or a weight: of the last step's gradient only they tell.

    step: the number of the last one, from 0 on; of an epoch there are so many `steps`.
    """
    recent = torch.isfinite(torch.stack(state.step_losses[-_CHECK_EVERY:]))
    if not recent.all():
        what, step = "the loss is", step + 1 - len(recent) + int(recent.int().argmin())
    elif not all(bool(torch.isfinite(parameter).all()) for parameter in state.network.parameters()):
        what = "the weights are"
    else:
        return
    transforms = any(group["localising"] for group in state.optimizer.param_groups)
    raise TrialError(
        f"{what} not finite at step {step % steps + 1} of epoch {step // steps + 1}; "
        f"{divergence_advice(recipe, transforms)}"
    )


@torch.no_grad()
def update_batch_norm(network: Network, batches: Iterator[Batch]) -> None:
    """Recompute batch normalisation's statistics: those that an average of weights copied belong to other weights.

    As `torch.optim.swa_utils.update_bn`, which passes no true poses on.
    """
    network.train()
    layers = (layer for layer in network.modules() if isinstance(layer, _BatchNorm))
    momenta = {layer: layer.momentum for layer in layers if layer.training}  # and none that is frozen
    if not momenta:
        return
    for layer in momenta:
        layer.reset_running_stats()
        layer.momentum = None  # the mean of all batches
    for batch in batches:
        network(batch.images.to(memory_format=torch.channels_last), batch.poses)
    for layer, momentum in momenta.items():
        layer.momentum = momentum


# --- the recipe's optimizer, and the schedule of its rate -------------------------------------------------------------


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
    """The rate when a share `progress`, from 0 to 1, of a cycle's steps is done: of all, where nothing restarts it.

    one_cycle: linearly up to the highest rate over a share `warmup` of the steps, then down to zero along a cosine.
    steps: divided by 10 after each third (paper, appendix A).
    """
    if recipe.schedule == "steps":
        return recipe.lr / (1.0, 10.0, 100.0)[min(int(3 * progress), 2)]
    if progress < recipe.warmup:
        return recipe.lr * (progress / recipe.warmup)
    return recipe.lr * (1 + math.cos(math.pi * (progress - recipe.warmup) / (1 - recipe.warmup))) / 2


def set_lr(optimizer: torch.optim.Optimizer, recipe: TrainingSpec, progress: float, first: bool = True) -> None:
    """Give every group of parameters its rate when a share `progress`, from 0 to 1, of a cycle's steps is done.

    That of the schedule times the group's factor; during `classifier_delay`, in the `first` cycle alone, all but the
    localisation networks have a tenth of theirs. A classifier that has learnt to read digits as they lie no longer asks
    for them to be turned.
    """
    rate = scheduled_lr(recipe, progress)
    for group in optimizer.param_groups:
        held = first and progress < recipe.classifier_delay and not group["localising"]
        group["lr"] = rate * group["factor"] * (_HELD if held else 1.0)
