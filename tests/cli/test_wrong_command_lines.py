"""Command lines, wrong in one way each: exit code 2, a sentence that names what is wrong, and nothing written."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from stn_train.cli import app

RIGHT: dict[str, tuple[str, ...]] = {
    "run": ("--config", "small.yaml"),
    "tune": ("small.yaml",),
    "colocalise": ("--config", "paper/colocalisation"),
    "eval": ("runs/small",),
    "robustness": ("runs/small",),
    "visualize": ("runs/small",),
    "export": (),
    "demo": (),
    "report": ("runs/small",),
    "compare": ("runs/small", "runs/copy"),
    "status": ("runs/small",),
    "predict": ("runs/small", "seven.png"),
    "doctor": (),
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


def line(name: str, *more: str) -> tuple[str, ...]:
    return (*name.split(), *RIGHT[name], *more)


def options(name: str, flags: bool) -> list[str]:
    params = COMMANDS[name].params
    return [param.opts[0] for param in params if param.param_type_name == "option" and param.is_flag == flags]


@pytest.mark.parametrize("name", COMMANDS)
def test_what_the_parser_refuses_is_named_by_every_command(stn, name):
    wrong = [
        ((*name.split()[:-1], f"{name.split()[-1]}q", *RIGHT[name]), f"{name.split()[-1]}q"),
        (line(name, "--nonsense"), "--nonsense"),
        *((line(name, option), option) for option in options(name, flags=False)),
        *((line(name, f"{option}=yes"), option) for option in options(name, flags=True)),
        *([] if name in ("compare", "config check", "predict") else [(line(name, "one", "two", "more"), "more")]),
        *([(tuple(name.split()), "")] if RIGHT[name] else []),
    ]
    for arguments, told in wrong:
        ended = stn(*arguments)
        assert (ended.code, ended.out) == (2, ""), arguments
        sentence, way_out = ended.err.splitlines()
        assert sentence.startswith("stn-train: error: ")
        assert told in sentence
        assert way_out.startswith("Try 'stn-train")
    assert [path.name for path in Path().iterdir()] == ["small.yaml"]


LONG = "x" * 300
REFUSED = [
    *((("run", "--config", wrong), wrong) for wrong in ("nowhere.yaml", "no/where", "rtss", LONG, "é [")),
    *(((name, wrong), wrong) for name in ("eval", "report", "status") for wrong in ("small.yaml", "nowhere", LONG)),
    (("compare", "runs/small", "empty"), "empty"),
    (("robustness", "small.yaml/below"), "small.yaml"),
    *((line("run", "--set", wrong), f"--set {wrong}") for wrong in ("seeds", "=3", "seeds=", "a..b=3", "validation=7")),
    *((line("run", "--set", wrong), f"--set {wrong}") for wrong in ("name=[", "name=../x", "epochs=3", "optimiser=x")),
    *(
        (line("run", "--seeds", wrong), f"--seeds {wrong}")
        for wrong in ("", "x", "1,,2", "1.5", "1,1", "-1", "2147483648")
    ),
    *((line(name, "--only", "zz[b-a]*"), "--only zz[b-a]*") for name in ("run", "colocalise")),
    (("eval", "runs/small/trials/r/cnn", "--dataset=tcc"), "--dataset tcc"),
    (line("tune", "--dataset=tcc"), "--dataset tcc"),
    (line("tune", "--set=datasets=[r,rts]"), "choose one of r, rts"),
    (line("tune", "--trials=1"), "--trials"),
    (line("tune", "--output-dir=small.yaml"), "small.yaml"),
    (("tune", "paper/fixed", "--dataset=r", "--set=prebuilt=built"), "prebuilt"),
    *((line("run", "--device", wrong), f"--device {wrong}") for wrong in ("gpu", "cuda:99")),
    *((line("eval", "--threads", wrong), "--threads") for wrong in ("0", "1025", "two")),
    *((line(name, "--output-dir", "small.yaml"), "small.yaml") for name in ("run", "data build")),
    (line("data preview", "--output", "runs"), "runs"),
    (line("data preview", "--output", f"{LONG}.png"), "xxx"),
    (line("visualize", "--output-dir", "small.yaml/below", "--only=curves"), "small.yaml"),
]


def test_what_the_commands_refuse_is_named_and_nothing_is_written(trained, stn, contents):
    shutil.copytree(trained, "runs/copy")
    Path("empty").mkdir()
    before = contents(Path())
    for arguments, told in REFUSED:
        ended = stn(*arguments)
        assert (ended.code, ended.out) == (2, ""), arguments
        sentence, *_ = ended.err.splitlines()
        assert sentence.startswith("stn-train: error: ")
        assert told in sentence, arguments
        assert "Traceback" not in ended.err
    assert contents(Path()) == before


PLACES = ("DIR", "FILE", "RUN", "RUN RUN...", "RUN_OR_CHECKPOINT", "[RUN_OR_CHECKPOINT] IMAGE...")
PATHS = [(name, param) for name, command in COMMANDS.items() for param in command.params if param.metavar in PLACES]


def test_an_empty_path_is_refused_by_every_command(stn):
    """It would be the folder that one is in."""
    assert {name for name, _ in PATHS} == {
        name for name in COMMANDS if name.split()[-1] not in ("list", "show", "check", "schema", "doctor")
    }
    for name, param in PATHS:
        option = param.param_type_name == "option"
        ended = stn(*line(name, param.opts[0], "") if option else (*name.split(), *RIGHT[name][:-1], ""))
        assert (ended.code, ended.out) == (2, "")
        assert f"'{param.opts[0] if option else param.metavar}'" in ended.err
        assert "an empty path" in ended.err
    assert [path.name for path in Path().iterdir()] == ["small.yaml"]


def test_every_command_is_among_them():
    assert RIGHT.keys() == COMMANDS.keys()
