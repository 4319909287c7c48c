"""A small experiment, command lines that run in this process or in one that can be killed, and a run to look at."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stn_train.cli import main

if TYPE_CHECKING:
    from stn_train.data.images import ImageSet

SMALL = """\
source: digits
datasets: [r]
models: [cnn, st_cnn]
parameters: 100_000
training: {epochs: 2, batch_size: 96}
"""
TRAINING_DIGITS, TEST_DIGITS = 480, 120


@dataclass(frozen=True)
class Ended:
    """How a command ended, and after how many seconds."""

    code: int
    out: str
    err: str
    seconds: float = field(default=0.0, compare=False)

    @property
    def sentences(self) -> list[str]:
        """What the user's mistakes are told in, a line each."""
        assert (self.code, self.out) == (2, ""), self
        lines = self.err.splitlines()
        assert lines, self
        assert all(line.startswith("stn-train: error: ") for line in lines), self.err
        return [line.removeprefix("stn-train: error: ") for line in lines]

    @property
    def sentence(self) -> str:
        """The one sentence that a user's mistake is told in."""
        (sentence,) = self.sentences
        return sentence


class Command:
    """A command that runs in a process of its own."""

    def __init__(self, server: subprocess.Popen[str], folder: Path, arguments: tuple[str, ...], **how: float) -> None:
        self.server, self.folder = server, folder
        assert server.stdin is not None
        server.stdin.write(json.dumps({"arguments": arguments, "folder": str(folder), **how}) + "\n")
        server.stdin.flush()
        self.process = int(self._answer())
        self.began = time.monotonic()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        with suppress(ProcessLookupError):
            os.kill(self.process, number)

    def wait_for(self, file: str, seconds: float = 60) -> None:
        """Wait until it has written a file; `file` may be a pattern. Raises TimeoutError."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if any(self.folder.glob(file)):
                return
            time.sleep(0.002)
        raise TimeoutError(file)

    def end(self) -> Ended:
        """Wait for its end."""
        code = int(self._answer())
        seconds = time.monotonic() - self.began
        return Ended(code, (self.folder / "stdout").read_text(), (self.folder / "stderr").read_text(), seconds)

    def _answer(self) -> str:
        assert self.server.stdout is not None
        return self.server.stdout.readline()


Start = Callable[..., Command]


@pytest.fixture(scope="session")
def server() -> Iterator[subprocess.Popen[str]]:
    """See fork_server.py."""
    with subprocess.Popen(
        [sys.executable, Path(__file__).with_name("fork_server.py"), str(TRAINING_DIGITS), str(TEST_DIGITS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def start(server, tmp_path) -> Start:
    """Start a command line in a process of its own, in the folder of `stn`; for `how` see fork_server.py."""
    (tmp_path / "small.yaml").write_text(SMALL)
    return lambda *arguments, **how: Command(server, tmp_path, arguments, **how)


@pytest.fixture(scope="session")
def few_digits() -> "tuple[ImageSet, ImageSet]":
    """Enough digits to train on and to test; each is shown once an epoch."""
    from stn_train.data.images import ImageSet
    from stn_train.data.sources import load_images

    training, test = load_images("digits")
    return (
        ImageSet(training.images[:TRAINING_DIGITS], training.labels[:TRAINING_DIGITS]),
        ImageSet(test.images[:TEST_DIGITS], test.labels[:TEST_DIGITS]),
    )


@pytest.fixture
def stn(capsys, tmp_path, monkeypatch, few_digits) -> Callable[..., Ended]:
    """Run a command line in this process, in a folder that holds small.yaml alone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("stn_train.data.images.scikit_digits", lambda: few_digits)
    monkeypatch.delenv("STN_TRAIN_DATA", raising=False)
    monkeypatch.setattr(sys, "argv", ["stn-train"])
    (tmp_path / "small.yaml").write_text(SMALL)

    def run(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["stn-train", *arguments])
        with pytest.raises(SystemExit) as end:
            main(arguments)
        captured = capsys.readouterr()
        return Ended(int(end.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def finished(server, tmp_path_factory) -> tuple[Path, Ended]:
    """The folder of a finished run of small.yaml, not to be changed, and how the command ended."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "small.yaml").write_text(SMALL)
    command = Command(server, folder, ("run", "--config", "small.yaml"))
    return folder / "runs/small", command.end()


@pytest.fixture
def trained(finished, stn, tmp_path) -> str:
    """The folder of a finished run of small.yaml, to do with as one likes, as its command line names it."""
    shutil.copytree(finished[0], tmp_path / "runs/small")
    return "runs/small"


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, bytes]]:
    """Every file below a folder, but what was locked there."""
    return lambda folder: {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }
