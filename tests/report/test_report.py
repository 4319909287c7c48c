"""The report of made-up runs: what it says, what it leaves out, and that it says the same twice."""

import csv
import json
import os
import platform
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_run import CLASSES, EPOCHS, IMAGES, LABEL, begin, compared, finish, summary_of, train

from stn_train import storage
from stn_train.errors import UserError
from stn_train.report.page import WIDTH, summary
from stn_train.report.plots import confusions, learning_curves, residual_curves
from stn_train.report.results import results_of
from stn_train.report.snapshots import KINDS
from stn_train.report.status import status, status_json, status_text
from stn_train.report.write import report_run
from stn_train.run_folder import EpochRecord, RunFolder, TrialResult
from stn_train.storage import folder_lock

WITHIN_CLASSES = [f"within_classes_{name}" for name in ("digits", "images", "output")]
UNTOLD = {"pose_of_a_digit": [], "residual_curves": [], **dict.fromkeys(WITHIN_CLASSES)}
"""What an alignment.json says of images that are all one, each of a digit of its own."""


@pytest.fixture
def one_seed(tmp_path: Path) -> RunFolder:
    """cnn has an error of 5 %, st_cnn of 2 %."""
    folder, (cnn, st_cnn) = begin(tmp_path)
    finish(folder, cnn, errors=5)
    finish(folder, st_cnn, errors=2)
    return folder


def test_rows_hold_what_each_model_reached(one_seed: RunFolder) -> None:
    (cnn, st_cnn), comparisons = summary_of(one_seed), compared(one_seed)
    assert (cnn["model"], cnn["error"], cnn["baseline"]) == ("cnn", 5.0, None)
    assert (st_cnn["model"], st_cnn["error"], st_cnn["baseline"]) == ("st_cnn", 2.0, "cnn")
    assert (st_cnn["seeds"], st_cnn["paired_seeds"], [*comparisons]) == ((0,), (0,), ["st_cnn"])
    assert comparisons["st_cnn"]["difference"] == -3.0
    assert comparisons["st_cnn"]["mcnemar"] == (2 / 2**30,), "30 images that only cnn gets wrong"
    assert [st_cnn[f"error_of_class_{label}"] for label in range(CLASSES)] == pytest.approx([2.0] * CLASSES)
    assert (st_cnn["parameters"], st_cnn["training_seconds"], st_cnn["clipped"]) == (398_123, 100.0, 31)


def test_a_trial_has_a_row_of_its_own_with_every_measure(tmp_path: Path) -> None:
    folder, trials = begin(tmp_path, seeds=[0, 1])
    for trial in trials:
        finish(folder, trial, errors=3 + trial.seed)
    table = results_of(folder).trials
    assert list(zip(table["model"], table["seed"], table["error"], strict=True)) == [
        *[("cnn", 0, 3.0), ("cnn", 1, 4.0)],
        *[("st_cnn", 0, 3.0), ("st_cnn", 1, 4.0)],
    ]
    assert table["removed_rotation"].dropna().tolist() == pytest.approx([50, 60])


def test_differences_are_over_the_seeds_that_both_have_finished(tmp_path: Path) -> None:
    folder, trials = begin(tmp_path, seeds=[0, 1, 2])
    for trial, errors in zip(trials[:-1], [5, 2, 6, 2, 10], strict=True):
        finish(folder, trial, errors)
    (cnn, st_cnn), comparison = summary_of(folder), compared(folder)["st_cnn"]
    assert (cnn["seeds"], cnn["seed_errors"], cnn["error"]) == ((0, 1, 2), (5, 6, 10), 7)
    assert (st_cnn["seeds"], st_cnn["paired_seeds"]) == ((0, 1), (0, 1))
    assert (comparison["seeds"], comparison["difference"]) == (2, pytest.approx(-3.5))
    assert comparison["mcnemar"] == (2 / 2**30, 2 / 2**40), "each seed's pair by itself"
    assert np.sum(results_of(folder).confusions["rts", "cnn"]) == 3 * IMAGES, "confusion is summed over the seeds"
    assert cnn["training_seconds"] == 101
    assert "Only 5 of 6 trials" in report_run(folder).files[2].read_text()


def test_a_model_without_its_baseline_is_reported_alone(tmp_path: Path) -> None:
    folder, trials = begin(tmp_path)
    finish(folder, trials[1], errors=2)
    (row,) = summary_of(folder)
    assert (row["baseline"], compared(folder)) == ("cnn", {})
    assert "nothing to compare" in summary(results_of(folder))


def test_mcnemar_is_left_out_where_digits_stand_in_several_images(tmp_path: Path) -> None:
    folder, trials = begin(tmp_path)
    for trial, errors in zip(trials, (5, 2), strict=True):
        finish(folder, trial, errors, digit=np.arange(IMAGES) % 200)
    assert compared(folder)["st_cnn"]["mcnemar"] == ()


def test_trials_that_answered_for_different_images_are_refused(tmp_path: Path) -> None:
    folder, trials = begin(tmp_path)
    finish(folder, trials[0], errors=5)
    finish(folder, trials[1], errors=2, digit=np.arange(IMAGES) + 1)
    with pytest.raises(UserError, match=r"rts/cnn/seed-0 and rts/st_cnn/seed-0 were evaluated on different images"):
        results_of(folder)


def test_predictions_that_contradict_the_result_are_refused(one_seed: RunFolder) -> None:
    path = one_seed.path / "trials/rts/cnn/seed-0/predictions.npz"
    storage.write_arrays(path, {"predicted": LABEL, "label": LABEL, "digit": np.arange(IMAGES)})
    with pytest.raises(UserError, match="do not agree"):
        results_of(one_seed)


def test_summary_is_an_aligned_table_and_the_verdict(one_seed: RunFolder) -> None:
    table, verdicts = summary(results_of(one_seed)).split("\n\n")
    header, cnn, st_cnn, *removed = table.splitlines()
    assert "rotation and translation" in " ".join(removed)
    assert header.startswith("model"), "one dataset needs no column"
    for cell in ("98.00 %", "2.00", "-3.00 [-4.25, -2.11]", "75 / 95"):
        assert cell in st_cnn
    assert len(cnn) == len(st_cnn) == len(header) <= WIDTH
    assert verdicts.startswith("st_cnn classifies 3.00 percentage points more of the images correctly than cnn")
    assert "nothing about other trainings" in " ".join(verdicts.split())


def test_report_writes_what_it_lists_and_reads_well(one_seed: RunFolder) -> None:
    storage.write_record(one_seed.environment, {"device": "cpu", "versions": {"python": "3.11", "torch": "2.6"}})
    report = report_run(one_seed)
    names = [path.relative_to(one_seed.path).as_posix() for path in report.files]
    gallery = [f"{kind}_st_cnn@rts.{ending}" for kind, ending in KINDS.items()]
    curves = ("learning_curves@rts.png", "costs@rts.png", "courses@rts.png", "confusions@rts.png")
    figures = [f"figures/{name}" for name in ("strip@rts.png", *gallery, *curves)]
    assert names == ["report.json", "report.csv", "report.md", "report.html", "trials.csv", *figures]
    assert all(path.read_bytes().startswith((b"\x89PNG", b"GIF8")) for path in report.files[5:])
    text = report.files[2].read_text()
    assert all(f"]({figure})" in text for figure in figures)
    assert (
        text.index("on rts") < text.index("3.00 percentage points more") < text.index("| model | accuracy % [95 %] |")
    )
    assert "1,000 test images of 1,000 distinct digits, 3.1 % of them clipped" in text
    assert "stn-train run --config config.yaml" in text
    assert "Relative paths" not in text
    assert "- versions: python 3.11, torch 2.6" in text


def test_report_says_from_where_relative_paths_count(tmp_path: Path) -> None:
    folder, trials = begin(tmp_path, prebuilt="prebuilt", data_root="/digits")
    finish(folder, trials[0], errors=1)
    text = report_run(folder).files[2].read_text()
    assert "Relative paths (prebuilt: prebuilt) are relative to where it is run." in text


def test_a_model_has_the_same_colour_in_all_curves(one_seed: RunFolder) -> None:
    known = results_of(one_seed).residual_curves
    told = {model: known.get(("rts", model), ()) for model in ("cnn", "st_cnn")}
    panel = residual_curves("what is left", told).axes[0]
    epochs = {model: [[EpochRecord(epoch=1, loss=1, error=1, lr=1)]] for model in told}
    curves = learning_curves("errors", "test", epochs).axes[0]
    colours = [{line.get_label(): line.get_color() for line in axes.get_lines()} for axes in (panel, curves)]
    assert "cnn" not in colours[0]
    assert colours[0]["st_cnn"] == colours[1]["st_cnn"] != colours[1]["cnn"]


def test_report_for_programs_holds_every_number(one_seed: RunFolder) -> None:
    json_file, csv_file, *_ = report_run(one_seed).files
    document = json.loads(json_file.read_text())
    assert (document["format"], document["finished"], document["planned"]) == (6, 2, 2)
    assert [trial["error"] for trial in document["trials"]] == [5.0, 2.0]
    (_, st_cnn), (comparison,) = document["summary"], document["comparisons"]
    assert st_cnn["error"] == 2.0
    assert document["confusions"][1]["counts"][0] == [98, 2, 0, 0, 0, 0, 0, 0, 0, 0]
    cnn_line, st_line = csv.DictReader(csv_file.read_text().splitlines())
    assert (cnn_line["difference"], cnn_line["baseline"]) == ("", "")
    assert float(st_line["difference_low"]) == comparison["difference_low"]
    assert (st_line["seeds"], st_line["error_of_class_9"]) == ("0", str(st_cnn["error_of_class_9"]))


def test_report_tells_what_the_transformer_undoes_and_finds(one_seed: RunFolder) -> None:
    json_file, csv_file, reading = (path.read_text() for path in report_run(one_seed).files[:3])
    assert "| model | rotation | scale | translation |" in reading
    assert "| st_cnn | 50 % (26.0 to 13.0 °) | 0.00 to 0.03 log | 90 % (10.0 to 1.0 px) |" in reading
    assert "| model | rotation | translation |" in reading
    assert "| st_cnn | 75 % (26.0 to 6.5 °) | 95 % (10.0 to 0.5 px) |" in reading, "of one digit"
    assert "| st_cnn | 95 % | 80 % | 75 % |" in reading, "within classes"
    assert "| st_cnn | 40 % up to 25.0 °, 30 % beyond |" in reading
    assert "| st_cnn | 25 % | 5 % | 75 % | 99 % | 100 % |" in reading
    cnn, st_cnn = json.loads(json_file)["summary"]
    assert cnn["removed_rotation"] is None
    assert [st_cnn[f"removed_{name}"] for name in ("rotation", "scale", "translation")] == [50, None, 90]
    line = list(csv.DictReader(csv_file.splitlines()))[1]
    assert (line["removed_rotation"], line["removed_scale"], line["aligned"]) == ("50.0", "", "75.0")
    assert (line["removed_of_a_digit_rotation"], line["removed_of_a_digit_scale"]) == ("75.0", "")
    assert (line["within_classes_images"], line["within_classes_output"]) == ("95.0", "80.0")


def test_what_cannot_be_told_of_any_seed_is_left_out(one_seed: RunFolder) -> None:
    (path,) = one_seed.path.glob("trials/*/*/*/alignment.json")
    record = json.loads(storage.read_verified(path, storage.JSON, ""))
    record |= UNTOLD
    storage.write_record(path, record)
    reading = report_run(one_seed).files[2].read_text()
    assert "| st_cnn | 50 % (26.0 to 13.0 °)" in reading
    assert "Does it remove the distortion?" not in reading, "which is between two distortions of one digit"
    assert "Within-class" not in reading
    assert "small ones" not in reading
    assert not (one_seed.figures / "courses@rts.png").exists()


def test_what_can_be_told_of_some_seeds_alone_is_told_of_those(tmp_path: Path) -> None:
    folder, trials = begin(tmp_path, seeds=[0, 1, 2], models=["st_cnn"])
    for trial in trials:
        finish(folder, trial, errors=2)
    (curve,) = results_of(folder).residual_curves["rts", "st_cnn"]
    assert curve.after == pytest.approx((-37, -11, 5, 10))
    assert curve.varies == (5, 4, 3, 4)
    path = folder.trial(trials[0]).alignment
    record = json.loads(storage.read_verified(path, storage.JSON, ""))
    record |= UNTOLD
    storage.write_record(path, record)
    (row,) = summary_of(folder)
    assert row["after_rotation"] == pytest.approx(13 - 2.6), "of all three"
    assert row["after_of_a_digit_rotation"] == pytest.approx((13 - 2.6 * 1.5) / 2), "of the last two"
    assert row["within_classes_output"] == pytest.approx(100 * (0.8 - 0.05 * 1.5))
    assert not results_of(folder).residual_curves, "of all that were trained, or of none"
    small, large = row["removed_of_small_rotation"], row["removed_of_large_rotation"]
    assert (small, large) == pytest.approx((50, 100 * 24 / 70))
    assert row["removed_of_small_rotation_low"] < small


def test_an_older_record_of_maps_that_bend_keeps_its_translation_and_has_a_dash_for_what_it_lacks(
    tmp_path: Path,
) -> None:
    folder, (old, new) = begin(tmp_path, models=["st_cnn", "st_cnn_tps"])
    for trial in (old, new):
        finish(folder, trial, errors=2)
    path = folder.trial(old).alignment
    record = json.loads(storage.read_verified(path, storage.JSON, ""))
    *_, translation = record["pose_of_a_digit"]
    record["pose_of_a_digit"] = [translation, translation | {"component": "non_affine"}]
    storage.write_record(path, record)
    told = summary(report_run(folder))
    assert "– / 95" in told.replace("-", "–"), "of rotation and translation"
    assert "non-affine" not in told
    assert "non-affine residual" in (tmp_path / "report.md").read_text()


def test_where_a_seeds_images_are_all_one_the_share_is_that_of_the_others(tmp_path: Path) -> None:
    folder, trials = begin(tmp_path, seeds=[0, 1], models=["st_cnn"])
    for trial in trials:
        finish(folder, trial, errors=2)
    path = folder.trial(trials[0]).alignment
    record = json.loads(storage.read_verified(path, storage.JSON, ""))
    record |= dict.fromkeys(WITHIN_CLASSES)
    storage.write_record(path, record)
    assert summary_of(folder)[0]["within_classes_output"] == 75


def test_what_is_undone_has_an_interval_over_the_seeds(tmp_path: Path) -> None:
    folder, trials = begin(tmp_path, seeds=[0, 1, 2], models=["st_cnn"])
    for trial in trials:
        finish(folder, trial, errors=2)
    (row,) = summary_of(folder)
    removed = row["removed_rotation"]
    assert (row["before_rotation"], row["after_rotation"], removed) == pytest.approx((26, 10.4, 60))
    assert row["removed_rotation_high"] - removed == pytest.approx(4.302653 * 10 / 3**0.5)
    assert "60 % [35, 85] (26.0 to 10.4 °)" in report_run(folder).files[2].read_text()


def test_controls_tell_where_the_gain_comes_from(tmp_path: Path) -> None:
    folder, trials = begin(tmp_path, controls=True)
    assert [trial.model.name for trial in trials] == [
        "cnn",
        "st_cnn",
        *(f"st_cnn-{pose}" for pose in ("identity", "supervised", "oracle")),
    ]
    for trial, errors in zip(trials, (9, 4, 7, 2, 3), strict=True):
        finish(folder, trial, errors)
    parts = [compared(folder, part) for part in ("size", "transforming", "supervised", "oracle")]
    assert [[*part] for part in parts] == [["st_cnn"]] * 4
    assert [part["st_cnn"]["difference"] for part in parts] == pytest.approx([-2, -3, -2, -1])
    assert [row["baseline"] for row in summary_of(folder)[2:]] == ["cnn"] * 3
    text = report_run(folder).files[2].read_text()
    assert "## Where does the gain come from?" in text
    assert "rts: st_cnn against cnn, in points of error: -2.00 [-3.07, -1.30] with the size of its output alone" in text
    assert ", -3.00 [" in text
    assert re.search(
        r"; -2\.00 \[[^]]*\] beyond that when supervised with the true pose; -1\.00 \[.*\] beyond that with the",
        text,
    )
    bold = [line for line in text.splitlines() if line.startswith("- **")]
    assert ["classifies 5.00 percentage points more" in line for line in bold] == [True], "no verdicts on controls"


def test_of_several_datasets_the_terminal_says_where_each_gain_comes_from(tmp_path: Path) -> None:
    folder, trials = begin(tmp_path, controls=True, datasets=["r", "rts"])
    for trial, errors in zip(trials, 2 * (9, 4, 7, 2, 3), strict=True):
        finish(folder, trial, errors)
    last = " ".join(summary(results_of(folder)).split("\n\n")[-1].split())
    for dataset in ("r", "rts"):
        assert f"{dataset}: st_cnn against cnn, in points of error: -2.00 [-3.07, -1.30] with the size" in last


def test_of_a_few_datasets_the_verdicts_come_first_in_words_of_many_in_a_table(tmp_path: Path) -> None:
    few, many = (begin(path, datasets=datasets) for path, datasets in _folders(tmp_path))
    for (folder, trials), said in ((few, 2), (many, 0)):
        for trial in trials:
            finish(folder, trial, errors=3 if trial.model.transformer else 5)
        first = report_run(folder).files[2].read_text().split("| model |")[0]
        assert first.count("classifies 2.00 percentage points more of the images") == said


def _folders(path: Path) -> list[tuple[Path, list[str]]]:
    folders = [(path / "few", ["r", "rts"]), (path / "many", ["r", "rts", "p", "e", "shear", "scale"])]
    for folder, _ in folders:
        folder.mkdir()
    return folders


def test_without_a_true_pose_there_is_a_gain_and_no_ceiling(tmp_path: Path) -> None:
    folder, trials = begin(tmp_path, controls=True, datasets=["e"])
    for trial, errors in zip(trials, (9, 4, 7), strict=True):
        finish(folder, trial, errors)
    assert [[*compared(folder, part)] for part in ("size", "supervised", "oracle")] == [["st_cnn"], [], []]
    text = report_run(folder).files[2].read_text()
    assert "Controls stand beside each model" in text
    assert "the true pose" not in text


def test_transformers_whose_pose_cannot_be_told_are_named(tmp_path: Path) -> None:
    deep = {"name": "deep", "base": "st_cnn", "transformer": {"before": [2]}}
    folder, trials = begin(tmp_path, models=["st_cnn", deep])
    for trial in trials:
        finish(folder, trial, errors=3)
    assert "No pose metrics for deep on rts:" in report_run(folder).files[2].read_text()


def test_the_papers_figure_stands_beside_ours(tmp_path: Path) -> None:
    folder, trials = begin(tmp_path, datasets=["tc"], models=["cnn", "cnn_paper", "st_cnn_paper"])
    for trial in trials:
        finish(folder, trial, errors=3)
    report = report_run(folder)
    header, *lines = summary(report).split("\n\n")[0].splitlines()
    assert header.split()[-1] == "paper"
    assert [line.split()[-1] for line in lines[:3]] == ["-", "3.5", "1.7"]
    assert len(header) <= WIDTH
    json_file, csv_file, reading = (path.read_text() for path in report.files[:3])
    assert [row["paper_error"] for row in json.loads(json_file)["summary"]] == [None, 3.5, 1.7]
    assert [line["paper_error"] for line in csv.DictReader(csv_file.splitlines())] == ["", "3.5", "1.7"]
    assert "| 3.00 [2.11, 4.25] | 1.7 |" in reading
    assert "does not say which family" in reading


def test_without_the_papers_figures_nothing_speaks_of_them(one_seed: RunFolder) -> None:
    report = report_run(one_seed)
    assert "paper" not in summary(report) + report.files[2].read_text()


MIXTURES = {
    "fewer classes first": {"datasets": ["r", "addition"]},
    "more classes first": {"datasets": ["addition", "e", "tc"], "models": ["fcn", "cnn_paper", "st_cnn_paper"]},
    "controls": {"datasets": ["r", "addition", "e"], "controls": True},
    "turned and deep": {
        "datasets": ["addition", "rts"],
        "models": [
            *("cnn", {"name": "sure", "base": "st_cnn", "tta_angles": [-15, 15]}),
            {"name": "deep", "base": "st_cnn", "transformer": {"before": [2]}},
        ],
    },
}


@pytest.mark.parametrize("finished", [1, -1], ids=["one trial", "all but one trial"])
@pytest.mark.parametrize("keys", MIXTURES.values(), ids=MIXTURES)
def test_any_mixture_of_datasets_is_reported(tmp_path: Path, keys: dict[str, Any], finished: int) -> None:
    folder, trials = begin(tmp_path, seeds=[0, 1], **keys)
    for number, trial in enumerate(trials[:finished]):
        finish(folder, trial, errors=number % 7)
    for path in [*tmp_path.glob("trials/*/*/seed-1/alignment.json"), *tmp_path.glob("trials/*/*/seed-1/metrics.jsonl")]:
        path.unlink()
    storage.write_record(
        folder.environment, {"device": "cpu", "threads": 2, "commit": None, "versions": {"python": "3"}}
    )
    report = report_run(folder)
    json_file, csv_file, reading, page = (path.read_text() for path in report.files[:4])
    cells = {(trial.dataset.name, trial.model.name): trial.classes for trial in trials[:finished]}
    rows = json.loads(json_file, parse_constant=pytest.fail)["summary"]
    assert {(row["dataset"], row["model"]) for row in rows} == cells.keys()
    assert len({len(line) for line in csv.reader(csv_file.splitlines())}) == 1
    lines = {(line["dataset"], line["model"]): line for line in csv.DictReader(csv_file.splitlines())}
    assert {cell: sum("of_class" in key for key in line if line[key]) for cell, line in lines.items()} == cells
    for table in re.findall(r"(?:^\|.*\n)+", reading, re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1
    text = summary(report)
    assert max(map(len, text.splitlines())) <= WIDTH
    words = [text, reading.split("## To run it again")[0], re.sub(r"base64,\S+|<[^>]*>", "", page)]
    assert not [found for said in words for found in re.findall(r"\b(?:None|nan|inf)\b", said)]
    assert not [found for said in words for found in re.findall(r"[:,·]\s*[,·]", said)]  # no part is empty
    several = len({dataset for dataset, _ in cells}) > 1
    assert all((f"| {dataset} | {model} |" if several else f"| {model} |") in reading for dataset, model in cells)


def test_what_is_not_known_of_the_machine_is_left_out(one_seed: RunFolder) -> None:
    storage.write_record(one_seed.environment, {"device": "cpu", "commit": None})
    reading = report_run(one_seed).files[2].read_text()
    assert "- device: cpu" in reading
    assert "commit" not in reading


@pytest.mark.parametrize("datasets", [["rts"], ["r", "rts"]])
def test_the_error_of_each_seed_is_shown_so_that_one_that_collapsed_is_seen(
    tmp_path: Path, datasets: list[str]
) -> None:
    folder, trials = begin(tmp_path, datasets=datasets, seeds=[0, 1, 2])
    for trial in trials:
        finish(folder, trial, errors=89 if (trial.model.name, trial.seed) == ("st_cnn", 2) else 3 + trial.seed)
    report = report_run(folder)
    text, reading, page = summary(report), *(path.read_text() for path in report.files[2:4])
    names = [f"{dataset} " if len(datasets) > 1 else "" for dataset in datasets]
    for model, errors in (("cnn", "3.00, 4.00, 5.00"), ("st_cnn", "3.00, 4.00, 89.00")):
        assert f"{model}, error seed by seed: {'; '.join(name + errors for name in names)}" in text.splitlines()
        assert reading.count(f" | {errors} | ") == page.count(f">{errors}</td>") == len(datasets)


def test_of_one_seed_nothing_is_said_seed_by_seed(one_seed: RunFolder) -> None:
    report = report_run(one_seed)
    assert "seed by seed" not in summary(report)
    assert "of each seed" not in report.files[2].read_text()


def test_a_report_on_several_datasets_has_the_papers_layout_and_every_detail(tmp_path: Path) -> None:
    folder, trials = begin(tmp_path, datasets=["r", "rts"], models=["cnn_paper", "st_cnn_paper"])
    for trial, errors in zip(trials[:-1], (5, 2, 6), strict=True):
        finish(folder, trial, errors)
    text = report_run(folder).files[2].read_text()
    assert "| model | r | rts |" in text
    assert "| cnn_paper | 5.00 (1.2) | 6.00 (0.8) |\n| st_cnn_paper | 2.00 (0.7) | – |" in text
    assert "| r | st_cnn_paper | better | -3.00 [-4.25, -2.11] | < 0.001 |" in text
    assert "| rts | cnn_paper | 94.00 [92.35, 95.31] | 6.00 [4.69, 7.65] | 0.8 | – |" in text
    assert "Only 3 of 4 trials" in text


def test_report_is_the_same_twice(one_seed: RunFolder) -> None:
    first, second = ([path.read_bytes() for path in report_run(one_seed).files] for _ in range(2))
    assert first == second


def test_report_says_that_validation_errors_are_to_tune_by(tmp_path: Path) -> None:
    folder, trials = begin(tmp_path, validation=True)
    finish(folder, trials[0], errors=5)
    text = report_run(folder).files[2].read_text()
    assert "held out of the training set" in text
    assert "1,000 validation images" in text


@pytest.mark.parametrize(
    ("cnn", "st_cnn", "told"),
    [
        (None, None, None),
        (1, 1, None),
        (12, 12, "Each model was tuned: it has the best of 12 settings"),
        (None, 12, "Models were not tuned alike; settings tried on validation digits: cnn none, st_cnn 12."),
    ],
)
def test_report_tells_with_how_many_trials_models_were_tuned(tmp_path, cnn, st_cnn, told) -> None:
    tuned = {"cnn": cnn, "st_cnn": st_cnn}
    models = [{"name": name, "base": name, "tuned": count and {"trials": count}} for name, count in tuned.items()]
    folder, trials = begin(tmp_path, models=models)
    for trial in trials:
        finish(folder, trial, errors=5)
    text = report_run(folder).files[2].read_text()
    assert "tuned" not in text.split("```")[0] if told is None else told in text


def test_who_is_asked_about_turned_images_is_named_and_no_network_of_the_papers(tmp_path: Path) -> None:
    models = [
        {"name": name, "base": like, "tta_angles": [15, -15]}
        for name, like in (("sure", "cnn_paper"), ("st", "st_cnn"))
    ]
    folder, trials = begin(tmp_path, models=["cnn_paper", *models])
    for trial in trials:
        finish(folder, trial, errors=5)
    report = report_run(folder)
    reading = report.files[2].read_text()
    assert "rotated clockwise by -15 and 15 degrees" in reading
    assert "(test-time augmentation), by sure and st;" in reading
    assert "of the same classifier and test-time augmentation without a transformer: st." in reading
    assert [row["paper_error"] for row in summary_of(folder)] == [0.8, None, None]
    json_file, csv_file, _ = (path.read_text() for path in report.files[:3])
    assert [row["tta_angles"] for row in json.loads(json_file)["summary"]] == [[], [-15, 15], [-15, 15]]
    assert [line["tta_angles"] for line in csv.DictReader(csv_file.splitlines())] == ["", "-15.0 15.0", "-15.0 15.0"]
    assert "| TTA angles |" in reading


def test_nothing_finished_is_nothing_to_report(tmp_path: Path) -> None:
    folder, trials = begin(tmp_path)
    train(folder, trials[0], epochs=2)
    with pytest.raises(UserError, match="none of its trials has finished"):
        report_run(folder)
    assert not (tmp_path / "report.json").exists()


def test_damaged_environment_is_told(one_seed: RunFolder) -> None:
    one_seed.environment.write_text("{")
    with pytest.raises(UserError, match=r"environment\.json is damaged"):
        report_run(one_seed)


def test_status_tells_done_running_interrupted_and_pending_apart(tmp_path: Path) -> None:
    folder, trials = begin(tmp_path, seeds=[0, 1])
    finish(folder, trials[0], errors=5)
    train(folder, trials[1], epochs=3)
    states = [(one.state, one.epoch, one.error) for one in status(folder)]
    assert states == [("done", EPOCHS, 5.0), ("interrupted", 3, None), ("pending", 0, None), ("pending", 0, None)]
    lines = status_text(status(folder)).splitlines()
    assert lines[0].split() == ["rts/cnn/seed-0", "done", "accuracy", "95.00", "%,", "error", "5.00", "%"]
    assert lines[1].split() == ["rts/st_cnn/seed-0", "interrupted", "epoch", "3", "of", "4"]
    assert lines[-1] == "1 done, 1 interrupted, 2 pending"
    with folder_lock(folder.trial(trials[1]).path), folder_lock(folder.trial(trials[2]).path):
        lines = status_text(status(folder)).splitlines()
        told = json.loads(status_json(status(folder)))["trials"]
    here = f"process {os.getpid()} on {platform.node()}, since 20"
    assert lines[1].split(maxsplit=2)[:2] == ["rts/st_cnn/seed-0", "running"]
    assert f"epoch 3 of 4, {here}" in lines[1]
    assert f"epoch 0 of 4, {here}" in lines[2]
    assert lines[-1] == "1 done, 2 running, 1 pending"
    assert [(one["state"], one["worker"] and one["worker"]["process"]) for one in told] == [
        ("done", None),
        ("running", os.getpid()),
        ("running", os.getpid()),
        ("pending", None),
    ]


def test_a_transformer_between_layers_has_no_picture(tmp_path: Path) -> None:
    deep = {"name": "deep", "base": "st_cnn", "transformer": {"before": [2]}}
    folder, trials = begin(tmp_path, models=["cnn", deep])
    for trial in trials:
        finish(folder, trial, errors=3)
    report = report_run(folder)
    assert [path.name for path in report.files if path.suffix == ".png"] == [
        "learning_curves@rts.png",
        "costs@rts.png",
        "confusions@rts.png",
    ]


def test_a_classifier_without_a_width_is_reported_without_one(tmp_path: Path) -> None:
    folder, trials = begin(tmp_path, models=[{"name": "mine", "classifier": "nets:mine"}])
    finish(folder, trials[0], errors=3)
    files = folder.trial(trials[0])
    result = files.load(TrialResult, files.result).model_copy(update={"width": None})
    storage.write_record(files.result, result.model_dump(mode="json"))
    line = next(line for line in report_run(folder).files[2].read_text().splitlines() if line.startswith("| mine "))
    assert "| – |" in line


def test_learning_curves_have_a_line_and_a_band_over_the_seeds_for_each_model() -> None:
    """An error of zero, which a log axis does not have, is still drawn."""

    def seed(*found: float) -> list[EpochRecord]:
        return [EpochRecord(epoch=epoch, loss=error + 0.5, error=error, lr=0.1) for epoch, error in enumerate(found)]

    seeds = [seed(2.0, 0.0), seed(5.0, 4.0, 3.0)]
    errors, losses = learning_curves("made up", "test", {"cnn": seeds[:1], "st_cnn": seeds}).axes
    assert [line.get_ydata().tolist() for line in errors.lines] == [[2.0, 0.01], [3.5, 2.005]]
    assert [line.get_ydata().tolist() for line in losses.lines] == [[2.5, 0.5], [4.0, 2.5]]
    _, band = errors.collections
    assert set(band.get_paths()[0].vertices[:, 1].tolist()) == {2.0, 0.01, 5.0, 4.0}
    assert len({line.get_color() for line in errors.lines}) == 2
    assert [text.get_text() for text in errors.get_legend().get_texts()] == ["cnn", "st_cnn"]
    assert all(np.all(np.asarray(line.get_ydata()) > 0) for line in errors.lines)


def test_confusions_share_one_scale_and_leave_out_what_is_right() -> None:
    clean, messy = np.diag([8, 10]), np.array([[6, 2], [5, 5]])
    first, second, _ = confusions("made up", {"cnn": clean, "st_cnn": messy}, tuple("0123456789")).axes
    assert [axes.get_title() for axes in (first, second)] == ["cnn", "st_cnn"]
    assert first.images[0].get_clim() == second.images[0].get_clim() == (0, 50)
    shown = second.images[0].get_array()
    assert shown.mask.tolist() == [[True, False], [False, True]]
    assert (shown[0, 1], shown[1, 0]) == (25, 50)
