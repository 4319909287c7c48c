"""Two processes in one folder: the second is told of the first, and takes over what a dead one left."""

import os
import platform
import re
import signal
import time
from contextlib import suppress
from pathlib import Path
from threading import Timer

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
    who = rf"process {os.getpid()} on {re.escape(platform.node())}, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\S*"
    assert re.fullmatch(
        rf"another process is at work in {folder} \({who}\); wait until it has ended, or stop it", sentence
    )


def test_a_lock_that_a_killed_process_left_is_taken_over(finished, start, stn, tmp_path):
    command = start(*RUN)
    command.wait_for(f"{TRIAL}/.at-work")
    command.send(signal.SIGKILL)
    assert command.end().code == -signal.SIGKILL
    assert Path(TRIAL, ".at-work").exists()
    assert "running" not in stn("status", "runs/small").out
    assert stn(*RUN).code == 0
    assert not Path(TRIAL, ".at-work").exists()
    result = "trials/r/cnn/seed-0/result.json"
    assert Path("runs/small", result).read_bytes() == (finished[0] / result).read_bytes()


def has_open(process: int, folder: Path) -> bool:
    """Whether a process has this folder open, as one has that waits for it."""
    for handle in Path(f"/proc/{process}/fd").iterdir():
        with suppress(OSError):
            if handle.readlink() == folder:
                return True
    return False


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs to see what another process waits for")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", [RUN, ("report", "runs/small"), ("robustness", "runs/small", "-q")])
def test_the_first_signal_ends_a_command_that_waits_for_a_folder(trained, start, tmp_path, contents, command, number):
    measured = Robustness(images=120, points=(Point(factor="rotation", level=30.0, errors=2, clipped=0),), crossed=())
    for trial in Path(trained, "trials").glob("*/*/*"):
        storage.write_record(trial / "robustness.json", measured.model_dump(mode="json"))
    before = contents(Path(trained))
    with folder_lock(Path(trained)):
        waiting = start(*command)
        while not has_open(waiting.process, tmp_path / trained):
            time.sleep(0.01)
        waiting.send(number)
        patience = Timer(60, waiting.send, [signal.SIGKILL])
        patience.start()
        ended = waiting.end()
        patience.cancel()
    assert contents(Path(trained)) == before
    assert (ended.out, "Traceback" in ended.err) == ("", False)
    if command == RUN:
        assert ended.code == 128 + number
        assert ended.err == f"stopped; what was trained is saved. To go on: stn-train {' '.join(RUN)}\n"
    else:
        assert ended.code in (128 + number, -number)
