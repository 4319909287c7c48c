"""Troubles: each is named by what is wrong, and a healthy transformer has none."""

from typing import Any

import pytest

from stn_train.evaluation.metrics import TransformerWarning, warnings_of
from stn_train.report.page import render
from stn_train.run_folder import Diagnostics, EpochRecord
from stn_train.specs import RECIPES, TrainingSpec

WELL = Diagnostics(outside=0.1, scale=0.7, folded=0.0, moved=0.4, std=0.3, gradient=0.5)


def recipe_of(recipe: str = "default", **changes: Any) -> TrainingSpec:
    return TrainingSpec(**{**RECIPES[recipe], **changes})


def record(*healths: Diagnostics, epoch: int = 8) -> EpochRecord:
    return EpochRecord(epoch=epoch, loss=0.1, error=1.0, lr=0.1, transformers=healths)


def sentence(found: TransformerWarning) -> str:
    return render("sentences.j2", "transformer_warning", found)


def test_a_healthy_transformer_has_no_trouble():
    assert warnings_of(record(WELL), recipe_of(epochs=8)) == []
    assert warnings_of(record(), recipe_of(epochs=8)) == []


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"outside": 0.97}, "samples almost only outside the image (97% of its points)"),
        ({"scale": 0.02}, "has collapsed to a point: its output is 0.02 of the image along each side"),
        ({"folded": 0.5}, "folds over or mirrors 50% of the images"),
        ({"gradient": 0.0, "moved": 0.0, "std": 0.0}, "learns nothing: no gradient reaches"),
        ({"moved": 0.001, "std": 0.001}, "has not left the identity"),
        ({"std": 0.001}, "does the same to every image"),
    ],
)
def test_each_trouble_is_named_and_has_something_to_try(wrong, named):
    (found,) = warnings_of(record(WELL.model_copy(update=wrong)), recipe_of(epochs=8))
    assert sentence(found).startswith(f"the transformer {named}")
    assert "training.localisation_lr" in sentence(found) or "see that" in sentence(found)


def test_a_transformer_has_time_to_begin():
    still = WELL.model_copy(update={"moved": 0.001, "std": 0.001})
    assert [len(warnings_of(record(still, epoch=epoch), recipe_of(epochs=8))) for epoch in (1, 2, 3)] == [0, 0, 1]
    assert warnings_of(record(still, epoch=1), recipe_of(epochs=1)) == []
    blank = WELL.model_copy(update={"outside": 1.0})
    assert warnings_of(record(blank, epoch=1), recipe_of(epochs=8)), "what is broken is told at once"


def test_several_transformers_are_told_apart_by_their_numbers():
    blank = WELL.model_copy(update={"outside": 1.0})
    found = warnings_of(record(WELL, blank, blank), recipe_of(epochs=8))
    assert [(warning.fault, warning.number) for warning in found] == [("out_of_bounds", 2), ("out_of_bounds", 3)]
    assert sentence(found[0]).startswith("the transformer 2 samples")


BLANK = WELL.model_copy(update={"outside": 1.0})


@pytest.mark.parametrize(
    ("recipe", "changes", "blamed", "innocent"),
    [
        ("default", {"lr": 50.0}, "training.lr below 50", "localisation_lr"),
        ("paper", {"lr": 50.0}, "training.lr below 50", "localisation_lr"),
        ("default", {"localisation_lr": 1000.0}, "training.localisation_lr below 1000", "grad_clip"),
        ("paper", {}, "training.grad_clip=1", "clip=2"),
        ("default", {"grad_clip": 1.0}, "training.localisation_lr below 0.05", "grad_clip"),
    ],
)
def test_advice_looks_at_what_is_set(recipe, changes, blamed, innocent):
    (found,) = warnings_of(record(BLANK), recipe_of(recipe, **changes))
    assert blamed in sentence(found)
    assert innocent not in sentence(found)


@pytest.mark.parametrize(
    ("wrong", "changes", "blamed"),
    [
        ({"outside": 1.0}, {"lr": 0.02, "localisation_lr": 1000.0}, ("lr below 0.02", "localisation_lr below 1000")),
        ({"moved": 0.0, "std": 0.0}, {"lr": 1e-10, "localisation_lr": 1000.0}, ("training.lr above 1e-10",)),
        ({"gradient": 0.0}, {"lr": 100.0}, ("training.lr below 100",)),
    ],
)
def test_advice_names_everything_that_is_out_of_the_ordinary(wrong, changes, blamed):
    (found,) = warnings_of(record(WELL.model_copy(update=wrong)), recipe_of(**changes))
    assert all(one in sentence(found) for one in blamed)
