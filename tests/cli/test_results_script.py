"""`scripts/results.py`: what it keeps of runs, what the page says of it, and that a copy of it can be gone on from."""

import json
import re
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

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
KEPT = Path("docs/results/table1")


def kept(cell: str, seed: int = 0) -> Path:
    return KEPT / "trials" / cell / f"seed-{seed}"


def page() -> str:
    return Path("docs/results.md").read_text()


def lines_of(*names: str) -> list[list[str]]:
    """The cells of the lines of the page's tables that begin with these names."""
    lines = (re.split(r" *\| *", line)[1:-1] for line in page().splitlines())
    return [line for line in lines if line[: len(names)] == [*names]]


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
    script = shutil.copy(SCRIPTS / "results.py", tmp_path / "scripts")
    (tmp_path / "docs/results.md").write_text(f"By hand.\n{MARK}\nof before\n")
    (tmp_path / "README.md").write_text(f"Before.\n{BEGIN}\n\nof before\n{END}\nAfter.\n")

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
        environment = json.loads(storage.read_checked(path, ""))
        storage.write_record(path, environment | {"device": device, "commit": f"{device}-dirty"})


def test_what_is_kept_and_what_the_page_says(train, results, contents):
    run = train("table1")
    results(run)
    every = {"environment.json", "metrics.jsonl", "predictions.npz", "result.json", "timing.json"}
    assert set(contents(KEPT)) == {
        "config.yaml",
        "report.json",
        *(f"trials/{CNN}/seed-0/{name}" for name in every),
        *(f"trials/{ST_CNN}/seed-0/{name}" for name in (*every, "alignment.json")),
    }
    whole, short = (
        TrialFolder(Path(at, "trials", ST_CNN, "seed-0")).load_predictions(channels=1) for at in (run, KEPT)
    )
    assert [(name, array.dtype) for name, array in short.items()] == [
        ("predicted", np.int8),
        ("label", np.int8),
        ("digit", np.int8),
    ]
    assert all(np.array_equal(short[name], whole[name]) for name in short)
    assert (KEPT / "report.json").read_bytes() == Path(run, "report.json").read_bytes()
    assert page().startswith(f"By hand.\n{MARK}\n\n## paper/table1")
    assert "## paper/table1: 2 of 2 trials" in page()
    (row, _) = json.loads((KEPT / "report.json").read_bytes())["rows"]
    (line,) = lines_of(CNN)
    assert (line[1], line[2], line[-1]) == (f"{row['seed_errors'][0]:.2f}", f"{row['parameters']:,}", "1")


def test_the_page_says_what_the_transformers_undo(train, results):
    results(train("table1"))
    cnn, st_cnn = json.loads((KEPT / "report.json").read_bytes())["rows"]
    (angle,) = (one for one in st_cnn["alignment"]["pose"] if one["score"])
    (_, (*_, told, iou, ink, folded, within), (*_, how_much)) = lines_of("r", "st_cnn_paper")
    assert [float(number) for number in re.findall(r"-?[0-9.]+", told)] == [
        pytest.approx(angle["score"]["value"], abs=0.5),
        pytest.approx(angle["before"], abs=0.05),
        pytest.approx(angle["after"], abs=0.05),
        pytest.approx(st_cnn["alignment"]["pose_of_a_digit"][0]["score"]["value"], abs=0.5),
    ]
    overlap = st_cnn["alignment"]["overlap"]
    shares = overlap["iou"]["value"], overlap["ink"]["value"], 100 * st_cnn["diagnostics"][0]["folded"]
    assert [iou, ink, folded] == [f"{share:.0f} %" for share in shares]
    images, output, digits = (st_cnn["alignment"]["within_classes"][name] for name in ("images", "output", "digits"))
    assert within == f"{images['value']:.0f} to {output['value']:.0f} % ({digits['value']:.0f})"
    (course,) = st_cnn["alignment"]["residual_curves"]
    small, limit, large = course["small"]["value"], course["limit"], course["large"]["value"]
    assert how_much == f"{small:z.0f} % up to {limit:.1f} °, {large:z.0f} % beyond"
    assert ["dataset", "model", "rotation"] in [line[:3] for line in lines_of("dataset", "model")]
    assert cnn["alignment"] is None
    assert lines_of("r", "cnn_paper") == []


def test_runs_join_what_is_kept_each_trial_with_its_machine(train, results, contents):
    first = train("first", "--only", CNN)
    move_to("Machine A", first, CNN)
    results(first)
    assert "Does a transformer help?" not in page(), "there is nothing to compare"
    before = contents(kept(CNN))
    second = train("second", "--only", ST_CNN, "--seeds", "0,1")
    move_to("Machine B", second, ST_CNN)
    results(second)
    assert contents(kept(CNN)) == before
    report = json.loads((KEPT / "report.json").read_bytes())
    assert [(row["model"], row["seeds"]) for row in report["rows"]] == [("cnn_paper", [0]), ("st_cnn_paper", [0, 1])]
    assert (report["finished"], report["trials"], report["rows"][1]["paired_seeds"]) == (3, 4, [0])
    assert lines_of("r", "st_cnn_paper", "cnn_paper"), "the comparison"
    assert (lines_of(CNN)[0][-1], lines_of(ST_CNN)[0][-1]) == ("1", "2")
    assert re.search(r"^- 1: Machine A, torch \S+, commit `Machine-dirty`$", page(), re.MULTILINE)
    assert re.search(r"^- 2: Machine B, torch ", page(), re.MULTILINE)

    move_to("Machine C", first, CNN)
    results(first)
    assert contents(kept(CNN)) == before, "what is kept stays, with its machine"


@pytest.mark.parametrize(("file", "mark"), [("docs/results.md", MARK), ("README.md", BEGIN), ("README.md", END)])
def test_a_page_without_its_marks_is_left_as_it_is(train, results, file, mark):
    run = train("table1", "--only", CNN)
    page = Path(file)
    page.write_text(page.read_text().replace(mark, ""))
    before = page.read_text()
    assert f"{file} has no line {mark}" in refusal(results, run)
    assert page.read_text() == before
    assert not KEPT.exists()


def test_a_network_or_dataset_without_a_trial_has_no_line_or_column(train, results):
    more = ("--set", "datasets=[r, p, rts]", "--set", "models=[fcn, cnn_paper, st_cnn_paper]")
    for cell in (ST_CNN, "rts/cnn_paper"):
        results(train("table1", "--only", cell, *more))
    (header, _, cnn, st_cnn) = Path("README.md").read_text().partition(BEGIN)[2].partition(END)[0].strip().splitlines()
    assert header == "| paper/table1: test error % | r | rts |"
    assert re.fullmatch(r"\| cnn_paper \|  \| [\d.]+ \|", cnn)
    assert re.fullmatch(r"\| st_cnn_paper \| [\d.]+ \|  \|", st_cnn)


def test_another_recipe_is_refused(train, results, contents):
    results(train("first", "--only", CNN))
    before = contents(Path("docs"))
    other = train("other", "--only", ST_CNN, "--set", "training.epochs=2")
    sentence = refusal(results, other)
    assert kept(CNN).as_posix() in sentence
    assert "keeps another trial: training.epochs was 1 and is 2; delete this folder" in sentence
    assert contents(Path("docs")) == before
    shutil.rmtree(kept(CNN))
    results(other)
    assert (lines_of(CNN), len(lines_of(ST_CNN))) == ([], 1)


def test_what_cannot_be_kept_is_refused(train, results, contents):
    run = train("table1", "--only", CNN)
    results(run)
    before = contents(Path("docs"))
    other = train("other", "--only", CNN, "--set", "name=other")
    shown = "table1, tc_paper, addition, fixed, longer, controls, best, best_longer"
    assert refusal(results, other) == f"{other} is a run of other, and the page shows those of {shown}"
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


def test_a_copy_of_what_is_kept_can_be_gone_on_from(train, results, contents, stn):
    first = train("first", "--only", ST_CNN)
    move_to("Machine A", first, ST_CNN)
    results(first)
    shutil.copytree(KEPT, "runs/table1")
    assert stn("report", "runs/table1").code == 0, "although there is nothing to draw pictures from"
    assert Path("runs/table1/report.json").read_bytes() == (KEPT / "report.json").read_bytes()

    before = contents(kept(ST_CNN))
    run = train("table1")
    assert contents(Path(run, "trials", ST_CNN)) == {f"seed-0/{name}": found for name, found in before.items()}
    assert Path(run, "trials", CNN, "seed-0/checkpoint.pt").exists()
    report = json.loads(Path(run, "report.json").read_bytes())
    assert (report["finished"], report["rows"][1]["paired_seeds"]) == (2, [0])
    assert report["rows"][1]["alignment"] is not None

    move_to("Machine B", run, CNN)
    shutil.rmtree("docs/results")
    results(run)
    assert contents(kept(ST_CNN)) == before
    assert (KEPT / "report.json").read_bytes() == Path(run, "report.json").read_bytes()
    assert re.search(r"^- 1: Machine B,.*\n- 2: Machine A,", page(), re.MULTILINE)


def test_cells_above_the_papers_figure_are_named(train, results, monkeypatch):
    results(train("table1"))
    assert "paper's figure" not in page(), "the paper has none for these digits"
    (cnn, st_cnn) = (row["error"]["value"] for row in json.loads((KEPT / "report.json").read_bytes())["rows"])

    def papers(of_cnn: float, of_st_cnn: float) -> None:
        figures = {"cnn_paper": of_cnn, "st_cnn_paper": of_st_cnn}
        monkeypatch.setattr("stn_train.report.results.paper_error", lambda trial: figures[trial.model.name])
        results()

    level, below = round(st_cnn, 1), round(cnn, 1) - 0.1
    papers(below, level)
    assert f"Above the paper's figure: {CNN} ({cnn:.2f} against {below}).\n" in page()
    assert f"| **{st_cnn:.2f}** [" in page()
    short = (
        f"{BEGIN}\n\n| paper/table1: test error % (the paper's) | r |\n| --- | ---: |\n"
        f"| cnn_paper | {cnn:.2f} ({below}) |\n| st_cnn_paper | **{st_cnn:.2f}** ({level}) |\n\n{END}"
    )
    assert Path("README.md").read_text() == f"Before.\n{short}\nAfter.\n"
    papers(100.0, 100.0)
    assert "No cell is above the paper's figure." in page()


def test_where_a_gain_comes_from_is_told_of_networks_with_controls(train, results):
    results(train("table1", "--set", "controls=true"))
    (told,) = json.loads((KEPT / "report.json").read_bytes())["gains"]
    assert f"\n- {told}.\n" in page()
