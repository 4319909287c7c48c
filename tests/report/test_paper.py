"""Where the paper's figures stand beside ours, and where they must not."""

from typing import Any

import pytest

from stn_train.config import load_config
from stn_train.report.measures import paper_error
from stn_train.specs import DATASETS, ExperimentSpec, trials_of

THE_PAPERS = ("r", "rts", "p", "e", "tc", "addition")


def figures(dataset: Any, model: Any, **keys: Any) -> list[float | None]:
    """The paper's figure for each trial of an experiment with one dataset and one model."""
    spec = {"name": "x", "datasets": [dataset], "models": [model], **keys}
    return [paper_error(trial) for trial in trials_of(ExperimentSpec.model_validate(spec))]


def changed(model: str, **transformer: Any) -> dict[str, Any]:
    return {"name": "mine", "base": model, "transformer": transformer}


@pytest.mark.parametrize("config", ["paper/table1", "paper/tc", "paper/addition", "paper/fixed", "paper/longer"])
@pytest.mark.parametrize("recipe", ["default", "paper"])
def test_every_cell_of_the_papers_tables_has_its_figure(config: str, recipe: str) -> None:
    experiment = load_config(config, [f"recipe={recipe}"])
    assert None not in [paper_error(trial) for trial in trials_of(experiment)]


def test_two_of_the_papers_figures() -> None:
    assert figures("rts", "st_cnn_paper") == [0.5]
    assert figures("addition", changed("st_cnn_paper_tps", parallel=2)) == [5.8]


@pytest.mark.parametrize("name", THE_PAPERS)
def test_a_changed_dataset_has_no_figure_though_it_keeps_its_name(name: str) -> None:
    assert figures(name, "cnn_paper") != [None]
    assert figures({"name": name, "base": name, "canvas": 50}, "cnn_paper") == [None]
    assert figures({"name": "mine", "base": name}, "cnn_paper") == [None]


@pytest.mark.parametrize("name", sorted(DATASETS.keys() - set(THE_PAPERS)))
def test_a_dataset_that_is_not_the_papers_has_no_figure(name: str) -> None:
    assert figures(name, "cnn_paper") == figures(name, "st_cnn_paper") == [None]


@pytest.mark.parametrize(
    "model",
    [
        "cnn",
        "st_cnn",
        "st_cnn_paper_similarity",
        changed("st_cnn_paper", localisation="conv"),
        changed("st_cnn_paper", localisation="fc_paper"),
        changed("st_cnn_paper", before=[1]),
        changed("st_cnn_paper", before=[0, 0]),
        changed("st_cnn_paper", parallel=2),
        changed("st_cnn_paper_tps", control_points=5),
        *(changed("st_cnn_paper", pose=pose) for pose in ("identity", "supervised", "oracle")),
        changed("st_cnn_paper", coordinates=True),
        {"name": "mine", "base": "cnn_paper", "rotation_augmentation": 90},
        {"name": "mine", "classifier": "nets:mine"},
    ],
    ids=str,
)
def test_another_network_has_no_figure(model: Any) -> None:
    assert figures("rts", model) == [None]


def test_other_digits_have_no_figure() -> None:
    assert figures("rts", "cnn_paper", source="fashion_mnist") == [None]
    assert figures("rts", "cnn_paper", validation=True) == [None], "held-out digits are no test digits"


def test_how_it_is_trained_does_not_matter() -> None:
    keys = {"recipe": "paper", "training": {"epochs": 1}, "seeds": [7, 8], "parameters": 100_000}
    assert figures("rts", {"name": "mine", "base": "cnn_paper"}, **keys) == [0.8, 0.8]
    assert figures("rts", changed("st_cnn_paper", output_size=16)) == figures("rts", "st_cnn_paper")
