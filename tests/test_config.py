"""A configuration means one experiment, and can be written back."""

import re
from pathlib import Path

import pytest
import yaml

from stn_train.config import dump, load_config, schema, shipped
from stn_train.specs import DATASETS, MODELS, RECIPES, ExperimentSpec, Spec, TrainingSpec

BASE = "datasets: [rts]\nmodels: [cnn, st_cnn]\n"


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write `mine.yaml` in an empty working folder."""
    monkeypatch.chdir(tmp_path)

    def write(text: str | bytes, name: str = "mine.yaml") -> str:
        Path(name).write_bytes(text.encode() if isinstance(text, str) else text)
        return name

    return write


# --- what a configuration means ---------------------------------------------------------------------------------


def test_the_least_configuration_is_filled_in(written):
    experiment = load_config(written(BASE))
    assert experiment == ExperimentSpec.model_validate(
        {"name": "mine", "datasets": ["rts"], "models": ["cnn", "st_cnn"]}
    )
    assert experiment.training == TrainingSpec(**RECIPES["default"])


def test_a_name_in_the_file_wins_over_the_file_name(written):
    assert load_config(written(BASE + "name: other\n")).name == "other"


def test_shipped_configurations_are_found_by_name_and_each_has_a_folder_of_its_own():
    names = {name: load_config(name, kind=Spec).name for name in shipped()}
    assert (names["rts"], names["paper/table1"], names["paper/tc"]) == ("rts", "table1", "tc_paper")
    assert len(set(names.values())) == len(names)


@pytest.mark.parametrize("name", shipped())
def test_shipped_configurations_begin_with_a_short_description(name):
    first = shipped()[name].read_text().splitlines()[0]
    assert re.fullmatch(r"# [A-Z].{10,76}[.?]", first)


def test_the_spatial_distortions_each_have_a_configuration():
    assert {"rotation", "translation", "scale", "shear", "r", "rts", "tc", "quickstart"} <= shipped().keys()


def test_a_file_wins_over_a_shipped_name_and_a_folder_does_not(written):
    Path("tc").mkdir()
    assert load_config("tc").datasets[0].name == "tc"
    assert load_config(written(BASE, name="rotation")).datasets[0].name == "rts"


def test_exponents_need_no_point(written):
    assert load_config(written(BASE + "training: {lr: 1e-3}")).training.lr == 0.001


def test_windows_files_are_read(written):
    text = b"\xef\xbb\xbf" + (BASE + "seeds: [3]\n").replace("\n", "\r\n").encode()
    assert load_config(written(text)).seeds == (3,)


# --- overrides --------------------------------------------------------------------------------------------------


def test_overrides_are_laid_over_in_turn(written):
    mine = written(BASE + "training: {epochs: 3, lr: 0.1}\nseeds: [0, 1]\n")
    experiment = load_config(
        mine, ["training.epochs=4", "training.epochs=5", "seeds.1=7", "datasets=[r,tc]", "name=other"]
    )
    assert (experiment.training.epochs, experiment.training.lr) == (5, 0.1)
    assert experiment.seeds == (0, 7)
    assert [dataset.name for dataset in experiment.datasets] == ["r", "tc"]
    assert experiment.name == "other"


@pytest.mark.parametrize("name", ["paper/table1", "paper/tc", "paper/addition"])
def test_the_papers_tables_are_in_recipe_paper_by_one_key(name):
    ours, paper = load_config(name), load_config(name, ["recipe=paper"])
    assert (ours.recipe, ours.training.epochs) == ("default", 20)
    assert (paper.recipe, paper.training) == ("paper", TrainingSpec(**RECIPES["paper"]))
    assert (ours.epoch_multiplier, paper.epoch_multiplier) == ({"fcn": 5}, None)
    unchanged = {"recipe", "training", "epoch_multiplier"}
    assert paper.model_dump(exclude=unchanged) == ours.model_dump(exclude=unchanged)


@pytest.mark.parametrize("training", ["training: {epochs: 3, lr: 0.1}\n", ""])
def test_another_recipe_is_taken_whole_with_the_changes_of_overrides_alone(written, training):
    mine = written(BASE + training)
    paper = TrainingSpec(**RECIPES["paper"])
    assert load_config(mine, ["recipe=paper"]).training == paper
    for overrides in (["training.grad_clip=0.5", "recipe=paper"], ["recipe=paper", "training.grad_clip=0.5"]):
        assert load_config(mine, overrides).training == paper.model_copy(update={"grad_clip": 0.5})
    assert load_config(mine, ["recipe=default"]) == load_config(mine)
    whole = written(dump(load_config(mine)), name="whole.yaml")
    assert load_config(whole, ["recipe=paper"]).training == paper


def test_the_number_of_digits_belongs_to_no_recipe(written):
    mine = written(BASE + "training: {epochs: 3, train_size: 500}\n")
    paper = load_config(mine, ["recipe=paper"]).training
    assert paper == TrainingSpec(**RECIPES["paper"], train_size=500)
    assert load_config(mine, ["training.train_size=null"]).training.train_size is None


def test_another_recipe_is_as_long_for_every_classifier(written):
    mine = written(BASE + "epoch_multiplier: {fcn: 10}\n")
    assert load_config(mine).epoch_multiplier == {"fcn": 10}
    assert load_config(mine, ["recipe=paper"]).epoch_multiplier is None
    assert load_config(mine, ["recipe=paper", "epoch_multiplier.fcn=2"]).epoch_multiplier == {"fcn": 2}
    assert load_config(mine, ["recipe=default"]).epoch_multiplier == {"fcn": 10}


def test_a_mistake_in_the_changes_that_another_recipe_drops_is_none(written):
    mine = written(BASE + "training: {epochs: x}")
    assert load_config(mine, ["recipe=paper"]).training.epochs == RECIPES["paper"]["epochs"]


@pytest.mark.parametrize("training", ["", "training:\n"])
def test_overrides_make_absent_mappings(written, training):
    assert load_config(written(BASE + training), ["training.grad_clip=null"]).training.grad_clip is None


def test_an_override_can_change_a_changed_preset(written):
    mine = written("datasets: [{name: mild, base: rts}]\nmodels: [cnn]\n")
    assert load_config(mine, ["datasets.0.rotation=20"]).datasets[0].rotation == (-20, 20)


def test_an_override_mends_what_the_file_has_wrong(written):
    assert (
        load_config(written(BASE + "training: {epochs: x}"), ["training={}"]).training.epochs
        == RECIPES["default"]["epochs"]
    )


# --- back to YAML -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", shipped())
def test_a_dumped_configuration_loads_to_the_same(name, written):
    experiment = load_config(name, kind=Spec)
    assert load_config(written(dump(experiment)), kind=Spec) == experiment


@pytest.mark.parametrize(
    "overrides",
    [
        ["recipe=paper"],
        ["training.grad_clip=null"],  # the recipe has one
        ["training.lr=1e-5"],
        ["recipe=paper", "training.grad_clip=0.5"],
        ["recipe=paper", "training.train_size=500"],
        ["datasets=[{name: '1e5', rotation: 12.5, scale: [0.3, 0.30000000000000004]}, {name: 'null', base: tc}]"],
        ["datasets=[{name: '2024-01-01', canvas: [20, 30]}, {name: 'on'}, {name: '0x1F'}, {name: '0'}]"],
        [
            "models=[{name: a, base: st_cnn, transformer: {output_size: 14}}, "
            "{name: b, base: st_cnn, transformer: null}]"
        ],
        ["data_root='a: b # c'", "prebuilt='é 数 \"'"],
        ["source={path: ./x, checksum: a, classes: ['a\xa0b', '\U0001f468\u200d\U0001f469', '\u200f\xad\ufeff', ' ']}"],
        [f"seeds={list(range(100))}"],
    ],
)
def test_every_part_of_a_specification_survives_dumping(overrides, written):
    experiment = load_config("rts", overrides)
    text = dump(experiment)
    assert load_config(written(text)) == experiment
    assert ExperimentSpec.model_validate(yaml.safe_load(text)) == experiment  # whoever reads it


def test_a_dump_is_readable():
    lines = dump(load_config("tc")).splitlines()
    assert lines[:4] == ["name: tc", "source: mnist", "datasets:", "- name: tc"]
    assert "  canvas: [60, 60]" in lines
    assert "seeds: [0]" in lines
    assert not any("null" in line or "rotation" in line for line in lines)


# --- the schema -------------------------------------------------------------------------------------------------


def test_the_schema_asks_for_what_a_person_must_write():
    assert schema()["required"] == ["datasets", "models"]
    assert "required" not in schema()["$defs"]["TrainingSpec"]
    assert schema()["additionalProperties"] is False


def test_the_schema_knows_every_key_of_an_experiment():
    assert schema()["properties"].keys() == ExperimentSpec.model_fields.keys()


@pytest.mark.parametrize(
    ("key", "definition", "presets", "required"),
    [("datasets", "DatasetSpec", DATASETS, ["name"]), ("models", "ModelSpec", MODELS, ["name", "classifier"])],
)
def test_the_schema_takes_presets_and_changes_to_them(key, definition, presets, required):
    by_name, mapping = schema()["properties"][key]["items"]["anyOf"]
    assert by_name == {"enum": list(presets)}
    assert mapping == {"$ref": f"#/$defs/{definition}"}
    entry = schema()["$defs"][definition]
    assert entry["properties"]["base"]["enum"] == list(presets)
    assert [case["required"] for case in entry["anyOf"]] == [required, ["name", "base"], ["base"]]
    assert "required" not in entry


def test_every_reference_in_the_schema_is_defined():
    whole = schema()
    assert set(re.findall(r"'#/\$defs/(\w+)'", str(whole))) == set(whole["$defs"])
