"""Runs side by side: who is compared with whom, and that only the same images are."""

from pathlib import Path
from typing import Any

import pytest
from made_up_run import begin, finish

from stn_train.errors import UserError
from stn_train.report.compare import compare_runs, trials_by_digits
from stn_train.report.page import WIDTH, side_by_side
from stn_train.report.plots import errors_by_digits
from stn_train.report.results import results_of
from stn_train.run_folder import RunFolder


def run(path: Path, errors: list[int], **keys: Any) -> RunFolder:
    """A run of which as many trials have finished as there are errors, each with so many of them in 100 images."""
    path.mkdir()
    folder, trials = begin(path, **keys)
    for trial, count in zip(trials, errors, strict=False):
        finish(folder, trial, count)
    return folder


def test_each_model_stands_against_the_same_one_of_the_first_run(tmp_path: Path) -> None:
    folders = [run(tmp_path / "a", [5, 4]), run(tmp_path / "b", [5, 2]), run(tmp_path / "c", [9, 4])]
    results = compare_runs(folders)
    names = [f"{model} ({folder.path})" for folder in folders for model in ("cnn", "st_cnn")]
    assert list(results.summary["model"]) == names
    assert list(results.comparisons["model"]) == names[2:]
    assert list(results.comparisons["baseline"]) == [*names[:2], *names[:2]]
    assert list(results.comparisons["difference"]) == pytest.approx([0, -2, 4, 0])


def test_a_comparison_across_runs_is_the_one_within_a_run(tmp_path: Path) -> None:
    both = run(tmp_path / "both", [5, 2])
    one, other = (run(tmp_path / model, [errors], models=[model]) for model, errors in (("cnn", 5), ("st_cnn", 2)))
    apart, together = compare_runs([one, other]).comparisons, results_of(both).comparisons
    names = ["of", "model", "baseline"]
    assert apart.drop(columns=names).equals(together.drop(columns=names))
    assert list(apart["baseline"]) == [f"cnn ({one.path})"], "the only model of the first run"


def test_seeds_are_paired_and_p_is_corrected_for_all_comparisons(tmp_path: Path) -> None:
    first = run(tmp_path / "a", [5, 4, 6, 4], seeds=[0, 1])
    second = run(tmp_path / "b", [4, 4, 7, 2], seeds=[1, 2])
    results = compare_runs([first, second])
    row, comparison = results.summary.iloc[2], results.comparisons.iloc[0]
    assert (row["seeds"], row["paired_seeds"]) == ((1, 2), (1,))
    assert comparison["difference"] == pytest.approx(4 - 6)
    assert comparison["adjusted_p"] == pytest.approx(2 * comparison["p"])


def test_text_fits_the_terminal_and_ends_with_the_verdicts(tmp_path: Path) -> None:
    folders = [run(tmp_path / name, [5, errors]) for name, errors in (("a", 4), ("b", 2))]
    table, verdicts = side_by_side(compare_runs(folders)).split("\n\n")
    assert len(table.splitlines()) == 5
    assert "classifies 2.00 percentage points more of the images correctly" in " ".join(verdicts.split())
    assert all(len(line) <= WIDTH for line in verdicts.splitlines())


def test_a_dataset_that_only_a_later_run_has_is_left_out(tmp_path: Path) -> None:
    first, second = run(tmp_path / "a", [5, 4]), run(tmp_path / "b", [5] * 4, datasets=["r", "rts"])
    assert set(compare_runs([first, second]).summary["dataset"]) == {"rts"}


def test_other_images_of_the_same_name_are_refused(tmp_path: Path) -> None:
    first = run(tmp_path / "a", [5, 4])
    mild = run(tmp_path / "b", [5, 4], datasets=[{"name": "rts", "base": "rts", "rotation": 20}])
    held_out = run(tmp_path / "c", [5, 4], validation=True)
    for other in (mild, held_out):
        with pytest.raises(UserError, match=f"{first.path} and {other.path} mean different images by rts"):
            compare_runs([first, other])


def test_runs_with_nothing_in_common_are_refused(tmp_path: Path) -> None:
    first = run(tmp_path / "a", [5, 4])
    for name, keys in {"b": {"datasets": ["r"]}, "c": {"seeds": [1]}, "d": {"models": ["fcn"]}}.items():
        with pytest.raises(UserError, match=r"can be compared with .*: they have no dataset, model and seed in common"):
            compare_runs([first, run(tmp_path / name, [5, 4], **keys)])


def test_a_run_without_results_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="b has nothing to compare yet"):
        compare_runs([run(tmp_path / "a", [5, 4]), run(tmp_path / "b", [])])
    with pytest.raises(UserError, match="c is not a run's folder"):
        compare_runs([run(tmp_path / "d", [5, 4]), RunFolder(tmp_path / "c")])


# --- of as many training digits, or not -------------------------------------------------------------------------


SIZES = {"a": None, "b": 1000, "c": 1000}


def few(digits: int | None, **keys: Any) -> dict[str, Any]:
    return {"training": {"epochs": 4, "train_size": digits}, **keys}


def test_the_training_digits_have_a_column_where_they_differ(tmp_path: Path) -> None:
    many, some, copy = (run(tmp_path / name, [5, 4], **few(count)) for name, count in SIZES.items())
    differing, alike = (
        side_by_side(compare_runs(folders)).split("\n\n")[0] for folders in ([many, some], [some, copy])
    )
    header, *lines = differing.splitlines()
    assert "  training digits  " in header
    assert [line.split()[3] for line in lines] == ["60,000", "60,000", "1,000", "1,000"]
    assert "training digits" not in alike


def test_the_plot_has_a_panel_for_each_dataset_and_a_line_and_a_band_for_each_model(tmp_path: Path) -> None:
    both = few(None, datasets=["rts", "r"], seeds=[0, 1])
    first = run(tmp_path / "a", [4, 2, 3, 3, 6, 2, 3, 3], **both)
    second = run(tmp_path / "b", [20, 10], **few(100, seeds=[7]))
    third = run(tmp_path / "c", [9, 8], **few(1000, datasets=["tc"]))
    figure = errors_by_digits(trials_by_digits([first, second, third]))
    assert [axes.get_title() for axes in figure.axes] == ["rts", "r"], "the datasets of the first run"
    rts, r = figure.axes
    assert rts.get_xscale() == "log"
    assert [(line.get_label(), *map(list, line.get_data())) for line in rts.lines] == [
        ("cnn", [100, 60_000], [20, 5]),
        ("st_cnn", [100, 60_000], [10, 2]),
    ]
    assert [list(line.get_xdata()) for line in r.lines] == [[60_000]] * 2
    heights = [sorted({float(y) for x, y in band.get_paths()[0].vertices if x == 60_000}) for band in rts.collections]
    assert heights == [[4, 6], [2]], "from the lowest to the highest seed"


def test_runs_of_as_many_digits_are_not_plotted(tmp_path: Path) -> None:
    folders = [run(tmp_path / name, [5, 4], **few(1000, seeds=[seed])) for seed, name in enumerate("ab")]
    with pytest.raises(UserError, match="all of these runs trained on 1,000 digits, and a plot wants"):
        trials_by_digits(folders)


def test_what_two_runs_hold_is_not_plotted(tmp_path: Path) -> None:
    folders = [run(tmp_path / name, [5, 4], **few(count)) for name, count in SIZES.items()]
    with pytest.raises(UserError, match="2 of these runs hold rts/cnn/seed-0 from 1,000 training digits, which a"):
        trials_by_digits(folders)
