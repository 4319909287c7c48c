"""The report of made-up runs: what it says, what it leaves out, and that it says the same twice."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from matplotlib.colors import to_rgba

from stn_train.errors import UserError
from stn_train.reporting.figures import learning_curves, transformer_samples
from stn_train.reporting.records import EpochRecord, RunFolder, Timing, TrialResult
from stn_train.reporting.report import write_report
from stn_train.reporting.status import status, status_text
from stn_train.reporting.tables import rows_of
from stn_train.reporting.text import summary
from stn_train.specs import ExperimentSpec, TrialSpec, trials_of
from stn_train.storage import alone_in

IMAGES = 1000
CLASSES = 10
EPOCHS = 4
LABEL = np.arange(IMAGES) % CLASSES
SQUARE = np.float32([(-0.5, -0.5), (41.5, -0.5), (41.5, 41.5), (-0.5, 41.5)])


def begin(path: Path, **keys: Any) -> tuple[RunFolder, list[TrialSpec]]:
    """A run's folder with nothing but its configuration, and its trials."""
    spec = ExperimentSpec.model_validate(
        {"name": "made_up", "datasets": ["rts"], "models": ["cnn", "st_cnn"], "training": {"epochs": EPOCHS}, **keys}
    )
    (path / "config.yaml").write_text(yaml.safe_dump(spec.model_dump(mode="json")))
    return RunFolder(path), trials_of(spec)


def finish(folder: RunFolder, trial: TrialSpec, errors: int, digit: np.ndarray | None = None) -> None:
    """A finished trial's files; `errors` images of each class are taken for the next class."""
    files = folder.trial(trial)
    train(folder, trial, EPOCHS)
    wrong = np.arange(IMAGES) // CLASSES < errors
    predicted = np.where(wrong, (LABEL + 1) % CLASSES, LABEL)
    confusion = np.zeros((CLASSES, CLASSES), dtype=int)
    np.add.at(confusion, (LABEL, predicted), 1)
    digit = np.arange(IMAGES) if digit is None else digit
    result = TrialResult(
        trial=trial,
        parameters=398_123,
        width=1.25,
        multiply_adds=31_200_000,
        precision="float32",
        split="validation" if trial.validation else "test",
        training_digits=60_000,
        digits=len(np.unique(digit)),
        images=IMAGES,
        clipped=31,
        errors=errors * CLASSES,
        confusion=tuple(map(tuple, confusion.tolist())),
    )
    timing = Timing(
        device="cpu",
        threads=2,
        seconds=100.0 + trial.seed,
        training_images_per_second=9000.0,
        evaluation_images_per_second=20_000.0,
    )
    files.result.write_text(result.model_dump_json())
    files.timing.write_text(timing.model_dump_json())
    np.savez(files.predictions, predicted=predicted, label=LABEL, digit=digit)
    if trial.model.transformer:
        np.savez(
            files.samples,
            image=np.zeros((3, 1, 42, 42), np.uint8),
            output=np.zeros((3, 1, 28, 28), np.uint8),
            outline=np.tile(SQUARE, (3, 1, 1)),
            label=np.array([1, 2, 3]),
            predicted=np.array([1, 2, 5]),
        )


def train(folder: RunFolder, trial: TrialSpec, epochs: int) -> None:
    """The learning curve of a trial that has come so far."""
    files = folder.trial(trial)
    files.path.mkdir(parents=True)
    records = [EpochRecord(epoch=epoch, loss=1 / (epoch + 1), error=5.0, rate=0.1) for epoch in range(epochs)]
    files.metrics.write_text("".join(record.model_dump_json() + "\n" for record in records))


@pytest.fixture
def one_seed(tmp_path: Path) -> RunFolder:
    """cnn errs on 5 %, st_cnn on 2 %."""
    folder, (cnn, st_cnn) = begin(tmp_path)
    finish(folder, cnn, errors=5)
    finish(folder, st_cnn, errors=2)
    return folder


def test_rows_hold_what_each_model_reached(one_seed: RunFolder) -> None:
    cnn, st_cnn = rows_of(one_seed)
    assert (cnn.model, cnn.error.value, cnn.baseline, cnn.difference) == ("cnn", 5.0, None, None)
    assert st_cnn.difference is not None
    assert (st_cnn.model, st_cnn.error.value, st_cnn.baseline) == ("st_cnn", 2.0, "cnn")
    assert (st_cnn.seeds, st_cnn.paired_seeds, st_cnn.difference.value) == ((0,), (0,), -3.0)
    assert st_cnn.mcnemar == 2 / 2**30, "30 images that only cnn gets wrong"
    assert st_cnn.class_errors == pytest.approx([2.0] * CLASSES)
    assert (st_cnn.parameters, st_cnn.training_seconds, st_cnn.clipped) == (398_123, 100.0, 31)


def test_differences_are_over_the_seeds_that_both_have_finished(tmp_path: Path) -> None:
    folder, trials = begin(tmp_path, seeds=[0, 1, 2])
    for trial, errors in zip(trials[:-1], [5, 2, 6, 2, 10], strict=True):
        finish(folder, trial, errors)
    cnn, st_cnn = rows_of(folder)
    assert (cnn.seeds, cnn.seed_errors, cnn.error.value) == ((0, 1, 2), (5, 6, 10), 7)
    assert (st_cnn.seeds, st_cnn.paired_seeds, st_cnn.mcnemar) == ((0, 1), (0, 1), None)
    assert st_cnn.difference is not None
    assert st_cnn.difference.value == pytest.approx(-3.5)
    assert np.sum(cnn.confusion) == 3 * IMAGES, "confusion is summed over the seeds"
    assert cnn.training_seconds == 101
    assert "Only 5 of 6 trials" in write_report(folder).files[2].read_text()


def test_a_model_without_its_baseline_is_reported_alone(tmp_path: Path) -> None:
    folder, trials = begin(tmp_path)
    finish(folder, trials[1], errors=2)
    (row,) = rows_of(folder)
    assert (row.baseline, row.difference) == ("cnn", None)
    assert "nothing to compare" in summary(folder.load_experiment(), [row])


def test_mcnemar_is_left_out_where_digits_stand_in_several_images(tmp_path: Path) -> None:
    folder, trials = begin(tmp_path)
    for trial, errors in zip(trials, (5, 2), strict=True):
        finish(folder, trial, errors, digit=np.arange(IMAGES) % 200)
    assert rows_of(folder)[1].mcnemar is None


def test_trials_that_answered_for_different_images_are_refused(tmp_path: Path) -> None:
    folder, trials = begin(tmp_path)
    finish(folder, trials[0], errors=5)
    finish(folder, trials[1], errors=2, digit=np.arange(IMAGES) + 1)
    with pytest.raises(UserError, match=r"rts/cnn/seed-0 and rts/st_cnn/seed-0 answered for different images"):
        rows_of(folder)


def test_predictions_that_contradict_the_result_are_refused(one_seed: RunFolder) -> None:
    np.savez(
        one_seed.path / "trials/rts/cnn/seed-0/predictions.npz", predicted=LABEL, label=LABEL, digit=np.arange(IMAGES)
    )
    with pytest.raises(UserError, match="do not agree"):
        rows_of(one_seed)


def test_summary_is_an_aligned_table_and_the_verdict(one_seed: RunFolder) -> None:
    table, verdicts = summary(one_seed.load_experiment(), rows_of(one_seed)).split("\n\n")
    header, cnn, st_cnn = table.splitlines()
    assert header.startswith("model"), "one dataset needs no column"
    for cell in ("398,123", "31.2 M", "2.00 [1.30, 3.07]", "-3.00 [-4.06, -1.94]", "9,000"):
        assert cell in st_cnn
    assert len(cnn) == len(st_cnn) == len(header) <= 120
    assert verdicts.startswith("st_cnn errs on 3.00 points fewer images than cnn")
    assert "these two networks" in " ".join(verdicts.split())


def test_report_writes_what_it_lists_and_reads_well(one_seed: RunFolder) -> None:
    one_seed.environment.write_text(json.dumps({"device": "cpu", "versions": {"python": "3.11", "torch": "2.6"}}))
    report = write_report(one_seed)
    names = [path.relative_to(one_seed.path).as_posix() for path in report.files]
    figures = ["figures/learning_curves@rts.png", "figures/transformer_st_cnn@rts.png"]
    assert names == ["report.json", "report.csv", "report.md", *figures]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in report.files[3:])
    text = report.files[2].read_text()
    assert all(f"]({figure})" in text for figure in figures)
    assert text.index("on rts") < text.index("3.00 points fewer") < text.index("| dataset | model |")
    assert "1,000 test images of 1,000 distinct digits, 3.1 % of them clipped" in text
    assert "stn-train run --config config.yaml" in text
    assert "- versions: python 3.11, torch 2.6" in text


def test_report_for_programs_holds_every_number(one_seed: RunFolder) -> None:
    json_file, csv_file, *_ = write_report(one_seed).files
    document = json.loads(json_file.read_text())
    assert (document["format"], document["finished"], document["trials"]) == (1, 2, 2)
    _, st_cnn = document["rows"]
    assert st_cnn["error"]["value"] == 2.0
    assert st_cnn["confusion"][0] == [98, 2, 0, 0, 0, 0, 0, 0, 0, 0]
    cnn_line, st_line = csv.DictReader(csv_file.read_text().splitlines())
    assert (cnn_line["difference"], cnn_line["baseline"]) == ("", "")
    assert float(st_line["difference_low"]) == st_cnn["difference"]["low"]
    assert (st_line["seeds"], st_line["error_of_class_9"]) == ("0", str(st_cnn["class_errors"][9]))


def test_the_papers_figure_stands_beside_ours(tmp_path: Path) -> None:
    folder, trials = begin(tmp_path, datasets=["tc"], models=["cnn", "cnn_paper", "st_cnn_paper"])
    for trial in trials:
        finish(folder, trial, errors=3)
    report = write_report(folder)
    header, *lines = summary(report.experiment, report.rows).split("\n\n")[0].splitlines()
    beside = header.index("paper %")
    assert [line[beside:].split()[0] for line in lines] == ["-", "3.5", "1.7"]
    assert len(header) <= 110
    json_file, csv_file, reading = (path.read_text() for path in report.files[:3])
    assert [row["paper_error"] for row in json.loads(json_file)["rows"]] == [None, 3.5, 1.7]
    assert [line["paper_error"] for line in csv.DictReader(csv_file.splitlines())] == ["", "3.5", "1.7"]
    assert "| 3.00 [2.11, 4.25] | 1.7 |" in reading
    assert "does not say which family" in reading


def test_without_the_papers_figures_nothing_speaks_of_them(one_seed: RunFolder) -> None:
    report = write_report(one_seed)
    assert "paper" not in summary(report.experiment, report.rows) + report.files[2].read_text()


def test_a_report_on_several_datasets_has_the_papers_layout_and_every_detail(tmp_path: Path) -> None:
    folder, trials = begin(tmp_path, datasets=["r", "rts"], models=["cnn_paper", "st_cnn_paper"])
    for trial, errors in zip(trials[:-1], (5, 2, 6), strict=True):
        finish(folder, trial, errors)
    text = write_report(folder).files[2].read_text()
    assert "| model | seeds | r (paper) | rts (paper) |" in text
    assert "| cnn_paper | 1 | 5.00 (1.2) | 6.00 (0.8) |\n| st_cnn_paper | 1 | 2.00 (0.7) | - |" in text
    assert "| r | st_cnn_paper | cnn_paper | errs less | 1 | -3.00 [-4.06, -1.94] | < 0.001 |" in text
    assert "| rts | cnn_paper | 1 | 398,123 | 31.2 M |" in text
    assert "Only 3 of 4 trials" in text


def test_report_is_the_same_twice(one_seed: RunFolder) -> None:
    first, second = ([path.read_bytes() for path in write_report(one_seed).files] for _ in range(2))
    assert first == second


def test_report_says_that_validation_errors_are_to_tune_by(tmp_path: Path) -> None:
    folder, trials = begin(tmp_path, validation=True)
    finish(folder, trials[0], errors=5)
    text = write_report(folder).files[2].read_text()
    assert "held out of the training set" in text
    assert "1,000 validation images" in text


def test_nothing_finished_is_nothing_to_report(tmp_path: Path) -> None:
    folder, trials = begin(tmp_path)
    train(folder, trials[0], epochs=2)
    with pytest.raises(UserError, match="none of its trials has finished"):
        write_report(folder)
    assert not (tmp_path / "report.json").exists()


def test_damaged_environment_is_told(one_seed: RunFolder) -> None:
    one_seed.environment.write_text("{")
    with pytest.raises(UserError, match=r"environment\.json is damaged"):
        write_report(one_seed)


def test_status_tells_done_running_interrupted_and_pending_apart(tmp_path: Path) -> None:
    folder, trials = begin(tmp_path, seeds=[0, 1])
    finish(folder, trials[0], errors=5)
    train(folder, trials[1], epochs=3)
    states = [(one.state, one.epoch, one.error) for one in status(folder)]
    assert states == [("done", EPOCHS, 5.0), ("interrupted", 3, None), ("pending", 0, None), ("pending", 0, None)]
    lines = status_text(status(folder)).splitlines()
    assert lines[0].split() == ["rts/cnn/seed-0", "done", "error", "5.00", "%"]
    assert lines[1].split() == ["rts/st_cnn/seed-0", "interrupted", "epoch", "3", "of", "4"]
    assert lines[-1] == "1 done, 1 interrupted, 2 pending"
    with alone_in(folder.trial(trials[1]).path), alone_in(folder.trial(trials[2]).path):
        lines = status_text(status(folder)).splitlines()
    assert lines[1].split() == ["rts/st_cnn/seed-0", "running", "epoch", "3", "of", "4"]
    assert lines[2].split() == ["rts/cnn/seed-1", "running", "epoch", "0", "of", "4"]
    assert lines[-1] == "1 done, 2 running, 1 pending"


def test_wrong_predictions_stand_in_red(one_seed: RunFolder) -> None:
    samples = np.load(one_seed.path / "trials/rts/st_cnn/seed-0/samples.npz")
    captions = [axes.xaxis.label for axes in transformer_samples("made up", samples).axes]
    assert [caption.get_text() for caption in captions[-2:]] == ["true 3", "predicted 5"]
    assert [caption.get_color() for caption in captions[1::2]] == ["black", "black", "red"]


def test_each_transformer_has_a_picture_and_an_outline_in_its_own_colour() -> None:
    """Two digits, a channel each, seen by two transformers side by side, behind which stands a third."""
    image = np.zeros((5, 2, 42, 42), np.uint8)
    image[:, 0, 10:20], image[:, 1, 15:30] = 255, 255
    samples = {
        "image": image,
        **{name: np.zeros((5, 2, 28, 28), np.uint8) for name in ("output", "output_1")},
        "output_2": np.zeros((5, 4, 28, 28), np.uint8),
        **{name: np.tile(SQUARE / half, (5, 1, 1)) for name, half in (("outline", 1), ("outline_1", 2))},
        "label": np.arange(5),
        "predicted": np.arange(5),
    }
    axes = transformer_samples("made up", samples).axes
    assert len(axes) == 5 * 4
    seen, *made = axes[:4]
    first, _, second, _ = seen.lines
    assert len(first.get_xydata()) == 4 + 1, "closed"
    assert np.array_equal(second.get_xydata()[:4], SQUARE / 2)
    colours = [line.get_color() for line in (first, second)]
    frames = [one.spines["left"].get_edgecolor() for one in made]
    assert len(set(colours)) == 2
    assert frames[:2] == [to_rgba(colour) for colour in colours]
    assert len(set(frames)) == 3
    shown = seen.images[0].get_array()
    only_first, both, only_second, neither = (tuple(shown[row, 0]) for row in (12, 17, 25, 40))
    assert neither == (0, 0, 0)
    assert len({only_first, both, only_second, neither}) == 4


def test_a_transformer_between_layers_has_no_picture(tmp_path: Path) -> None:
    deep = {"name": "deep", "like": "st_cnn", "transformer": {"at": [2]}}
    folder, trials = begin(tmp_path, models=["cnn", deep])
    for trial in trials:
        finish(folder, trial, errors=3)
    folder.trial(trials[1]).samples.unlink()
    report = write_report(folder)
    assert [path.name for path in report.files if path.suffix == ".png"] == ["learning_curves@rts.png"]


def test_a_classifier_without_a_width_is_reported_without_one(tmp_path: Path) -> None:
    folder, trials = begin(tmp_path, models=[{"name": "mine", "classifier": "nets:mine"}])
    finish(folder, trials[0], errors=3)
    result = folder.trial(trials[0]).result
    result.write_text(json.dumps({**json.loads(result.read_text()), "width": None}))
    line = next(line for line in write_report(folder).files[2].read_text().splitlines() if line.startswith("| rts | m"))
    assert "| - |" in line


def test_learning_curves_have_a_line_a_seed_and_a_legend_entry_a_model() -> None:
    """An error of zero, which a log axis does not have, is still drawn."""
    epochs = [EpochRecord(epoch=epoch, loss=0.1, error=error, rate=0.1) for epoch, error in enumerate((2.0, 0.0))]
    errors, losses = learning_curves("made up", "test", {"cnn": [epochs] * 2, "st_cnn": [epochs] * 3}).axes
    assert len(errors.lines) == len(losses.lines) == 5
    assert len({line.get_color() for line in errors.lines}) == 2
    assert [text.get_text() for text in errors.get_legend().get_texts()] == ["cnn", "st_cnn"]
    assert all(np.all(np.asarray(line.get_ydata()) > 0) for line in errors.lines)
