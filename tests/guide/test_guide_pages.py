"""The guide's pages: both languages the same, the Python and the notebook run, figures and formulas drawn."""

import doctest
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import guide_figures
import matplotlib.image
import numpy as np
import pytest
import torch
from formulas import FORMULAS

import stn_train as st

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs/guide"
PAGES = [path.name for path in sorted(GUIDE.glob("en/*.md"))]
FENCES = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
NOTEBOOK = json.loads((ROOT / "docs/notebook.ipynb").read_text())
CELLS = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def prose(language: str) -> str:
    """All pages of a language, without code."""
    return "".join(FENCES.sub("", (GUIDE / language / page).read_text()) for page in PAGES)


def test_every_numbered_formula_is_evaluated_by_a_test():
    written = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    evaluated = re.findall(r'"([\d.]+)"', " ".join(re.findall(r"^@evaluates\((.*?)\)$", written, re.MULTILINE)))
    text = prose("en")
    assert text.count(r"\tag{") == text.count("$$") / 2 == len(FORMULAS)
    assert sorted(evaluated) == sorted(FORMULAS)


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize(
    "part",
    [r"^```.*?^```$", r"\$\$.*?\$\$", r"!\[.*?\]\((.*?)\)", r"^(#+) ", r"^\|", r"\]\((?!\.\./(?:en|zh)/)([^)]*)\)"],
    ids=["code", "formulas", "pictures", "headings", "table rows", "links"],
)
def test_both_languages_have_the_same(page, part):
    english, chinese = (
        re.findall(part, (GUIDE / language / page).read_text(), re.MULTILINE | re.DOTALL) for language in ("en", "zh")
    )
    assert english == chinese
    assert {path.name for path in GUIDE.glob("zh/*")} == set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_both_languages_have_the_same_numbers_and_symbols_in_their_prose(page):
    """Decimals such as 0.79, and formulas within a line, in any order; and each page leads to the other language's."""
    english, chinese = (FENCES.sub("", (GUIDE / language / page).read_text()) for language in ("en", "zh"))
    inline = re.compile(r"(?<!\$)\$([^$]+)\$(?!\$)")
    symbols = [sorted(" ".join(one.split()) for one in inline.findall(text)) for text in (english, chinese)]
    assert symbols[0] == symbols[1]
    assert sorted(re.findall(r"\d+\.\d+", english)) == sorted(re.findall(r"\d+\.\d+", chinese))
    assert f"](../zh/{page})" in english
    assert f"](../en/{page})" in chinese


@pytest.mark.parametrize("page", [*(f"guide/en/{page}" for page in PAGES), "questions.md"])
def test_the_python_prints_what_stands_there(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    path = ROOT / "docs" / page
    failed, tried = doctest.testfile(str(path), module_relative=False)
    assert failed == 0
    assert tried > 0


def test_every_page_of_the_guide_ends_claims_in_commands():
    assert [page for page in PAGES if not re.search(r"^stn-train ", (GUIDE / "en" / page).read_text(), re.M)] == []


@pytest.mark.slow
def test_the_figures_are_those_that_the_script_draws(tmp_path):
    for name, draw in guide_figures.FIGURES.items():
        draw().savefig(tmp_path / f"{name}.png", dpi=120)
        drawn, kept = (matplotlib.image.imread(folder / f"{name}.png")[..., :3] for folder in (tmp_path, GUIDE))
        assert drawn.shape == kept.shape, name
        assert np.abs(drawn - kept).mean() < 0.01, f"{name} is stale: python scripts/guide_figures.py docs/guide"
    shown = {
        name for page in PAGES for name in re.findall(r"\((?:\.\./)(\w+)\.png\)", (GUIDE / "en" / page).read_text())
    }
    assert shown == guide_figures.FIGURES.keys() == {path.stem for path in GUIDE.glob("*.png")}


def test_katex_lies_in_the_documentation_with_its_licence_and_its_fonts():
    katex = ROOT / "docs/katex"
    fonts = set(re.findall(r"url\((fonts/[\w-]+\.woff2)\)", (katex / "katex.min.css").read_text()))
    assert fonts
    assert all((katex / font).is_file() for font in fonts)
    assert "MIT" in (katex / "LICENSE").read_text()
    assert sum(path.stat().st_size for path in katex.rglob("*") if path.is_file()) < 1_500_000


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_katex_sets_every_formula():
    text = prose("en") + prose("zh")
    displayed = re.findall(r"\$\$(.*?)\$\$", text, re.DOTALL)
    inline = re.findall(r"\$([^$]+)\$", re.sub(r"\$\$.*?\$\$", "", text, flags=re.DOTALL))
    assert min(len(displayed), len(inline)) > 100
    script = (
        "const k = require(process.argv[1]); const all = JSON.parse(require('fs').readFileSync(0));"
        "for (const [t, d] of all) k.renderToString(t, {displayMode: d, throwOnError: true, strict: 'error'});"
    )
    given = [[formula, True] for formula in displayed] + [[formula, False] for formula in inline]
    done = subprocess.run(
        ["node", "-e", script, str(ROOT / "docs/katex/katex.min.js")],
        input=json.dumps(given),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-600:]


def test_the_notebook_is_kept_without_outputs():
    assert len(CELLS) > 5
    assert [cell for cell in CELLS if cell["outputs"] or cell["execution_count"] is not None] == []


@pytest.mark.slow
def test_the_notebook_runs_from_a_run_to_a_transformer_in_ones_own_network(tmp_path, monkeypatch):
    few = tuple(digits.subset(torch.arange(400)) for digits in st.load_images("digits"))
    monkeypatch.setattr("stn_train.data.images.scikit_digits", lambda: few)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    names: dict[str, Any] = {}
    for cell in CELLS:
        exec("".join(cell["source"]), names)
    assert set(names["run"].trials["model"]) == {"cnn_paper", "st_cnn_paper", "st_equivariant"}
    assert names["same"], "at the start the network gives what it gave before"
    assert names["theta"].std(dim=0).max() > 0.01, "it has left the identity"
    for network in ("plain", "transformed"):
        assert st.evaluate(names[network], names["data"]).accuracy.value > 30
