"""One process at a time in a folder, and what a killed one left there."""

import subprocess
import sys

import pytest

from stn_train.errors import Stopped, UserError
from stn_train.storage import clear_leftovers, folder_lock, is_locked

HOLD = """
import sys
from pathlib import Path
from stn_train.storage import folder_lock
with folder_lock(Path(sys.argv[1])):
    print("inside", flush=True)
    sys.stdin.read()
"""


def test_another_process_is_kept_out_and_told_who_is_in_until_that_is_killed(tmp_path):
    folder = tmp_path / "new"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "inside\n"
        assert is_locked(folder)
        with pytest.raises(UserError, match=rf"new \(process {process.pid} on .+, since "), folder_lock(folder):
            pass
        with pytest.raises(Stopped), folder_lock(folder, stop=lambda: True):
            pass
        with folder_lock(tmp_path / "other"):
            pass
        process.kill()
        process.wait()
    assert not is_locked(folder)
    for _ in range(2):
        with folder_lock(folder, stop=lambda: False):
            assert is_locked(folder)
    assert [path.name for path in folder.iterdir()] == [".lock"]


def test_an_error_lets_go_and_what_a_killed_process_left_goes(tmp_path):
    (tmp_path / "..at-work.0123abcd.tmp").touch()
    with pytest.raises(ZeroDivisionError), folder_lock(tmp_path):
        raise ZeroDivisionError
    with folder_lock(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_looking_whether_someone_is_at_work_makes_nothing(tmp_path):
    assert not is_locked(tmp_path / "nowhere")
    assert not is_locked(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_where_the_system_cannot_lock_nobody_is_kept_out(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("stn_train.storage.FileLock.acquire", refuse)
    (tmp_path / ".lock").touch()
    with folder_lock(tmp_path):
        assert not is_locked(tmp_path)


def test_only_what_was_half_written_is_deleted(tmp_path):
    keep = ("config.yaml", "mine.tmp", ".config.yaml", ".hidden.tmp", ".my.notes.tmp", ".my.thoughts.tmp")
    for name in (*keep, ".config.yaml.0123abcd.tmp", ".notes.tmp.ffffffff.tmp"):
        (tmp_path / name).touch()
    clear_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(keep)
    clear_leftovers(tmp_path / "nowhere")
