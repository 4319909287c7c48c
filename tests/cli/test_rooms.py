"""What every file must keep to: below the command line nothing prints or exits, and the command line is light."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import stn_train

ROOT = Path(stn_train.__file__).parent
BELOW = [
    path
    for path in sorted(ROOT.rglob("*.py"))
    if path.relative_to(ROOT).parts[0] not in ("cli", "notebook.py", "__main__.py")
]
FORBIDDEN = {"print", "input", "exit", "quit", "breakpoint", "sys.exit", "os._exit", "sys.stdout", "sys.stderr"}
FORBIDDEN |= {"typer.echo", "warnings.warn"}
ALLOWED = {"models/blocks.py": {"warnings.warn"}}
"""Who calls a loaded network from a notebook, with images of another range, is told by a warning: it may be meant."""


@pytest.mark.parametrize("path", BELOW, ids=lambda path: str(path.relative_to(ROOT)))
def test_below_the_command_line_nothing_prints_or_exits(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    named = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Name | ast.Attribute)}
    assert named & FORBIDDEN == ALLOWED.get(path.relative_to(ROOT).as_posix(), set())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {
        name for name in imported if name.split(".")[0] in ("typer", "tqdm") or name.startswith("stn_train.cli")
    }


def test_package_command_line_and_torch_free_rooms_import_no_torch():
    code = (
        "import stn_train, stn_train.cli, stn_train.config, stn_train.storage, stn_train.statistics, "
        "stn_train.report.write, stn_train.report.page, "
        "stn_train.experiment.tracking, sys\n"
        "print(sorted({'torch', 'torchvision'} & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"


ROOMS = [
    *("errors.py", "specs", "storage.py", "run_folder.py", "statistics.py", "geometry", "data", "models", "training"),
    *("evaluation", "experiment", "report", "colocalisation", "notebook.py", "cli"),
]
"""From the ground up. Experiments know nothing of reports, nor reports of experiments."""
FORBIDDEN_ROOMS = {room: ROOMS[number + 1 :] for number, room in enumerate(ROOMS[:-1])}
FORBIDDEN_ROOMS["report"] = [*FORBIDDEN_ROOMS["report"], "experiment", "training"]


@pytest.mark.parametrize(("room", "above"), FORBIDDEN_ROOMS.items())
def test_no_room_imports_from_one_above_it(room, above):
    names = "|".join(name.removesuffix(".py") for name in above)
    upward = re.compile(rf"(from|import) stn_train\.({names})\b")
    files = [ROOT / room] if room.endswith(".py") else sorted((ROOT / room).rglob("*.py"))
    assert files
    assert [path for path in files if upward.search(path.read_text(encoding="utf-8"))] == []
