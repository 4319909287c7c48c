"""Where the system refuses a file or a folder, the user is told so in a sentence."""

import errno
import os
from pathlib import Path

import pytest

from stn_train import storage

RUN = ("run", "--config", "small.yaml", "--threads", "1", "--quiet", "--only", "r/cnn")


@pytest.mark.parametrize("file", ["config.yaml", "checkpoint.pt", "result.json", "report.md"])
def test_a_full_disk_is_one_sentence_and_the_run_goes_on_later(stn, finished, monkeypatch, file):
    with monkeypatch.context() as full:
        replace = os.replace

        def no_space(source: str, target: Path) -> None:
            if target.name == file:
                raise OSError(errno.ENOSPC, "No space left on device")
            replace(source, target)

        full.setattr(storage.os, "replace", no_space)
        ended = stn(*RUN)
    assert (ended.code, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert ended.err.startswith("stn-train: error: no space is left on the disk for runs/small/")
    assert f"{file}; what is saved is whole: give the command again when that is mended" in ended.err
    assert list(Path().rglob("*.tmp")) == []
    assert stn(*RUN).code == 0
    result = Path("trials/r/cnn/seed-0/result.json")
    assert ("runs/small" / result).read_bytes() == (finished[0] / result).read_bytes()


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "you have no permission"),
        (errno.EPERM, "you have no permission"),
        (errno.EROFS, "its file system is read-only"),
    ],
)
def test_a_folder_that_may_not_be_written_to(stn, monkeypatch, number, words):
    def refuse(dir: Path, prefix: str, suffix: str, **_: object) -> None:
        raise OSError(number, os.strerror(number), f"{dir}/{prefix}x7{suffix}")

    monkeypatch.setattr(storage.tempfile, "NamedTemporaryFile", refuse)
    assert stn(*RUN).sentence == f"runs/small cannot be used: {words}"
    assert stn("data", "preview", "--config", "small.yaml", "-o", "a/b.png").sentence == f"a cannot be used: {words}"


def test_a_folder_that_may_not_be_made(stn, monkeypatch):
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "mkdir", refuse)
    assert stn(*RUN, "--output-dir", "/srv/run").sentence == "/srv/run cannot be used: you have no permission"


@pytest.mark.parametrize("name", ["small.yaml", "small.yaml/below", "x" * 300])
@pytest.mark.parametrize("command", [RUN, ("data", "build", "--config", "small.yaml")])
def test_an_output_folder_that_cannot_be_one(stn, command, name):
    assert stn(*command, "--output-dir", name).sentence.startswith(f"{name.removesuffix('/below')}")


def test_our_own_mistakes_keep_their_traceback(stn, monkeypatch):
    def lost(*_: object, **__: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "surprise")

    monkeypatch.setattr("stn_train.experiment.run.environment", lost)
    with pytest.raises(FileNotFoundError):
        stn(*RUN)
