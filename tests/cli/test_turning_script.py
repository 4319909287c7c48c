"""`scripts/turning.py`: networks and poses that nothing has learnt, in one table."""

import re
import runpy
import sys
from pathlib import Path

import pytest

from stn_train.run_folder import TrialFolder, TrialResult

SCRIPT = Path(__file__).parents[2] / "scripts/turning.py"


@pytest.fixture
def rows(trained, monkeypatch, capsys) -> dict[str, list[str]]:
    """The cells of each line, by what it is of."""
    monkeypatch.setattr(sys, "argv", [SCRIPT.name, trained, "--against", "cnn"])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    lines = [re.split(r" *\| *", line)[1:-1] for line in capsys.readouterr().out.splitlines() if "|" in line]
    return {cells[1].strip("`"): cells for cells in lines}


def numbers(cells: list[str]) -> list[float]:
    """Of what rotation is left: the median in degrees, percent above 20, degrees within a class before and after."""
    return [float(re.findall(r"[\d.]+", cell)[0]) for cell in cells[-4:]]


def test_networks_stand_beside_poses_without_learning(rows, trained):
    files = TrialFolder(Path(trained, "trials/r/st_cnn/seed-0"))
    error = files.load(TrialResult, files.result).error
    assert rows["st_cnn"][3].startswith(f"{error:.2f} ")
    assert rows["st_cnn"][4] != "–", "the difference to the CNN's"
    assert rows["cnn"][-4:] == ["–"] * 4
    assert numbers(rows["oracle pose"])[:2] == [0, 0]
    assert numbers(rows["oracle pose"])[3] == 0
    _, flipped, before, _ = numbers(rows["oracle pose, up to a half turn"])
    assert flipped > 20, "of seven classes out of ten, one of two has its two poses apart"
    assert before == numbers(rows["st_cnn"])[2] > 30
    for name in (name for name in rows if name.startswith("no learning") or name.endswith("untrained")):
        median, *_, within = numbers(rows[name])
        assert median < 20, "they turn with the image"
        assert within > 20, "and know no pose of a class"
