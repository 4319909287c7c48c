"""`stn-train visualize`: pictures from checkpoints are the report's."""

import shutil
from pathlib import Path

import pytest

from stn_train.report.snapshots import KINDS

TRIAL = Path("runs/small/trials/r/st_cnn/seed-0")


def test_pictures_of_a_run_are_the_reports_byte_for_byte(trained, stn, contents):
    report = contents(Path(trained))
    ended = stn("visualize", trained, "--threads", "1")
    assert (ended.code, ended.err) == (0, "")
    of_st_cnn = [f"{kind}_st_cnn@r.{ending}" for kind, ending in KINDS.items()]
    names = ["curves_st_cnn@r.png", *of_st_cnn, "confusion_st_cnn@r.png"]
    of_cnn = [f"wrote {TRIAL.parents[1]}/cnn/seed-0/{name}_cnn@r.png" for name in ("curves", "confusion")]
    assert ended.out.splitlines() == of_cnn + [f"wrote {TRIAL / name}" for name in names]
    for name in of_st_cnn:
        assert (TRIAL / name).read_bytes() == Path(trained, "figures", name).read_bytes()
    assert report.items() <= contents(Path(trained)).items(), "nothing else is touched"


@pytest.mark.parametrize("target", [TRIAL, TRIAL / "checkpoint.pt"], ids=["trial", "checkpoint"])
def test_some_pictures_of_one_checkpoint_into_a_folder(trained, stn, target):
    ended = stn("visualize", str(target), "--only", "rotation_sweep,curves", "--output-dir", "drawn")
    assert ended.code == 0
    assert {path.name for path in Path("drawn").iterdir()} == {"rotation_sweep_st_cnn@r.png", "curves_st_cnn@r.png"}


def test_a_training_that_has_not_ended_has_its_pictures(trained, stn):
    (TRIAL / "result.json").unlink()
    assert stn("visualize", str(TRIAL), "--only", "training").code == 0
    drawn = TRIAL / "training_st_cnn@r.gif"
    assert drawn.read_bytes() == Path(trained, "figures/training_st_cnn@r.gif").read_bytes()


def test_a_checkpoint_by_itself_has_all_pictures_but_those_that_lie_beside_it(trained, stn):
    shutil.copy(TRIAL / "checkpoint.pt", "mine.pt")
    assert stn("visualize", "mine.pt", "--only", "training").sentence.startswith("mine.pt has no such picture")
    assert stn("visualize", "mine.pt").code == 0
    drawn = {path.name.split("_st_cnn")[0] for path in Path().glob("*_st_cnn@r.*")}
    assert drawn == {"examples", "means", "rotation_sweep", "confusion"}


def test_what_cannot_be_drawn_is_told(trained, stn):
    assert stn("visualize", "nowhere").sentence.startswith("nowhere does not exist")
    assert stn("visualize", trained, "--only", "rotation").sentence.endswith("did you mean 'rotation_sweep'?")
    alone = str(TRIAL.parents[1] / "cnn")
    assert stn("visualize", alone, "--only", "rotation_sweep,means").sentence.startswith(f"{alone} has no such picture")
