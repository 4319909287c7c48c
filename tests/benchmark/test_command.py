"""`python scripts/benchmark` as its user sees it. What it measures is nowhere asserted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "scripts/benchmark"
HELP = ("--threads", "1", "--only", "command/help")


def benchmark(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, BENCHMARK, *arguments], capture_output=True, text=True)


@pytest.mark.slow
def test_json_has_the_documented_keys(monkeypatch):
    monkeypatch.delenv("STN_TRAIN_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/nowhere")
    ended = benchmark(*HELP, "--json")
    assert ended.returncode == 0
    assert ended.stderr.startswith("row 1 of 1  command/help  ")
    assert ended.stderr.endswith("] s more\n")
    found = json.loads(ended.stdout)
    assert set(found) == {"environment", "source", "rows"}
    assert found["source"] == "digits"
    (row,) = found["rows"]
    assert set(row) == {"name", "baseline", "values", "median", "low", "high", "unit", "target", "reached"}
    assert (row["name"], row["unit"], row["target"]) == (
        "command/help",
        "s more",
        {"bound": "at most", "limit": 0.25},
    )
    assert min(row["values"]) == row["low"] <= row["median"] <= row["high"] == max(row["values"])
    assert row["reached"] is (row["median"] <= 0.25)


@pytest.mark.slow
def test_the_table_has_a_line_a_row_and_says_where_it_was_measured():
    ended = benchmark(*HELP, "--quiet")
    assert (ended.returncode, ended.stderr) == (0, "")
    header, line, empty, where = ended.stdout.splitlines()
    assert header.split() == ["row", "against", "median", "[lowest,", "highest]", "target", "reached"]
    assert line.startswith("command/help  python -c pass  ")
    assert line.endswith(("at most 0.25 s more      yes", "at most 0.25 s more       no"))
    assert empty == ""
    assert "CPU threads: 1, digits: " in where


@pytest.mark.slow
def test_a_pattern_that_matches_no_row_is_refused():
    ended = benchmark("--only", "nothing")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "--only nothing matches no row; there are images/rts-torchvision, " in ended.stderr.replace("\n", " ")
