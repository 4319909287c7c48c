"""`scripts/results.py`: what it keeps of runs, what the page says of it, and what it refuses."""

import csv
import importlib
import json
import lzma
import re
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stn_train import storage
from stn_train.run_folder import TrialFolder

SCRIPTS = Path(__file__).parents[2] / "scripts"
TABLE1 = """\
name: table1
source: digits
datasets: [r]
models: [cnn_paper, st_cnn_paper]
parameters: 20_000
training: {epochs: 1, train_size: 100}
"""
MARK = "<!-- From here on written by scripts/results.py -->"
BEGIN, END = "<!-- Written by scripts/results.py -->", "<!-- By hand again -->"
CNN, ST_CNN = "r/cnn_paper", "r/st_cnn_paper"
PAGE = "docs/results.md"
TABLE, ARCHIVE = Path("docs/results.csv"), Path("docs/results.npz.xz")


def kept(cell: str, seed: int = 0) -> dict[str, str] | None:
    """A trial's line of the table, if it has one."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        lines = {(f"{line['dataset']}/{line['model']}", line["seed"]): line for line in csv.DictReader(file)}
    return lines.get((cell, str(seed)))


def both_files() -> list[bytes]:
    return [path.read_bytes() for path in (TABLE, ARCHIVE)]


def reported(run: str) -> dict[str, Any]:
    """A run's report.json."""
    found: dict[str, Any] = json.loads(Path(run, "report.json").read_bytes())
    return found


def page() -> str:
    return Path(PAGE).read_text()


VERDICTS = ("better", "worse", "not shown")


def lines_of(*names: str) -> list[list[str]]:
    """The cells of the lines that begin with these names, of all tables of the page but the first."""
    return [line for line in tables_in(page().partition(MARK)[2]) if line[: len(names)] == [*names]]


def tables_in(text: str) -> list[list[str]]:
    return [re.split(r" *\| *", line)[1:-1] for line in text.splitlines()]


def above_the_papers() -> dict[str, list[str]]:
    """The first table, by cell."""
    return {line[0]: line[1:] for line in tables_in(page().partition(MARK)[0]) if line}


@pytest.fixture
def train(stn, tmp_path) -> Callable[..., str]:
    """Train trials of table1.yaml into a folder of this name; gives the folder."""
    (tmp_path / "table1.yaml").write_text(TABLE1)

    def run(name: str, *options: str) -> str:
        ended = stn("run", "-c", "table1.yaml", "--output-dir", f"runs/{name}", "--threads", "1", "--quiet", *options)
        assert ended.code == 0, ended.err
        return f"runs/{name}"

    return run


@pytest.fixture
def results(tmp_path, monkeypatch) -> Callable[..., None]:
    """The script, beside a docs/ of its own."""
    for folder in ("scripts", "docs"):
        (tmp_path / folder).mkdir()
    script, _ = (shutil.copy(SCRIPTS / name, tmp_path / "scripts") for name in ("results.py", "results.md.j2"))
    (tmp_path / "docs/results.md").write_text(f"By hand.\n{BEGIN}\nof before\n{END}\nMore.\n{MARK}\nof before\n")

    def run(*runs: str) -> None:
        monkeypatch.setattr(sys, "argv", ["results.py", *runs])
        runpy.run_path(script, run_name="__main__")

    return run


def refusal(results: Callable[..., None], *runs: str) -> str:
    """The sentence that it ends with."""
    with pytest.raises(SystemExit) as end:
        results(*runs)
    sentence = str(end.value.code)
    assert "\n" not in sentence
    return sentence


def move_to(device: str, run: str, cell: str) -> None:
    """Have a cell of a run been trained on another machine."""
    for path in Path(run, "trials", cell).glob("*/environment.json"):
        environment = json.loads(storage.read_verified(path, storage.JSON, ""))
        storage.write_record(path, environment | {"device": device, "commit": f"{device}-dirty"})


def test_what_is_kept_and_what_the_page_says(train, results):
    run = train("table1")
    results(run)
    assert {path.name for path in Path("docs").iterdir()} == {
        *("results.md", "results.csv", "results.npz.xz", "results.png")
    }
    whole = TrialFolder(Path(run, "trials", ST_CNN, "seed-0")).load_predictions(addition=False)
    with lzma.open(ARCHIVE) as packed, np.load(packed) as arrays:
        assert set(arrays) == {"label/r", "digit/r", *(f"missed/table1/{cell}/seed-0" for cell in (CNN, ST_CNN))}
        assert np.array_equal(arrays["label/r"], whole["label"])
        assert np.array_equal(arrays["digit/r"], whole["digit"])
        assert np.array_equal((arrays["label/r"] + arrays[f"missed/table1/{ST_CNN}/seed-0"]) % 10, whole["predicted"])
        assert {each.dtype for each in arrays.values()} == {np.dtype(np.uint8)}
    assert page().startswith(f"By hand.\n{BEGIN}\n\n**Of the paper's 44 cells")
    assert f"\n{END}\nMore.\n{MARK}\n\n## paper/table1" in page()
    row, _ = reported(run)["summary"]
    (line,) = lines_of(CNN)
    assert (line[1], line[2], line[-1]) == (f"{row['seed_errors'][0]:.2f}", f"{row['parameters']:,}", "1")


def test_the_figures_of_what_is_kept_are_those_of_the_report(train, results):
    run = train("table1", "--seeds", "0,1")
    results(run)
    found = reported(run)
    for trial in found["trials"]:
        line = kept(f"{trial['dataset']}/{trial['model']}", trial["seed"])
        numbers = {key: value for key, value in trial.items() if isinstance(value, float) and key in line}
        assert {key: float(line[key]) for key in numbers} == numbers
    (comparison,) = found["comparisons"]
    ends = [f"{comparison[key]:z.2f}" for key in ("difference", "difference_low", "difference_high")]
    (line,) = (line for line in lines_of("r", "st_cnn_paper") if line[2] in VERDICTS)
    assert line[3] == "{} [{}, {}]".format(*ends), "recomputed from the predictions"


def test_the_page_says_what_the_transformers_undo(train, results):
    run = train("table1")
    results(run)
    _, st_cnn = reported(run)["summary"]
    (_, (*_, told, iou, ink, folded, within), (*_, how_much)) = lines_of("r", "st_cnn_paper")
    assert [float(number) for number in re.findall(r"-?[0-9.]+", told)] == [
        pytest.approx(st_cnn["removed_rotation"], abs=0.5),
        pytest.approx(st_cnn["before_rotation"], abs=0.05),
        pytest.approx(st_cnn["after_rotation"], abs=0.05),
        pytest.approx(st_cnn["removed_of_a_digit_rotation"], abs=0.5),
    ]
    shares = st_cnn["iou"], st_cnn["ink"], 100 * st_cnn["folded_1"]
    assert [iou, ink, folded] == [f"{share:.0f} %" for share in shares]
    images, output, digits = (st_cnn[f"within_classes_{name}"] for name in ("images", "output", "digits"))
    assert within == f"{images:.0f} to {output:.0f} % ({digits:.0f})"
    small, limit, large = (st_cnn[f"{key}_rotation"] for key in ("removed_of_small", "limit", "removed_of_large"))
    assert how_much == f"{small:z.0f} % up to {limit:.1f} °, {large:z.0f} % beyond"
    assert ["dataset", "model", "rotation"] in [line[:3] for line in lines_of("dataset", "model")]
    assert lines_of("r", "cnn_paper") == []


def test_a_measure_that_an_old_cell_lacks_is_a_dash(train, results):
    results(train("table1", "--set", "controls=true"))
    lines = list(csv.DictReader(TABLE.read_text().splitlines()))
    with TABLE.open("w", newline="") as file:
        writer = csv.DictWriter(file, lines[0])
        writer.writeheader()
        for line in lines:
            writer.writerow(line | {"within_classes_output": ""} if line["model"] == "st_cnn_paper" else line)
    results()
    old, new = (lines_of("r", model)[1][-1] for model in ("st_cnn_paper", "st_cnn_paper-supervised"))
    assert (old, "%" in new) == ("–", True)


def test_runs_join_what_is_kept_each_trial_with_its_machine(train, results):
    first = train("first", "--only", CNN)
    move_to("Machine A", first, CNN)
    results(first)
    assert "Does a transformer help?" not in page(), "there is nothing to compare"
    before = kept(CNN)
    second = train("second", "--only", ST_CNN, "--seeds", "0,1")
    move_to("Machine B", second, ST_CNN)
    results(second)
    shared = {key: value for key, value in kept(CNN).items() if key in before}
    assert shared == before
    assert [kept(ST_CNN, seed) is None for seed in range(3)] == [False, False, True]
    assert any(line[2] in VERDICTS for line in lines_of("r", "st_cnn_paper")), "the comparison"
    assert (lines_of(CNN)[0][-1], lines_of(ST_CNN)[0][-1]) == ("1", "2")
    assert re.search(r"^- 1: Machine A, torch \S+, commit `Machine-dirty`$", page(), re.MULTILINE)
    assert re.search(r"^- 2: Machine B, torch ", page(), re.MULTILINE)

    files = both_files()
    move_to("Machine C", first, CNN)
    results(first)
    assert both_files() == files, "what is kept stays, with its machine"

    measured = kept(CNN)["balanced_accuracy"]
    with TABLE.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    for line in lines:
        line["balanced_accuracy"] = ""
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, lines[0])
        writer.writeheader()
        writer.writerows(lines)
    results(first)
    assert kept(CNN)["balanced_accuracy"] == measured, "what has been measured since is added"
    assert kept(CNN)["device_name"] == "Machine A"
    assert kept(ST_CNN)["balanced_accuracy"] == ""


@pytest.mark.parametrize("mark", [MARK, BEGIN, END])
def test_a_page_without_its_marks_is_left_as_it_is(train, results, mark):
    run = train("table1", "--only", CNN)
    page = Path(PAGE)
    page.write_text(page.read_text().replace(mark, ""))
    before = page.read_text()
    assert f"{PAGE} has no line {mark}" in refusal(results, run)
    assert page.read_text() == before
    assert not TABLE.exists()


def test_a_network_or_dataset_without_a_trial_has_no_line_or_column(train, results):
    more = ("--set", "datasets=[r, p, rts]", "--set", "models=[fcn, cnn_paper, st_cnn_paper]")
    for cell in (ST_CNN, "rts/cnn_paper"):
        results(train("table1", "--only", cell, *more))
    lines = [line for line in page().partition(MARK)[2].splitlines() if line.startswith("| ")]
    header, _, cnn, st_cnn = lines[:4]
    assert header == "| paper/table1: test error % [95 %] | r | rts |"
    assert re.fullmatch(r"\| cnn_paper \| – \| [\d.]+ \[.*\] \|", cnn)
    assert re.fullmatch(r"\| st_cnn_paper \| [\d.]+ \[.*\] \| – \|", st_cnn)


def test_another_recipe_in_the_same_cell_is_refused(train, results, contents):
    results(train("first", "--only", CNN))
    before = contents(Path("docs"))
    other = train("other", "--only", CNN, "--set", "training.epochs=2", "--seeds", "1")
    sentence = refusal(results, other)
    assert f"table1/{CNN}/seed-0: training.epochs was 1 and is 2" in sentence
    assert contents(Path("docs")) == before
    TABLE.write_text(TABLE.read_text().splitlines()[0] + "\n")
    results(other)
    assert (kept(CNN, 0), kept(CNN, 1) is None) == (None, False)


def test_other_images_of_the_same_name_are_refused(train, results, contents):
    results(train("first", "--only", CNN))
    before = contents(Path("docs"))
    assert "means other images by r than" in refusal(results, train("held_out", "--only", ST_CNN, "--validate"))
    assert contents(Path("docs")) == before


def test_what_cannot_be_kept_is_refused(train, results, contents):
    run = train("table1", "--only", CNN)
    results(run)
    before = contents(Path("docs"))
    other = train("other", "--only", CNN, "--set", "name=other")
    refused = refusal(results, other)
    assert refused.startswith(f"{other} is a run of other")
    assert {"table1,", "verdict,"} <= set(refused.split())
    assert "is not a run's folder" in refusal(results, "runs")
    predictions = Path(run, "trials", CNN, "seed-0/predictions.npz")
    predictions.write_bytes(predictions.read_bytes()[:-1])
    assert f"{predictions} is damaged" in refusal(results, run)
    assert contents(Path("docs")) == before
    results(whole := train("whole", "--only", ST_CNN))
    before = contents(Path("docs"))
    Path(whole, "trials", ST_CNN, "seed-0/environment.json").unlink()
    assert "seed-0/environment.json is missing" in refusal(results, whole)
    shutil.rmtree(predictions.parent)
    assert refusal(results, run) == f"{run} has nothing to keep yet: none of its trials has finished"
    assert contents(Path("docs")) == before


def test_cells_above_the_papers_figure_are_named(train, results, monkeypatch):
    run = train("table1")
    results(run)
    assert "paper's figure" not in page(), "the paper has none for these digits"
    (cnn, st_cnn) = (row["error"] for row in reported(run)["summary"])

    def papers(of_cnn: float, of_st_cnn: float) -> None:
        figures = {"cnn_paper": of_cnn, "st_cnn_paper": of_st_cnn}
        monkeypatch.setattr("stn_train.report.measures.paper_error", lambda trial: figures.get(trial.model.name))
        for path in (TABLE, ARCHIVE):
            path.unlink()
        results(run)

    level, below = round(st_cnn, 1), round(cnn - 0.1, 1)
    papers(below, level)
    assert f"Above the paper's figure: {CNN} ({cnn:.2f} against {below}).\n" in page()
    assert f"| **{st_cnn:.2f}** [" in page()
    papers(100.0, 100.0)
    assert "No cell is above the paper's figure." in page()


def test_the_papers_cells_are_counted_each_under_its_own_name_or_that_of_another_reading(train, results, monkeypatch):
    """`r` has its own cell and another reading's, which does not count; of `rts` there is only another reading."""
    run = train(
        "table1", "--set", "datasets=[r, {name: r_mild, base: r, rotation: 20}, rts_wide]", "--only", "*/cnn_paper"
    )
    error = {row["dataset"]: row["error"] for row in reported(run)["summary"]}
    figures = {"r": round(error["r"], 1)} | dict.fromkeys(["rts", "rts_wide"], round(error["rts_wide"] - 0.1, 1))
    monkeypatch.setattr("stn_train.report.measures.paper_error", lambda trial: figures.get(trial.dataset.name))
    results(run)
    said = page().partition(BEGIN)[2].strip().partition("\n")[0]
    assert f"the paper's {2 * 8} cells, 1 are at or below" in said, "the networks of table1 on r and rts"
    assert "Not trained yet: r/fcn," in said
    assert "stand in: rts_wide for rts." in said
    ours, *others = above_the_papers()["rts_wide/cnn_paper"]
    assert ours.startswith(f"{error['rts_wide']:.2f} [")
    assert others == ["1", str(figures["rts"]), "1", "–"], (
        "seeds, the paper's, epochs, and no last quarter of one epoch"
    )


def test_of_a_cell_of_the_paper_the_longest_training_counts(train, results, monkeypatch):
    monkeypatch.setattr("stn_train.report.measures.paper_error", lambda trial: 0.0)
    results(train("table1", "--only", CNN))
    longer = train("longer", "--set", "name=longer", "--set", "training.epochs=2", "--only", CNN)
    results(longer)
    ours, *others = above_the_papers()[CNN]
    assert ours.startswith(f"{reported(longer)['summary'][0]['error']:.2f} [")
    assert others[:3] == ["1", "0.0", "2"]


def test_where_a_gain_comes_from_is_told_of_networks_with_controls(train, results):
    run = train("table1", "--set", "controls=true")
    results(run)
    (told,) = re.findall(r"\n- r: st_cnn_paper against .*\n", Path(run, "report.md").read_text())
    assert told in page()


@pytest.fixture
def verdict(tmp_path, monkeypatch) -> Callable[..., None]:
    """Run scripts/verdict.py on what is kept."""
    for name in ("verdict.py", "verdict.md.j2"):
        shutil.copy(SCRIPTS / name, tmp_path / "scripts")
    monkeypatch.syspath_prepend(tmp_path / "scripts")

    def run(*options: str, of_today: dict[str, str] | None = None) -> None:
        monkeypatch.delitem(sys.modules, "results", raising=False)
        results = importlib.import_module("results")
        monkeypatch.setattr(results, "OF_TODAY", of_today or results.OF_TODAY)  # type: ignore[attr-defined]
        monkeypatch.setattr(sys, "argv", ["verdict.py", *options])
        runpy.run_path(str(tmp_path / "scripts/verdict.py"), run_name="__main__")
        monkeypatch.delitem(sys.modules, "results")

    return run


def test_the_page_of_today_is_written_from_what_is_kept(stn, tmp_path, results, verdict):
    """Errors and differences as reports have them, a dash for what is not trained yet, minutes that were measured."""
    experiment = (
        TABLE1.replace("table1", "verdict").replace("[r]", "[rts, tc]").replace("_paper", "").replace("20_", "90_")
    )
    (tmp_path / "verdict.yaml").write_text(experiment)
    assert stn("run", "-c", "verdict.yaml", "--threads", "1", "--quiet", "--seeds", "0,1").code == 0
    (tmp_path / "longer.yaml").write_text(
        experiment.replace("verdict", "verdict_time").replace("epochs: 1", "epochs: 2")
    )
    assert stn("run", "-c", "longer.yaml", "--threads", "1", "--quiet", "--only", "rts/cnn").code == 0
    (tmp_path / "turned.yaml").write_text(
        experiment.replace("verdict", "mnist_rot").replace("[rts, tc]", "[{name: mnist_rot, base: plain}]")
    )
    assert stn("run", "-c", "turned.yaml", "--threads", "1", "--quiet", "--only", "mnist_rot/cnn").code == 0
    results("runs/verdict", "runs/verdict_time", "runs/mnist_rot")
    assert "verdict" not in page(), "it has a page of its own"
    (tmp_path / "docs/mnist_rot_published.csv").write_text(
        "network,error,tta_error,parameters,rotation_augmentation,source\n"
        "best,0.01,,,yes,Someone 2018\nworst|of all,99.9,1.5,3 k,no,Others 2020\n"
    )
    (tmp_path / "docs/mnist_rot_tta.csv").write_text("model,seeds,error\ncnn,0 1,7.125\n")
    (tmp_path / "docs/verdict_minutes.csv").write_text(
        "config,dataset,model,minutes,machine\n"
        "verdict/all_digits,rts,cnn,3.26,Z80\nverdict/all_digits,tc,cnn,7.04,Z80\nverdict/equal_time,rts,cnn,6.52,Z80\n"
    )
    written = tmp_path / "docs/verdict.md"
    written.write_text(f"By hand.\n{BEGIN}\nof before\n{END}\nMore.\n")
    verdict()
    top, rest = written.read_text().split(BEGIN)[0], written.read_text().split(END)[1]
    assert (top, rest) == ("By hand.\n", "\nMore.\n")
    assert "Z80" in written.read_text()
    lines = tables_in(written.read_text())
    errors, differences, *_ = ([line for line in lines if line[:1] == [f"`{name}`"]] for name in ("st_cnn", "st_cnn"))
    found = reported("runs/verdict")
    (row,) = (one for one in found["summary"] if (one["dataset"], one["model"]) == ("rts", "st_cnn"))
    (compared,) = (one for one in found["comparisons"] if one["dataset"] == "rts")
    assert errors[0][1].startswith(f"{row['error']:.2f} ")
    assert errors[0][3:] == ["–", "–", "–"]
    assert differences[1][1].startswith(f"{compared['difference']:z.2f} ")
    costs = {line[0]: line[2:4] for line in lines if len(line) == 7}
    assert [told.split(", ")[1:] for told in costs["`cnn`"]] == [["3.3 min"], ["7.0 min"]]
    assert ["min" in told for told in costs["`st_cnn`"]] == [False, False], "it was not timed"
    assert costs["epochs x digits"] == ["1 x 100", "1 x 100"]
    longer = reported("runs/verdict_time")["summary"][0]
    (told,) = (line[2:5] for line in lines if line[:2] == ["RTS", "`cnn`"])
    assert (told[0], told[2]) == ("2", "6.5")
    assert told[1].startswith(f"{longer['error']:.2f} ")
    undone, relied = (line for line in lines if line[:2] == ["RTS", "`st_cnn`"])
    assert undone[4].startswith(f"{row['removed_of_a_digit_translation']:z.0f} %")
    assert relied[3].startswith(f"{row['swapped_error']:.2f} ")
    turned = reported("runs/mnist_rot")["summary"][0]
    best, ours, worst = (line for line in lines if {"Someone 2018", "this project", "Others 2020"} & {*line})
    assert best[:5] == ["best", "0.01", "", "", "yes"]
    assert ours[:3] == ["`cnn`", f"{turned['error']:.2f}", "7.12 (2)"]
    assert worst[1:-1] == ["of all", "99.9", "1.50", "3 k", "no"]
    for name in ("verdict.png", "verdict_time.png", "verdict_mnist_rot.png"):
        assert (tmp_path / "docs" / name).read_bytes().startswith(b"\x89PNG")


def test_trainings_of_today_are_timed_side_by_side(tmp_path, results, verdict):
    verdict("--time", of_today={"verdict": "quickstart"})
    with (tmp_path / "docs/verdict_minutes.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["config"], line["dataset"]) for line in lines] == 3 * [("quickstart", "rts")]
    assert [line["model"] for line in lines] == ["cnn_paper", "st_cnn_paper", "st_equivariant"]
    assert all(float(line["minutes"]) > 0 for line in lines)
