"""Every mistake in a configuration is told in one sentence that says where, what, and how to mend it."""

from pathlib import Path

import pytest

from stn_train.config import LARGEST, load_config
from stn_train.errors import UserError

BASE = "datasets: [rts]\nmodels: [cnn, st_cnn]\n"


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write `mine.yaml` in an empty working folder."""
    monkeypatch.chdir(tmp_path)

    def write(text: str | bytes, name: str = "mine.yaml") -> str:
        Path(name).write_bytes(text.encode() if isinstance(text, str) else text)
        return name

    return write


def sentence(config: str, *overrides: str) -> str:
    """What the user is told of one mistake, however many pydantic makes of it."""
    (told,) = sentences(config, *overrides)
    return told


def sentences(config: str, *overrides: str) -> list[str]:
    """What the user is told; a line for each mistake."""
    with pytest.raises(UserError) as caught:
        load_config(config, overrides)
    told = str(caught.value).split("\n")
    assert max(map(len, told)) < 400
    return told


A = "datasets:\n- name: a\n  "  # an entry of datasets, open for more on line 3
Z = "\nmodels: [cnn]\n"

IN_QUOTES = "this is not YAML: while scanning a double-quoted scalar,"

MISTAKES = [
    # what is not YAML, or more of it than is supported
    ("", "mine.yaml: this file is empty"),
    ("# only a comment\n", "mine.yaml: this file is empty"),
    ("- rts\n", "mine.yaml:1: expected `key: value` at the top, not a list of 1"),
    ("\nrts\n", "mine.yaml:2: expected `key: value` at the top, not 'rts'"),
    (
        "datasets: [rts\nmodels: [cnn]\n",
        "mine.yaml:2: this is not YAML: while parsing a flow sequence that begins on line 1, ",
    ),
    ("datasets: a: b\n", "mine.yaml:1: this is not YAML: mapping values are not allowed here"),
    ("training:\n\tepochs: 5\n", "mine.yaml:2: a tab stands here; indent with spaces"),
    ("a: 1\n---\na: 1\n", "mine.yaml:2: this is not YAML: expected a single document"),
    ('a: 1\nb: "\\UFFFFFFFF"\n', "mine.yaml:2: this is not YAML: a number is too large here"),
    *(
        (f'a: 1\nb: "{path}"\n', f"mine.yaml:2: {told}; in double quotes a backslash begins an escape: write it in ")
        for path, told in (
            ("C:\\data", f"{IN_QUOTES} found unknown escape character 'd'"),
            ("C:\\Users", f"{IN_QUOTES} expected escape sequence of 8 hexadecimal numbers, but found 's'"),
            ("C:\\new", "'C:\\new' holds a line break or a control character"),
            ("C:\\Projects", "'C:\\u2029rojects' holds a line break or a control character"),
            ("C:\\_data", "'C:\\xa0data' holds a line break or a control character"),
        )
    ),
    ("a: 1\nb: \x00\n", "mine.yaml:2: not a text file: it holds the character 0x00"),
    (b"\xff\xfea\x00:\x00", "mine.yaml:1: not a text file in UTF-8"),
    (b"a: 1\nb: \xff\n", "mine.yaml:2: not a text file in UTF-8"),
    (BASE + "seeds: [" + 20_000 * "0," + "]\n", "mine.yaml:3: more than 20,000 keys and values, which nothing here"),
    (b"#" * (LARGEST + 1), "mine.yaml: larger than 1 MB"),
    ("a: &x 1\n", "mine.yaml:1: anchors and aliases are not supported"),
    ("a: 1\nb: *x\n", "mine.yaml:2: anchors and aliases are not supported"),
    ("a: 1\nb: !!python/name:os.system x\n", "mine.yaml:2: tags such as !!str are not supported"),
    ("a: 1\nb: " + "[" * 5000, "mine.yaml:2: nested more than 20 levels deep"),
    ("? [a]\n: b\n", "mine.yaml:1: a key must be a plain word"),
    ("name: |\n  a\n  b\n", "mine.yaml:1: 'a\\nb\\n' holds a line break or a control character"),
    (BASE + "datasets: [r]\n", "mine.yaml:3: datasets: duplicate key"),
    (BASE + "training:\n  epochs: 1\n  epochs: 2\n", "mine.yaml:5: training.epochs: duplicate key"),
    (
        BASE + f"seeds: [{'9' * 5000}]\n",
        "mine.yaml:3: seeds.0: 9999999999999999999999999999999999999... is not a number",
    ),
    (
        BASE + f"seeds: [0x{'9' * 5000}]\n",
        "mine.yaml:3: seeds.0: 0x99999999999999999999999999999999999... is not a number",
    ),
    (BASE + "training: {epochs: 010}\n", "mine.yaml:3: training.epochs: 010 is a number that is not what it looks"),
    (BASE + "training:\n  epochs: 1:30\n", "mine.yaml:4: training.epochs: 1:30 is a number that is not what it"),
    # keys
    (
        BASE + "training:\n  epoch: 5\n",
        "mine.yaml:4: training.epoch: there is no key 'epoch' here; did you mean 'epochs'?",
    ),
    (BASE + "epochs: 5\n", "mine.yaml:3: epochs: there is no key 'epochs' here; it belongs under training"),
    (
        BASE + "rotation: 5\n",
        "mine.yaml:3: rotation: there is no key 'rotation' here; it belongs in an entry of datasets",
    ),
    (
        BASE + "zzz: 5\n",
        "mine.yaml:3: zzz: there is no key 'zzz' here; known: controls, data_root, datasets, ",
    ),
    (BASE + '"a b": 5\n', "mine.yaml:3: 'a b': there is no key 'a b' here"),
    (A + "bas: rts" + Z, "mine.yaml:3: datasets.0.bas: there is no key 'bas' here; did you mean 'base'?"),
    (
        A + "clutter:\n    pathces: 3" + Z,
        "mine.yaml:4: datasets.0.clutter.pathces: there is no key 'pathces' here; did you mean 'patches'?",
    ),
    (
        "dataset: [rts]\nmodels: [cnn]\n",
        "mine.yaml:1: dataset: there is no key 'dataset' here; did you mean 'datasets'?",
    ),
    ("\n\nmodels: [cnn]\n", "mine.yaml:3: datasets: this key is missing; add for instance `datasets: [rts]`"),
    (
        "datasets:\n- r\n- rotation: 3" + Z,
        "mine.yaml:3: datasets.1.name: this key is missing; add for instance `name: ",
    ),
    # types
    (BASE + "seeds: 3\n", "mine.yaml:3: seeds: expected a list, not 3; write [3]"),
    ("datasets: rts" + Z, "mine.yaml:1: datasets: expected a list, not 'rts'; write [rts]"),
    ("datasets: []" + Z, "mine.yaml:1: datasets: expected at least 1 entry"),
    (f"datasets: [{'r,' * 101}]" + Z, "mine.yaml:1: datasets: at most 100 entries are allowed, not a list of 101"),
    ("datasets:\n- rts\n- 3" + Z, "mine.yaml:3: datasets.1: expected a preset's name or a mapping, not 3"),
    (BASE + "training: 3\n", "mine.yaml:3: training: expected a mapping, not 3; its keys are epochs, batch_size, "),
    (BASE + "training:\n", "mine.yaml:3: training: expected a mapping, not nothing"),
    (BASE + "training: {epochs: 1.5}\n", "mine.yaml:3: training.epochs: expected a whole number, not 1.5"),
    (BASE + "seeds: [0, true]\n", "mine.yaml:3: seeds.1: expected a whole number, not true"),
    (BASE + "training: {lr: fast}\n", "mine.yaml:3: training.lr: expected a number, not 'fast'"),
    (BASE + "training: {lr: .nan}\n", "mine.yaml:3: training.lr: expected a finite number, not nan"),
    (BASE + "validation: 1\n", "mine.yaml:3: validation: expected true or false, not 1"),
    (BASE + "name: 42\n", "mine.yaml:3: name: expected text, not 42; put it in quotes"),
    (BASE + "data_root: ''\n", "mine.yaml:3: data_root: expected text, not nothing"),
    (A + "canvas: big" + Z, "mine.yaml:3: datasets.0.canvas: expected a number or a list of two numbers, not 'big'"),
    (
        A + "shear: [1, 2, 3]" + Z,
        "mine.yaml:3: datasets.0.shear: expected a number or a list of two numbers, not a list of 3",
    ),
    (
        A + "shear: [1]" + Z,
        "mine.yaml:3: datasets.0.shear: expected a number or a list of two numbers, not a list of 1",
    ),
    (
        "datasets: [rts]\nmodels:\n- {name: a, base: st_cnn, transformer: {before: 2}}\n",
        "mine.yaml:3: models.0.transformer.before: expected a list, not 2; write [2]",
    ),
    (
        "datasets: [rts]\nmodels:\n- {name: a, base: st_cnn, transformer: {before: []}}\n",
        "mine.yaml:3: models.0.transformer.before: expected at least 1 entry",
    ),
    (
        "datasets: [rts]\nmodels:\n- {name: a, base: cnn, tta_angles: 15}\n",
        "mine.yaml:3: models.0.tta_angles: expected a list, not 15; write [15]",
    ),
    (
        "datasets: [rts]\nmodels:\n- {name: a, base: cnn, tta_angles: [10, -10, 10]}\n",
        "mine.yaml:3: models.0.tta_angles: an angle appears twice; leave one of them out",
    ),
    (
        "datasets: [rts]\nmodels:\n- {name: a, base: cnn, tta_angles: [0, 10]}\n",
        "mine.yaml:3: models.0.tta_angles: 0 is no rotation: the image itself is always read; leave it out",
    ),
    # values
    (BASE + "training:\n  epochs:\n    0\n", "mine.yaml:4: training.epochs: must be at least 1, not 0"),
    (BASE + "training: {epochs: 0}\n", "mine.yaml:3: training.epochs: must be at least 1, not 0"),
    (BASE + "training: {train_size: 10}\n", "mine.yaml:3: training.train_size: must be at least 100, not 10"),
    (BASE + "training: {batch_size: 10_000_000}\n", "mine.yaml:3: training.batch_size: must be at most 16384, not 10"),
    (BASE + "training: {lr: .inf}\n", "mine.yaml:3: training.lr: expected a finite number, not inf"),
    (BASE + "training: {grad_clip: 1e300}\n", "mine.yaml:3: training.grad_clip: must be at most 1000000, not 1e+300"),
    (BASE + "training: {train_size: 60_001}\n", "mine.yaml:3: training.train_size: must be at most 60000, not 60001"),
    (
        BASE + f"seeds: {list(range(1001))}\n",
        "mine.yaml:3: seeds: at most 1000 entries are allowed, not a list of 1001",
    ),
    (BASE + f"data_root: {'x' * 5000}\n", "mine.yaml:3: data_root: at most 4096 characters are allowed, not 5000"),
    (A + "canvas: 100_000" + Z, "mine.yaml:3: datasets.0.canvas: must be at most 256, not 100000"),
    (BASE + "training: {lr: 0}\n", "mine.yaml:3: training.lr: must be above 0, not 0"),
    (BASE + "training: {ema_decay: 1}\n", "mine.yaml:3: training.ema_decay: must be below 1, not 1"),
    (BASE + "parameters: 1_000_000_000\n", "mine.yaml:3: parameters: must be at most 100000000, not 1000000000"),
    (A + "rotation: 500" + Z, "mine.yaml:3: datasets.0.rotation: must be at most 180, not 500"),
    (A + "canvas: 4" + Z, "mine.yaml:3: datasets.0.canvas: must be at least 8, not 4"),
    (A + "scale:\n  - 1\n  - 20" + Z, "mine.yaml:5: datasets.0.scale.1: must be at most 10, not 20"),
    (A + "scale: [2, 1]" + Z, "mine.yaml:3: datasets.0.scale: the lower end 2 is above the upper end 1"),
    (BASE + "name: x y\n", "mine.yaml:3: name: a name is letters, digits, '.', '_' and '-', and begins with a letter "),
    (BASE + f"name: {'x' * 65}\n", "mine.yaml:3: name: at most 64 characters are allowed, not 65"),
    (BASE + f"name: {'x' * 900_000}\n", "mine.yaml:3: name: at most 64 characters are allowed, not 900000"),
    (BASE + "name: CON\n", "mine.yaml:3: name: CON cannot be the name of a folder on Windows; choose another"),
    (BASE + "name: nul.txt\n", "mine.yaml:3: name: nul.txt cannot be the name of a folder on Windows"),
    (BASE + "name: dot.\n", "mine.yaml:3: name: dot. cannot be the name of a folder on Windows"),
    (
        BASE + "name: ../up\n",
        "mine.yaml:3: name: a name is letters, digits, '.', '_' and '-', and begins with a letter ",
    ),
    (
        f"datasets: [r]\nmodels: [{{name: {'x' * 60}, base: st_cnn}}]\ncontrols: true\n",
        f"mine.yaml:2: models: {'x' * 60}-identity is a control's name of more than 64 characters; shorten it",
    ),
    (
        f"datasets: [r]\nmodels: {[f'm{number}' for number in range(30)]}\ncontrols: true\n".replace(
            "'m", "{base: st_cnn, name: m"
        ).replace("'", "}"),
        "mine.yaml:2: models: with their controls these are 120 models, and at most 100 are allowed",
    ),
    (BASE + "seeds: [0, 0]\n", "mine.yaml:3: seeds: the seed 0 appears twice"),
    ("datasets: [rts, rts]" + Z, "mine.yaml:1: datasets: the name rts appears twice"),
    (
        "datasets: [rotatoin]" + Z,
        "mine.yaml:1: datasets.0: there is no dataset preset 'rotatoin'; did you mean 'rotation'?",
    ),
    ("datasets:\n- base: rts\n  scale: 1" + Z, "mine.yaml:2: datasets.0: a changed dataset needs a name of its own"),
    (
        "datasets: [rts]\nmodels:\n- {name: m, classifier: cnn_papr}\n",
        "mine.yaml:3: models.0.classifier: there is no classifier 'cnn_papr' (one of your own is written "
        "package.module:function); did you mean 'cnn_paper'?",
    ),
    *(
        (
            f"datasets: [r]\nmodels:\n- {{name: m, base: st_cnn, transformer: {{{written}}}}}\n",
            f"mine.yaml:3: models.0.transformer{told}",
        )
        for written, told in (
            ("supersampling: 0", ".supersampling: must be at least 1, not 0"),
            ("supersampling: 5", ".supersampling: must be at most 4, not 5"),
            ("supersampling: true", ".supersampling: expected a whole number, not true"),
            ("supersampling: aut", ".supersampling: expected a whole number, not 'aut'"),
            ("before: [2], supersampling: 2", ": supersampling 2 is for a transformer at the input; leave it out, or "),
        )
    ),
    (BASE + "source: [mnist]\n", "mine.yaml:3: source: a list of 1 is not one of mnist, fashion_mnist, kmnist, digits"),
]


@pytest.mark.parametrize(("text", "told"), MISTAKES, ids=[told[:60] for _, told in MISTAKES])
def test_a_mistake_is_one_sentence_with_file_line_and_key(written, text, told):
    assert sentence(written(text)).startswith(told)


def test_every_mistake_is_told_in_the_order_of_the_file(written):
    text = "training: {epochs: 0, lr: x}\nmodels: [cnn]\nrecipes: 3\ndatasets: [rst]\n"
    places = [
        "mine.yaml:1: training.epochs",
        "mine.yaml:1: training.lr",
        "mine.yaml:3: recipes",
        "mine.yaml:4: datasets.0",
    ]
    for told, place in zip(sentences(written(text)), places, strict=True):
        assert told.startswith(f"{place}: ")


def test_of_very_many_mistakes_the_rest_is_counted(written):
    *first, last = sentences(written(f"datasets: [rts]\nmodels: [cnn]\nseeds: {['x'] * 80}\n"))
    assert len(first) == 50
    assert last == "and 30 more mistakes"


def test_what_follows_from_an_unknown_recipe_is_not_told(written):
    text = BASE + "training: {grad_clip: 3}\nrecipe: our\n"
    assert sentence(written(text)) == "mine.yaml:4: recipe: 'our' is not one of default, paper"


def test_a_file_name_that_cannot_be_a_name_is_told_of(written):
    said = sentence(written(BASE, name="my file.yaml"))
    assert said.startswith("my file.yaml (named after its file, since it has no `name` key): name: a name is letters")


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ("rtss", "there is no shipped configuration 'rtss', nor a file; did you mean 'rts'?"),
        (
            "quikstart.yaml",
            "quikstart.yaml: there is no such file, nor a shipped configuration; did you mean 'quickstart'?",
        ),
        ("configs/mine", "configs/mine: there is no such file, nor a shipped configuration; known: "),
        (".", ".: expected a configuration file, not a folder"),
        ("", "there is no shipped configuration '', nor a file"),
        ("a\0b", "there is no shipped configuration 'a\\x00b', nor a file"),
    ],
)
def test_what_is_not_found_is_told_with_the_nearest_known(config, told, written):
    assert sentence(config).startswith(told)


def test_a_file_that_may_not_be_read_is_told_of(written, monkeypatch):
    mine = written(BASE)

    def refuse(*_):
        raise PermissionError(13, "Permission denied", mine)

    monkeypatch.setattr(Path, "open", refuse)
    assert sentence(mine) == "mine.yaml: cannot be read: Permission denied"


# --- overrides --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("training.epochs", "expected KEY=VALUE, for instance --set training.epochs=5"),
        ("=5", "expected KEY=VALUE"),
        ("training.=5", "expected KEY=VALUE"),
        ("training.epochs=", "expected a value after the '='"),
        ("training.epochs=010", "010 is a number that is not what it looks like; write it without a leading 0"),
        ("training.epoch=5", "training.epoch: there is no key 'epoch' here; did you mean 'epochs'?"),
        ("trainig.epochs=5", "trainig: there is no key 'trainig' here; did you mean 'training'?"),
        ("training.epochs=x", "training.epochs: expected a whole number, not 'x'"),
        ("training.epochs.x=3", "training.epochs: expected a whole number, not a mapping"),
        ("datasets=[r,", "this is not YAML"),
        ("datasets=*x", "anchors and aliases are not supported"),
        ("datasets.0.rotation=20", "datasets.0 is 'rts', which has no keys; set datasets.0 as a whole"),
        ("datasets.1=r", "datasets is a list of 1, which has no entry '1'; entries are counted from 0"),
        ("datasets.-1=r", "datasets is a list of 1, which has no entry '-1'"),
        ("datasets.rts=r", "datasets is a list of 1, which has no entry 'rts'"),
        ("datasets.0={}", "datasets.0.name: this key is missing"),
        ("training={epochs: 0}", "training.epochs: must be at least 1, not 0"),
        ("seeds=[0,0]", "seeds: the seed 0 appears twice"),
        ("a\udcff=1", "expected KEY=VALUE"),
        ("name=\udcff", "not a text file: it holds the character 0xdcff"),
    ],
)
def test_a_mistake_in_an_override_is_told_of_the_override(written, override, told):
    assert sentence(written(BASE), override).startswith(f"--set {override}: {told}")


def test_the_file_is_told_of_before_overrides(written):
    mine = written(BASE + "seeds: [x]\n")
    first, second = sentences(mine, "training.epochs=0")
    assert first.startswith("mine.yaml:3: seeds.0: ")
    assert second.startswith("--set training.epochs=0: training.epochs: ")
