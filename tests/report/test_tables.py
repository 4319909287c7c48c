"""A run's numbers for other programs: a table for LaTeX, and a row for each trial as CSV."""

import csv
import re
from pathlib import Path

import pytest
from made_up_run import begin, finish
from reference import columns

from stn_train.report.page import latex, latex_table
from stn_train.report.results import results_of
from stn_train.report.write import report_run
from stn_train.run_folder import RunFolder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Two datasets and two seeds; the last trial has not finished."""
    folder, trials = begin(tmp_path, datasets=["r", "rts"], models=["cnn", "st_cnn"], seeds=[0, 1])
    for trial in trials[:-1]:
        finish(folder, trial, 2 if trial.model.transformer else 5)
    return folder


def test_the_latex_table_has_a_row_for_each_model_and_as_many_cells_in_each(run: RunFolder) -> None:
    text = latex(results_of(run))
    begun, columns = re.findall(r"^\\begin\{(\w+)\}\{(\w+)\}$", text, re.MULTILINE)[0]
    assert f"\\end{{{begun}}}" in text
    head, body = re.findall(r"\\toprule\n(.*)\n\\midrule\n(.*)\n\\bottomrule\n", text, re.DOTALL)[0]
    lines = [head, *body.splitlines()]
    assert all(line.endswith(r" \\") for line in lines)
    cells = [line.removesuffix(r" \\").split(" & ") for line in lines]
    assert {len(line) for line in cells} == {len(columns)} == {7}
    assert [line[:2] for line in cells[1:]] == [["r", "cnn"], ["r", r"st\_cnn"], ["rts", "cnn"], ["rts", r"st\_cnn"]]
    assert [line[-1] == "--" for line in cells[1:]] == [True, False, True, False], "a baseline has no baseline"


def test_what_means_something_to_latex_is_escaped_and_numbers_are_mathematics(run: RunFolder) -> None:
    text = latex(results_of(run))
    rows = [line for line in text.splitlines() if not line.startswith("%")]
    assert not re.findall(r"(?<!\\)[_%#]", "\n".join(rows))
    assert text.isascii()
    outside = re.sub(r"\$[^$]*\$", "", "\n".join(rows))
    assert not re.findall(r"[<>]|-\d", outside), "a minus and a < are such only in mathematics"
    assert latex_table([["a_b", "n %"], ["x_y", "-1.0 [-2.0, 0.0]"], ["z", "–"]], 1).splitlines()[2:6] == [
        r"a\_b & n \% \\",
        r"\midrule",
        r"x\_y & $-1.0\ [-2.0, 0.0]$ \\",
        r"z & -- \\",
    ]


def test_trials_csv_has_a_row_for_each_finished_trial(run: RunFolder) -> None:
    report_run(run)
    with (run.path / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    table = results_of(run).trials
    assert len(rows) == len(table) == 7
    assert len({(row["dataset"], row["model"], row["seed"]) for row in rows}) == 7
    assert [float(row["error"]) for row in rows] == list(table["error"])
    assert list(rows[0]) == list(table.columns)


def test_every_column_of_trials_csv_is_documented(run: RunFolder) -> None:
    page = (Path(__file__).parents[2] / "docs/report.md").read_text() + columns("")
    documented = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert [name for name in results_of(run).trials.columns if re.sub(r"\d+$", "N", name) not in documented] == []
