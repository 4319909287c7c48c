"""The documentation as a site: its references are whole, its links lead somewhere, it needs nothing from elsewhere."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import reference
import typer.main
import yaml

import stn_train
from stn_train.cli import app
from stn_train.config import shipped
from stn_train.errors import RENAMED
from stn_train.specs import DATASETS, MODELS

ROOT = Path(__file__).parents[1]


def page(name: str) -> str:
    """A page with its references filled in."""
    return reference.on_page_markdown((ROOT / "docs" / name).read_text())


@pytest.mark.parametrize("part", reference.PARTS)
def test_the_configuration_reference_has_every_key_of_every_part(part: str) -> None:
    table = reference.keys(part)
    for key, said in reference.PARTS[part]["properties"].items():
        (line,) = re.findall(rf"^\| `{key}` \|.*", table, re.MULTILINE)
        assert line.endswith(f"| {said['description']} |")
    assert table in page("configuration.md")


def test_the_configuration_reference_has_every_preset_and_configuration() -> None:
    told = page("configuration.md")
    assert [name for name in (*DATASETS, *MODELS, *shipped()) if f"\n| `{name}` |" not in told] == []


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 64}, "1 to 64"),
        ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, "above 0 to below 1"),
        ({"anyOf": [{"enum": ["auto"]}, {"type": "null"}], "default": None}, "`auto`"),
        ({"anyOf": [{"enum": ["auto"]}, {"type": "null"}]}, "`auto`, or `null`"),
        ({"$ref": "#/$defs/EncoderSpec"}, "[keys](#encoder)"),
        (
            {"type": "object", "additionalProperties": {"type": "integer", "minimum": 1, "maximum": 9}},
            "a mapping to 1 to 9",
        ),
    ],
)
def test_bounds_are_told_in_words(said: dict[str, Any], words: str) -> None:
    assert reference.values(said) == words


def commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    yield name, command
    for below, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, f"{name} {below}")


def test_the_commands_page_has_every_command_with_its_options() -> None:
    sections = re.split(r"^#+ `(.*)`$", page("commands.md"), flags=re.MULTILINE)
    told = {"stn-train": sections[0], **dict(zip(sections[1::2], sections[2::2], strict=True))}
    for name, command in commands(typer.main.get_command(app), "stn-train"):
        missing = [option for one in command.params for option in one.opts if option.startswith("--")]
        assert [option for option in missing if option not in told[name]] == [], name


def test_the_python_page_has_every_public_name() -> None:
    documented = set(re.findall(r"^::: [\w.]+\.(\w+)$", page("python.md"), re.MULTILINE))
    assert set(stn_train.__all__) <= documented


def test_the_changelog_has_every_renamed_word() -> None:
    words = set(re.findall(r"[\w-]+", page("changelog.md")))
    assert RENAMED.keys() | set(RENAMED.values()) <= words


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert f"## {citation['version']}" in page("changelog.md")


def test_every_picture_has_an_alternative_text() -> None:
    pages = [path.relative_to(ROOT / "docs") for path in ROOT.glob("docs/**/*.md")]
    assert [f"{name}: {picture}" for name in pages for picture in re.findall(r"!\[\s*\]\(.*?\)", page(str(name)))] == []


def test_readmes_links_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)#?([\w-]*)\)", (ROOT / "README.md").read_text())
    assert links
    for path, anchor in links:
        target = ROOT / path
        assert target.exists(), path
        titles = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE) if anchor else []
        slugs = {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}
        assert anchor in slugs | {""}, f"{path}#{anchor}"


def test_the_site_builds_without_a_broken_link_and_fetches_nothing(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    pytest.importorskip("material")
    # Not `--quiet`: it hides warnings from `--strict`, too.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*.html")}
    assert {"index.html", "configuration.html", "history/tuning.html"} <= pages.keys()
    fetched = [
        one
        for text in pages.values()
        for one in re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=\"?(http[^\" >]+)", text)
    ]
    assert fetched == []
    assert "<!-- reference" not in "".join(pages.values())
