"""Two processes in one folder: the second is told of the first, and takes over what a dead one left."""

import os
import platform
import re
import signal
from pathlib import Path

import pytest

from stn_train.storage import alone_in

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
    with alone_in(Path(folder)):
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
