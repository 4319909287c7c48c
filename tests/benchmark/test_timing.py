"""Side by side: who is called when, what is timed, and what becomes of the seconds. The clock is made up."""

from collections.abc import Callable

import pytest
from benchmark.rows import Measurement, Row, Target
from benchmark.timing import Pair, in_pauses, side_by_side


class MadeUpTime:
    """A clock that goes on when something is done, and a diary of what was."""

    def __init__(self) -> None:
        self.now = 100.0
        self.done: list[str] = []

    def clock(self) -> float:
        return self.now

    def work(self, name: str, *seconds: float) -> Callable[[], None]:
        """Work that takes so many seconds, each time the next of them; the last again and again."""
        left = list(seconds)

        def do() -> None:
            self.done.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return do


@pytest.fixture
def time() -> MadeUpTime:
    return MadeUpTime()


def test_ours_and_its_opponent_take_turns(time):
    side_by_side(time.work("A", 1), time.work("B", 1), 3, time.clock)
    assert "".join(time.done) == "AB" * 4


def test_each_is_timed_by_itself_and_the_first_round_is_not(time):
    pairs = side_by_side(time.work("A", 50, 2, 3, 4), time.work("B", 70, 1, 6, 8), 3, time.clock)
    assert pairs == [(2, 1), (3, 6), (4, 8)]


def test_a_pair_can_be_told_as_a_ratio_or_a_difference():
    pair = Pair(ours=3, baseline=2)
    assert (pair.slowdown, pair.speedup, pair.more) == (1.5, 2 / 3, 1)


def test_an_epoch_is_paused_for_its_opponent_after_every_third_step(time):
    step, bare = time.work("A", 1), time.work("B", 1)

    def epoch(pause: Callable[[], None]) -> None:
        for _ in range(39):
            step()
            pause()

    assert in_pauses(epoch, bare, time.clock) == [(1, 1)]
    assert "".join(time.done) == "AAAB" * 13


def test_what_an_epoch_does_once_is_shared_among_its_steps(time):
    once, step, slow = time.work("once", 39), time.work("step", 1), time.work("slow", 3)

    def epoch(pause: Callable[[], None]) -> None:
        once()
        for number in range(117):
            (slow if 39 <= number < 78 else step)()
            pause()
        once()

    share = 2 * 39 / 117
    ours, baselines = zip(*in_pauses(epoch, time.work("bare", 0.5), time.clock), strict=True)
    assert ours == pytest.approx((1 + share, 3 + share, 1 + share))
    assert baselines == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("target", "words", "reached"),
    [
        (Target("at least", 12), "at least 12 x", [False, True, True]),
        (Target("at most", 12, "GB"), "at most 12 GB", [True, True, False]),
    ],
)
def test_a_target_holds_for_the_median(target, words, reached):
    assert str(target) == words
    row = Row("made up", "nobody", target, lambda setting: [])
    assert [Measurement(row, (0.0, middle, 99.0)).reached for middle in (11.9, 12.0, 12.1)] == reached
