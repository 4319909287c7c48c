"""Troubles: each is named by what is wrong, and a healthy transformer has none."""

import pytest

from stn_train.evaluation.evidence import Health
from stn_train.reporting.health import mean_health, troubles
from stn_train.reporting.records import EpochRecord

WELL = Health(outside=0.1, scale=0.7, folded=0.0, moved=0.4, spread=0.3, gradient=0.5)


def record(*healths: Health, epoch: int = 8) -> EpochRecord:
    return EpochRecord(epoch=epoch, loss=0.1, error=1.0, rate=0.1, transformers=healths)


def test_a_healthy_transformer_has_no_trouble():
    assert troubles(record(WELL), epochs=8) == []
    assert troubles(record(), epochs=8) == []


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"outside": 0.97}, "reads next to nothing: 97% of its points lie outside the image"),
        ({"scale": 0.02}, "shows a dot: its output is 0.02 of the image along each side"),
        ({"folded": 0.5}, "folds over or mirrors 50% of the images"),
        ({"gradient": 0.0, "moved": 0.0, "spread": 0.0}, "learns nothing: no gradient reaches"),
        ({"moved": 0.001, "spread": 0.001}, "has not left the identity"),
        ({"spread": 0.001}, "does the same to every image"),
    ],
)
def test_each_trouble_is_named_and_has_something_to_try(wrong, named):
    (found,) = troubles(record(WELL.model_copy(update=wrong)), epochs=8)
    assert found.sentence.startswith(f"the transformer {named}")
    assert "training.localisation_rate" in found.sentence or "see that" in found.sentence


def test_a_transformer_has_time_to_begin():
    still = WELL.model_copy(update={"moved": 0.001, "spread": 0.001})
    assert [len(troubles(record(still, epoch=epoch), epochs=8)) for epoch in (1, 2, 3)] == [0, 0, 1]
    assert troubles(record(still, epoch=1), epochs=1) == []
    blank = WELL.model_copy(update={"outside": 1.0})
    assert troubles(record(blank, epoch=1), epochs=8), "what is broken is told at once"


def test_several_transformers_are_told_apart_by_their_numbers():
    blank = WELL.model_copy(update={"outside": 1.0})
    found = troubles(record(WELL, blank, blank), epochs=8)
    assert [trouble.kind for trouble in found] == ["blank 2", "blank 3"]
    assert found[0].sentence.startswith("the transformer 2 reads")


def test_the_mean_over_seeds_is_taken_transformer_by_transformer():
    other = WELL.model_copy(update={"scale": 0.9})
    first, second = mean_health([record(WELL, WELL), record(other, WELL)])
    assert first.scale == pytest.approx(0.8)
    assert second.scale == pytest.approx(0.7)
    assert mean_health([]) == ()
