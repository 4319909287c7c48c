"""A run that was stopped at any moment ends, when the command is given again, as if it never had been."""

import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from undisturbed import SAME, assert_undisturbed, findings, leftovers

from stn_train import storage
from stn_train.report.snapshots import KINDS

RUN = ("run", "--config", "small.yaml", "--threads", "1")
GALLERY = tuple(f"{kind}.npz" for kind in KINDS)
DRAG = 0.05
"""Seconds that the disk takes for each file, so that many a kill hits while one is written."""
WRITES = (
    "config.yaml",
    "environment.json",
    "checkpoint.pt",
    "metrics.jsonl",
    "checkpoint.pt",
    "predictions.npz",
    "training.npz",
    "timing.json",
    "result.json",
    "learning_curves@r.png",
    "report.json",
    "report.csv",
    "trials.csv",
    "report.md",
    "report.html",
)
"""The files of a trial and its report, in the order of writing."""


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_as_if_it_never_had_been(finished, start, tmp_path, trials):
    chance, wanted, run = random.Random(20150605), trials(5, 100), tmp_path / "runs/small"
    kills = halves = runs = 0
    while kills < wanted:
        before = leftovers(tmp_path)
        command = start(*RUN, drag=DRAG)
        time.sleep(chance.uniform(0.1, 0.6) * finished[1].seconds)
        if chance.random() < 0.75:
            with suppress(TimeoutError):
                command.wait_for("runs/small/**/*.tmp", seconds=1)
        command.send(signal.SIGKILL)
        code = command.end().code
        assert code in (-signal.SIGKILL, 0)
        kills += code != 0
        halves += leftovers(tmp_path) > before
        if code == 0 or kills == wanted:
            assert start(*RUN).end().code == 0
            assert_undisturbed(run, finished[0])
            shutil.rmtree(run)
            runs += 1
    print(f"{kills} kills survived in {runs} runs; {halves} left a file half written")


class Killed(BaseException):
    """Stands for the process's end: nothing catches it."""


@pytest.mark.slow
def test_killed_within_every_write_it_ends_with_the_same_bytes(finished, stn, monkeypatch, tmp_path):
    replace = os.replace

    def killed_within(name: str):
        def cut_short(source: str, target: Path) -> None:
            if target.name == name:
                shutil.copy(source, f"{source[:-12]}00000000.tmp")  # what kill -9 would leave
                raise Killed
            replace(source, target)

        return cut_short

    for name in WRITES:
        monkeypatch.setattr(storage.os, "replace", killed_within(name))
        with pytest.raises(Killed):
            stn(*RUN, "--only", "r/st_cnn", "-q")
        assert [file.name.split(".")[1] for file in leftovers(tmp_path)] == [name.split(".")[0]]
    monkeypatch.setattr(storage.os, "replace", replace)
    assert stn(*RUN, "--only", "r/st_cnn", "-q").code == 0
    trial = Path("trials/r/st_cnn/seed-0")
    for name in (*SAME, *GALLERY):
        assert Path("runs/small", trial, name).read_bytes() == (finished[0] / trial / name).read_bytes()
    assert leftovers(tmp_path) == set()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_says_how_to_go_on(finished, start, tmp_path, number, code):
    arguments = (*RUN, "--only", "r/*", "--set", "models=[cnn]")
    command = start(*arguments)
    command.wait_for("runs/small/environment.json")
    command.send(number)
    ended = command.end()
    assert (ended.code, ended.out) == (code, "")
    assert ended.err.splitlines()[-1].endswith(f"stn-train {shlex.join(arguments)}")
    assert "Traceback" not in ended.err
    trial = Path("trials/r/cnn/seed-0")
    assert (tmp_path / "runs/small" / trial / "checkpoint.pt").exists()
    assert not (tmp_path / "runs/small" / trial / "result.json").exists()
    assert start(*arguments).end().code == 0
    for name in SAME:
        assert (tmp_path / "runs/small" / trial / name).read_bytes() == (finished[0] / trial / name).read_bytes()


def test_a_second_signal_ends_it_at_once_and_harms_nothing(finished, start, tmp_path):
    command = start(*RUN, "--only", "r/cnn", drag=0.2)
    trial = Path("trials/r/cnn/seed-0")
    checkpoint = tmp_path / "runs/small" / trial / "checkpoint.pt"
    command.wait_for(f"runs/small/{trial}/checkpoint.pt")
    command.send(signal.SIGINT)
    command.wait_for(f"runs/small/{trial}/.checkpoint.pt.*.tmp")
    before = checkpoint.read_bytes()
    command.send(signal.SIGINT)
    ended = command.end()
    assert (ended.code, ended.out, "stopped" in ended.err, "Traceback" in ended.err) == (130, "", False, False)
    assert checkpoint.read_bytes() == before
    assert start(*RUN, "--only", "r/cnn").end().code == 0
    assert_undisturbed(tmp_path / "runs/small" / trial, finished[0] / trial)


def test_ctrl_c_on_a_process_started_from_a_shell(tmp_path):
    """The one that goes all the way: `python -m stn_train`, interrupted in its first epoch."""
    small = ("--config", "quickstart", "--set", "datasets=[r]", "--only", "*/cnn_paper", "--threads", "1")
    command = [sys.executable, "-m", "stn_train", "run", *small]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        for _ in range(6000):
            if (tmp_path / "runs/quickstart/environment.json").exists() or process.poll() is not None:
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert err.splitlines()[-1].endswith(f"stn-train run {shlex.join(small)}")
    assert (tmp_path / "runs/quickstart/trials/r/cnn_paper/seed-0/checkpoint.pt").exists()


def test_two_processes_share_a_folder_between_them(finished, start, stn, tmp_path):
    command = start(*RUN, "--only", "r/cnn")
    command.wait_for("runs/small/environment.json")
    assert stn(*RUN, "--only", "r/st_cnn", "-q").code == 0
    assert command.end().code == 0
    assert findings(tmp_path / "runs/small") == findings(finished[0])
    assert [line.split()[0] for line in stn("report", "runs/small").out.splitlines()[1:3]] == ["cnn", "st_cnn"]


def test_what_cannot_be_resumed_is_told_and_kept(trained, stn):
    trial = Path(trained, "trials/r/cnn/seed-0")
    (trial / "result.json").unlink()
    (trial / "checkpoint.pt").write_bytes((trial / "checkpoint.pt").read_bytes()[:1000])
    assert stn(*RUN).sentence.startswith(
        f"{trial / 'checkpoint.pt'} is not a checkpoint of stn-train, or it is damaged"
    )
    assert (trial / "checkpoint.pt").stat().st_size == 1000


def test_a_trial_whose_findings_were_deleted_writes_them_again_without_training(trained, finished, stn):
    trial = Path("trials/r/cnn/seed-0")
    for name in ("result.json", "predictions.npz"):
        Path(trained, trial, name).unlink()
    ended = stn(*RUN)
    assert ended.code == 0
    assert "epoch" not in ended.err
    for name in SAME:
        assert Path(trained, trial, name).read_bytes() == (finished[0] / trial / name).read_bytes()
