"""Runs side by side: who is compared with whom, and that only the same images are."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from made_up_run import begin, finish

from stn_train.errors import UserError
from stn_train.report.compare import compare_runs, side_by_side, trials_by_digits
from stn_train.report.page import WIDTH
from stn_train.report.plots import errors_by_digits
from stn_train.report.results import results_of
from stn_train.run_folder import RunFolder
from stn_train.specs import MODELS


def run(path: Path, errors: list[int], **keys: Any) -> RunFolder:
    """A run of which as many trials have finished as there are errors, each with so many of them in 100 images."""
    path.mkdir()
    folder, trials = begin(path, **keys)
    for trial, count in zip(trials, errors, strict=False):
        finish(folder, trial, count)
    return folder


def test_each_model_stands_against_the_same_one_of_the_first_run(tmp_path: Path) -> None:
    folders = [run(tmp_path / "a", [5, 4]), run(tmp_path / "b", [5, 2]), run(tmp_path / "c", [9, 4])]
    results = compare_runs(folders).across
    names = [f"{model} ({folder.path})" for folder in folders for model in ("cnn", "st_cnn")]
    assert list(results.summary["model"]) == names
    assert list(results.comparisons["model"]) == names[2:]
    assert list(results.comparisons["baseline"]) == [*names[:2], *names[:2]]
    assert list(results.comparisons["difference"]) == pytest.approx([0, -2, 4, 0])


def test_a_comparison_across_runs_is_the_one_within_a_run(tmp_path: Path) -> None:
    both = run(tmp_path / "both", [5, 2])
    one, other = (run(tmp_path / model, [errors], models=[model]) for model, errors in (("cnn", 5), ("st_cnn", 2)))
    apart, together = compare_runs([one, other]).across.comparisons, results_of(both).comparisons
    names = ["of", "model", "baseline"]
    assert apart.drop(columns=[*names, "run"]).equals(together.drop(columns=names))
    assert list(apart["baseline"]) == [f"cnn ({one.path})"], "the only model of the first run"


def test_seeds_are_paired_and_p_is_corrected_for_all_comparisons(tmp_path: Path) -> None:
    first = run(tmp_path / "a", [5, 4, 6, 4], seeds=[0, 1])
    second = run(tmp_path / "b", [4, 4, 7, 2], seeds=[1, 2])
    results = compare_runs([first, second]).across
    row, comparison = results.summary.iloc[2], results.comparisons.iloc[0]
    assert (row["seeds"], row["paired_seeds"]) == ((1, 2), (1,))
    assert comparison["difference"] == pytest.approx(4 - 6)
    assert comparison["adjusted_p"] == pytest.approx(2 * comparison["p"])


def lines_of(*folders: RunFolder, points: float | None = None) -> list[str]:
    """What the terminal shows."""
    return side_by_side(compare_runs(folders, points), points).splitlines()


def words_of(*folders: RunFolder, points: float | None = None) -> str:
    """The same on one line."""
    return " ".join(" ".join(lines_of(*folders, points=points)).split())


def test_each_run_stands_above_its_models_and_the_verdicts_below(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = (run(Path(name), [5, errors]) for name, errors in (("a", 4), ("b", 2)))
    lines = lines_of(first, second)
    start = lines.index("a")
    assert [line.split()[0] for line in lines[start : start + 6]] == ["a", "cnn", "st_cnn", "b", "cnn", "st_cnn"]
    assert "st_cnn (b) classifies 2.00 percentage points more of the images correctly" in words_of(first, second)


def test_long_names_and_many_comparisons_fit_the_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cells = {"datasets": ["r", "rts"], "models": ["cnn_paper", "st_cnn_paper"], "controls": True, "seeds": [0, 1]}
    folders = [run(Path(name), [60, 12, 40, 9, 7] * 4, **cells) for name in ("one_recipe", "another_recipe_altogether")]
    lines = lines_of(*folders, points=0.5)
    assert max(map(len, lines)) <= WIDTH
    assert not any("…" in line for line in lines)
    for name in ("st_cnn_paper-supervised", "p (Holm)", "accuracy"):
        assert any(name in line for line in lines)


# --- what differs, and who is meant ------------------------------------------------------------------------------


def recipe(**training: Any) -> dict[str, Any]:
    return {"training": {"epochs": 4, **training}}


def test_what_differs_from_the_first_run_is_told_once_and_of_whom(tmp_path: Path) -> None:
    first = run(tmp_path / "a", [5, 4])
    second = run(tmp_path / "b", [5, 2], parameters=100_000, **recipe(lr=0.01, localisation_lr=0.5))
    found = compare_runs([first, second, run(tmp_path / "c", [6, 3])])
    assert {(one.run, one.key, one.here, one.models) for one in found.differences} == {
        (str(second.path), "parameters", 100_000, ()),
        (str(second.path), "training.lr", 0.01, ()),
        (str(second.path), "training.localisation_lr", 0.5, ("st_cnn",)),
    }, "networks without a transformer have no localisation network, and seeds are no difference"
    text = words_of(first, second)
    assert all(words in text for words in ("training.lr 0.01 instead of 0.003", "parameters 100000 instead of none"))


def test_networks_of_another_kind_do_not_differ_in_every_key_of_a_transformer(tmp_path: Path) -> None:
    folders = [run(tmp_path / model, [5], models=[model]) for model in ("cnn", "st_cnn")]
    found = compare_runs(folders)
    assert len(found.across.comparisons) == 1
    assert (found.differences, found.renamed) == ([], {})


def test_a_network_by_another_name_is_compared_with_its_like(tmp_path: Path) -> None:
    first = run(tmp_path / "a", [5, 4])
    mine = {"name": "mine", "classifier": "cnn", "transformer": MODELS["st_cnn"]["transformer"]}
    second = run(tmp_path / "b", [6, 2], models=["cnn", mine])
    found = compare_runs([first, second])
    names = [f"cnn ({first.path})", f"st_cnn ({first.path})"]
    assert list(found.across.comparisons["baseline"]) == names
    assert found.renamed == {f"mine ({second.path})": names[1]}
    assert "the same network by another name" in words_of(first, second)
    assert found.differences == []


def test_each_run_has_its_own_gap_as_its_report_has_it(tmp_path: Path) -> None:
    folders = [run(tmp_path / "a", [5, 4]), run(tmp_path / "b", [9, 2])]
    within = compare_runs(folders).within
    assert list(within["run"]) == [str(folder.path) for folder in folders]
    for number, folder in enumerate(folders):
        (own,) = results_of(folder).comparisons.to_dict("records")
        for key in ("difference", "difference_low", "difference_high", "p", "seeds"):
            assert within.iloc[number][key] == own[key]
        assert within.iloc[number]["baseline"] == f"cnn ({folder.path})"


def test_seeds_added_after_a_look_are_warned_of_where_their_numbers_differ(tmp_path: Path) -> None:
    first, same = run(tmp_path / "a", [5, 4]), run(tmp_path / "b", [5, 3])
    more = run(tmp_path / "c", [5, 4, 5, 3], seeds=[0, 1])
    assert "optional stopping" not in words_of(first, same)
    assert "optional stopping" in words_of(first, more)


def test_seeds_needed_are_told_of_each_comparison_where_their_spread_is_known(tmp_path: Path) -> None:
    first, second = run(tmp_path / "a", [5, 4, 7, 4], seeds=[0, 1]), run(tmp_path / "b", [5, 4])
    found = compare_runs([first, second], 5.0)
    known = {(one.model, one.baseline): one for one in found.needed}
    a, b = first.path, second.path
    assert known.keys() == {
        (f"st_cnn ({a})", f"cnn ({a})"),
        (f"st_cnn ({b})", f"cnn ({b})"),
        *((f"{model} ({b})", f"{model} ({a})") for model in ("cnn", "st_cnn")),
    }
    one = known.pop((f"st_cnn ({a})", f"cnn ({a})"))
    assert one.needed is not None
    assert (one.seeds, one.digits) == (2, 1000)
    assert [(other.seeds, other.needed) for other in known.values()] == [(1, None)] * 3
    text = words_of(first, second, points=5.0)
    assert f"st_cnn cnn 2 {one.needed} " in text
    assert "st_cnn the first run 1 unknown" in text


def test_of_one_run_it_is_told_how_many_seeds_its_gap_needs(tmp_path: Path) -> None:
    only = run(tmp_path / "a", [5, 4, 7, 4], seeds=[0, 1])
    (one,) = compare_runs([only], 0.001).needed
    assert one.needed is None
    told = words_of(only, points=0.001)
    assert "impossible" in told
    assert "1,000 test digits" in told


def test_a_dataset_that_only_a_later_run_has_is_left_out(tmp_path: Path) -> None:
    first, second = run(tmp_path / "a", [5, 4]), run(tmp_path / "b", [5] * 4, datasets=["r", "rts"])
    assert set(compare_runs([first, second]).across.summary["dataset"]) == {"rts"}


def test_other_images_of_the_same_name_are_refused(tmp_path: Path) -> None:
    first = run(tmp_path / "a", [5, 4])
    mild = run(tmp_path / "b", [5, 4], datasets=[{"name": "rts", "base": "rts", "rotation": 20}])
    held_out = run(tmp_path / "c", [5, 4], validation=True)
    for other in (mild, held_out):
        with pytest.raises(UserError, match=f"{first.path} and {other.path} cannot be compared on rts"):
            compare_runs([first, other])


def test_runs_with_nothing_in_common_are_refused(tmp_path: Path) -> None:
    first = run(tmp_path / "a", [5, 4])
    for name, keys in {"b": {"datasets": ["r"]}, "c": {"seeds": [1]}, "d": {"models": ["fcn"]}}.items():
        with pytest.raises(UserError, match=r"they have no dataset, model and seed in common") as told:
            compare_runs([first, run(tmp_path / name, [5, 4], **keys)])
        assert "rts: cnn, st_cnn, of seeds 0" in str(told.value)
        assert {"b": "r: cnn", "c": "seeds 1", "d": "rts: fcn"}[name] in str(told.value)


def test_a_run_without_results_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="b has nothing to compare yet"):
        compare_runs([run(tmp_path / "a", [5, 4]), run(tmp_path / "b", [])])
    with pytest.raises(UserError, match="c is not a run's folder"):
        compare_runs([run(tmp_path / "d", [5, 4]), RunFolder(tmp_path / "c")])


# --- of as many training digits, or not -------------------------------------------------------------------------


SIZES = {"a": None, "b": 1000, "c": 1000}


def few(digits: int | None, **keys: Any) -> dict[str, Any]:
    return {"training": {"epochs": 4, "train_size": digits}, **keys}


def test_the_training_digits_are_told_where_they_differ(tmp_path: Path) -> None:
    many, some, copy = (run(tmp_path / name, [5, 4], **few(count)) for name, count in SIZES.items())
    told = [
        {one.key: one.here for one in compare_runs(folders).differences} for folders in ([many, some], [some, copy])
    ]
    assert told == [{"training.train_size": 1000}, {}]


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


@pytest.mark.parametrize(
    ("digits", "keys", "advised"),
    [(1000, {}, 500), (150, {}, 100), (100, {}, None), (None, {"prebuilt": "built"}, None)],
    ids=["many", "few", "the fewest", "prebuilt"],
)
def test_runs_of_as_many_digits_are_not_plotted(
    tmp_path: Path, digits: int | None, keys: dict[str, Any], advised: int | None
) -> None:
    """And it is told how to train on fewer than they did, where that can be."""
    names = enumerate(("a run", "another"))
    folders = [run(tmp_path / name, [5, 4], **few(digits, seeds=[seed], **keys)) for seed, name in names]
    with pytest.raises(UserError, match=f"trained on {digits or 60_000:,} digits") as told:
        trials_by_digits(folders)
    commands = re.findall("`(.*)`", str(told.value))
    size, folder = f"training.train_size={advised}", f"{folders[0].path}-{advised}"
    command = ["stn-train", "run", "--config", str(folders[0].config), "--set", size, "--output-dir", folder]
    assert [shlex.split(line) for line in commands] == ([command] if advised else [])


def test_what_two_runs_hold_is_not_plotted(tmp_path: Path) -> None:
    folders = [run(tmp_path / name, [5, 4], **few(count)) for name, count in SIZES.items()]
    with pytest.raises(UserError, match="2 of these runs hold rts/cnn/seed-0 from 1,000 training digits, which a"):
        trials_by_digits(folders)
