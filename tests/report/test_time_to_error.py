"""`scripts/time_to_error.sh`: the table that it ends with is that of the reports."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from made_up_run import begin, finish

from stn_train.report.results import results_of
from stn_train.report.write import csv_documents

SCRIPT = Path(__file__).parents[2] / "scripts/time_to_error.sh"
TRAINED = """\
#!/bin/sh
for folder; do :; done
mkdir -p "$folder"
cp ../report.csv "$folder"
"""
"""A `stn-train` that has a report ready."""


def test_the_time_to_an_error_is_told(tmp_path):
    folder, trials = begin(tmp_path, models=["st_cnn"], seeds=[1, 2])
    for trial in trials:
        finish(folder, trial, errors=trial.seed)
    (tmp_path / "report.csv").write_text(csv_documents(results_of(folder))[0])
    (tmp_path / "copy/scripts").mkdir(parents=True)
    copy = shutil.copy(SCRIPT, tmp_path / "copy/scripts")
    (tmp_path / "stn-train").write_text(TRAINED)
    (tmp_path / "stn-train").chmod(0o755)
    (tmp_path / "python").symlink_to(sys.executable)
    path = f"{tmp_path}:{os.environ['PATH']}"
    told = subprocess.run([copy], env={**os.environ, "PATH": path}, check=True, capture_output=True, text=True).stdout
    line = "rts,st_cnn,1.0 2.0,1.5,101.5"
    assert told.splitlines() == ["dataset,model,seed_errors,error,training_seconds", line, line, line]
