"""A disk that fills up, files that may not grow, files that vanish: one sentence, what was saved is whole, and
afterwards the run goes on to the same bytes.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from undisturbed import assert_undisturbed, leftovers

from stn_train.training.checkpoint import read_checkpoint

RUN = ("run", "--config", "small.yaml", "--threads", "1", "-q", "--only", "r/st_cnn")
TRIAL = Path("runs/small/trials/r/st_cnn/seed-0")
LATER = "; what is saved is whole: give the command again when that is mended\n"


@pytest.fixture
def remount(tmp_path) -> Iterator[Callable[[str], bool]]:
    """A file system in memory at runs/, mounted anew with other options; says whether that could be done."""
    folder = tmp_path / "runs"
    folder.mkdir()

    def mount(*arguments: str) -> bool:
        command = ["mount", "-t", "tmpfs", *arguments, "tmpfs", str(folder)]
        return subprocess.run(command, capture_output=True).returncode == 0

    if shutil.which("mount") is None or not mount("-o", "size=64m"):
        pytest.skip("needs to be allowed to mount a file system in memory")
    yield lambda options: mount("-o", f"remount,{options}")
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def told(tmp_path, finished) -> Callable[..., None]:
    """A command of the trial has ended with a sentence about a file, and left checkpoints that are whole."""

    def told(ended, code: int, words: str) -> None:
        assert (ended.code, ended.out, ended.err.count("\n")) == (code, "", 1), ended
        assert ended.err.startswith("stn-train: error: "), ended.err
        assert words in ended.err
        assert "runs/small" in ended.err
        assert leftovers(tmp_path) == set()
        for path in tmp_path.rglob("*.pt"):
            read_checkpoint(path)

    return told


def sizes(folder: Path) -> list[int]:
    return [path.stat().st_size for path in folder.rglob("*") if path.is_file()]


def test_a_disk_that_is_full(start, finished, tmp_path, trials, remount, told):
    chance, fillings, all_of_it = Random(5), trials(1, 20), sum(sizes(finished[0] / TRIAL.relative_to("runs/small")))
    for _ in range(fillings):
        assert remount(f"size={chance.randrange(4096, all_of_it)}")
        ended = start(*RUN).end()
        told(ended, 1, "no space is left on the disk for runs/small")
        assert ended.err.endswith(LATER)
        assert remount("size=64m")
        assert start(*RUN).end().code == 0
        assert_undisturbed(tmp_path / TRIAL, finished[0] / TRIAL.relative_to("runs/small"))
        shutil.rmtree(tmp_path / "runs/small")
    print(f"{fillings} of {fillings} full disks told, and gone on from")


def test_files_that_may_not_grow(start, finished, tmp_path, trials, told):
    chance, limits, largest = Random(6), trials(1, 20), max(sizes(finished[0] / TRIAL.relative_to("runs/small")))
    for _ in range(limits):
        ended = start(*RUN, largest=int(largest ** chance.uniform(0.5, 0.99))).end()
        told(ended, 1, "the limit to the size of files (`ulimit -f`) leaves no room for runs/small")
        assert ended.err.endswith(LATER)
        assert start(*RUN).end().code == 0
        assert_undisturbed(tmp_path / TRIAL, finished[0] / TRIAL.relative_to("runs/small"))
        shutil.rmtree(tmp_path / "runs/small")
    print(f"{limits} of {limits} limits told, and gone on from")


def test_a_variant_that_finds_no_room(start, tmp_path):
    ended = start("data", "build", "--config", "small.yaml", "--output-dir", "built", largest=100_000).end()
    assert (ended.code, ended.out, ended.err.count("\n")) == (1, "", 1), ended
    assert "the limit to the size of files (`ulimit -f`) leaves no room for built" in ended.err
    assert leftovers(tmp_path) == set()


@pytest.mark.parametrize("lost", ["checkpoint.pt", "."])
@pytest.mark.slow
def test_what_vanishes_while_training_is_written_again(start, finished, tmp_path, lost):
    command = start(*RUN, drag=0.2)
    command.wait_for(f"{TRIAL}/checkpoint.pt")
    shutil.rmtree(tmp_path / TRIAL) if lost == "." else os.unlink(tmp_path / TRIAL / lost)
    assert command.end().code == 0
    assert_undisturbed(tmp_path / TRIAL, finished[0] / TRIAL.relative_to("runs/small"))


@pytest.mark.slow
def test_what_vanishes_while_it_is_written_is_told(start, finished, tmp_path, told):
    command = start(*RUN, drag=0.2)
    command.wait_for(f"{TRIAL}/.checkpoint.pt.*.tmp")
    for path in (tmp_path / TRIAL).glob(".checkpoint.pt.*.tmp"):
        path.unlink()
    told(command.end(), 2, f"{TRIAL}/checkpoint.pt vanished while it was written; give the command again")
    assert start(*RUN).end().code == 0
    assert_undisturbed(tmp_path / TRIAL, finished[0] / TRIAL.relative_to("runs/small"))
