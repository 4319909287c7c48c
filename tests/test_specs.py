"""Specifications: presets, changes to them, and what is refused."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from stn_train.colocalisation.spec import CellSpec, ColocalisationSpec
from stn_train.config import schema
from stn_train.errors import UserError
from stn_train.specs import (
    DATASETS,
    MODELS,
    RECIPES,
    ClutterSpec,
    DatasetSpec,
    ExperimentSpec,
    ModelSpec,
    Spec,
    TrainingSpec,
    TrialSpec,
    baseline_of,
    trials_of,
)


def experiment(**changes: object) -> ExperimentSpec:
    return ExperimentSpec.model_validate({"name": "x", "datasets": ["rts"], "models": ["cnn", "st_cnn"], **changes})


@pytest.mark.parametrize("name", DATASETS)
def test_every_dataset_preset_is_one(name: str) -> None:
    assert DatasetSpec.model_validate(name).name == name


@pytest.mark.parametrize("name", MODELS)
def test_every_model_preset_is_one(name: str) -> None:
    assert ModelSpec.model_validate(name).name == name


def test_the_papers_datasets_are_as_the_paper_has_them() -> None:
    r, rts, tc = (DatasetSpec.model_validate(name) for name in ("r", "rts", "tc"))
    assert (r.canvas, r.rotation) == ((28, 28), (-90, 90))
    assert (rts.canvas, rts.rotation, rts.scale, rts.translation) == ((42, 42), (-45, 45), (0.7, 1.2), (-1, 1))
    assert tc.clutter is not None
    assert (tc.canvas, tc.translation, tc.clutter.patches, tc.clutter.size) == ((60, 60), (-1, 1), 6, 6)
    assert all(spec.shear is None for spec in (r, rts, tc))


def test_a_changed_preset_keeps_what_is_not_changed() -> None:
    mild = DatasetSpec.model_validate({"name": "mild", "base": "rts", "rotation": 20})
    assert mild.model_dump() == {
        **DatasetSpec.model_validate("rts").model_dump(),
        "name": "mild",
        "rotation": (-20, 20),
    }


def test_changes_reach_into_mappings_and_null_removes_a_part() -> None:
    wide = ModelSpec.model_validate({"name": "wide", "base": "st_cnn", "transformer": {"output_size": [20, 30]}})
    assert wide.transformer is not None
    assert wide.transformer.output_size == (20, 30)
    assert wide.transformer.localisation == MODELS["st_cnn"]["transformer"]["localisation"]
    assert ModelSpec.model_validate({"name": "bare", "base": "st_cnn", "transformer": None}).transformer is None


def test_transformers_side_by_side_stand_at_the_input_alone() -> None:
    both = {"name": "two", "base": "st_cnn", "transformer": {"parallel": 2, "before": [0, 0]}}
    assert ModelSpec.model_validate(both).transformer is not None
    with pytest.raises(ValidationError, match="parallel transformers stand at the input"):
        ModelSpec.model_validate({**both, "transformer": {"parallel": 2, "before": [0, 1]}})


def test_changing_a_preset_leaves_the_preset_as_it_was() -> None:
    ModelSpec.model_validate({"name": "wide", "base": "st_cnn", "transformer": {"output_size": [20, 30]}})
    assert "output_size" not in MODELS["st_cnn"]["transformer"]


def test_training_is_the_recipe_with_changes() -> None:
    assert experiment(recipe="paper").training.epochs == 640
    changed = experiment(recipe="paper", training={"epochs": 3}).training
    assert changed == experiment(recipe="paper").training.model_copy(update={"epochs": 3})


def test_a_resolved_experiment_resolves_to_itself() -> None:
    datasets = ["tc", {"name": "mild", "base": "rts", "rotation": 20}]
    for training in ({}, {"train_size": 500}):
        spec = experiment(recipe="paper", datasets=datasets, training=training)
        assert ExperimentSpec.model_validate(spec.model_dump(mode="json")) == spec
        assert ExperimentSpec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize(
    "changes",
    [
        {"training": {"epochs": True}},
        {"training": {"lr": float("nan")}},
        {"training": {"lr": 0}},
        {"datasets": [{"name": "a", "canvas": 100_000}]},
        {"datasets": [{"name": "a", "rotation": [3, -4]}]},
        {"datasets": [{"base": "rts", "rotation": 3}]},
        {"datasets": ["rts", "rts"]},
        {"datasets": ["rts", {"name": "RTS", "base": "r"}]},
        {"models": ["st_cnn", {"name": "a", "base": "st_cnn", "transformer": {"control_points": 5}}]},
        {"models": ["st_cnn", {"name": "a", "base": "st_cnn", "transformer": {"before": [1], "output_size": 20}}]},
        {"datasets": []},
        {"models": [{"name": "../up", "classifier": "cnn"}]},
        {"seeds": [1, 1]},
        {"seeds": [-1]},
        {"unknown": 1},
        {"validation": True, "prebuilt": "folder"},
        {"training": {"train_size": 1000}, "prebuilt": "folder"},
        {"training": {"elastic_augmentation": 1.0}, "prebuilt": "folder"},
        {
            "models": [{"name": "a", "base": "cnn", "tuned": {"trials": 2, "elastic_augmentation": 1.0}}],
            "prebuilt": "folder",
        },
        {"training": {"curriculum": 0.5}, "prebuilt": "folder"},
        {"training": {"curriculum": 1.5}},
        {"training": {"train_size": 99}},
        {"epoch_multiplier": {"fcn": 0}},
        {"epoch_multiplier": {"mine": 2}},
        {"epoch_multiplier": 0},
        {"epoch_multiplier": 1.5},
        {"epoch_multiplier": [5]},
        {"models": ["fcn"], "epoch_multiplier": {"fcn": 101}, "training": {"epochs": 100}},
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        experiment(**changes)


def test_trials_are_the_product_with_seeds_outermost() -> None:
    keys = [trial.key for trial in trials_of(experiment(datasets=["r", "rts"], seeds=[5, 6]))]
    assert keys[:4] == ["r/cnn/seed-5", "r/st_cnn/seed-5", "rts/cnn/seed-5", "rts/st_cnn/seed-5"]
    assert len(set(keys)) == 8


def test_a_classifiers_models_train_longer_with_and_without_a_transformer() -> None:
    models = ["fcn", "st_fcn_tps", "cnn_paper", "st_cnn_paper"]
    trials = trials_of(experiment(models=models, epoch_multiplier={"fcn": 10}, training={"epochs": 3}))
    assert [trial.training.epochs for trial in trials] == [30, 30, 3, 3]
    assert [trial.training.localisation_lr for trial in trials] == [1.0, 0.05, 1.0, 0.05]


def test_one_number_multiplies_the_epochs_of_every_classifier() -> None:
    models = ["fcn", "st_cnn", {"name": "mine", "classifier": "package.module:function"}]
    trials = trials_of(experiment(models=models, epoch_multiplier=4, training={"epochs": 3}))
    assert [trial.training.epochs for trial in trials] == [12, 12, 12]


def test_a_models_trials_train_by_what_it_was_tuned_to_and_write_it_as_before() -> None:
    tuned = {
        "name": "st_cnn",
        "base": "st_cnn",
        "tuned": {"trials": 12, "lr": 0.02, "localisation_lr": 0.5, "elastic_augmentation": 0.5},
    }
    one = experiment(models=["cnn", tuned], training={"weight_decay": 0.03})
    found = {"weight_decay": 0.03, "lr": 0.02, "localisation_lr": 0.5, "elastic_augmentation": 0.5}
    same = experiment(models=["cnn", "st_cnn"], training=found)
    assert trials_of(one)[1].model_dump_json() == trials_of(same)[1].model_dump_json()
    assert trials_of(one)[1] == trials_of(same)[1] == TrialSpec.model_validate_json(trials_of(one)[1].model_dump_json())
    assert trials_of(one)[0] == trials_of(experiment(training={"weight_decay": 0.03}))[0]
    assert "tuned" not in trials_of(one)[1].model_dump(mode="json")["model"]


def test_controls_train_by_what_their_model_was_tuned_to() -> None:
    tuned = {"name": "st_cnn", "base": "st_cnn", "tuned": {"trials": 12, "lr": 0.02}}
    rates = {trial.model.name: trial.training.lr for trial in trials_of(experiment(models=[tuned], controls=True))}
    assert set(rates.values()) == {0.02}
    assert len(rates) == 4


def test_what_concerns_localisation_networks_is_no_part_of_a_trial_without_one() -> None:
    models = ["cnn", "st_cnn"]
    one, other = (trials_of(experiment(models=models, training={"classifier_delay": share})) for share in (0.0, 0.2))
    assert one[0] == other[0]
    assert one[1] != other[1]


def bare(schema: object, way: str = "") -> list[str]:
    """The ways to the numbers, texts and lists below a JSON schema that lack a lower or an upper bound."""
    if isinstance(schema, list):
        return [found for number, below in enumerate(schema) for found in bare(below, f"{way}/{number}")]
    if not isinstance(schema, dict):
        return []
    bounds = {
        "number": [{"minimum", "exclusiveMinimum"}, {"maximum", "exclusiveMaximum"}],
        "string": [{"maxLength", "enum", "const"}],
        "array": [{"maxItems"}],
    }
    bounds["integer"] = bounds["number"]
    lacking = [kind for kind in bounds.get(str(schema.get("type")), []) if not kind & schema.keys()]
    return [way] * bool(lacking) + [found for key, below in schema.items() for found in bare(below, f"{way}/{key}")]


@pytest.mark.parametrize("spec", [ExperimentSpec, ColocalisationSpec, TrialSpec, CellSpec])
def test_every_number_text_and_list_is_bounded_in_the_schema(spec: type[Spec]) -> None:
    assert bare({"properties": {"a": {"type": "integer", "minimum": 0}, "b": {"type": "string"}}}) == [
        "/properties/a",
        "/properties/b",
    ]
    assert bare(spec.model_json_schema()) == []
    assert bare(schema()) == []


def test_only_chooses_by_dataset_and_model() -> None:
    keys = [trial.key for trial in trials_of(experiment(datasets=["r", "rts"]), only="rts/st_*")]
    assert keys == ["rts/st_cnn/seed-0"]


def test_the_baseline_is_the_same_classifier_without_a_transformer() -> None:
    models = experiment(models=["cnn_paper", "cnn", "st_cnn"]).models
    assert [baseline_of(model, models) for model in models] == [None, None, models[1]]
    assert baseline_of(models[2], models[:1]) is None


@pytest.mark.parametrize(
    ("before", "changes"),
    [
        (DatasetSpec(name="wide", canvas=(40, 40), clutter=ClutterSpec(patches=2, size=20)), {"canvas": 12}),
        (DatasetSpec.model_validate("r"), {"rotation": (-200.0, 0.0)}),
        (DatasetSpec.model_validate("tc"), {"scal": (1.0, 1.0)}),
        (ModelSpec.model_validate("st_cnn").transformer, {"parallel": 2, "before": (1,)}),
        (TrainingSpec(**RECIPES["default"]), {"epochs": 20_000}),
    ],
)
def test_what_is_changed_is_checked_as_a_files_would_be(before, changes):
    with pytest.raises(UserError) as caught:
        before.changed(**changes)
    assert "\n" not in str(caught.value)
    assert next(iter(changes)) in str(caught.value)
    with pytest.raises(ValidationError):
        type(before).model_validate({**before.model_dump(mode="json"), **changes})


@pytest.mark.parametrize("name", DATASETS)
def test_changed_to_what_it_was_nothing_changes(name):
    dataset = DatasetSpec.model_validate(name)
    assert dataset.changed(**dict(dataset)) == dataset == dataset.eased(1.0)


def properties(spec: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The keys of a JSON schema and of all its parts, each with the part's name before it, and what it says of each."""
    for name, part in {spec["title"]: spec, **spec["$defs"]}.items():
        yield from ((f"{name}.{key}", said) for key, said in part.get("properties", {}).items())


@pytest.mark.parametrize("spec", [schema(), ColocalisationSpec.model_json_schema()], ids=["run", "colocalise"])
def test_every_key_of_a_configuration_has_a_description(spec: dict[str, Any]) -> None:
    found = dict(properties(spec))
    assert [key for key, said in found.items() if not said.get("description")] == []
    assert "ClutterSpec.patches" in found, "parts of parts, too"
