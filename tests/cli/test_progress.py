"""The bars of a terminal."""

import contextlib
import fcntl
import io
import os
import pty
import re
import struct
import sys
import termios
from dataclasses import replace

import pytest

from stn_train.cli.progress import ProgressDisplay
from stn_train.cli.workers_display import WorkersDisplay
from stn_train.experiment.run import RunProgress
from stn_train.run_folder import Diagnostics, EpochRecord, TrialFailure
from stn_train.specs import ExperimentSpec, trials_of


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def progress():
    """The start of the second of three trials of four epochs."""
    spec = ExperimentSpec.model_validate(
        {"name": "a", "datasets": ["r"], "models": ["cnn"], "training": {"epochs": 4}, "seeds": [0, 1, 2]}
    )
    return RunProgress(trials_of(spec)[1], 2, 3)


def test_a_bar_shows_trial_epochs_and_errors(progress, monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    display = ProgressDisplay(False, "on cpu, into runs/a")
    display.show(progress)
    for step in range(1, 9):
        display.after_step(step / 4)
    display.show(replace(progress, record=EpochRecord(epoch=2, loss=0.5, error=1.25, lr=0.1)))
    display.close()
    assert terminal.getvalue().startswith("3 trials on cpu, into runs/a\n")
    assert re.search(r"\ntrial 2 of 3  r/cnn/seed-1 *[\r\n]", terminal.getvalue())
    assert re.search(r"\|\S+ *\| 2.0 of 4 epochs, \S+ left, error 1.25 %, loss 0.50", terminal.getvalue())
    assert "\x1b[3" not in terminal.getvalue()  # no colours


def test_what_was_trained_before_does_not_count_for_the_time_left(progress, monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    now = 100.0
    monkeypatch.setattr("tqdm.std.time", lambda: now)
    display = ProgressDisplay(False, "")
    display.show(progress)
    now = 200.0
    display.after_step(2.01)
    now = 210.0
    display.after_step(2.51)
    assert display.bar is not None
    display.bar.refresh()
    assert "2.5 of 4 epochs, 00:29 left" in terminal.getvalue().replace("00:30", "00:29")
    display.close()


def test_the_whole_runs_bar_tells_the_time_left_of_all_trials(progress, monkeypatch):
    """The trial is the second fifth of the run's time; a second of it says how long the rest takes."""
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    now = 100.0
    monkeypatch.setattr("tqdm.std.time", lambda: now)
    display = ProgressDisplay(False, "")
    display.show(replace(progress, before=0.2, share=0.2))
    display.after_step(0)
    now = 110.0
    display.after_step(1)
    assert display.whole is not None
    display.whole.refresh()
    assert "25 % of all, 02:30 left" in terminal.getvalue()
    now = 1000.0
    display.show(replace(progress, failure=TrialFailure(why="it cannot go on")))
    now = 110.0
    display.show(replace(progress, before=0.4, share=0.6))
    display.after_step(0)
    display.whole.refresh()
    assert "40 % of all, 02:00 left" in terminal.getvalue(), "what failed does not count as done in no time"
    display.close()
    assert (display.bar, display.whole) == (None, None)


def test_a_terminal_of_80_columns_shows_two_whole_lines_with_bars(progress, monkeypatch):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    monkeypatch.delenv("COLUMNS", raising=False)
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        now = 100.0
        monkeypatch.setattr("tqdm.std.time", lambda: now)
        display = ProgressDisplay(False, "")
        recipe = progress.trial.training.changed(epochs=640)
        slow = replace(progress, trial=progress.trial.changed(training=recipe), before=0.1, share=0.001)
        display.show(slow)
        display.after_step(0.001)
        now = 3100.0
        display.after_step(100)
        display.show(replace(slow, record=EpochRecord(epoch=100, loss=0.5, error=12.25, lr=0.1)))
        display.close()
    shown = b""
    with contextlib.suppress(OSError), os.fdopen(ours, "rb", buffering=0) as screen:  # it ends with an error
        while read := screen.read(4096):
            shown += read
    lines = [line for line in re.split(r"[\r\n]+|\x1b\[A", shown.decode()) if line]
    assert max(map(len, lines)) <= 80
    for said in (r"100.0 of 640 epochs, \d:\d\d:\d\d left, error 12.25 %, loss 0.50", r"10 % of all, [\d:]+ left"):
        assert any(re.fullmatch(rf"\|.{{15}}\| {said} *", line) for line in lines), lines


@pytest.mark.parametrize("columns", [-1, 0, 80])
def test_the_error_is_seen_on_every_terminal(progress, monkeypatch, columns):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setattr("tqdm.std._screen_shape_wrapper", lambda: lambda file: (columns, columns))
    display = ProgressDisplay(False, "")
    display.show(progress)
    display.after_step(1)
    display.show(replace(progress, record=EpochRecord(epoch=1, loss=0.5, error=1.25, lr=0.1)))
    display.close()
    assert "1.0 of 4 epochs, " in terminal.getvalue()
    assert "error 1.25 %" in terminal.getvalue()


def test_quiet_says_nothing_even_on_a_terminal(progress, monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    display = ProgressDisplay(True, "")
    display.show(progress)
    display.after_step(1)
    display.show(replace(progress, finished=True))
    display.close()
    assert terminal.getvalue() == ""


@pytest.mark.parametrize("quiet", [False, True])
def test_what_goes_wrong_is_told_at_once_also_when_quiet(progress, monkeypatch, quiet):
    monkeypatch.setattr(sys, "stderr", terminal := io.StringIO())
    display = ProgressDisplay(quiet, "")
    display.show(progress)
    blank = Diagnostics(outside=1.0, scale=0.7, folded=0.0, moved=0.4, std=0.3, gradient=0.5)
    for epoch in (1, 2):
        record = EpochRecord(epoch=epoch, loss=1, error=90, lr=1, transformers=(blank,))
        display.show(replace(progress, record=record))
        assert terminal.getvalue().count("warning: r/cnn/seed-1: the transformer ") == 1
    display.show(replace(progress, failure=TrialFailure(why="it cannot go on")))
    assert terminal.getvalue().endswith("trial 2 of 3  r/cnn/seed-1  failed: it cannot go on\n")
    assert display.failed == ["r/cnn/seed-1"]


def of_workers(progress: RunProgress, seed: int, share: float) -> RunProgress:
    trial = progress.trial.changed(seed=seed)
    return replace(progress, trial=trial, number=seed + 1, share=share, worker=f"host-{seed}, process 1")


def test_trials_side_by_side_have_a_bar_each_and_one_for_the_whole(progress, monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    display = WorkersDisplay(False, "on 2 processes, into runs/a")
    first, second = of_workers(progress, 0, 0.5), of_workers(progress, 1, 0.25)
    for one in (first, second):
        display.show(one)
    assert {key: bar.n for key, bar in display.bars.items()} == {"r/cnn/seed-0": 0, "r/cnn/seed-1": 0}
    display.show(replace(first, record=EpochRecord(epoch=1, loss=0.5, error=1.25, lr=0.1)))
    display.show(replace(second, record=EpochRecord(epoch=3, loss=0.5, error=2.5, lr=0.1)))
    assert display.whole is not None
    assert display.whole.n == pytest.approx(0.5 * 1 / 4 + 0.25 * 3 / 4)
    assert display.whole.initial == pytest.approx(0.25 * 2 / 4), "two epochs of the second were trained before"
    for bar in (display.whole, *display.bars.values()):
        bar.refresh()
    for said in ("1 of 4 epochs", "error 1.25 %, r/cnn/seed-0, host-0", "31 % of all"):
        assert said in terminal.getvalue()
    display.show(replace(first, worker="host-7, process 1"))
    display.show(replace(first, record=EpochRecord(epoch=2, loss=0.5, error=1.0, lr=0.1), worker="host-7, process 1"))
    assert "r/cnn/seed-0, host-7" in terminal.getvalue()
    assert display.whole.n == pytest.approx(0.5 * 2 / 4 + 0.25 * 3 / 4), "a trial that goes on elsewhere counts once"
    display.show(replace(first, finished=True))
    display.show(replace(second, failure=TrialFailure(why="it cannot go on")))
    assert display.bars == {}
    assert display.failed == ["r/cnn/seed-1"]
    display.close()
    assert re.search(r"trial 1 of 3  r/cnn/seed-0  error 1.00 %.*\d s  host-0, process 1", terminal.getvalue())


def test_trials_side_by_side_are_a_line_an_epoch_where_there_is_no_terminal(progress, monkeypatch):
    monkeypatch.setattr(sys, "stderr", told := io.StringIO())
    display = WorkersDisplay(False, "")
    one = of_workers(progress, 0, 0.5)
    display.show(one)
    display.show(replace(one, record=EpochRecord(epoch=1, loss=0.5, error=1.25, lr=0.1)))
    display.show(replace(one, finished=True))
    display.show(replace(of_workers(progress, 1, 0.5), skipped=True))
    epoch, before = told.getvalue().splitlines()
    assert re.fullmatch(r"trial 1 of 3  r/cnn/seed-0  epoch 1 of 4  .*error 1.25 %.*  host-0, process 1", epoch)
    assert "r/cnn/seed-1  was finished before" in before


@pytest.mark.parametrize("kind", [ProgressDisplay, WorkersDisplay])
def test_a_trial_that_another_process_trains_is_told_also_when_quiet(progress, monkeypatch, kind):
    monkeypatch.setattr(sys, "stderr", told := io.StringIO())
    display = kind(True, "")
    display.show(replace(progress, busy="another process is at work in runs/a"))
    assert (display.busy, display.failed) == (["r/cnn/seed-1"], [])
    assert "r/cnn/seed-1  left out: another process" in told.getvalue()
