"""Two pieces of work timed side by side, so that whatever else the machine does slows both."""

import time
from collections.abc import Callable
from statistics import mean, median
from typing import NamedTuple

import torch

Work = Callable[[], object]
Clock = Callable[[], float]

_EVERY = 3
_LEG = 39


class Pair(NamedTuple):
    """Seconds that ours and its baseline took for the same amount of work, one right after the other."""

    ours: float
    baseline: float

    @property
    def slowdown(self) -> float:
        """How many times as long ours took."""
        return self.ours / self.baseline

    @property
    def speedup(self) -> float:
        """How many times as fast ours was."""
        return self.baseline / self.ours

    @property
    def more(self) -> float:
        """How many seconds longer ours took."""
        return self.ours - self.baseline


def side_by_side(ours: Work, baseline: Work, repetitions: int, clock: Clock = time.perf_counter) -> list[Pair]:
    """Time ours and its baseline in turn, A B A B ...; a first round, which sets things up, is not timed."""

    def seconds(work: Work) -> float:
        began = clock()
        work()
        return clock() - began

    ours()
    baseline()
    return [Pair(seconds(ours), seconds(baseline)) for _ in range(repetitions)]


def in_pauses(epoch: Callable[[Work], object], baseline: Work, clock: Clock = time.perf_counter) -> list[Pair]:
    """Time an epoch too long to be repeated, and its baseline in the pauses after every third step.

    `epoch` calls what it is given after each of its steps. Gives seconds of a step and of the baseline for each whole
    leg of 39 steps; what the epoch does once, before its first step and after its last, is shared among all steps.
    """
    entered, baselines, left = [], [], [clock()]

    def pause() -> None:
        entered.append(clock())
        if len(entered) % _EVERY == 0:
            baseline()
            baselines.append(clock() - entered[-1])
        left.append(clock())

    epoch(pause)
    after = clock() - left.pop()
    steps = [end - begin for begin, end in zip(left, entered, strict=True)]
    usual = median(steps)
    once = steps[0] - usual + after
    steps[0] = usual
    return [
        Pair(mean(steps[leg : leg + _LEG]) + once / len(steps), mean(baselines[leg // _EVERY :][: _LEG // _EVERY]))
        for leg in range(0, len(steps) - _LEG + 1, _LEG)
    ]


def clock_of(device: torch.device) -> Clock:
    """A clock that looks when all is done that the device was asked to do."""
    if device.type != "cuda":
        return time.perf_counter

    def look() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return look
