"""Measures: each has a name and a description, and is in every view of the results that shows its group."""

import csv
import json
import math
import subprocess
import sys
from html import escape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from made_up_run import begin, finish

from stn_train.report.measures import (
    BY_KEY,
    MEASURES,
    Measure,
    OverSeeds,
    cell,
    measured,
)
from stn_train.report.results import over_seeds, results_of
from stn_train.report.write import report_run
from stn_train.run_folder import RunFolder, Timing, TrialResult
from stn_train.specs import trials_of
from stn_train.statistics import mean_over_seeds


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Of two seeds, trained on other numbers of digits, so that all columns of the details are shown."""
    folder, trials = begin(tmp_path, seeds=[0, 1], models=["cnn_paper", "st_cnn_paper"])
    for trial in trials:
        finish(folder, trial, errors=3 + trial.seed)
    return folder


def seeds(**values: list[float | None]) -> list[Any]:
    return [
        SimpleNamespace(row=dict(zip(values, of_seed, strict=True))) for of_seed in zip(*values.values(), strict=True)
    ]


def brought_together(how: OverSeeds, among: str | None = None, **values: list[float | None]) -> list[float | None]:
    """The value of a measure `a` over seeds, and the ends of its interval."""
    measure = Measure("a", "a", "made up", how, "{:g}".format, among=among)
    return [*over_seeds(measure, seeds(**values)).values()]


def test_every_measure_has_a_key_of_its_own_a_heading_and_a_description() -> None:
    assert len(BY_KEY) == len(MEASURES)
    assert all(measure.heading and len(measure.description) > 5 for measure in MEASURES)


def test_every_column_of_numbers_is_a_measure_or_an_end_of_its_interval(run: RunFolder) -> None:
    results = results_of(run)
    known = {f"{measure.key}{end}" for measure in MEASURES for end in ("", "_low", "_high")}
    names = {"dataset", "model", "baseline", "transforms", "tta_angles", "source", "split", "precision"}
    assert set(results.trials) - {measure.key for measure in MEASURES} - names == {"seed", "device", "threads"}
    assert set(results.summary) - known - names == {"seeds", "seed_errors", "paired_seeds"}


@pytest.mark.parametrize(
    "measure", [one for one in MEASURES if one.group == "details"], ids=lambda measure: measure.key
)
def test_a_measure_of_the_details_is_in_the_table_and_in_both_documents(run: RunFolder, measure: Any) -> None:
    json_file, csv_file, reading, page = (path.read_text() for path in report_run(run).files[:4])
    document, lines = json.loads(json_file), csv.DictReader(csv_file.splitlines())
    assert all(measure.key in row for row in (*document["trials"], *document["summary"], *lines))
    if measure.key != "training_digits":  # which is left out, as all have the same
        assert f" {measure.heading} |" in reading
        assert f">{escape(measure.heading)}</th>" in page


def test_seeds_without_a_number_are_left_out_of_the_mean_and_without_any_there_is_none() -> None:
    value, low, high = brought_together("mean_with_interval", a=[1.0, None, 3.0])
    assert low is not None
    assert high is not None
    assert (value, low < 1, high > 3) == (2.0, True, True)
    assert brought_together("mean_with_interval", a=[None, None]) == [None] * 3


def test_a_mean_of_what_some_of_the_measured_seeds_lack_is_not_told() -> None:
    assert brought_together("mean_with_interval", "b", a=[1.0, None], b=[1.0, 1.0]) == [None] * 3
    assert brought_together("mean_with_interval", "b", a=[1.0, None], b=[1.0, None])[0] == 1.0


@pytest.mark.parametrize(
    ("key", "values", "least", "most"),
    [
        ("balanced_accuracy", [99.0, 100.0], 0, 100),
        ("swapped_error", [0.0, 30.0], 0, 100),
        ("removed_of_a_digit_translation", [92.0, 99.0], -math.inf, 100),
        ("removed_rotation", [-280.0, -260.0], -math.inf, 100),
        ("turn_large", [0.0, 2.0], 0, 100),
        ("turn_median", [0.1, 2.0], 0, math.inf),
    ],
)
def test_no_interval_reaches_beyond_what_a_number_can_be(
    key: str, values: list[float], least: float, most: float
) -> None:
    measure = BY_KEY[key]
    found = over_seeds(measure, seeds(**{key: values, measure.among or key: values}))
    mean = mean_over_seeds(values)
    assert [found[f"{key}{end}"] for end in ("", "_low", "_high")] == [
        mean.value,
        max(mean.low, least),
        min(mean.high, most),
    ]


def test_a_number_is_written_with_its_interval_where_that_has_a_width() -> None:
    assert cell({"a": 0.571, "a_low": 0.434, "a_high": 0.742}, "a") == "0.57 [0.43, 0.74]"
    assert cell({"a": 0.571, "a_low": 0.571, "a_high": 0.571}, "a") == "0.57"
    assert cell({"iou": 62, "iou_low": 58, "iou_high": 66}, "iou") == "62 % [58, 66]"
    assert cell({"a": None}, "a") == ""


def test_balanced_accuracy_counts_each_class_alike_and_leaves_out_those_without_images(run: RunFolder) -> None:
    spec = trials_of(run.load_experiment())[0]
    counts = np.zeros((10, 10), int)
    counts[0, :2], counts[1, :2] = (90, 10), (5, 5)
    files = run.trial(spec)
    about = {"images": 110, "errors": 15, "confusion": counts.tolist()}
    result = TrialResult.model_validate(files.load(TrialResult, files.result).model_dump() | about)
    found = measured(result, files.load(Timing, files.timing), None, [])
    assert found["balanced_accuracy"] == pytest.approx((90 + 50) / 2)
    table = results_of(run).summary
    assert table["balanced_accuracy"].tolist() == pytest.approx((100 - table["error"]).tolist()), (
        "classes are alike here"
    )


def test_training_and_help_import_no_pandas_and_no_matplotlib() -> None:
    code = (
        "import sys, stn_train.cli, stn_train.cli.run, stn_train.cli.progress, stn_train.experiment.run\n"
        "from stn_train.evaluation.metrics import warnings_of\n"
        "sys.exit(bool({'pandas', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
