"""The field's words: nothing that a user types has a name of an earlier version, and who types one is told the new."""

from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

import stn_train
from stn_train.cli import app
from stn_train.config import load_config, schema, shipped
from stn_train.errors import RENAMED, UserError
from stn_train.specs import DATASETS, MODELS, RECIPES

OLD = {*RENAMED, "multiply_adds", "opponent", "SideBySide", "Regression", "Keypoints", "draw", "Ink"}
OLD |= {"Variant", "FreshData", "BuiltData", "Draw", "Subject", "Problem", "Session", "TaughtPose", "TruePose"}


def keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, below in value.items():
            if key == "properties":
                yield from below
            yield from keys(below)
    elif isinstance(value, list):
        for below in value:
            yield from keys(below)


def options(command: Any) -> Iterator[str]:
    yield from (option for parameter in command.params for option in parameter.opts)
    for below in getattr(command, "commands", {}).values():
        yield from options(below)


def test_keys_options_presets_and_public_names_are_the_fields():
    words = {*keys(schema()), *options(typer.main.get_command(app)), *DATASETS, *MODELS, *RECIPES, *shipped()}
    words |= {*stn_train.__all__, *(key for recipe in RECIPES.values() for key in recipe)}
    assert words & OLD == set()


@pytest.mark.parametrize(
    "old", ["rate", "localisation_rate", "averaging", "clip", "warm_up", "optimiser", "head_start"]
)
def test_an_old_key_is_told_its_new_name(tmp_path, old):
    path = tmp_path / "mine.yaml"
    path.write_text(f"datasets: [r]\nmodels: [cnn]\ntraining: {{{old}: 1}}\n")
    with pytest.raises(UserError, match=rf"mine.yaml:3: training.{old}: .*it is called '{RENAMED[old]}' now"):
        load_config(str(path))


@pytest.mark.parametrize(
    ("text", "new"),
    [
        ("datasets: [{name: a, like: r}]\nmodels: [cnn]\n", "base"),
        ("datasets: [{name: a, corners: {std: 1}}]\nmodels: [cnn]\n", "perspective"),
        ("datasets: [{name: a, perspective: {spread: 1}}]\nmodels: [cnn]\n", "std"),
        ("datasets: [r]\nmodels: [{name: a, base: st_cnn, transformer: {at: [1]}}]\n", "before"),
        ("datasets: [r]\nmodels: [{name: a, base: st_cnn, transformer: {pose: taught}}]\n", "supervised"),
        ("datasets: [r]\nmodels: [cnn]\nrecipe: ours\n", "default"),
        ("datasets: [r]\nmodels: [cnn]\nbuilt: here\n", "prebuilt"),
        ("datasets: [r]\nmodels: [cnn]\nlonger: {fcn: 5}\n", "epoch_multiplier"),
    ],
)
def test_other_old_names_are_told_their_new_ones(tmp_path, text, new):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=f"it is called '{new}' now"):
        load_config(str(path))
