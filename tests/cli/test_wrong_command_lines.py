"""Command lines, wrong in one known way each: exit code 2, a sentence that names what is wrong, and nothing written."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
from fuzzing import Distortion, fuzz
from hypothesis import strategies as st

from stn_train.cli import app

RIGHT: dict[str, tuple[str, ...]] = {
    "run": ("--config", "small.yaml"),
    "colocalise": ("--config", "paper/colocalisation"),
    "eval": ("runs/small",),
    "robustness": ("runs/small",),
    "visualize": ("runs/small",),
    "report": ("runs/small",),
    "compare": ("runs/small", "runs/copy"),
    "status": ("runs/small",),
    "data build": ("--config", "small.yaml", "--output-dir", "built"),
    "data preview": ("--config", "small.yaml"),
    "config list": (),
    "config show": ("rts",),
    "config check": ("rts", "small.yaml"),
    "config copy": ("rts", "mine.yaml"),
    "config schema": (),
}
"""What each command needs to work."""


def commands(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{before}{name} ")
        else:
            yield before + name, command


COMMANDS = dict(commands(typer.main.get_command(app)))
OPTIONS = {
    name: {param.opts[0]: param for param in command.params if param.param_type_name == "option"}
    for name, command in COMMANDS.items()
}
"""By command, as the command line itself knows them."""
WORDS = sorted({word for name in COMMANDS for word in name.split()})
MISSPELT = "".join(set("qxzw_"))
NAMES = st.text("abcxyz -_.:/*[!é漢\n\t\x1b", min_size=1, max_size=20)


class Wrong(NamedTuple):
    arguments: tuple[str, ...]
    told: str


def line(name: str, *more: str) -> tuple[str, ...]:
    return (*name.split(), *RIGHT[name], *more)


def with_option(option: str) -> list[str]:
    """The commands that take an option; but `config check`, which has a sentence for each file."""
    return [name for name in COMMANDS if option in OPTIONS[name] and name != "config check"]


def misspelt(draw: Distortion, word: str) -> str:
    at = draw(st.integers(0, len(word)))
    return word[:at] + draw(st.sampled_from(sorted(MISSPELT))) + word[at:]


# --- what the parser refuses ------------------------------------------------------------------------------------


def a_misspelt_command(draw: Distortion) -> Wrong:
    name = draw(st.sampled_from(list(COMMANDS)))
    words = name.split()
    at = draw(st.integers(0, len(words) - 1))
    words[at] = misspelt(draw, words[at])
    return Wrong((*words, *RIGHT[name]), words[at])


def an_unknown_option(draw: Distortion) -> Wrong:
    name = draw(st.sampled_from(list(COMMANDS)))
    known = st.sampled_from([*OPTIONS[name], "--help", "--version"])
    word = misspelt(draw, draw(known)[2:]) if draw(st.booleans()) else draw(st.sampled_from("abdefghijklmnprstuvwxyz"))
    option = f"--{word}" if len(word) > 1 else f"-{word}"
    at = len(name.split()) if draw(st.booleans()) else None
    arguments = list(line(name))
    arguments.insert(len(arguments) if at is None else at, option)
    return Wrong(tuple(arguments), option)


def a_value_that_is_missing(draw: Distortion) -> Wrong:
    name = draw(st.sampled_from([name for name in COMMANDS if any(not o.is_flag for o in OPTIONS[name].values())]))
    option = draw(st.sampled_from([key for key, param in OPTIONS[name].items() if not param.is_flag]))
    return Wrong(line(name, option), option)


def a_value_for_a_flag(draw: Distortion) -> Wrong:
    name = draw(st.sampled_from([name for name in COMMANDS if any(o.is_flag for o in OPTIONS[name].values())]))
    option = draw(st.sampled_from([key for key, param in OPTIONS[name].items() if param.is_flag]))
    return Wrong(line(name, f"{option}={draw(st.text('01yes', max_size=5))}"), option)


def what_is_needed_left_out(draw: Distortion) -> Wrong:
    name = draw(st.sampled_from([name for name in COMMANDS if any(param.required for param in COMMANDS[name].params)]))
    param = draw(st.sampled_from([param for param in COMMANDS[name].params if param.required]))
    arguments = list(RIGHT[name])
    if param.param_type_name == "option":
        at = arguments.index(param.opts[0])
        del arguments[at : at + 2]
        return Wrong((*name.split(), *arguments), param.opts[0])
    return Wrong(tuple(name.split()), f"'{param.metavar}'")


def one_too_many(draw: Distortion) -> Wrong:
    several = ("compare", "config check")
    name = draw(st.sampled_from([name for name in COMMANDS if name not in several]))
    more = draw(st.lists(st.text("abcdef0123./", min_size=1), min_size=1, max_size=3))
    return Wrong(line(name, *(f"more{word}" for word in more)), f"more{more[0]}")


def a_bad_number_of_threads(draw: Distortion) -> Wrong:
    numbers = st.one_of(st.integers(max_value=0), st.integers(1025, 10**30)).map(str)
    words = st.sampled_from(["", "two", "1.5", "1e2", "0x2", "2 3", "nan", "inf", "-"])
    name = draw(st.sampled_from(with_option("--threads")))
    return Wrong(line(name, f"--threads={draw(st.one_of(numbers, words))}"), "--threads")


# --- what the commands refuse -----------------------------------------------------------------------------------


def a_configuration_that_is_not_there(draw: Distortion) -> Wrong:
    name = draw(st.sampled_from([*with_option("--config"), "config show", "config copy"]))
    wrong = draw(st.sampled_from(["runs", "nowhere.yaml", "no/where", "rtss", "small.yml", "", "x" * 300])) or "''"
    wrong = draw(st.sampled_from([wrong, draw(NAMES) + "zz"]))
    option = ("--config",) if "--config" in OPTIONS[name] else ()
    rest = ("--output-dir", "built") if name == "data build" else ()
    told = wrong if wrong.isprintable() else "zz"
    return Wrong((*name.split(), *option, f"./{wrong}" if wrong.startswith("-") else wrong, *rest), told)


def a_run_that_is_none(draw: Distortion) -> Wrong:
    name = draw(st.sampled_from(["eval", "robustness", "visualize", "report", "status", "compare"]))
    wrong = draw(st.sampled_from(["small.yaml", "nowhere", "empty", "small.yaml/below", "x" * 300, draw(NAMES) + "zz"]))
    wrong = f"./{wrong}" if wrong.startswith("-") else wrong
    more = ("runs/small",) if name == "compare" else ()
    told = wrong.removeprefix("./") if wrong.isprintable() and "//" not in wrong and "/./" not in wrong else "zz"
    return Wrong((name, wrong, *more), told.removesuffix("/below"))


def an_override_that_cannot_be_followed(draw: Distortion) -> Wrong:
    name = draw(st.sampled_from(with_option("--set")))
    known = ["name", "source", "datasets", "seed", "training.epochs", "localiser.steps", "classes", "validation"]
    key = misspelt(draw, draw(st.sampled_from(known)))
    wrong = draw(
        st.sampled_from([key, f"{key}=3", f"={key}", f"{key}=", f"{key}..a=3", "validation=7", "name=[", "name=../x"])
    )
    return Wrong(line(name, "--set", wrong), f"--set {wrong}")


def seeds_that_are_none(draw: Distortion) -> Wrong:
    known = ["", "x", "1,,2", "1.5", "1,1", "-1", "2147483648", "0;1", "[0]", ",", "0x1", "9" * 5000]
    seeds = draw(st.one_of(st.sampled_from(known), st.text("0123,-. x", max_size=20).map(lambda text: f"{text},")))
    return Wrong(line("run", f"--seeds={seeds}"), f"--seeds {seeds[:20]}")


def what_matches_nothing(draw: Distortion) -> Wrong:
    name = draw(st.sampled_from(with_option("--only")))
    pattern = draw(st.text("abc*?[]!-/,", max_size=12)) + draw(st.sampled_from(["zz", "/zz", "zz[", "zz[b-a]"]))
    return Wrong(line(name, f"--only={pattern}"), f"--only {pattern}")


def a_dataset_that_is_not_there(draw: Distortion) -> Wrong:
    name = misspelt(draw, draw(st.sampled_from(["rts", "tc", "plain", "addition", "r", "../r", ""])))
    return Wrong(("eval", "runs/small/trials/r/cnn", f"--dataset={name}"), f"--dataset {name}")


def a_device_that_is_not_there(draw: Distortion) -> Wrong:
    known = [
        "gpu",
        "tpu",
        "meta",
        "cuda:99",
        "cuda:x",
        "cuda:-1",
        "cpu:x",
        "CPU",
        "mps:7",
        "0",
        "-1",
        "é",
        "privateuseone",
    ]
    device = draw(st.one_of(st.sampled_from(known), st.text("abc:019 ,é", max_size=20).map(lambda text: f"{text}zz")))
    return Wrong(line(draw(st.sampled_from(with_option("--device"))), f"--device={device}"), f"--device {device}")


def a_place_that_cannot_be_written_to(draw: Distortion) -> Wrong:
    name, option, wrong = draw(
        st.sampled_from(
            [
                *(
                    (name, "--output-dir", wrong)
                    for name in ("run", "data build")
                    for wrong in ("small.yaml", "x" * 300)
                ),
                *((name, "--output-dir", "small.yaml/below") for name in ("run", "data build", "visualize")),
                *(("data preview", "--output", wrong) for wrong in ("runs", "small.yaml/below.png", "x" * 300)),
            ]
        )
    )
    return Wrong(
        line(name, f"{option}={wrong}", *(("--only=curves",) if name == "visualize" else ())), wrong.split("/")[0]
    )


KINDS = [
    *(a_misspelt_command, an_unknown_option, a_value_that_is_missing, a_value_for_a_flag, what_is_needed_left_out),
    *(one_too_many, a_bad_number_of_threads, a_configuration_that_is_not_there, a_run_that_is_none),
    *(an_override_that_cannot_be_followed, seeds_that_are_none, what_matches_nothing, a_dataset_that_is_not_there),
    *(a_device_that_is_not_there, a_place_that_cannot_be_written_to),
]


PLACES = ("DIR", "FILE", "RUN", "RUN RUN...", "RUN_OR_CHECKPOINT")
PATHS = [(name, param) for name, command in COMMANDS.items() for param in command.params if param.metavar in PLACES]


@pytest.mark.parametrize(("name", "param"), PATHS, ids=lambda each: each if isinstance(each, str) else each.name)
def test_an_empty_path_is_refused_by_every_command(stn, name, param):
    """It would be the folder that one is in."""
    option = param.param_type_name == "option"
    ended = stn(*line(name, param.opts[0], "") if option else (*name.split(), *RIGHT[name][:-1], ""))
    assert (ended.code, ended.out) == (2, "")
    where = param.opts[0] if option else param.metavar
    assert f"'{where}'" in ended.err
    assert "an empty path; name a file or a folder" in ended.err
    assert [path.name for path in Path().iterdir()] == ["small.yaml"]


def test_every_command_is_among_them():
    assert {name for name, _ in PATHS} == COMMANDS.keys() - {
        "config list",
        "config show",
        "config check",
        "config schema",
    }
    assert RIGHT.keys() == COMMANDS.keys()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_ends_with_exit_code_2_and_a_sentence_that_names_it(trained, stn, trials, contents, kind):
    shutil.copytree(trained, "runs/copy")
    Path("empty").mkdir()
    before = contents(Path())

    def check(wrong: Wrong) -> None:
        ended = stn(*wrong.arguments)
        assert ended.code == 2, ended
        sentence, *way_out = ended.err.removesuffix("\n").split("\n")
        assert sentence.startswith("stn-train: error: ")
        assert ended.out == ""
        assert all(each.startswith("Try 'stn-train") for each in way_out)
        assert len(way_out) < 2
        assert wrong.told in sentence
        assert "Traceback" not in ended.err
        assert contents(Path()).keys() == before.keys()

    tried = fuzz(trials(3, 40), kind, check)
    print(f"{kind.__name__}: {tried} command lines")
    assert tried >= trials(3, 10)
    assert contents(Path()) == before
