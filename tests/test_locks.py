"""One process at a time in a folder, and what a killed one left there."""

import subprocess
import sys

import pytest

from stn_train.errors import UserError
from stn_train.storage import clear_leftovers, folder_lock, is_locked

HOLD = """
import sys
from pathlib import Path
from stn_train.storage import folder_lock
with folder_lock(Path(sys.argv[1])):
    print("inside", flush=True)
    sys.stdin.read()
"""


def test_another_process_is_kept_out_until_the_first_is_killed(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / "new"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "inside\n"
        assert is_locked(tmp_path / "new")
        who = rf"new \(process {process.pid} on .+, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d.*\); wait until it has ended"
        with pytest.raises(UserError, match=f"another process is at work in .*{who}"), folder_lock(tmp_path / "new"):
            pass
        with folder_lock(tmp_path / "other"):
            pass
        process.kill()
        process.wait()
        assert not is_locked(tmp_path / "new")
        with folder_lock(tmp_path / "new"):
            pass
        with folder_lock(tmp_path / "new", stop=lambda: False):
            pass
        assert list((tmp_path / "new").iterdir()) == []


def test_what_a_process_left_that_was_killed_as_it_came_in_goes(tmp_path):
    (tmp_path / "..at-work.abcdefgh.tmp").touch()
    with folder_lock(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [".at-work"]
    assert list(tmp_path.iterdir()) == []


def test_an_error_lets_go(tmp_path):
    with pytest.raises(ZeroDivisionError), folder_lock(tmp_path):
        raise ZeroDivisionError
    with folder_lock(tmp_path):
        pass


def test_only_what_was_half_written_is_deleted(tmp_path):
    keep = ("config.yaml", ".other.yaml.abcdefgh.tmp", "mine.tmp", ".config.yaml", ".hidden.tmp")
    for name in (*keep, ".config.yaml.abcdefgh.tmp", ".config.yaml.x_9.tmp"):
        (tmp_path / name).touch()
    clear_leftovers(tmp_path, "config.yaml")
    assert {path.name for path in tmp_path.iterdir()} == set(keep)
    clear_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*keep} - {".other.yaml.abcdefgh.tmp"}
    clear_leftovers(tmp_path / "nowhere")


def test_looking_whether_someone_is_at_work_locks_nobody_out_and_makes_nothing(tmp_path):
    assert not is_locked(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    assert not is_locked(tmp_path)
    with folder_lock(tmp_path):
        assert is_locked(tmp_path)
