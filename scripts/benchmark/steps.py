"""Rows about training and evaluation on RTS: what they cost beyond the bare passes through the network."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.rows import Row, Setting, Target
from benchmark.timing import Work, in_pauses, side_by_side
from stn_train.data.datasets import Batch, FreshData, draw_variant
from stn_train.evaluation.classify import BATCH, classify
from stn_train.experiment.runtime import Session
from stn_train.experiment.trial import build_for
from stn_train.models.precision import autocast, precision_on
from stn_train.specs import ExperimentSpec, TrialSpec, trials_of
from stn_train.training.loop import TrainingState, train

_EXPERIMENT = ExperimentSpec.model_validate(
    {
        "name": "bench",
        "datasets": ["rts"],
        "models": [
            "cnn",
            {"name": "st_cnn", "like": "st_cnn", "transformer": {"output": 42}},
            {"name": "st_cnn-16", "like": "st_cnn", "transformer": {"output": 16}},
        ],
        "parameters": 400_000,
        "training": {},
    }
)
TRIALS = {trial.model.name: trial for trial in trials_of(_EXPERIMENT)}
"""The trainings that are measured, by their model's name; `st_cnn` puts out the whole canvas."""
_EVALUATED = 3000


def data_of(trial: TrialSpec, setting: Setting) -> FreshData:
    """What a trial trains on."""
    return FreshData.of(trial.dataset, setting.digits, setting.session.device, bend=trial.training.bend)


def evaluation_images(trial: TrialSpec, setting: Setting, count: int) -> Tensor:
    """So many images as a trial is evaluated on: count x C x H x W, uint8."""
    variant, *_ = draw_variant(trial.dataset, setting.digits.subset(torch.arange(count)), "test")
    return variant.images


def _batch(trial: TrialSpec, setting: Setting) -> Batch:
    return next(data_of(trial, setting).batches(trial.seed, 0, trial.training.batch_size))


def bare_step(trial: TrialSpec, session: Session, batch: Batch) -> Work:
    """Forward, backward and optimiser step of a trial's model on a ready batch, with what its recipe has in them."""
    recipe, device = trial.training, session.device
    state = TrainingState.start(build_for(trial, session).network, recipe)
    network, optimiser, average = state.network, state.optimiser, state.average
    assert recipe.clip is not None
    assert average is not None
    clip, precision = recipe.clip, precision_on(device, recipe)
    images = batch.images.to(memory_format=torch.channels_last)

    def step() -> None:
        with autocast(device, precision):
            loss = F.cross_entropy(network(images).float(), batch.labels)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), clip)
        optimiser.step()
        average.update_parameters(network)

    return step


def _loop(setting: Setting) -> list[float]:
    """An epoch of the loop, with all that it does once an epoch."""
    trial, session = TRIALS["st_cnn-16"], setting.session
    data = data_of(trial, setting)
    bare = bare_step(trial, session, _batch(trial, setting))
    bare()
    state = TrainingState.start(build_for(trial, session).network, trial.training)

    def epoch(pause: Work) -> None:
        next(train(state, data, trial.training, trial.seed, session.device, lambda: bool(pause())))

    return [pair.slowdown for pair in in_pauses(epoch, bare, setting.clock)]


def _step(name: str) -> Callable[[Setting], list[float]]:
    """The step of a model with a transformer, against the CNN's."""

    def measure(setting: Setting) -> list[float]:
        trial = TRIALS[name]
        batch = _batch(trial, setting)
        ours, opponent = (bare_step(each, setting.session, batch) for each in (trial, TRIALS["cnn"]))
        return [pair.slowdown for pair in side_by_side(ours, opponent, 9, setting.clock)]

    return measure


def _evaluation(setting: Setting) -> list[float]:
    """`classify` against the network alone, on ready batches."""
    trial, device = TRIALS["st_cnn-16"], setting.session.device
    precision = precision_on(device, trial.training)
    network = build_for(trial, setting.session).network.eval()
    images = evaluation_images(trial, setting, _EVALUATED)
    ready = (images.to(device).float() / 255).to(memory_format=torch.channels_last).split(BATCH)

    @torch.no_grad()
    def opponent() -> None:
        with autocast(device, precision):
            for batch in ready:
                network(batch)

    pairs = side_by_side(lambda: classify(network, images, device, precision), opponent, 7, setting.clock)
    return [pair.slowdown for pair in pairs]


ROWS = (
    Row("training/loop", "bare steps on a ready batch, st_cnn-16", Target("at most", 1.05), _loop),
    Row("training/st_cnn", "the CNN's step", Target("at most", 1.06), _step("st_cnn")),
    Row("training/st_cnn-16", "the CNN's step", Target("at most", 1), _step("st_cnn-16")),
    Row("evaluation", "the bare forward pass, st_cnn-16", Target("at most", 1.05), _evaluation),
)
