"""`scripts/paper_tables.sh`: every cell of the paper's tables becomes a run of its own, with the options given."""

import json
import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/paper_tables.sh"
FAKE = """\
#!/bin/sh
case "$*" in
    *--dry-run*) cat "$(echo "$3" | tr / _).txt" ;;
    *) echo "$*" >> runs.txt ;;
esac
"""


@pytest.mark.slow
def test_every_cell_is_run_once_with_the_options(stn, monkeypatch):
    monkeypatch.setattr("stn_train.experiment.estimate.seconds_of_epoch", lambda trial, runtime: 1.0)
    cells = []
    for config in ("paper/table1", "paper/tc", "paper/addition"):
        planned = stn("run", "--config", config, "--dry-run", "--json").out
        Path(f"{config.replace('/', '_')}.txt").write_text(planned)
        cells += [(config, f"{cell['dataset']}/{cell['model']}") for cell in json.loads(planned)["cells"]]
    Path("stn-train").write_text(FAKE)
    Path("stn-train").chmod(0o755)
    options = ("--set", "training={epochs: 1}", "--seeds", "0,1")
    path = f"{Path.cwd()}:{os.environ['PATH']}"
    subprocess.run([SCRIPT, "2", *options], env={**os.environ, "PATH": path}, check=True)
    assert len(cells) == 44
    given = " ".join(options)
    assert sorted(Path("runs.txt").read_text().splitlines()) == sorted(
        f"run --threads 1 {given} --config {config} --only {cell}" for config, cell in cells
    )


def test_what_cannot_be_planned_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("stn-train").write_text('#!/bin/sh\necho "$*" >> runs.txt\nexit 2\n')
    Path("stn-train").chmod(0o755)
    path = f"{Path.cwd()}:{os.environ['PATH']}"
    ended = subprocess.run([SCRIPT, "2", "--nonsense"], env={**os.environ, "PATH": path})
    assert ended.returncode == 2
    assert Path("runs.txt").read_text() == "run --config paper/table1 --nonsense --dry-run --json -q\n"


def test_without_a_number_it_says_how_it_is_called():
    ended = subprocess.run([SCRIPT], capture_output=True, text=True)
    assert ended.returncode != 0
    assert ended.stderr.endswith("how many side by side? For instance: scripts/paper_tables.sh 2 --seeds 0\n")
