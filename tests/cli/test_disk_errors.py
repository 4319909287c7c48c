"""Where the system refuses a file or a folder, the user is told so in a sentence."""

import errno
import os
from pathlib import Path

import pytest

from stn_train import storage

RUN = ("run", "--config", "small.yaml", "--threads", "1", "--quiet", "--only", "r/cnn")


@pytest.mark.parametrize(
    ("file", "number", "code", "words"),
    [
        ("checkpoint.pt", errno.ENOSPC, 1, "no space is left on the disk for runs/small/"),
        ("report.md", errno.ENOSPC, 1, "no space is left on the disk for runs/small/"),
        ("checkpoint.pt", errno.EROFS, 2, "its file system is read-only"),
    ],
)
def test_a_disk_that_fills_or_fails_is_one_sentence_and_the_run_goes_on_later(
    stn, finished, monkeypatch, file, number, code, words
):
    with monkeypatch.context() as full:
        replace = os.replace

        def refuse(source: str, target: Path) -> None:
            if target.name == file:
                raise OSError(number, os.strerror(number))
            replace(source, target)

        full.setattr(storage.os, "replace", refuse)
        ended = stn(*RUN)
    assert (ended.code, ended.out, ended.err.count("\n")) == (code, "", 1)
    assert words in ended.err
    assert file in ended.err
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
    def refuse(name: str, mode: str) -> None:
        raise OSError(number, os.strerror(number), name)

    monkeypatch.setattr(storage, "open", refuse, raising=False)
    assert stn(*RUN).sentence == f"runs/small cannot be used: {words}"
    assert stn("data", "preview", "--config", "small.yaml", "-o", "a/b.png").sentence == f"a cannot be used: {words}"


def test_a_folder_that_may_not_be_made(stn, monkeypatch):
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "mkdir", refuse)
    assert stn(*RUN, "--output-dir", "/srv/run").sentence == "/srv/run cannot be used: you have no permission"


PLACES = ["small.yaml/below", "x" * 300, "nowhere/below", "loop", "/dev/null/below", "/proc/below"]
WRITING = {
    "run": (*RUN, "--output-dir", "{}"),
    "data build": ("data", "build", "--config", "small.yaml", "--output-dir", "{}"),
    "data preview": ("data", "preview", "--config", "small.yaml", "-o", "{}/x.png"),
    "colocalise": ("colocalise", "--config", "paper/colocalisation", "--set", "source=digits", "--output-dir", "{}"),
    "visualize": ("visualize", "runs/small/trials/r/cnn", "--only", "curves", "--output-dir", "{}"),
    "config copy": ("config", "copy", "rts", "{}/x.yaml"),
}
READING = {
    "eval": ("eval", "{}"),
    "report": ("report", "{}"),
    "data_root": ("data", "preview", "--config", "small.yaml", "--set", "source=mnist", "--data-root", "{}"),
    "config": ("config", "show", "{}"),
}


@pytest.mark.parametrize("command", [*WRITING, *(f"{name} of" for name in READING)])
def test_a_place_that_the_system_refuses_is_told_whatever_its_reason(trained, stn, monkeypatch, command):
    monkeypatch.setattr("torchvision.datasets.MNIST", lambda root, download: Path(root).mkdir())
    Path("nowhere").symlink_to("no/where")
    Path("loop").symlink_to("loop")
    known = WRITING[command] if command in WRITING else READING[command.removesuffix(" of")]
    for place in PLACES:
        if place.startswith("/proc") and not Path("/proc").exists():
            continue
        ended = stn(*(word.format(place) for word in known))
        assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1), ended
        assert place.split("/below")[0][:20] in ended.err
    assert sorted(path.name for path in Path().iterdir()) == ["loop", "nowhere", "runs", "small.yaml"]


def test_a_link_that_leads_nowhere_is_told_to_be_one(stn):
    Path("nowhere").symlink_to("no/where")
    for place in ("nowhere", "nowhere/below"):
        assert stn(*RUN, "--output-dir", place).sentence == "nowhere cannot be used: it is a link that leads nowhere"


@pytest.mark.parametrize("name", [None, Path(storage.__file__).parent / "surprise"], ids=str)
def test_our_own_mistakes_keep_their_traceback(stn, monkeypatch, name):
    def lost(*_: object, **__: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", name and str(name))

    monkeypatch.setattr("stn_train.experiment.run.environment", lost)
    with pytest.raises(FileNotFoundError):
        stn(*RUN)


@pytest.mark.parametrize("umask", [0o077, 0o002])
def test_the_umask_holds_for_all_that_is_written(stn, umask):
    before = os.umask(umask)
    try:
        assert stn(*RUN, "--set", "training.epochs=1").code == 0
        assert stn("data", "build", "--config", "small.yaml", "--output-dir", "runs/built").code == 0
        assert stn("data", "preview", "--config", "small.yaml", "-o", "runs/x.png").code == 0
    finally:
        os.umask(before)
    found = {(path.is_dir(), path.stat().st_mode & 0o777) for path in Path("runs").rglob("*")}
    assert found == {(True, 0o777 & ~umask), (False, 0o666 & ~umask)}
