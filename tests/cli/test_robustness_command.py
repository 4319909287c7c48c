"""`stn-train robustness`: what networks make of images unlike those of their training."""

import json
from pathlib import Path

import pytest

from stn_train.evaluation.metrics import Robustness
from stn_train.run_folder import RunFolder, TrialResult
from stn_train.specs import trials_of

TWO = """\
source: digits
datasets: [plain, r]
models: [cnn, st_cnn]
parameters: 100_000
training: {epochs: 1, batch_size: 96}
"""


@pytest.fixture
def run(stn) -> RunFolder:
    Path("two.yaml").write_text(TWO)
    assert stn("run", "--config", "two.yaml", "-q").code == 0
    return RunFolder(Path("runs/two"))


def test_every_finished_trial_is_measured_once_and_reported(run, stn):
    assert "stn-train robustness ." in Path("runs/two/report.md").read_text()
    leftover = Path("runs/two/trials/r/cnn/seed-0/.robustness.json.0123abcd.tmp")  # of one that was killed
    leftover.touch()
    ended = stn("robustness", "runs/two", "--threads", "1")
    assert ended.code == 0
    assert not leftover.exists()
    keys = [f"{dataset}/{model}/seed-0" for dataset in ("plain", "r") for model in ("cnn", "st_cnn")]
    assert ended.err.splitlines() == [f"trial {n} of 4  {key}  measured" for n, key in enumerate(keys, start=1)]
    trials = trials_of(run.load_experiment())
    for trial in trials:
        files = run.trial(trial)
        found, result = files.load(Robustness, files.robustness), files.load(TrialResult, files.result)
        assert {point.images for point in found.points} == {result.images} == {120}
        errors = {(point.factor, point.level): point.errors for point in found.points}
        if trial.dataset.name == "plain":
            alike = {errors["rotation", 0], errors["scale", 1.0], errors["clutter", 0], result.errors}
            assert len(alike) == 1, "held where they are anyway, the images are the fixed ones"
            assert errors["rotation", 90] > errors["rotation", 0]
            turned = [number for (factor, _), number in errors.items() if factor == "rotation"]
            assert max(turned) <= found.wrong_at_some_angle <= min(sum(turned), 120)
        (other,) = found.crossed
        folder = str(run.trial(trial).path)
        (evaluation,) = json.loads(stn("eval", folder, "--dataset", other.dataset.name, "--json").out)["checkpoints"]
        assert (other.errors, other.images) == (evaluation["errors"], evaluation["images"])
    again = stn("robustness", "runs/two")
    assert again.err.splitlines() == [f"trial {n} of 4  {key}  was measured before" for n, key in enumerate(keys, 1)]
    assert again.out == ended.out
    assert Path("runs/two/figures/robustness@r.png").exists()
    report = Path("runs/two/report.md").read_text()
    assert "stn-train robustness ." not in report
    assert "| trained on | model | tested on plain, % | tested on r, % |" in report


@pytest.mark.slow
def test_a_dataset_that_joins_the_run_is_asked_about_too(run, stn):
    assert stn("robustness", "runs/two", "-q").err == ""
    assert stn("run", "--config", "two.yaml", "--set", "datasets=[shear]", "--set", "models=[cnn]", "-q").code == 0
    again = [line.split("  ")[1:] for line in stn("robustness", "runs/two").err.splitlines()]
    old = [f"{dataset}/{model}/seed-0" for dataset in ("plain", "r") for model in ("cnn", "st_cnn")]
    assert again == [[key, "measured"] for key in (*old, "shear/cnn/seed-0")]
    cnn = json.loads(Path("runs/two/trials/r/cnn/seed-0/robustness.json").read_bytes())
    assert [crossed["dataset"]["name"] for crossed in cnn["crossed"]] == ["plain", "shear"]
    assert [crossed["dataset"]["canvas"] for crossed in cnn["crossed"]] == [[28, 28]] * 2


@pytest.mark.slow
def test_what_has_changed_since_is_measured_anew(run, stn):
    """A dataset that means other images now, and a network that was trained again."""
    only = ("--only", "r/*", "--output-dir", "runs/r", "-q")
    mild = ("--set", "datasets=[r, {name: mild, rotation: ANGLE}]")
    for angle, told in (("10", "measured"), ("170", "measured"), ("170", "was measured before")):
        changed = [part.replace("ANGLE", angle) for part in mild]
        assert stn("run", "--config", "two.yaml", *changed, *only).code == 0
        lines = [line for line in Path("runs/r/report.md").read_text().splitlines() if line.startswith("| r | cnn |")]
        assert any(line.endswith("| – |") for line in lines) == ((angle, told) == ("170", "measured")), "not of before"
        ended = stn("robustness", "runs/r")
        assert [line.split("  ")[2] for line in ended.err.splitlines()] == [told, told]
    trial = Path("runs/r/trials/r/cnn/seed-0")
    for name in ("result.json", "checkpoint.pt"):
        (trial / name).unlink()
    assert stn("run", "--config", "two.yaml", *changed, *only).code == 0
    told = [line.split("  ")[2] for line in stn("robustness", "runs/r").err.splitlines()]
    assert told == ["measured", "was measured before"]


@pytest.mark.slow
def test_networks_that_are_given_the_pose_are_asked_only_where_there_is_one(stn):
    Path("told.yaml").write_text(
        TWO.replace("[plain, r]", "[r, e]").replace("[cnn, st_cnn]", "[st_cnn]") + "controls: true\n"
    )
    assert stn("run", "--config", "told.yaml", "-q").code == 0
    assert stn("robustness", "runs/told", "-q").code == 0
    crossed = {
        name: json.loads(Path(f"runs/told/trials/r/{name}/seed-0/robustness.json").read_bytes())["crossed"]
        for name in ("st_cnn", "st_cnn-oracle")
    }
    assert (len(crossed["st_cnn"]), len(crossed["st_cnn-oracle"])) == (1, 0)
    lines = [line for line in Path("runs/told/report.md").read_text().splitlines() if line.startswith("| r | st_cnn")]
    assert any(line.startswith("| r | st_cnn-oracle |") and line.endswith("| – |") for line in lines)


def test_what_cannot_be_measured_is_told(trained, stn):
    assert stn("robustness", "nowhere").sentence.startswith("nowhere is not a run's folder")
    checkpoint = Path(trained, "trials/r/cnn/seed-0/checkpoint.pt")
    checkpoint.unlink()
    ended = stn("robustness", trained, "-q")
    assert ended.code == 1
    assert ended.err.startswith(f"failed: {checkpoint}")
    assert Path(trained, "trials/r/st_cnn/seed-0/robustness.json").exists(), "the other is measured"
    Path(trained, "trials/r/st_cnn/seed-0/robustness.json").write_text("{")
    assert "robustness.json is damaged" in stn("report", trained).sentence


def test_a_dataset_that_does_not_fit_the_canvas_is_told_or_left_out(stn):
    wide = "{name: wide, canvas: 40, clutter: {patches: 2, size: 20}}"
    Path("two.yaml").write_text(
        TWO.replace("[plain, r]", f"[{{name: small, canvas: 12}}, {wide}]").replace("[cnn, st_cnn]", "[fcn]")
    )
    assert stn("run", "--config", "two.yaml", "-q").code == 0
    refused = stn("eval", "runs/two/trials/small/fcn/seed-0", "--dataset", "wide").sentence
    assert "wide" in refused
    assert "canvas" in refused
    assert stn("robustness", "runs/two", "-q").code == 0
    files = (Path(f"runs/two/trials/{name}/fcn/seed-0/robustness.json") for name in ("small", "wide"))
    small, wide = (json.loads(file.read_bytes()) for file in files)
    assert [crossed["dataset"]["name"] for crossed in small["crossed"]] == []
    assert [crossed["dataset"]["name"] for crossed in wide["crossed"]] == ["small"]
