"""Two processes in one folder: the second is told of the first, and takes over what a dead one left."""

import os
import platform
import re
import signal
from pathlib import Path

import pytest

from stn_train import storage
from stn_train.evaluation.metrics import Point, Robustness
from stn_train.storage import folder_lock

RUN = ("run", "--config", "small.yaml", "--threads", "1", "--only", "r/cnn", "-q")
TRIAL = "runs/small/trials/r/cnn/seed-0"


@pytest.mark.parametrize(
    ("command", "folder"),
    [
        (RUN, TRIAL),
        (("data", "build", "--config", "small.yaml", "--output-dir", "built"), "built/r"),
        (("colocalise", "--config", "paper/colocalisation", "--set", "source=digits"), "runs/colocalisation"),
    ],
)
def test_the_second_is_told_which_process_where_and_since_when(stn, command, folder):
    with folder_lock(Path(folder)):
        sentence = stn(*command).sentence
    who = rf"process {os.getpid()} on {re.escape(platform.node())}, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d"
    assert folder in sentence
    assert re.search(who, sentence)


def test_a_lock_that_a_killed_process_left_is_taken_over(finished, start, stn):
    command = start(*RUN)
    command.wait_for(f"{TRIAL}/.at-work")
    assert "running" in stn("status", "runs/small").out
    command.send(signal.SIGKILL)
    assert command.end().code == -signal.SIGKILL
    assert Path(TRIAL, ".at-work").exists()
    assert "running" not in stn("status", "runs/small").out
    assert stn(*RUN).code == 0
    assert not Path(TRIAL, ".at-work").exists()
    result = "trials/r/cnn/seed-0/result.json"
    assert Path("runs/small", result).read_bytes() == (finished[0] / result).read_bytes()


@pytest.mark.parametrize("command", [RUN, ("report", "runs/small"), ("robustness", "runs/small", "-q")])
def test_the_first_signal_ends_a_command_that_waits_for_a_folder(trained, stn, monkeypatch, contents, command):
    point = Point(factor="rotation", level=30.0, images=120, errors=2, clipped=0)
    measured = Robustness(points=(point,), wrong_at_some_angle=2, crossed=())
    for trial in Path(trained, "trials").glob("*/*/*"):
        storage.write_record(trial / "robustness.json", measured.model_dump(mode="json"))
    acquire = storage.FileLock.acquire

    def interrupted(*arguments, **how):  # type: ignore[no-untyped-def]
        os.kill(os.getpid(), signal.SIGINT)
        return acquire(*arguments, **how)

    before = contents(Path(trained))
    with folder_lock(Path(trained)):
        monkeypatch.setattr(storage.FileLock, "acquire", interrupted)
        ended = stn(*command)
    assert contents(Path(trained)) == before
    assert (ended.code, ended.out, "Traceback" in ended.err) == (130, "", False)
    assert command != RUN or f"stn-train {' '.join(RUN)}" in ended.err, "how to go on"
