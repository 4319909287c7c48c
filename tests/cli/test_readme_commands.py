"""README's commands, all of them, in their order and in one folder, as a reader gives them."""

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Ended

from stn_train.data.images import ImageSet
from stn_train.data.sources import load_images

README = (Path(__file__).parents[2] / "README.md").read_text()
COMMANDS = [
    shlex.split(line, comments=True)[1:]
    for line in dict.fromkeys(re.findall(r"(?:^|`|&& )(stn-train [a-z][^`\n]*)", README, re.MULTILINE))
]
OPTIONS = [shlex.split(one) for one in re.findall(r"`(--(?:seeds|only) [^`]*)`", README)]
"""Those of `run` that stand by themselves."""
QUICK = ("--set", "source=digits", "--set", "training.epochs=1")
"""What is added to every command that trains: the bundled digits, which need no network, and one epoch."""


@pytest.fixture(scope="session")
def few_digits() -> tuple[ImageSet, ImageSet]:
    """Fewer than elsewhere: here a command's end counts, and not what was learnt."""
    training, test = load_images("digits")
    return training.subset(torch.arange(120)), test.subset(torch.arange(40))


@pytest.mark.slow
def test_every_command_of_the_readme_runs(stn: Callable[..., Ended], tmp_path: Path) -> None:
    shutil.copy(Path(__file__).parents[1] / "twenty/picture_02.jpg", tmp_path / "seven.jpg")
    for name, *arguments in [*COMMANDS, *(["run", "--config", "quickstart", *option] for option in OPTIONS)]:
        if name == "compare":  # of any two runs
            for run in arguments:
                shutil.copytree(tmp_path / "runs/rts", tmp_path / run)
        ended = stn(name, *arguments, *(QUICK if name in ("run", "tune") else ()))
        assert ended.code == 0, (name, arguments, ended)
        assert ended.out, (name, arguments)
    for run in ("quickstart", "mnist", "rts", "tc", "evidence", "mine"):
        assert (tmp_path / "runs" / run / "report.html").is_file(), run


def test_every_kind_of_command_of_the_readme_was_found() -> None:
    assert {"run", "robustness", "config", "eval", "tune", "status", "compare"} <= {name for name, *_ in COMMANDS}
    assert len(COMMANDS) > 10
    assert OPTIONS
