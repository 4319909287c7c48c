"""Rows about training and evaluation on RTS: what they cost beyond the bare passes through the network."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmark.rows import Row, Setting, Target
from benchmark.timing import Work, in_pauses, side_by_side
from stn_train.data.datasets import Batch, OnlineDataset, make_fixed_dataset
from stn_train.evaluation.classify import BATCH, classify
from stn_train.experiment.runtime import Runtime
from stn_train.experiment.trial import network_of
from stn_train.models.network import precision_on
from stn_train.specs import ExperimentSpec, TrialSpec, trials_of
from stn_train.training.loop import TrainingState, train

_EXPERIMENT = ExperimentSpec.model_validate(
    {
        "name": "bench",
        "datasets": ["rts"],
        "models": [
            "cnn",
            {"name": "st_cnn_42", "base": "st_cnn", "transformer": {"output_size": 42}},
            {"name": "st_cnn-16", "base": "st_cnn", "transformer": {"output_size": 16}},
            "st_cnn_paper",
        ],
        "parameters": 400_000,
        "training": {},
    }
)
TRIALS = {trial.model.name: trial for trial in trials_of(_EXPERIMENT)}
"""The trainings that are measured, by their model's name; `st_cnn_42` puts out the whole canvas."""
_EVALUATED = 3000
_SIDE = 1024


def data_of(trial: TrialSpec, setting: Setting) -> OnlineDataset:
    """What a trial trains on."""
    digits = setting.digits.to(setting.runtime.device)
    return OnlineDataset(trial.dataset, digits, elastic_augmentation=trial.training.elastic_augmentation)


def evaluation_images(trial: TrialSpec, setting: Setting, count: int) -> Tensor:
    """So many images as a trial is evaluated on: count x C x H x W, uint8."""
    variant, *_ = make_fixed_dataset(trial.dataset, setting.digits.subset(torch.arange(count)), "test")
    return variant.images


def _batch(trial: TrialSpec, setting: Setting) -> Batch:
    return next(data_of(trial, setting).batches(trial.seed, 0, trial.training.batch_size))


def bare_step(trial: TrialSpec, runtime: Runtime, batch: Batch) -> Work:
    """Forward, backward and optimizer step of a trial's model on a ready batch, with what its recipe has in them."""
    recipe, device = trial.training, runtime.device
    state = TrainingState.start(network_of(trial, runtime), recipe)
    network, optimizer, average = state.network, state.optimizer, state.average
    assert recipe.grad_clip is not None
    assert average is not None
    clip, mixed = recipe.grad_clip, precision_on(device, recipe) == "bfloat16"
    images = batch.images.to(memory_format=torch.channels_last)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
            loss = F.cross_entropy(network(images).float(), batch.labels)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), clip)
        optimizer.step()
        average.update_parameters(network)

    return step


def _loop(setting: Setting) -> list[float]:
    """An epoch of the loop, with all that it does once an epoch."""
    trial, runtime = TRIALS["st_cnn-16"], setting.runtime
    data = data_of(trial, setting)
    bare = bare_step(trial, runtime, _batch(trial, setting))
    bare()
    state = TrainingState.start(network_of(trial, runtime), trial.training)

    def epoch(pause: Work) -> None:
        next(train(state, data, trial.training, trial.seed, runtime.device, lambda epochs: bool(pause())))

    return [pair.slowdown for pair in in_pauses(epoch, bare, setting.clock)]


def _step(name: str) -> Callable[[Setting], list[float]]:
    """The step of a model with a transformer, against the CNN's."""

    def measure(setting: Setting) -> list[float]:
        trial = TRIALS[name]
        batch = _batch(trial, setting)
        ours, baseline = (bare_step(each, setting.runtime, batch) for each in (trial, TRIALS["cnn"]))
        return [pair.slowdown for pair in side_by_side(ours, baseline, 9, setting.clock)]

    return measure


def _of_matmul(name: str) -> Callable[[Setting], list[float]]:
    """FLOPs a second of a model's step, in percent of a matrix product's in the same precision."""

    def measure(setting: Setting) -> list[float]:
        trial, runtime = TRIALS[name], setting.runtime
        step = bare_step(trial, runtime, _batch(trial, setting))
        with FlopCounterMode(display=False) as counter:
            step()
        kind = getattr(torch, precision_on(runtime.device, trial.training))
        factor = torch.randn(_SIDE, _SIDE, device=runtime.device, dtype=kind)
        products = max(round(counter.get_total_flops() / (2 * _SIDE**3)), 1)
        share = counter.get_total_flops() / (2 * _SIDE**3 * products)

        def baseline() -> None:
            for _ in range(products):
                factor @ factor

        return [100 * share / pair.slowdown for pair in side_by_side(step, baseline, 9, setting.clock)]

    return measure


def _evaluation(setting: Setting) -> list[float]:
    """`classify` against the network alone, on ready batches."""
    trial, device = TRIALS["st_cnn-16"], setting.runtime.device
    precision = precision_on(device, trial.training)
    network = network_of(trial, setting.runtime).eval()
    images = evaluation_images(trial, setting, _EVALUATED)
    ready = (images.to(device).float() / 255).to(memory_format=torch.channels_last).split(BATCH)

    @torch.no_grad()
    def baseline() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            for batch in ready:
                network(batch)

    pairs = side_by_side(lambda: classify(network, images, device, precision), baseline, 7, setting.clock)
    return [pair.slowdown for pair in pairs]


ROWS = (
    Row("training/loop", "bare steps on a ready batch, st_cnn-16", Target("at most", 1.05), _loop),
    Row("training/st_cnn_42", "the CNN's step", Target("at most", 1.06), _step("st_cnn_42")),
    Row("training/st_cnn-16", "the CNN's step", Target("at most", 1), _step("st_cnn-16")),
    *(
        Row(f"training/{name}-matmul", "a matrix product, 1024 cubed", Target("at least", least, "%"), _of_matmul(name))
        for name, least in (("cnn", 65), ("st_cnn_paper", 60), ("st_cnn-16", 75))
    ),
    Row("evaluation", "the bare forward pass, st_cnn-16", Target("at most", 1.05), _evaluation),
)
