"""Every mistake in a configuration is told in one sentence that says where, what, and how to mend it.

The tests look for the file, the line, the key and what mends it: not for the words between them.
"""

import copy
import re
from collections.abc import Iterator
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytest
import yaml

from stn_train.cli import main
from stn_train.config import dump, load_config
from stn_train.errors import UserError
from stn_train.specs import Spec

BASE = "datasets: [rts]\nmodels: [cnn, st_cnn]\n"


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write `mine.yaml` in an empty working folder."""
    monkeypatch.chdir(tmp_path)

    def write(text: str | bytes, name: str = "mine.yaml") -> str:
        Path(name).write_bytes(text.encode() if isinstance(text, str) else text)
        return name

    return write


def sentences(config: str, *overrides: str) -> list[str]:
    """What the user is told; one for each mistake."""
    with pytest.raises(UserError) as caught:
        load_config(config, overrides)
    told = [str(sentence) for sentence in caught.value.args]
    assert max(map(len, told)) < 400
    return told


def sentence(config: str, *overrides: str) -> str:
    """What the user is told of one mistake, however many pydantic makes of it."""
    (told,) = sentences(config, *overrides)
    return told


A = "datasets:\n- name: a\n  "  # an entry of datasets, open for more on line 3
M = "datasets: [rts]\nmodels:\n- name: m\n  base: st_cnn\n  "  # an entry of models, open for more on line 5
Z = "\nmodels: [cnn]\n"

NO_YAML = [
    ("", "", "empty"),
    ("# only a comment\n", "", "empty"),
    ("- rts\n", ":1", "`key: value`", "a list of 1"),
    ("\nrts\n", ":2", "`key: value`", "'rts'"),
    ("datasets: [rts\nmodels: [cnn]\n", ":2", "not YAML", "begins on line 1"),
    ("datasets: a: b\n", ":1", "not YAML"),
    ("training:\n\tepochs: 5\n", ":2", "indent with spaces"),
    ("a: 1\n---\na: 1\n", ":2", "not YAML", "single document"),
    ('a: 1\nb: "C:\\data"\n', ":2", "single quotes"),
    ('a: 1\nb: "C:\\Users"\n', ":2", "single quotes"),
    ('a: 1\nb: "C:\\new"\n', ":2", "line break", "single quotes"),
    ("name: |\n  a\n  b\n", ":1", "name", "line break"),
    ("a: 1\nb: \x00\n", ":2", "not a text file"),
    (b"\xff\xfea\x00:\x00", ":1", "UTF-8"),
    (b"a: 1\nb: \xff\n", ":2", "UTF-8"),
    ("a: &x 1\nb: *x\n", ":2", "anchors"),
    ("a: &x [*x]\n", ":1", "anchors"),
    ("a: 1\nb: !!python/name:os.system x\n", ":2", "python/name:os.system"),
    ("a: 1\nb: " + "[" * 5000 + "]" * 5000, "", "cannot be read"),
    (BASE + f"seeds: [{'9' * 5000}]\n", "", "cannot be read"),
    ('a: "\\UFFFFFFFF"\n', "", "cannot be read"),
    ('a: 1\nb: "\\ud800"\n', ":2", "half a character"),
    ('a: !!int ""\n', "", "cannot be read"),
    ("a: 1\nb: 0x" + "f" * 5000 + "\n", ":2", "too large"),
    ("? [a]\n: b\n", ":1", "a plain word"),
    ('a: 1\n"\\n": 1\n', ":2", "a plain word"),
    (BASE + "datasets: [r]\n", ":3: datasets", "duplicate key"),
    (BASE + "training:\n  epochs: 1\n  epochs: 2\n", ":5: training.epochs", "duplicate key"),
    (BASE + "training: {epochs: 010}\n", ":3: training.epochs", "010", "leading 0"),
    (BASE + "training:\n  epochs: 1:30\n", ":4: training.epochs", "1:30", "colon"),
]
KEYS = [
    (BASE + "training:\n  epoch: 5\n", ":4: training.epoch", "'epoch'", "'epochs'?"),
    (BASE + "epochs: 5\n", ":3: epochs", "belongs", "training.epochs"),
    (BASE + "training: {seeds: [1]}\n", ":3: training.seeds", "belongs", "top level"),
    (BASE + "rotation: 5\n", ":3: rotation", "an entry of datasets", "datasets.0.rotation"),
    (BASE + "family: affine\n", ":3: family", "models.0.transformer.family"),
    (BASE + "patches: 5\n", ":3: patches", "datasets.0.clutter.patches"),
    (BASE + "zzz: 5\n", ":3: zzz", "known: controls, data_root, datasets, "),
    (BASE + '"a b": 5\n', ":3: 'a b'"),
    (A + "bas: rts" + Z, ":3: datasets.0.bas", "'base'?"),
    (A + "clutter:\n    pathces: 3" + Z, ":4: datasets.0.clutter.pathces", "'patches'?"),
    ("dataset: [rts]\nmodels: [cnn]\n", ":1: dataset", "'datasets'?"),
    ("\n\nmodels: [cnn]\n", ":3: datasets", "missing", "`datasets: [rts]`"),
    ("datasets:\n- r\n- rotation: 3" + Z, ":3: datasets.1.name", "missing", "`name: "),
]
TYPES = [
    (BASE + "seeds: 3\n", ":3: seeds", "a list", "[3]"),
    ("datasets: rts" + Z, ":1: datasets", "a list", "[rts]"),
    ("datasets: []" + Z, ":1: datasets", "at least 1"),
    (f"datasets: [{'r,' * 101}]" + Z, ":1: datasets", "at most 100"),
    ("datasets:\n- rts\n- 3" + Z, ":3: datasets.1", "preset's name or a mapping"),
    (BASE + "training: 3\n", ":3: training", "a mapping", "epochs, batch_size, "),
    (BASE + "training:\n", ":3: training", "a mapping", "nothing"),
    (BASE + "training: {epochs: 1.5}\n", ":3: training.epochs", "a whole number", "1.5"),
    (BASE + "seeds: [0, true]\n", ":3: seeds.1", "a whole number", "true"),
    (BASE + "training: {lr: fast}\n", ":3: training.lr", "a number", "'fast'"),
    (BASE + "training: {lr: .nan}\n", ":3: training.lr", "finite", "nan"),
    (BASE + "training: {lr: .inf}\n", ":3: training.lr", "finite", "inf"),
    (BASE + "validation: 1\n", ":3: validation", "true or false"),
    (BASE + "name: 42\n", ":3: name", "text", "in quotes"),
    (BASE + "data_root: ''\n", ":3: data_root", "text"),
    (A + "canvas: big" + Z, ":3: datasets.0.canvas", "two numbers", "'big'"),
    (A + "shear: [1, 2, 3]" + Z, ":3: datasets.0.shear", "two numbers", "a list of 3"),
    (A + "shear: [1]" + Z, ":3: datasets.0.shear", "two numbers", "a list of 1"),
    (M + "transformer: {coordinates: canonic}\n", ":5: models.0.transformer.coordinates", "did you mean 'canonical'"),
    (M + "transformer: {coordinates: 1}\n", ":5: models.0.transformer.coordinates", "true or false or canonical"),
    (M + "transformer: {supersampling: two}\n", ":5: models.0.transformer.supersampling", "a whole number or auto"),
    (M + "transformer: {before: 2}\n", ":5: models.0.transformer.before", "a list", "[2]"),
    (M + "transformer: {before: []}\n", ":5: models.0.transformer.before", "at least 1"),
    (M + "transformer: {supersampling: true}\n", ":5: models.0.transformer.supersampling", "a whole number"),
    (M + "tta_angles: 15\n", ":5: models.0.tta_angles", "a list", "[15]"),
    (BASE + "source: [mnist]\n", ":3: source", "mnist, fashion_mnist, kmnist, qmnist"),
    (BASE + "source: {name: mnist, channels: 3}\n", ":3: source", "source: mnist"),
    (BASE + "source: {path: ./mine, classes: [a, b]}\n", ":3: source", "leave them out"),
    (BASE + "source: {name: [mnist]}\n", ":3: source", "mnist, fashion_mnist"),
]
VALUES = [
    (BASE + "epoch_multiplier:\n  fnc: 5\n", ":4: epoch_multiplier.fnc", "did you mean 'fcn'?"),
    (BASE + "epoch_multiplier: 1001\n", ":3: epoch_multiplier", "at most 1000"),
    (BASE + "epoch_multiplier: [fcn]\n", ":3: epoch_multiplier", "a mapping"),
    (BASE + "training:\n  epochs:\n    0\n", ":4: training.epochs", "at least 1", "0"),
    (BASE + "training: {batch_size: 10_000_000}\n", ":3: training.batch_size", "at most 16384"),
    (BASE + "training: {grad_clip: 1e300}\n", ":3: training.grad_clip", "at most 1000000"),
    (BASE + f"seeds: {list(range(1001))}\n", ":3: seeds", "at most 1000", "a list of 1001"),
    (BASE + f"data_root: {'x' * 5000}\n", ":3: data_root", "at most 4096"),
    (BASE + "training: {lr: 0}\n", ":3: training.lr", "at least 1e-12"),
    *(
        (BASE + f"training: {{{key}: 1e-320}}\n", f":3: training.{key}", "at least 1e-12")
        for key in ("lr", "localisation_lr", "warmup", "grad_clip")
    ),
    (BASE + "training: {ema_decay: 1}\n", ":3: training.ema_decay", "below 1"),
    (A + "scale:\n  - 1\n  - 20" + Z, ":5: datasets.0.scale.1", "at most 10", "20"),
    (A + "scale: [2, 1]" + Z, ":3: datasets.0.scale", "2", "above", "1"),
    (BASE + "name: x y\n", ":3: name", "letters, digits", "'x y'"),
    (BASE + "name: ../up\n", ":3: name", "letters, digits"),
    (f"datasets: [r]\nmodels: [{{name: {'x' * 60}, base: st_cnn}}]\ncontrols: true\n", ":2: models", "64"),
    (BASE + "seeds: [0, 0]\n", ":3: seeds", "0", "twice"),
    ("datasets: [rts, rts]" + Z, ":1: datasets", "rts", "twice"),
    ("datasets: [rotatoin]" + Z, ":1: datasets.0", "'rotatoin'", "'rotation'?"),
    ("datasets:\n- base: rts\n  scale: 1" + Z, ":2: datasets.0", "name of its own"),
    (
        "datasets: [r]\nmodels:\n- {base: st_cnn_equivariant, name: st_cnn}\n",
        ":3: models.0",
        "st_cnn is a preset's name",
    ),
    (M.replace("name: m", "name: cnn") + "transformer: {output_size: 16}\n", ":3: models.0", "cnn is a preset's name"),
    (M.replace("base: st_cnn", "classifier: cnn_papr"), ":4: models.0.classifier", "module:function", "'cnn_paper'?"),
    (M + "tta_angles: [10, -10, 10]\n", ":5: models.0.tta_angles", "twice"),
    (M + "tta_angles: [0, 10]\n", ":5: models.0.tta_angles", "leave it out"),
    (M + "transformer: {before: [2], supersampling: 2}\n", ":5: models.0.transformer", "supersampling", "at the input"),
    ("datasets: [r, addition]\nmodels: [cnn, st_cnn_equivariant]\n", ":2: models", "equivariant", "addition", "two"),
]
MISTAKES = NO_YAML + KEYS + TYPES + VALUES


@pytest.mark.parametrize(("text", "place", "meant"), [(text, place, words) for text, place, *words in MISTAKES])
def test_a_mistake_is_one_sentence_with_file_line_and_key(written, text, place, meant):
    said = sentence(written(text))
    assert said.startswith(f"mine.yaml{place}: "), said
    assert [word for word in meant if word not in said] == [], said


def test_every_mistake_is_told_in_the_order_of_the_file(written):
    text = "training: {epochs: 0, lr: x}\nmodels: [cnn]\nrecipes: 3\ndatasets: [rst]\n"
    places = ["mine.yaml:1: training.epochs", "mine.yaml:1: training.lr", "mine.yaml:3: recipes"]
    for told, place in zip(sentences(written(text)), [*places, "mine.yaml:4: datasets.0"], strict=True):
        assert told.startswith(f"{place}: ")


def test_the_file_is_told_of_before_overrides(written):
    first, second = sentences(written(BASE + "seeds: [x]\n"), "training.epochs=0")
    assert first.startswith("mine.yaml:3: seeds.0: ")
    assert second.startswith("--set training.epochs=0: training.epochs: ")


def test_what_follows_from_an_unknown_recipe_is_not_told(written):
    said = sentence(written(BASE + "training: {grad_clip: 3}\nrecipe: our\n"))
    assert said.startswith("mine.yaml:4: recipe: 'our'")
    assert "default, paper" in said


def test_a_file_name_that_cannot_be_a_name_is_told_of(written):
    said = sentence(written(BASE, name="my file.yaml"))
    assert said.startswith("my file.yaml (")
    assert ": name: " in said


@pytest.mark.parametrize(
    ("config", "nearest"),
    [
        ("rtss", "'rts'?"),
        ("quikstart.yaml", "'quickstart'?"),
        ("configs/mine", "config list"),
        (".", "config list"),
        ("", "config list"),
    ],
)
def test_what_is_not_found_is_told_with_the_nearest_known_or_how_to_list_them(config, nearest, written):
    said = sentence(config)
    assert said.startswith(config)
    assert nearest in said


def test_a_file_that_may_not_be_read_is_told_of(written, monkeypatch, capsys):
    mine = written(BASE)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", mine)

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(SystemExit) as ended:
        main(["config", "show", mine])
    (told,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert mine in told
    assert "permission" in told


# --- overrides --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "meant"),
    [
        ("training.epochs", "KEY=VALUE"),
        ("=5", "KEY=VALUE"),
        ("training.=5", "KEY=VALUE"),
        ("training.epochs=", "a value after the '='"),
        ("training.epochs=010", "leading 0"),
        ("training.epoch=5", "training.epoch: there is no key 'epoch' here; did you mean 'epochs'?"),
        ("trainig.epochs=5", "trainig: there is no key 'trainig' here; did you mean 'training'?"),
        ("training.epochs=x", "training.epochs: expected a whole number, not 'x'"),
        ("training.epochs.x=3", "training.epochs: expected a whole number, not a mapping"),
        ("datasets=[r,", "not YAML"),
        ("datasets=[&x r,*x]", "anchors"),
        ("datasets.0.rotation=20", "datasets.0 is 'rts', which has no keys"),
        ("datasets.1=r", "datasets is a list of 1, which has no entry '1'"),
        ("datasets.-1=r", "datasets is a list of 1, which has no entry '-1'"),
        ("datasets.rts=r", "datasets is a list of 1, which has no entry 'rts'"),
        ("datasets.0={}", "datasets.0.name: this key is missing"),
        ("training={epochs: 0}", "training.epochs: must be at least 1, not 0"),
        ("a\udcff=1", "KEY=VALUE"),
        ("name=\udcff", "not a text file"),
    ],
)
def test_a_mistake_in_an_override_is_told_of_the_override(written, override, meant):
    said = sentence(written(BASE), override)
    assert said.startswith(f"--set {override}: ")
    assert meant in said


@pytest.mark.parametrize(
    ("override", "belongs"),
    [
        ("optimizer=sgd", "belongs under training, as training.optimizer"),
        ("optimiser=sgd", "called training.optimizer now"),
        ("rate=0.1", "called training.lr now"),
        ("training.optimiser=sgd", "called 'optimizer' now"),
        ("training.built=here", "called prebuilt now"),
        ("outward=true", "called datasets.0.perspective.direction now"),
    ],
)
def test_a_key_at_the_wrong_level_or_of_an_old_name_is_told_its_place_and_its_name(written, override, belongs):
    said = sentence(written(BASE), override)
    assert said.startswith(f"--set {override}: {override.partition('=')[0]}: ")
    assert belongs in said


# --- wrong anywhere ----------------------------------------------------------------------------------------------


def ways(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to all values below one."""
    for step, below in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ):
        yield (*way, step)
        yield from ways(below, (*way, step))


@pytest.mark.parametrize("name", ["r", "paper/colocalisation"])
@pytest.mark.parametrize("wrong", [None, "zz", -1e30, float("nan"), {"zz": 1}], ids=str)
def test_any_value_of_a_shipped_configuration_made_wrong_is_told_by_its_line_or_is_right(written, name, wrong):
    whole = yaml.safe_load(dump(load_config(name, kind=Spec)))
    told: list[str] = []
    for *above, last in ways(whole):
        changed = copy.deepcopy(whole)
        reduce(getitem, above, changed)[last] = wrong
        try:
            load_config(written(yaml.dump(changed, sort_keys=False)), kind=Spec)
        except UserError as error:
            told += map(str, error.args)
    assert len(told) > 10
    assert [sentence for sentence in told if not re.match(r"mine.yaml(:\d+)?: \w", sentence)] == []
