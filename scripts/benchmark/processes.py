"""Rows about whole processes: how soon the command answers, and how much memory a training takes."""

import subprocess
import sys
from contextlib import suppress

import torch

from benchmark.rows import Row, Setting, Target
from benchmark.steps import TRIALS, data_of, evaluation_images
from benchmark.timing import side_by_side
from stn_train.errors import Stopped
from stn_train.evaluation.classify import classify
from stn_train.experiment.runtime import open_runtime
from stn_train.experiment.trial import network_of
from stn_train.models.network import precision_on
from stn_train.training.loop import TrainingState, train

_STEPS = 24
_EVALUATED = 10_000
_PEAK = """\
import resource, subprocess, sys
subprocess.run([sys.executable, "-c", sys.argv[1]], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""
"""A small process that starts the one to be measured, since the system counts the size of the starting one as well."""


def _python(*arguments: str) -> str:
    """What a fresh Python prints."""
    return subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


def _help(setting: Setting) -> list[float]:
    pairs = side_by_side(lambda: _python("-m", "stn_train", "--help"), lambda: _python("-c", "pass"), 5)
    return [pair.more for pair in pairs]


def _memory(setting: Setting) -> list[float]:
    runtime = setting.runtime
    arguments = (setting.source, runtime.data_root, str(runtime.device), torch.get_num_threads())
    code = f"from benchmark.processes import short_run; short_run(*{arguments!r})"
    return [int(_python("-c", _PEAK, code)) / 1e9]


def short_run(source: str, data_root: str | None, device: str, threads: int) -> None:
    """Train the CNN on RTS for a few steps of an epoch of 60,000 digits, and evaluate it on 10,000 images."""
    setting = Setting(open_runtime(device, threads, data_root, None), source)
    trial, runtime = TRIALS["cnn"], setting.runtime
    images, data = evaluation_images(trial, setting, _EVALUATED), data_of(trial, setting)
    state = TrainingState.start(network_of(trial, runtime), trial.training)
    with suppress(Stopped):
        next(train(state, data, trial.training, 0, runtime.device, lambda epochs: len(state.step_losses) == _STEPS))
    classify(state.final, images, runtime.device, precision_on(runtime.device, trial.training))


ROWS = (
    Row("command/help", "python -c pass", Target("at most", 0.25, "s more"), _help),
    Row("command/memory", "-", Target("at most", 1.5, "GB"), _memory),
)
