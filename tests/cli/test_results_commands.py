"""`stn-train eval`, `report` and `status`: what they tell of a run, and what they refuse."""

import csv
import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from stn_train import storage
from stn_train.evaluation.metrics import Robustness
from stn_train.experiment import runtime as runtime
from stn_train.run_folder import TrialFolder, TrialResult
from stn_train.specs import SourceSpec
from stn_train.statistics import error_over_seeds

TRIAL = "runs/small/trials/r/st_cnn/seed-0"


def test_eval_finds_again_what_the_run_found(trained, stn):
    ended = stn("eval", trained, "--json", "--threads", "1")
    assert (ended.code, ended.err) == (0, "")
    document = json.loads(ended.out)
    found = document["checkpoints"]
    assert [one["model"] for one in found] == ["cnn", "st_cnn"]
    for one, row in zip(found, document["summary"], strict=True):
        result = json.loads(Path(one["checkpoint"]).with_name("result.json").read_bytes())
        assert (one["trained_on"], one["seed"], one["epoch"], one["epochs"]) == ("r", 0, 2, 2)
        assert (one["errors"], one["images"], one["split"]) == (result["errors"], result["images"], result["split"])
        assert one["confusion"] == result["confusion"]
        assert row["error"] == pytest.approx(100 * result["errors"] / result["images"]) == 100 - row["accuracy"]
        assert row["error_low"] <= row["error"] <= row["error_high"]
        assert one["dataset"]["name"] == "r"
        alignment = Path(one["checkpoint"]).with_name("alignment.json")
        assert one["alignment"] == (
            json.loads(storage.read_verified(alignment, storage.JSON, "")) if one["model"] == "st_cnn" else None
        )
        for label, counts in enumerate(result["confusion"]):
            assert row[f"error_of_class_{label}"] == pytest.approx(100 - 100 * counts[label] / sum(counts))
    (comparison,) = document["comparisons"]
    assert comparison["difference"] == pytest.approx(document["summary"][1]["error"] - document["summary"][0]["error"])


@pytest.mark.slow
def test_turns_are_part_of_a_model_and_can_be_had_of_any(stn):
    """Training knows nothing of them, so that both networks are the same."""
    found, epochs, held = {}, {}, {}
    for name, model in (("plain", "st_cnn"), ("sure", "{name: sure, base: st_cnn, tta_angles: [-40, 40]}")):
        options = ("--set", f"models=[{model}]", "--set", "training.epochs=3", "--threads", "1")
        assert stn("run", "--config", "small.yaml", *options, "--output-dir", name).code == 0
        assert stn("robustness", name, "--threads", "1").code == 0
        folder = TrialFolder(next(Path(name).glob("trials/r/*/seed-0")))
        found[name], epochs[name] = folder.load(TrialResult, folder.result), folder.load_metrics()
        held[name] = folder.load(Robustness, folder.robustness)
        examples = folder.load_gallery()["examples"]
        assert (examples["kind"] == 2).tolist() == (examples["predicted"] != examples["label"]).tolist()
    asked = {
        (name, tta_angles): json.loads(stn("eval", name, *tta_angles, "--json", "--threads", "1").out)["checkpoints"][0]
        for name in ("plain", "sure")
        for tta_angles in ((), ("--tta-angles=",), ("--tta-angles=-40,40",))
    }
    assert found["plain"].confusion != found["sure"].confusion
    for (name, tta_angles), one in asked.items():
        three_times = tta_angles == ("--tta-angles=-40,40",) or (tta_angles == () and name == "sure")
        assert one["tta_angles"] == ([-40, 40] if three_times else [])
        assert one["confusion"] == [list(row) for row in found["sure" if three_times else "plain"].confusion]
        assert one["alignment"] == asked["plain", ()]["alignment"]
    assert [epoch.loss for epoch in epochs["plain"]] == [epoch.loss for epoch in epochs["sure"]]
    assert epochs["sure"][-1].error == pytest.approx(found["sure"].error) != epochs["plain"][-1].error
    assert held["plain"].points != held["sure"].points
    assert "120 test images of r (28 x 28 pixels), each also turned by -40, 40 degrees:" in stn("eval", "sure").out


@pytest.mark.parametrize("tta_angles", ["a", "10,", "200", "nan", "1e999", "10;20", "0", "10,10"])
def test_turns_that_are_no_degrees(trained, stn, tta_angles):
    assert stn("eval", trained, f"--tta-angles={tta_angles}").sentence == (
        f"--tta-angles {tta_angles}: expected at most 36 different angles from -180 to 180 degrees, none of them 0, "
        "separated by commas, such as -10,10"
    )


@pytest.mark.parametrize("target", [TRIAL, f"{TRIAL}/checkpoint.pt"])
def test_eval_of_a_trial_or_a_checkpoint_is_that_one(trained, stn, target):
    ended = stn("eval", target)
    words, _, _, figures, *_ = ended.out.splitlines()
    assert words == "120 test images of r (28 x 28 pixels):"
    result = json.loads(Path(TRIAL, "result.json").read_bytes())
    error = 100 * result["errors"] / result["images"]
    assert figures.split()[:5] == ["st_cnn", "1", f"{100 - error:.2f}", "%", f"{error:.2f}"]
    assert "true class" not in ended.out, "classes and confusions only where they are asked for"
    more = stn("eval", target, "--per-class", "--confusion").out.splitlines()
    assert [[int(count) for count in line.split()[1:]] for line in more[-10:]] == result["confusion"]
    assert any("true class" in line for line in more)


def test_eval_fits_80_columns_and_says_who_is_ahead(trained, stn):
    ended = stn("eval", trained)
    assert all(len(line) <= 80 for line in ended.out.splitlines())
    assert re.search(r"st_cnn.* (than|and) cnn", " ".join(ended.out.split()))
    header, *rows = csv.reader(stn("eval", trained, "--csv").out.splitlines())
    assert [row[header.index("model")] for row in rows] == ["cnn", "st_cnn"]
    assert {"accuracy", "error_low", "difference_high", "removed_of_a_digit_rotation"} <= set(header)


def test_eval_of_a_checkpoint_outside_a_run(trained, stn):
    shutil.copy(f"{TRIAL}/checkpoint.pt", "mine.pt")
    assert stn("eval", "mine.pt").out.splitlines()[1:] == stn("eval", TRIAL).out.splitlines()[1:]


@pytest.mark.parametrize("dataset", ["plain", "tc"])
def test_eval_on_another_dataset_is_on_the_canvas_that_the_model_knows(trained, stn, dataset):
    (found,) = json.loads(stn("eval", TRIAL, "--dataset", dataset, "--json").out)["checkpoints"]
    assert (found["trained_on"], found["dataset"]["name"]) == ("r", dataset)
    assert found["dataset"]["canvas"] == [28, 28]
    assert found["images"] == 120


def test_eval_knows_the_datasets_of_the_run_and_where_its_digits_lie(trained, stn, monkeypatch):
    config = yaml.safe_load(Path(trained, "config.yaml").read_text())
    config["datasets"].append({"name": "mild", "base": "r", "rotation": 5})
    config["data_root"] = "/where/they/lie"
    Path(trained, "config.yaml").write_text(yaml.safe_dump(config))
    asked = []
    load = runtime.load_split
    monkeypatch.setattr(
        runtime, "load_split", lambda source, split, root: asked.append(root) or load(source, split, root)
    )
    (found,) = json.loads(stn("eval", TRIAL, "--dataset", "mild", "--json").out)["checkpoints"]
    assert found["dataset"]["rotation"] == [-5, 5]
    assert stn("eval", TRIAL, "--dataset", "mild", "--data-root", "elsewhere").code == 0
    assert asked == ["/where/they/lie", "elsewhere"]
    assert stn("eval", TRIAL, "--dataset", "mlid").sentence.endswith("; did you mean 'mild'?")


@pytest.mark.filterwarnings("error")
def test_eval_where_a_class_has_no_images(trained, stn, monkeypatch):
    test = runtime.load_split(SourceSpec.model_validate("digits"), "test", None)
    monkeypatch.setattr(runtime, "load_split", lambda source, split, root: test.subset(test.labels != 3))
    document = json.loads(stn("eval", trained, "--json").out, parse_constant=pytest.fail)
    for one, row in zip(document["checkpoints"], document["summary"], strict=True):
        assert [label for label in range(10) if row.get(f"error_of_class_{label}") is None] == [3]
        assert sum(one["confusion"][3]) == 0
    assert stn("eval", TRIAL, "--per-class").code == 0


def test_eval_of_several_leaves_out_what_is_given_a_pose_that_there_is_not(stn):
    Path("told.yaml").write_text(
        "source: digits\ndatasets: [r]\nmodels: [cnn, st_cnn]\ncontrols: true\ntraining: {epochs: 1, train_size: 100}\n"
    )
    assert stn("run", "--config", "told.yaml", "-q").code == 0
    ended = stn("eval", "runs/told", "--dataset", "e")
    assert ended.err == (
        "left out: --dataset e: st_cnn-oracle is given the true pose of an image, and e has none to give\n"
    )
    asked = re.findall(r"^(\S+) +1 +[\d.]+ %", ended.out, re.MULTILINE)
    assert (ended.code, asked) == (0, ["cnn", "st_cnn", "st_cnn-identity", "st_cnn-supervised"])
    found = json.loads(stn("eval", "runs/told", "--dataset", "e", "--json").out)
    assert [each["model"] for each in found["checkpoints"]] == asked
    shutil.copytree("runs/told/trials/r/st_cnn-oracle/seed-0", "runs/told/trials/r/st_cnn-oracle/seed-1")
    for target in ("st_cnn-oracle/seed-0", "st_cnn-oracle"):
        alone = stn("eval", f"runs/told/trials/r/{target}", "--dataset", "e")
        assert (alone.code, alone.out) == (2, "")
        assert alone.sentence.endswith("e has none to give")


def test_eval_of_what_cannot_be_measured(trained, stn):
    Path("empty").mkdir()
    Path("text").write_text("hello\n")
    Path("damaged.pt").write_bytes(Path(TRIAL, "checkpoint.pt").read_bytes()[:-5000])
    torch.save({"weights": torch.zeros(3)}, "other.pt")
    assert stn("eval", "nowhere").sentence.startswith("nowhere does not exist: name a run's folder")
    assert stn("eval", "empty").sentence == "empty holds no checkpoint.pt: nothing has been trained there yet"
    for name in ("text", "damaged.pt", "other.pt", f"{TRIAL}/predictions.npz"):
        assert stn("eval", name).sentence.startswith(f"{name} is not a checkpoint of stn-train")
    assert stn("eval", trained, "--dataset", "rst").sentence == (
        "--dataset rst: there is no such dataset; did you mean 'rts'?"
    )
    assert stn("eval", trained, "--device", "gpu").sentence.startswith("--device gpu: ")


@pytest.mark.parametrize("also", ["--csv", "--confusion"])
def test_eval_as_json_goes_with_no_other_form(trained, stn, also):
    assert "--json" in stn("eval", trained, "--json", also).sentence


def test_eval_tells_of_a_finished_trial_without_its_checkpoint(trained, stn):
    Path(TRIAL, "checkpoint.pt").unlink()
    ended = stn("eval", trained)
    assert (ended.code, ended.err) == (0, f"left out: {TRIAL} has no checkpoint.pt\n")


def test_eval_of_several_runs_at_once_says_which_are_the_same_trial(trained, stn):
    shutil.copytree("runs/small", "runs/again")
    sentence = stn("eval", "runs").sentence
    assert all(f"runs/{name}/trials/r/cnn/seed-0/checkpoint.pt" in sentence for name in ("small", "again"))
    assert "delete" not in sentence


def test_report_again_is_the_same_bytes(trained, finished, stn, contents):
    shutil.rmtree(Path(trained, "figures"))
    Path(trained, "report.md").write_text("old")
    ended = stn("report", trained)
    assert (ended.code, ended.err) == (0, "")
    table, wrote = ended.out.split("\nwrote ", 1)
    assert finished[1].out.startswith(table)
    assert sorted(wrote.rstrip("\n").split("\nwrote ")) == sorted(
        f"{trained}/{name}" for name in contents(Path(trained)) if name.startswith(("report", "figures", "trials.csv"))
    )
    assert contents(Path(trained)) == contents(finished[0])


def test_report_writes_a_table_for_latex(trained, stn):
    ended = stn("report", trained, "--latex", "tables/small.tex")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.endswith("\nwrote tables/small.tex\n")
    assert r"st\_cnn" in Path("tables/small.tex").read_text()


def test_report_of_what_is_no_run(stn):
    for command in ("report", "status"):
        assert stn(command, "nowhere").sentence == "nowhere is not a run's folder: it has no config.yaml"
    assert [path.name for path in Path().iterdir()] == ["small.yaml"]


def test_report_of_what_is_not_finished_or_damaged(trained, stn):
    predictions = Path(trained, "trials/r/cnn/seed-0/predictions.npz")
    predictions.write_bytes(predictions.read_bytes()[:100])
    assert stn("report", trained).sentence.startswith(f"{predictions} is damaged")
    for result in Path(trained).rglob("result.json"):
        result.unlink()
    assert stn("report", trained).sentence == f"{trained} has nothing to report yet: none of its trials has finished"


def test_what_the_sentence_says_mends_the_metrics_of_a_trial_that_has_not_ended(trained, stn):
    metrics = Path(TRIAL, "metrics.jsonl")
    whole = metrics.read_bytes()
    Path(TRIAL, "result.json").unlink()
    metrics.write_bytes(whole[:-5])
    mend = "; give the run's command again, which writes it anew"
    assert stn("status", trained).sentence.endswith(mend)
    assert stn("run", "--config", "small.yaml", "--threads", "1", "-q").code == 0
    assert metrics.read_bytes() == whole


def test_status_tells_what_is_done_interrupted_and_pending(trained, stn):
    result = json.loads(Path(trained, "trials/r/cnn/seed-0/result.json").read_bytes())
    error = 100 * result["errors"] / result["images"]
    done = f"accuracy {100 - error:.2f} %, error {error:.2f} %"
    Path(TRIAL, "result.json").unlink()
    metrics = Path(TRIAL, "metrics.jsonl")
    storage.write(metrics, metrics.read_text().splitlines(keepends=True)[0], storage.LINES)
    config = yaml.safe_load(Path(trained, "config.yaml").read_text())
    Path(trained, "config.yaml").write_text(yaml.safe_dump({**config, "seeds": [0, 1]}))
    ended = stn("status", trained)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines() == [
        f"r/cnn/seed-0     done         {done}",
        "r/st_cnn/seed-0  interrupted  epoch 1 of 2",
        "r/cnn/seed-1     pending",
        "r/st_cnn/seed-1  pending",
        "",
        "1 done, 1 interrupted, 2 pending",
    ]


# --- compare ----------------------------------------------------------------------------------------------------


def test_compare_tells_two_runs_apart_and_a_run_from_its_copy_not(trained, stn):
    shutil.copytree(trained, "runs/copy")
    ended = stn("compare", trained, "runs/copy")
    assert (ended.code, ended.err) == (0, "")
    assert f"no difference shown between st_cnn (runs/copy) and st_cnn ({trained})" in " ".join(ended.out.split())
    found = json.loads(stn("compare", trained, "runs/copy", "--json").out, parse_constant=pytest.fail)
    assert [row["difference"] for row in found["comparisons"]] == [0, 0]


@pytest.mark.parametrize("runs", [[], ["runs/small"], ["runs/small", "runs/small"]])
def test_compare_wants_two_runs(trained, stn, runs):
    ended = stn("compare", *runs)
    assert (ended.code, ended.out) == (2, "")
    assert "RUN" in ended.err


def test_compare_plots_the_error_against_the_number_of_training_digits(trained, stn):
    few = ("--set", "training.train_size=120", "--set", "training.epochs=1", "--output-dir", "runs/few", "-q")
    assert stn("run", "--config", "small.yaml", "--only", "r/cnn", *few).code == 0
    ended = stn("compare", trained, "runs/few", "--plot", "figures/digits.png")
    assert (ended.code, ended.err) == (0, "")
    assert "training.train_size 120 instead of none" in ended.out
    assert ended.out.endswith("\n\nwrote figures/digits.png\n")
    assert Path("figures/digits.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads(stn("compare", trained, "runs/few", "--plot", "again.png", "--json").out)
    assert [row["training_digits"] for row in found["summary"]] == [480, 480, 120]
    assert Path("again.png").read_bytes() == Path("figures/digits.png").read_bytes()


def test_compare_does_not_plot_runs_of_as_many_training_digits(trained, stn):
    shutil.copytree(trained, "runs/copy")
    sentence = stn("compare", trained, "runs/copy", "--plot", "digits.png").sentence
    assert sentence.startswith("all of these runs trained on 480 digits")
    assert not Path("digits.png").exists()
    (command,) = re.findall("`stn-train (.*)`", sentence)
    assert stn(*command.split(), "--set", "training.epochs=1", "--set", "models=[cnn]").code == 0, "what it advises"
    assert stn("compare", trained, f"{trained}-240", "--plot", "digits.png").code == 0


def test_images_of_two_digits_are_reported_beside_others_with_both_of_their_digits(stn):
    """One seed: what `eval` says of a checkpoint, interval and all, is what the report says."""
    mixed = (
        "--set",
        "datasets=[r,addition]",
        "--set",
        "models=[cnn]",
        "--set",
        "training={epochs: 1, train_size: 100}",
    )
    assert stn("run", "--config", "small.yaml", *mixed, "-q").code == 0
    rows = json.loads(Path("runs/small/report.json").read_bytes())["summary"]
    ends = {"value": "error", "low": "error_low", "high": "error_high"}
    found = json.loads(stn("eval", "runs/small", "--json").out)["summary"]
    errors, again = (
        {row["dataset"]: {end: row[key] for end, key in ends.items()} for row in table} for table in (rows, found)
    )
    assert errors == again
    files = TrialFolder(Path("runs/small/trials/addition/cnn/seed-0"))
    arrays = files.load_predictions(addition=True)
    assert np.array_equal(np.sort(arrays["digit"], axis=0), np.stack([np.arange(120)] * 2, axis=1))
    both = error_over_seeds((arrays["predicted"] != arrays["label"])[None], arrays["digit"])
    assert asdict(both) == errors["addition"]
    storage.write_arrays(files.predictions, {**arrays, "digit": arrays["digit"][:, 0]})
    assert stn("report", "runs/small").sentence.startswith(f"{files.predictions} is damaged: digit is 120 of int64")


def test_compare_shows_the_error_of_each_seed(trained, stn):
    two = ("--set", "seeds=[0,1]", "--output-dir", "runs/two", "-q")
    assert stn("run", "--config", "small.yaml", "--only", "r/cnn", *two).code == 0
    errors = json.loads(stn("compare", trained, "runs/two", "--json").out)["summary"][-1]["seed_errors"]
    shown = ", ".join(f"{error:.2f}" for error in errors)
    told = " ".join(stn("compare", trained, "runs/two").out.split())
    assert f"cnn (runs/two), error seed by seed: {shown}" in told
    assert "optional stopping" in told


def test_compare_power_wants_points_and_is_content_with_one_run(trained, stn):
    assert "one seed has no spread" in stn("compare", trained, "--power", "0.2").out
    found = json.loads(stn("compare", trained, "--power", "0.2", "--json").out, parse_constant=pytest.fail)["power"]
    assert found["points"] == 0.2
    assert [(one["seeds"], one["needed"]) for one in found["seeds"]] == [(1, None)]
    for points in ("0", "-1", "nan", "101"):
        assert f"--power {points}" in stn("compare", trained, f"--power={points}").sentence


# --- evidence ---------------------------------------------------------------------------------------------------


def test_a_run_tells_what_its_transformer_undoes(trained, stn):
    report = json.loads(Path(trained, "report.json").read_bytes())
    cnn, st_cnn = report["summary"]
    assert cnn["before_rotation"] is None
    assert 45 < st_cnn["before_rotation"] < 60, "r turns by up to 90 degrees both ways: 180 / √12"
    assert st_cnn["removed_rotation"] is not None
    assert not Path(trained, "trials/r/cnn/seed-0/alignment.json").exists()
    assert "## Does it remove the distortion?" in Path(trained, "report.md").read_text()
