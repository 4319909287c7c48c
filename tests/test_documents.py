"""What README.md, docs/ and the script of their pictures say: commands, options, configurations, scripts, Python."""

import re
import runpy
import shlex
import sys
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import torch
import typer

from stn_train import SpatialTransformer, load_network
from stn_train.cli import app, main
from stn_train.config import dump_commented, load_config
from stn_train.data.sources import load_images
from stn_train.specs import ExperimentSpec, Spec, trials_of

ROOT = Path(__file__).parents[1]
DOCUMENTS = {
    path.relative_to(ROOT).as_posix(): path.read_text().replace("\\\n", "")
    for path in (ROOT / "README.md", *ROOT.glob("docs/**/*.md"), ROOT / "scripts/readme_figures.sh")
}
README = DOCUMENTS["README.md"]
EXAMPLES = [
    line
    for path in ROOT.glob("stn_train/cli/*.py")
    for line in re.findall(r'^    .*: (stn-train [a-z][^"\n]*)$', path.read_text(), re.MULTILINE)
]
FOUND = sorted(
    {
        shlex.join(takewhile(lambda word: word != ">", shlex.split("".join(line), comments=True)))
        for text in (*DOCUMENTS.values(), *EXAMPLES)
        for line in re.findall(r"(?:^|&& )(stn-train [a-z].*)|`(stn-train [a-z][^`]*)`", text, re.MULTILINE)
    }
)
"""In blocks, in the middle of sentences, and in the commands' help, from which the page of commands is made."""
COMMANDS = [line for line in FOUND if len(line.split()) > (3 if re.match("stn-train (config|data)", line) else 2)]
MENTIONED = sorted({*FOUND} - {*COMMANDS})
"""Commands' names without arguments, as where a sentence is about one."""


def command_of(words: list[str]) -> Any:
    """The command that these words begin with, which are taken from them. Raises KeyError where there is none."""
    command = typer.main.get_command(app)
    while words and hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    return command


@pytest.fixture
def beside_mild(tmp_path, monkeypatch) -> None:
    """A folder with the documentation's own configurations in it."""
    (written,) = re.findall(r"```yaml\n# mild.yaml\n(.*?)```", DOCUMENTS["docs/configuration.md"], re.DOTALL)
    (tmp_path / "mild.yaml").write_text(written)
    (tmp_path / "mine.yaml").write_text(dump_commented(load_config("rts", ["name=mine"])))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_is_understood(beside_mild, line):
    arguments = shlex.split(line)[1:]
    given = command_of(arguments).make_context(line, arguments).params
    if isinstance(given.get("config"), str):
        experiment = load_config(given["config"], given.get("overrides") or (), kind=Spec)
        assert not isinstance(experiment, ExperimentSpec) or trials_of(experiment, given.get("only", "*"))


@pytest.mark.parametrize("line", MENTIONED)
def test_every_command_that_is_mentioned_exists(line):
    arguments = shlex.split(line)[1:]
    assert command_of(arguments)
    assert not arguments


def test_the_commands_were_found():
    assert len(COMMANDS) > 25
    assert "stn-train config copy rts mine.yaml --full" in COMMANDS


@pytest.mark.parametrize("script", sorted(set(re.findall(r"scripts/\w+\.\w+", "".join(DOCUMENTS.values())))))
def test_every_script_exists(script):
    assert (ROOT / script).is_file()


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Few of the bundled digits, in a folder of one's own, whose modules nobody else shall find."""
    training, test = (digits.subset(torch.arange(150)) for digits in load_images("digits"))
    monkeypatch.setattr("stn_train.data.images.scikit_digits", lambda: (training, test))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("document", ["README.md", "docs/python.md"])
def test_the_documents_python_does_what_it_says(document):
    """All of it, in order, in one folder."""
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", DOCUMENTS[document], re.DOTALL):
        exec(block, names)
    model = names["model"].eval()
    places = {name for name, module in model.named_modules() if isinstance(module, SpatialTransformer)}
    if document == "README.md":
        assert places == {"transformer"}, "in front of all of it"
        return
    assert places == {"transformer", "module.layer2.transformer"}, "in front of all of it, and before layer2"
    assert len(names["data"]) == len(names["scores"].predicted) == len(names["run"].predictions("rts", "st_cnn_paper"))
    assert names["untrained"].eval()(names["data"][0][0][None]).shape == (1, 10)
    assert "# 8 x 1 x 28 x 28, and 8 x 6" in DOCUMENTS[document]
    assert (names["warped"].shape, names["theta"].shape) == ((8, 1, 28, 28), (8, 6))
    assert model(torch.rand(1, 3, 224, 224)).shape == (1, 1000)


@pytest.mark.usefixtures("few")
@pytest.mark.slow
def test_the_model_elsewhere_runs_from_top_to_bottom() -> None:
    names: dict[str, Any] = {}
    for language, block in re.findall(r"```(sh|python)\n(.*?)```", DOCUMENTS["docs/elsewhere.md"], re.DOTALL):
        if language == "python":
            exec(block, names)
            continue
        for line in block.splitlines():
            with pytest.raises(SystemExit) as end:
                main(shlex.split(line)[1:])
            assert not end.value.code, line
    images = torch.from_numpy(names["images"])
    network = load_network("runs/first/trials/rts/st_cnn_paper/seed-0/checkpoint.pt")
    for same in (names["network"], network):
        torch.testing.assert_close(names["logits"], same.eval()(images), rtol=1e-3, atol=1e-4)
    assert names["classes"] == [str(digit) for digit in range(10)]
    assert set(names["said"]) == {"classes", "preparation", "shapes", "versions", "epochs", "trial"}


@pytest.mark.usefixtures("few")
@pytest.mark.slow
def test_the_parts_of_ones_own_that_the_reference_shows_are_trained() -> None:
    for name, kind in (("parts.py", "python"), ("parts.yaml", "yaml")):
        (written,) = re.findall(rf"```{kind}\n(# {name}\n.*?)```", DOCUMENTS["docs/configuration.md"], re.DOTALL)
        Path(name).write_text(written)
    with pytest.raises(SystemExit) as end:
        main(["run", "--config", "parts.yaml", "--set", "training.epochs=1", "-q"])
    sys.modules.pop("parts")
    assert not end.value.code
    assert len(list(Path("runs/parts").rglob("result.json"))) == 3


ROOMS = re.findall(r"^  ([\w.]+/?) {2,}\S", README, re.MULTILINE)


def test_readme_names_every_room():
    package = ROOT / "stn_train"
    rooms = {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    files = {path.name for path in package.glob("*.py") if not path.name.startswith("__")} - {"yaml_nodes.py"}
    assert set(ROOMS) == rooms | files
    assert {name for name in re.findall(r"\b\w+\.py\b", README) if not any(ROOT.rglob(name))} == set()


@pytest.fixture
def script(monkeypatch) -> Callable[..., None]:
    """Run a script of ours in this process."""

    def run(name: str, *arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(ROOT / "scripts" / name), run_name="__main__")

    return run


@pytest.mark.slow
def test_the_resnet_example_tells_two_errors(script, capsys):
    script("resnet_example.py", "--epochs", "1", "--digits", "20", "--before", "layer3")
    assert len(re.findall(r"test error [\d.]+ %", capsys.readouterr().out)) == 2


def test_the_familys_grids_are_drawn(script, tmp_path):
    script("family_grids.py", str(tmp_path / "families.png"))
    assert (tmp_path / "families.png").read_bytes().startswith(b"\x89PNG")
