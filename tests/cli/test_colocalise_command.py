"""`stn-train colocalise` as its user sees it: files, words, and what it refuses."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest

SMALL = """\
task: colocalisation
source: digits
datasets:
- {name: t, base: translation, canvas: 56}
- {name: tc, base: tc, canvas: 56, clutter: {patches: 2}}
classes: [1, 3]
encoder: {dataset: {name: moved, translation: 1}, parameters: 10_000, epochs: 1}
localiser: {localisation: keypoints, margin: 1.0, steps: 3, batch_size: 8, lr: 0.003}
"""
RUN = ("colocalise", "--config", "where.yaml", "--threads", "1")
FOLDER = Path("runs/where")


@pytest.fixture
def colocalise(stn):
    Path("where.yaml").write_text(SMALL)
    return lambda *arguments: stn(*RUN, *arguments)


def table(out: str) -> list[list[str]]:
    return [line.split() for line in out.splitlines()[1:4]]


def test_the_folder_holds_every_file_that_is_promised_and_the_table_every_cell(colocalise, contents):
    ended = colocalise()
    assert ended.code == 0, ended.err
    cells = [f"cells/{dataset}/{label}" for dataset in ("t", "tc") for label in (1, 3)]
    encoder = ("checkpoint.pt", "environment.json", "metrics.jsonl", "predictions.npz", "result.json", "timing.json")
    assert set(contents(FOLDER)) == {
        *("config.yaml", "environment.json", "report.html", "report.md", "report.json"),
        *("figures/boxes@t.png", "figures/boxes@tc.png"),
        *(f"encoder/{name}" for name in encoder),
        *(f"{cell}/{name}" for cell in cells for name in ("result.json", "samples.npz")),
    }
    assert [line[0] for line in table(ended.out)] == ["1", "3", "all"]
    assert ended.out.splitlines()[-1] == "report: runs/where/report.html"
    assert "the likeness of their crops (digits)." in Path("runs/where/report.md").read_text()
    begin, *parts = ended.err.splitlines()
    assert begin == "4 cells on cpu, into runs/where"
    assert [line.split()[0] for line in parts] == ["encoder", "t/1", "t/3", "tc/1", "tc/3"]
    rows = json.loads((FOLDER / "report.json").read_bytes())["rows"]
    assert [(row["dataset"], row["label"]) for row in rows] == [
        (dataset, label) for dataset in ("t", "tc") for label in (1, 3, None)
    ]
    for row in rows[:2]:
        result = json.loads((FOLDER / f"cells/t/{row['label']}/result.json").read_bytes())
        assert row["found"]["value"] == pytest.approx(100 * np.mean(np.array(result["overlap"]) > 0.5))
        assert row["overlap"] == pytest.approx(np.mean(result["overlap"]))
        assert row["images"] == len(result["overlap"]) == len(set(result["digit"])) > 5
    with np.load(FOLDER / "cells/t/3/samples.npz") as samples:
        assert samples["image"].shape == (8, 56, 56)
        assert samples["predicted"].shape == samples["true"].shape == (8, 4)


def test_the_same_command_again_trains_nothing_and_says_the_same(colocalise, contents):
    first, before = colocalise("--only", "t/*"), contents(FOLDER)
    again = colocalise("--only", "t/*")
    assert again.out == first.out
    assert [line.split()[-3:] for line in again.err.splitlines()[1:]] == [["was", "finished", "before"]] * 2
    assert contents(FOLDER) == before


def test_what_is_missing_joins_and_leaves_what_was_there(colocalise):
    only_one = colocalise("--only", "t/3", "-q")
    assert (only_one.code, only_one.err) == (0, "")
    assert table(only_one.out)[0][0] == "3"
    result = FOLDER / "cells/t/3/result.json"
    before, stamp = result.read_bytes(), result.stat().st_mtime_ns
    both = colocalise("--only", "t/*")
    assert [line.split()[0] for line in both.err.splitlines()[1:]] == ["t/3", "t/1"]
    assert (result.read_bytes(), result.stat().st_mtime_ns) == (before, stamp)
    assert [line[0] for line in table(both.out)] == ["1", "3", "all"]


def test_a_cell_that_is_begun_anew_has_the_same_bytes(colocalise):
    colocalise("--only", "tc/1", "-q")
    result = FOLDER / "cells/tc/1/result.json"
    before = result.read_bytes()
    result.unlink()
    colocalise("--only", "tc/1", "-q")
    assert result.read_bytes() == before


def test_held_out_digits_are_scored_when_asked_for(colocalise):
    ended = colocalise("--validate", "--only", "t/3", "-q")
    assert "measured on validation digits" in ended.out
    result = json.loads((FOLDER / "cells/t/3/result.json").read_bytes())
    assert result["cell"]["encoder"]["validation"] is True
    assert max(result["digit"]) < 80  # of 480 / 6 held out


def test_a_stopped_run_keeps_its_finished_cells(start):
    command = start("colocalise", "--config", "where.yaml", "--set", "localiser.steps=100000", "--only", "t/3")
    (command.folder / "where.yaml").write_text(SMALL)
    command.wait_for("runs/where/encoder/result.json")
    command.send(signal.SIGINT)
    ended = command.end()
    assert ended.code == 130
    assert "To go on: stn-train colocalise" in ended.err
    assert not (command.folder / "runs/where/cells").exists()


# --- mistakes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("localiser.step=3", ("localiser.step", "'steps'?")),
        ("steps=3", ("steps", "localiser.steps")),
        ("epochs=3", ("epochs", "encoder.epochs")),
        ("task=colocalization", ("task", "'colocalisation'?")),
        ("classes=[3, 3]", ("classes", "3 appears twice")),
        ("classes=[10]", ("classes.0", "at most 9")),
        ("datasets=[rts]", ("datasets.0", "translation and clutter")),
        ("datasets=[{name: t, canvas: [56, 84]}]", ("datasets.0", "square")),
        ("encoder.dataset=tc", ("encoder.dataset", "28 x 28")),
        ("encoder={epochs: 3}", ("encoder.dataset", "missing")),
    ],
)
def test_a_mistake_is_one_sentence_with_its_place(colocalise, change, told):
    place, mend = told
    sentence = colocalise("--set", change).sentences[0]
    assert sentence.startswith(f"--set {change}: {place}: ")
    assert mend in sentence


def test_only_must_match_something(colocalise):
    sentence = colocalise("--only", "t/4").sentence
    assert "--only t/4" in sentence
    assert "t/1" in sentence, "one that there is"


def test_a_changed_cell_is_refused(colocalise):
    colocalise("--only", "t/3", "-q")
    for arguments, told in (
        (("--set", "localiser.steps=4"), ("runs/where/cells/t/3 ", "localiser.steps was 3 and is 4")),
        (("--set", "encoder.epochs=2"), ("runs/where/encoder ", "training.epochs was 1 and is 2")),
        (("--set", "localiser.steps=4", "--only", "t/1"), ("runs/where/cells/t/3 ", "was 3 and is 4")),
    ):
        sentence = colocalise(*arguments).sentence
        assert all(words in sentence for words in told)


def test_each_kind_of_configuration_has_its_command(colocalise, stn):
    assert "`stn-train colocalise --config where.yaml`" in stn("run", "--config", "where.yaml").sentence
    Path("small.yaml").rename("a small.yaml")
    assert "`stn-train run --config 'a small.yaml'`" in stn("colocalise", "--config", "a small.yaml").sentence


def test_config_commands_know_both_kinds(colocalise, stn):
    assert stn("config", "check", "where.yaml", "small.yaml").out == (
        "where.yaml: 2 datasets x 2 classes = 4 cells\nsmall.yaml: 1 dataset x 2 models x 1 seed = 2 trials\n"
    )
    shown = stn("config", "show", "where.yaml").out
    Path("again.yaml").write_text(shown)
    assert stn("config", "show", "again.yaml").out == shown
    assert "paper/colocalisation" in stn("config", "list").out


@pytest.mark.parametrize("config", ["datasets: [r]\nmodels: [cnn]\n", "mine: 1\n"])
def test_a_folder_of_something_else_is_left_alone(colocalise, contents, config):
    Path("other").mkdir()
    Path("other/config.yaml").write_text(config)
    before = contents(Path("other"))
    assert colocalise("--output-dir", "other").sentence.startswith("other/config.yaml")
    assert contents(Path("other")) == before
