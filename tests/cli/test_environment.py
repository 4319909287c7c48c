"""What the surroundings set does not matter: a notebook's backend for matplotlib, LaTeX, and where text goes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TRIAL = "runs/small/trials/r/st_cnn/seed-0"


def python(*arguments: str, backend: str) -> str:
    """What a process started from a notebook prints; `backend` is what the notebook has in MPLBACKEND."""
    environment = {**os.environ, "MPLBACKEND": backend, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def test_a_path_that_is_no_text_is_printed_and_without_an_output_nothing_is(tmp_path):
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    show = [sys.executable, "-m", "stn_train", "config", "copy", "quickstart", folder + b".yaml"]
    ended = subprocess.run(show, env=environment, capture_output=True)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert b"caf\\udce9.yaml" in ended.stdout
    closed = subprocess.run(["sh", "-c", f"{sys.executable} -m stn_train --version >&-"], capture_output=True)
    assert (closed.returncode, closed.stderr) == (0, b"")


@pytest.mark.slow
def test_what_draws_needs_no_backend(trained, stn):
    few = ("--set", "training.train_size=120", "--set", "training.epochs=1", "--only", "r/cnn", "--output-dir", "few")
    assert stn("run", "--config", "small.yaml", "-q", *few).code == 0
    for command in (
        ("report", trained),
        ("visualize", TRIAL, "--only", "curves", "--output-dir", "."),
        ("data", "preview", "--config", "small.yaml"),
        ("compare", trained, "few", "--plot", "digits.png"),
    ):
        assert "wrote " in python("-m", "stn_train", *command, backend="module://matplotlib_inline.backend_inline")
    for name in ("few/figures/learning_curves@r.png", "preview.png", "digits.png", "curves_st_cnn@r.png"):
        assert Path(name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_what_draws_needs_no_latex(stn, monkeypatch):
    Path("matplotlibrc").write_text("text.usetex: True\n")
    monkeypatch.setenv("MATPLOTLIBRC", str(Path.cwd()))
    monkeypatch.setenv("PATH", "/nowhere")
    assert "wrote " in python("-m", "stn_train", "data", "preview", "--config", "small.yaml", backend="agg")


def test_whatever_is_imported_first_a_notebook_keeps_its_backend():
    """Also where it is not installed: then pyplot chooses one, as without the variable."""
    look = "import matplotlib.pyplot, os; print(matplotlib.get_backend(), os.environ['MPLBACKEND'])"
    assert python("-c", f"import stn_train.report.plots; {look}", backend="svg") == "svg svg\n"
    assert python("-c", f"import stn_train.report.plots; {look}", backend="nonsense").endswith(" nonsense\n")
