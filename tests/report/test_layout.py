"""The paper's layout of made-up rows, on a terminal."""

from dataclasses import replace

import pytest

from stn_train.config import load_config
from stn_train.evaluation.metrics import Component
from stn_train.report.alignment import AlignmentSummary, OverlapSummary, ResidualSummary
from stn_train.report.cells import comparisons, in_the_papers_layout
from stn_train.report.paper import paper_error
from stn_train.report.results import Row
from stn_train.report.text import WIDTH, aligned, alignment_sentences, summary, verdicts
from stn_train.specs import ExperimentSpec, baseline_of, trials_of
from stn_train.statistics import Comparison, Estimate

TABLE1 = load_config("paper/table1")
SMALL = ExperimentSpec.model_validate(
    {"name": "x", "datasets": ["r", "rts"], "models": ["fcn", "cnn", "cnn_paper", "st_cnn_paper"]}
)
ROW = Row(
    dataset="r",
    model="cnn",
    seeds=(0,),
    seed_errors=(1.0,),
    error=Estimate(1.0, 0.5, 1.5),
    paper_error=None,
    baseline=None,
    paired_seeds=(),
    comparison=None,
    gain=None,
    transforms=False,
    diagnostics=(),
    warnings=(),
    alignment=None,
    parameters=400_000,
    width=64.0,
    tta_angles=(),
    macs=9_000_000,
    training_seconds=100.0,
    training_images_per_second=1000.0,
    evaluation_images_per_second=2000.0,
    split="test",
    precision="float32",
    training_digits=60_000,
    images=10_000,
    digits=10_000,
    clipped=0,
    class_errors=(1.0,) * 10,
    confusion=((0,) * 10,) * 10,
)
"""What the rows below are made from."""
OVERLAP = OverlapSummary(*[Estimate(50.0, 50.0, 50.0)] * 5)
LESS, MORE = Estimate(-0.5, -0.9, -0.1), Estimate(0.5, 0.1, 0.9)


def compared(difference: Estimate = LESS, adjusted: float = 0.01, seeds: int = 1) -> Comparison:
    return Comparison(difference, p=0.01, mcnemar=(), seeds=seeds, adjusted=adjusted)


def rows_of(experiment: ExperimentSpec) -> list[Row]:
    """A row for every cell: the first has an error of 1 %, each further one of 3.1 points more, wrapping at 100."""
    rows = []
    for number, trial in enumerate(trials_of(experiment.model_copy(update={"seeds": (0,)}))):
        error = (1 + 3.1 * number) % 100
        baseline = baseline_of(trial.model, experiment.models)
        rows.append(
            replace(
                ROW,
                dataset=trial.dataset.name,
                model=trial.model.name,
                seeds=experiment.seeds,
                error=Estimate(error, error - 0.5, error + 0.5),
                paper_error=paper_error(trial),
                baseline=baseline.name if baseline else None,
                paired_seeds=experiment.seeds if baseline else (),
                comparison=compared(seeds=len(experiment.seeds)) if baseline else None,
            )
        )
    return rows


def test_a_line_for_each_model_and_a_column_for_each_dataset() -> None:
    lines = in_the_papers_layout(SMALL, rows_of(SMALL))
    assert [[cell.strip() for cell in line] for line in lines] == [
        ["model", "seeds", "r (paper)", "rts (paper)"],
        ["fcn", "1", "1.00 (2.1)", "13.40 (5.2)"],
        ["cnn", "1", "4.10", "16.50"],
        ["cnn_paper", "1", "7.20 (1.2)", "19.60 (0.8)"],
        ["st_cnn_paper", "1", "10.30 (0.7)", "22.70 (0.5)"],
    ]


def test_what_has_not_finished_is_a_dash_or_left_out() -> None:
    fcn, _, _, st_r, _, cnn, *_ = rows_of(SMALL)
    lines = in_the_papers_layout(SMALL, [cnn, st_r])
    assert [[cell.strip() for cell in line] for line in lines] == [
        ["model", "seeds", "r (paper)", "rts"],
        ["cnn", "1", "-", "16.50"],
        ["st_cnn_paper", "1", "10.30 (0.7)", "-"],
    ], "in the order of the experiment, not of the rows"
    assert "nothing to compare" in summary(SMALL, [fcn, cnn])
    assert "2 of 8 trials have finished" in summary(SMALL, [fcn, cnn])
    assert "have finished" not in summary(SMALL, rows_of(SMALL))


def test_a_column_without_the_papers_figures_does_not_speak_of_it() -> None:
    rows = [replace(row, paper_error=None) for row in rows_of(SMALL)]
    assert in_the_papers_layout(SMALL, rows)[0] == ["model", "seeds", "r", "rts"]
    assert "paper)" not in summary(SMALL, rows)


def test_cells_with_more_seeds_than_others_are_told() -> None:
    fcn, *others = rows_of(SMALL)
    lines = in_the_papers_layout(SMALL, [replace(fcn, seeds=(0, 1, 2)), *others])
    assert [line[1] for line in lines] == ["seeds", "1-3", "1", "1", "1"]


@pytest.mark.parametrize("present", [slice(None), slice(1, None, 3)], ids=["whole", "a third"])
def test_table1_fits_the_terminal_and_its_errors_are_aligned(present: slice) -> None:
    text = summary(TABLE1, rows_of(TABLE1)[present])
    assert max(map(len, text.splitlines())) <= WIDTH
    table, told, compared = text.split("\n\n")
    header, *lines = table.splitlines()
    assert told.startswith("test error in %, the mean over the seeds")
    assert len(lines) == 8
    for name in ("r", "rts", "p", "e"):
        end = header.index(f" {name} (paper)") + len(name) + 1
        cells = [line[:end].split()[-1] for line in lines]
        assert all(line[end : end + 1] in ("", " ") for line in lines), "errors end where the dataset's name ends"
        assert all(cell == "-" or cell[-3] == "." for cell in cells)
    header, *lines = compared.splitlines()
    assert header.split()[:5] == ["dataset", "model", "baseline", "verdict", "seeds"]
    assert [line.split()[:2] for line in lines] == [
        [row.dataset, row.model] for row in rows_of(TABLE1)[present] if row.comparison
    ]


@pytest.mark.parametrize(
    ("difference", "adjusted", "said"),
    [(LESS, 0.01, "fewer errors"), (MORE, 0.01, "more errors"), (LESS, 0.06, "no difference shown")],
)
def test_a_comparison_says_in_a_line_what_its_verdict_says_in_a_sentence(
    difference: Estimate, adjusted: float, said: str
) -> None:
    row = replace(ROW, model="st", baseline="cnn", comparison=compared(difference, adjusted))
    header, line = comparisons([row])
    assert line[:5] == ["r", "st", "cnn", said, "1"]
    assert (header[-1], line[-1]) == ("p (Holm)", f"{adjusted:.3f}")
    (sentence,) = verdicts([row])
    words = {"fewer errors": "more of the images", "more errors": "fewer of the images"}
    assert words.get(said, said) in sentence


def test_one_seed_is_said_to_speak_of_two_networks() -> None:
    rows = rows_of(SMALL)
    several = [replace(row, comparison=compared(seeds=3)) if row.comparison else row for row in rows]
    assert "nothing about other trainings" in summary(SMALL, rows)
    assert "nothing about other trainings" not in summary(SMALL, several)


def test_a_single_dataset_leaves_out_what_does_not_fit_the_terminal() -> None:
    addition = load_config("paper/addition")
    wide = rows_of(addition)
    narrow = [replace(row, error=ROW.error) for row in wide]
    short = [replace(row, model=row.model[:9]) for row in narrow]
    for rows, speed, work in ((wide, False, True), (narrow, False, True), (short, True, True)):
        table = summary(addition, rows).split("\n\n")[0]
        assert max(map(len, table.splitlines())) <= WIDTH
        assert ("training img/s" in table, "MACs" in table) == (speed, work)
        assert "47.7" in table


def test_what_a_transformer_makes_worse_is_told_in_words() -> None:
    scores: tuple[tuple[Component, float | None], ...] = (
        ("rotation", -12.4),
        ("scale", None),
        ("shear", -0.3),
        ("translation", 75.0),
    )
    residuals = [
        ResidualSummary(name, "px", 4.0, 1.0, score and Estimate(score, score, score)) for name, score in scores
    ]
    everything = (ResidualSummary("rotation", "°", 40.0, 0.0, Estimate(100, 100, 100)),)
    row = replace(ROW, model="st", alignment=AlignmentSummary(everything, tuple(residuals), (), None, (), OVERLAP, ()))
    assert alignment_sentences([ROW, row]) == [
        "r: st removes 0 % of the variation in shear and 75 % of the variation in translation and adds 12 % to the "
        "variation in rotation between two random distortions of the same digit"
    ]


def test_aligned_sets_names_left_and_numbers_right() -> None:
    assert aligned([["model", "n"], ["cnn", "100"]], names=1) == "model    n\ncnn    100"
