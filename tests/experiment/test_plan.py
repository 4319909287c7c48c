"""What joins a run's folder, and what has changed."""

from typing import Any

import pytest

from stn_train.errors import UserError
from stn_train.experiment.run import differences, joined
from stn_train.specs import ExperimentSpec, trials_of


def experiment(**keys: Any) -> ExperimentSpec:
    return ExperimentSpec.model_validate({"name": "a", "datasets": ["r"], "models": ["cnn"], **keys})


def test_joining_is_the_union_in_the_order_of_arrival():
    before = experiment(datasets=["r", "rts"], models=["cnn"], seeds=[2, 0])
    now = experiment(datasets=["tc", "r"], models=["st_cnn", "cnn"], seeds=[0, 1])
    both = joined(before, now)
    assert [entry.name for entry in both.datasets] == ["r", "rts", "tc"]
    assert [entry.name for entry in both.models] == ["cnn", "st_cnn"]
    assert both.seeds == (2, 0, 1)


def test_joining_what_is_there_changes_nothing():
    before = experiment(datasets=["r", "rts"], seeds=[0, 1])
    assert joined(before, before) == before
    assert joined(before, experiment()) == before


def test_what_joining_would_make_too_large_is_refused():
    """Or the folder's configuration could not be read again."""
    before, now = (experiment(seeds=list(range(start, start + 600))) for start in (0, 600))
    with pytest.raises(UserError, match=r"the folder holds already.* seeds.* 1000 .*--output-dir"):
        joined(before, now)


def test_what_both_name_is_as_it_is_now():
    now = experiment(datasets=[{"name": "r", "base": "r", "rotation": 5}], parameters=50_000)
    assert joined(experiment(seeds=[3]), now) == now.model_copy(update={"seeds": (3, 0)})


def test_differences_name_keys_and_both_values():
    (before,) = trials_of(experiment(parameters=50_000))
    (now,) = trials_of(experiment(models=["st_cnn"], training={"epochs": 5}))
    assert differences(before, before) == []
    found = differences(before, now)
    assert "parameters was 50000 and is None" in found
    assert "training.epochs was 20 and is 5" in found
    assert any("transformer" in difference for difference in found)
    assert len(found) >= 3
