"""The training loop: one epoch after another, from a state that can be saved after any step and taken up again."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel

from stn_train.data.datasets import Batch, TrainingData
from stn_train.errors import Stopped, TrialError
from stn_train.models.network import Network, Precision, autocast, precision_on
from stn_train.specs import TrainingSpec, divergence_advice
from stn_train.training.recipe import make_average, make_optimizer, set_lr

_CHECK_EVERY = 32
_BN_IMAGES = 2048


@dataclass
class TrainingState:
    """Everything that a training changes: what a checkpoint holds.

    `epoch` and `step` count what is done: whole epochs, and steps of the epoch after them, whose losses so far are
    `step_losses`; `seconds` is the time that all of it took.
    """

    network: Network
    optimizer: torch.optim.Optimizer
    average: AveragedModel | None
    epoch: int = 0
    step_losses: list[Tensor] = field(default_factory=list)
    seconds: float = 0.0

    @staticmethod
    def start(network: Network, recipe: TrainingSpec) -> "TrainingState":
        """The state before the first step."""
        return TrainingState(network, make_optimizer(network, recipe), make_average(network, recipe))

    @property
    def final(self) -> Network:
        """The network to evaluate: the averaged one where there is an average."""
        return self.network if self.average is None else cast(Network, self.average.module)


def steps_per_epoch(data: TrainingData, recipe: TrainingSpec) -> int:
    """How many batches an epoch has: all that are whole, and at least one."""
    return max(len(data) // recipe.batch_size, 1)


def train(
    state: TrainingState,
    data: TrainingData,
    recipe: TrainingSpec,
    seed: int,
    device: torch.device,
    after_step: Callable[[], bool] = lambda: False,
) -> Iterator[float]:
    """Train from `state` to the recipe's last epoch; yields each epoch's mean loss, when `state` can be saved.

    Everything random is drawn from seed, epoch and step, so that a training that was taken up again ends with the same
    weights. Where `after_step` asks to stop, raises Stopped, with `state` ready to be saved. Raises TrialError where
    the loss or a weight is not finite, before such a state is saved.
    """
    precision = precision_on(device, recipe)
    steps = steps_per_epoch(data, recipe)
    while state.epoch < recipe.epochs:
        began = time.perf_counter()
        state.network.train()
        batches = data.batches(seed, state.epoch, recipe.batch_size)
        for batch in islice(batches, len(state.step_losses), None):
            step = state.epoch * steps + len(state.step_losses)
            _seed(seed, step)
            set_lr(state.optimizer, recipe, step / (recipe.epochs * steps))
            state.step_losses.append(_step(state, batch, recipe, precision, device))
            if len(state.step_losses) % _CHECK_EVERY == 0 or len(state.step_losses) == steps:
                _check_losses(state, recipe)
            if after_step():
                _check_losses(state, recipe)
                _check_weights(state, recipe)
                state.seconds += time.perf_counter() - began
                raise Stopped
        _check_weights(state, recipe)
        _seed(seed, (state.epoch + 1) * steps)
        if state.average is not None:
            few = islice(data.batches(seed, state.epoch, recipe.batch_size), -(-_BN_IMAGES // recipe.batch_size))
            with autocast(device, precision):
                update_batch_norm(cast(Network, state.average.module), few)
        loss = float(torch.stack(state.step_losses).mean())
        state.step_losses.clear()
        state.epoch += 1
        state.seconds += time.perf_counter() - began
        yield loss


def _seed(seed: int, step: int) -> None:
    """Draw what is random in a network's forward passes from here on, such as its dropout, from seed and step."""
    torch.manual_seed(seed * 1_000_003 + step)


def _step(
    state: TrainingState,
    batch: Batch,
    recipe: TrainingSpec,
    precision: Precision,
    device: torch.device,
) -> Tensor:
    """One step of the optimizer and of the average; the batch's loss, without that of a supervised pose."""
    with autocast(device, precision):
        images = batch.images.to(memory_format=torch.channels_last)
        logits, pose_loss = state.network.with_pose_loss(images, batch.poses)
        loss = F.cross_entropy(logits.float(), batch.labels, label_smoothing=recipe.label_smoothing)
    state.optimizer.zero_grad()
    (loss if pose_loss is None else loss + pose_loss).backward()
    if recipe.grad_clip is not None:
        nn.utils.clip_grad_norm_(state.network.parameters(), recipe.grad_clip)
    state.optimizer.step()
    if state.average is not None:
        state.average.update_parameters(state.network)
    return loss.detach()


def _check_losses(state: TrainingState, recipe: TrainingSpec) -> None:
    recent = torch.stack(state.step_losses[-_CHECK_EVERY:])
    finite = torch.isfinite(recent)
    if not finite.all():
        raise _diverged(
            "the loss is", len(state.step_losses) - len(recent) + int(finite.int().argmin()) + 1, state, recipe
        )


def _check_weights(state: TrainingState, recipe: TrainingSpec) -> None:
    """Where a step's loss was finite and its gradient was not, only the weights tell before the next one."""
    if not all(bool(torch.isfinite(parameter).all()) for parameter in state.network.parameters()):
        raise _diverged("the weights are", len(state.step_losses), state, recipe)


def _diverged(what: str, step: int, state: TrainingState, recipe: TrainingSpec) -> TrialError:
    transforms = any(group["localising"] for group in state.optimizer.param_groups)
    return TrialError(
        f"{what} not finite at step {step} of epoch {state.epoch + 1}; {divergence_advice(recipe, transforms)}"
    )


@torch.no_grad()
def update_batch_norm(network: Network, batches: Iterator[Batch]) -> None:
    """Recompute batch normalisation's statistics: those that an average of weights copied belong to other weights.

    As `torch.optim.swa_utils.update_bn`, which passes no true poses on.
    """
    momenta = {layer: layer.momentum for layer in network.modules() if isinstance(layer, _BatchNorm)}
    if not momenta:
        return
    network.train()
    for layer in momenta:
        layer.reset_running_stats()
        layer.momentum = None  # the mean of all batches
    for batch in batches:
        network(batch.images.to(memory_format=torch.channels_last), batch.poses)
    for layer, momentum in momenta.items():
        layer.momentum = momentum
