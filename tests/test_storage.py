"""Atomic writes: a file is whole or as it was."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stn_train import storage


def test_what_was_written_is_there_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "folder" / "file.txt"
    storage.write(target, "häuser\n")
    assert target.read_bytes() == "häuser\n".encode()
    assert [path.name for path in target.parent.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_json_has_not_are_not_written(tmp_path: Path, number: float) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        storage.write_record(tmp_path / "file.json", {"number": number})
    assert list(tmp_path.iterdir()) == []


def fail(*_: object) -> None:
    """In place of what brings a file to the disk."""
    raise ZeroDivisionError


def test_an_error_while_writing_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch) -> None:
    target = tmp_path / "file.txt"
    storage.write(target, "old")
    monkeypatch.setattr(storage.os, "fsync", fail)
    with pytest.raises(ZeroDivisionError):
        storage.write(target, "new")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path: Path, monkeypatch) -> None:
    target = tmp_path / "file.txt"
    storage.write(target, "old")
    seen: list[str] = []
    monkeypatch.setattr(storage.os, "fsync", lambda _: seen.append(target.read_text()))
    storage.write(target, "new")
    assert (seen, target.read_text()) == (["old"], "new")


def test_what_a_link_leads_to_stays_as_it_is(tmp_path: Path) -> None:
    """A stranger's folder may have one that leads to any file of the user's."""
    target, link = tmp_path / "below" / "file.txt", tmp_path / "link.txt"
    storage.write(target, "old")
    link.symlink_to(target)
    storage.write(link, "new")
    assert (link.read_text(), target.read_text()) == ("new", "old")


def test_a_pipe_stays_one(tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / "pipe")
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(pipe.read_text)
        storage.write(pipe, "told")
        assert read.result() == "told"
    assert pipe.is_fifo()


@pytest.mark.parametrize("links", [True, False])
def test_what_stood_there_before_is_kept_and_nothing_older(tmp_path: Path, monkeypatch, links: bool) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    if not links:
        monkeypatch.setattr(storage.os, "link", no_links)
    target, before = tmp_path / "file.txt", tmp_path / "before.txt"
    for content in (b"one", b"two", b"three"):
        storage.write(target, content, before=before)
    assert (target.read_bytes(), before.read_bytes()) == (b"three", b"two")
    monkeypatch.setattr(storage.os, "fsync", fail)
    with pytest.raises(ZeroDivisionError):
        storage.write(target, b"four", before=before)
    assert (target.read_bytes(), before.read_bytes()) == (b"three", b"two")
    assert len(list(tmp_path.iterdir())) == 2


def test_checksum_is_sha256(tmp_path: Path) -> None:
    target = tmp_path / "abc"
    storage.write(target, b"abc")
    assert storage.sha256(target) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
