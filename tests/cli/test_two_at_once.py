"""Two processes in one folder: they share a run's trials, and take over what a dead one left; all else is told who is
there."""

import json
import os
import platform
import re
import signal
import subprocess
import sys
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


def test_a_trial_that_another_process_trains_is_left_to_it_and_so_is_the_report(stn):
    command = ("run", "--config", "small.yaml", "--threads", "1", "--set", "training.epochs=1", "-q")
    with folder_lock(Path(TRIAL)):
        ended = stn(*command)
    assert (ended.code, ended.out) == (0, "")
    first, last = ended.err.splitlines()
    assert f"r/cnn/seed-0  left out: another process is at work in {TRIAL} (process {os.getpid()} on " in first
    assert "1 of the trials" in last
    assert not Path("runs/small/report.html").exists()
    assert [line.split()[1] for line in stn("status", "runs/small").out.splitlines()[:2]] == ["pending", "done"]
    assert "report.html" in stn(*command).out


@pytest.mark.slow
def test_two_commands_share_a_run_and_the_last_writes_the_report(stn):
    command = (sys.executable, "-m", "stn_train", "run", "--config", "small.yaml", "--seeds", "0,1,2", "--threads", "1")
    small = ("--set", "training.epochs=1", "--set", "training.train_size=192")
    both = [subprocess.Popen([*command, *small], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert all(re.search("epoch 1 of 1", one) for one in told), "both have trained"
    assert sum(one.count("epoch 1 of 1") for one in told) == 6, "and no trial twice"
    assert len([*Path("runs/small").rglob("result.json")]) == 6
    assert len(json.loads(Path("runs/small/report.json").read_text())["trials"]) == 6


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
