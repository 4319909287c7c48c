"""The paper's layout of made-up results, on a terminal."""

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from stn_train.config import load_config
from stn_train.report.measures import MEASURES, paper_error
from stn_train.report.page import WIDTH, aligned, render, summary
from stn_train.report.results import Results
from stn_train.specs import ExperimentSpec, baseline_of, trials_of

TABLE1 = load_config("paper/table1")
SMALL = ExperimentSpec.model_validate(
    {"name": "x", "datasets": ["r", "rts"], "models": ["fcn", "cnn", "cnn_paper", "st_cnn_paper"]}
)
ROW: dict[str, Any] = {
    **{f"{measure.key}{end}": None for measure in MEASURES for end in ("", "_low", "_high")},
    **{
        "transforms": False,
        "tta_angles": (),
        "source": "mnist",
        "split": "test",
        "precision": "float32",
        "seed_errors": (1.0,),
    },
    **{"parameters": 400_000, "macs": 9_000_000, "training_images_per_second": 1000.0, "training_digits": 60_000},
}
"""What the rows below are made from."""
LESS, MORE = (-0.5, -0.9, -0.1), (0.5, 0.1, 0.9)


def compared(
    difference: tuple[float, float, float] = LESS, adjusted: float = 0.01, seeds: int = 1, **names: str
) -> dict[str, Any]:
    ends = dict(zip(("difference", "difference_low", "difference_high"), difference, strict=True))
    numbers = {"p": 0.01, "adjusted_p": adjusted, "shown": adjusted < 0.05, "seeds": seeds, "mcnemar": ()}
    whole = {"dataset": "r", "model": "st", "baseline": "cnn", "part": "all", **names}
    return {**whole, "of": whole["model"], **ends, **numbers}


def results_of(experiment: ExperimentSpec, seeds: int = 1) -> Results:
    """A row for every cell: the first has an error of 1 %, each further one of 3.1 points more, wrapping at 100."""
    rows, comparisons = [], []
    for number, trial in enumerate(trials_of(experiment.model_copy(update={"seeds": (0,)}))):
        error = (1 + 3.1 * number) % 100
        baseline = baseline_of(trial.model, experiment.models)
        names = {"dataset": trial.dataset.name, "model": trial.model.name}
        errors = {"error": error, "error_low": error - 0.5, "error_high": error + 0.5, "accuracy": 100 - error}
        own = {"paper_error": paper_error(trial), "seeds": tuple(range(seeds)), "baseline": baseline and baseline.name}
        rows.append({**ROW, **names, **errors, **own})
        if baseline:
            comparisons.append(compared(seeds=seeds, baseline=baseline.name, **names))
    whole = pd.DataFrame(rows)
    return Results(whole, whole, pd.DataFrame(comparisons), {}, {}, [], experiment)


def some(results: Results, rows: list[int] | slice) -> Results:
    """Only these rows, and the comparisons of their models."""
    kept = results.summary.iloc[rows]
    cells = set(zip(kept["dataset"], kept["model"], strict=True))
    compared = results.comparisons
    inside = [cell in cells for cell in zip(compared["dataset"], compared["model"], strict=True)]
    return replace(results, trials=kept, summary=kept, comparisons=compared[inside])


def table_of(results: Results) -> list[list[str]]:
    """The cells of the paper's layout."""
    return [line.split("  ") for line in summary(results).split("\n\n")[0].splitlines()]


def cells(results: Results) -> list[list[str]]:
    return [[cell.strip() for cell in line if cell.strip()] for line in table_of(results)]


def test_a_line_for_each_model_and_a_column_for_each_dataset() -> None:
    assert cells(results_of(SMALL)) == [
        ["model", "r", "rts"],
        ["fcn", "1.00 (2.1)", "13.40 (5.2)"],
        ["cnn", "4.10", "16.50"],
        ["cnn_paper", "7.20 (1.2)", "19.60 (0.8)"],
        ["st_cnn_paper", "10.30 (0.7)", "22.70 (0.5)"],
    ]


def test_what_has_not_finished_is_a_dash_or_left_out() -> None:
    whole = results_of(SMALL)
    assert cells(some(whole, [5, 3])) == [
        ["model", "rts", "r"],
        ["cnn", "16.50", "-"],
        ["st_cnn_paper", "-", "10.30 (0.7)"],
    ], "models in the order of the experiment, not of the rows"
    assert "nothing to compare" in summary(some(whole, [0, 5]))
    assert "2 of 8 trials have finished" in summary(some(whole, [0, 5]))
    assert "have finished" not in summary(whole)


def test_a_column_without_the_papers_figures_does_not_speak_of_it() -> None:
    results = results_of(SMALL)
    without = replace(results, summary=results.summary.assign(paper_error=None))
    assert cells(without)[0] == ["model", "r", "rts"]
    assert "the paper's" not in summary(without)
    assert "the paper's" in summary(results)


def test_cells_with_more_seeds_than_others_are_told() -> None:
    results = results_of(SMALL)
    results.summary.at[0, "seeds"] = (0, 1, 2)
    results.summary.at[0, "seed_errors"] = (1.0, 1.0, 1.0)
    assert [line[1] for line in cells(results)] == ["seeds", "1-3", "1", "1", "1"]


@pytest.mark.parametrize("present", [slice(None), slice(1, None, 3)], ids=["whole", "a third"])
def test_table1_fits_the_terminal_and_its_errors_are_aligned(present: slice) -> None:
    results = some(results_of(TABLE1), present)
    text = summary(results)
    assert max(map(len, text.splitlines())) <= WIDTH
    table, told, compared = text.split("\n\n")[:3]
    header, *lines = table.splitlines()
    assert told.startswith("test error in %")
    assert len(lines) == 8
    for name in ("r", "rts", "p", "e"):
        end = header.index(f" {name} " if name != "e" else " e") + len(name) + 1
        cells = [line[:end].split()[-1] for line in lines]
        assert all(line[end : end + 1] in ("", " ") for line in lines), "errors end where the dataset's name ends"
        assert all(cell == "-" or cell[-3] == "." for cell in cells)
    header, *lines = compared.splitlines()
    assert header.split()[:5] == ["dataset", "model", "vs", "baseline", "difference"]
    assert [line.split()[:2] for line in lines] == results.comparisons[["dataset", "model"]].to_numpy().tolist()


@pytest.mark.parametrize(
    ("difference", "adjusted", "said"),
    [(LESS, 0.01, "better"), (MORE, 0.01, "worse"), (LESS, 0.06, "not shown")],
)
def test_a_comparison_says_in_a_line_what_its_verdict_says_in_a_sentence(
    difference: tuple[float, float, float], adjusted: float, said: str
) -> None:
    row = compared(difference, adjusted)
    results = results_of(SMALL)
    whole = replace(results, comparisons=pd.DataFrame([row]))
    (line,) = (line for line in summary(whole).splitlines() if line.startswith("r        st"))
    assert said in line
    assert line.endswith(f"{adjusted:.3f}")
    words = {"better": "more of the images", "worse": "fewer of the images", "not shown": "no difference shown"}
    assert words[said] in render("sentences.j2", "verdict", row)


def test_a_verdict_says_how_much_and_how_surely() -> None:
    def verdict(**changes: Any) -> str:
        return render("sentences.j2", "verdict", compared(seeds=3) | {"p": 0.004, "adjusted_p": 0.004} | changes)

    for number in ("0.50", "0.10 to 0.90", "p 0.004", "3 seeds"):
        assert number in verdict()
    assert verdict(adjusted_p=0.03).index("0.004") < verdict(adjusted_p=0.03).index("0.030")
    assert verdict(p=1e-5, adjusted_p=4e-5).count("< 0.001") == 1
    assert "nothing about other trainings" in verdict(seeds=1)
    assert "-0.90 to -0.10" in verdict(shown=False)


def test_one_seed_is_said_to_speak_of_two_networks() -> None:
    assert "nothing about other trainings" in summary(results_of(SMALL))
    assert "nothing about other trainings" not in summary(results_of(SMALL, seeds=3))


def test_a_single_dataset_fits_the_terminal_with_the_papers_figure_and_what_is_removed() -> None:
    results = results_of(load_config("paper/tc"))
    removed = results.summary.assign(removed_of_a_digit_rotation=-12.4, removed_of_a_digit_scale=75.0, transforms=True)
    table, *_ = summary(replace(results, summary=removed)).split("\n\n")
    assert max(map(len, table.splitlines())) <= WIDTH
    assert "13.2" in table
    assert "-12 / 75" in table
    assert table.split()[:4] == ["model", "seeds", "accuracy", "error"]
    assert "rotation and scale" in " ".join(table.split()), "which numbers these are"


def test_aligned_sets_names_left_and_numbers_right() -> None:
    assert aligned([["model", "n"], ["cnn", "100"]], names=1) == "model    n\ncnn    100"
    assert aligned([["[b]", ":smile:"]], names=1) == "[b]  :smile:", "what is written is never taken for markup"
