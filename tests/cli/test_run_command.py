"""`stn-train run` as its user sees it: files, words, and what it refuses."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from stn_train.config import shipped
from stn_train.evaluation.metrics import AlignmentMetrics
from stn_train.report.measures import removed
from stn_train.report.snapshots import KINDS
from stn_train.run_folder import RunFolder, Timing, TrialResult
from stn_train.specs import trials_of
from stn_train.storage import LINES, write

RUN = ("run", "--config", "small.yaml", "--threads", "1")
GALLERY = tuple(f"{kind}.npz" for kind in KINDS)
RESULT = "trials/r/{}/seed-{}/result.json"


def test_the_folder_holds_every_file_that_is_promised(finished, contents):
    of_a_trial = {"checkpoint.pt", "environment.json", "metrics.jsonl", "predictions.npz", "result.json", "timing.json"}
    assert set(contents(finished[0])) == {
        "config.yaml",
        "environment.json",
        "report.csv",
        "report.json",
        "report.html",
        "report.md",
        "trials.csv",
        "figures/learning_curves@r.png",
        "figures/confusions@r.png",
        "figures/costs@r.png",
        "figures/courses@r.png",
        "figures/strip@r.png",
        *(f"figures/{kind}_st_cnn@r.{ending}" for kind, ending in KINDS.items()),
        *(f"trials/r/cnn/seed-0/{name}" for name in of_a_trial),
        *(f"trials/r/st_cnn/seed-0/{name}" for name in (*of_a_trial, "alignment.json", *GALLERY)),
    }


def test_the_files_say_what_was_done(finished):
    folder = RunFolder(finished[0])
    cnn, st_cnn = trials_of(folder.load_experiment())
    assert (cnn.key, st_cnn.key) == ("r/cnn/seed-0", "r/st_cnn/seed-0")
    for trial in (cnn, st_cnn):
        files = folder.trial(trial)
        result, arrays = files.load(TrialResult, files.result), files.load_predictions(addition=False)
        assert result.trial == trial
        assert (result.split, result.training_digits, result.digits, result.images) == ("test", 480, 120, 120)
        assert abs(result.parameters / 100_000 - 1) <= 0.02
        assert result.errors == (arrays["predicted"] != arrays["label"]).sum()
        assert np.array_equal(np.asarray(result.confusion).sum(axis=1), np.bincount(arrays["label"].astype(int)))
        records = files.load_metrics()
        assert [record.epoch for record in records] == [1, 2]
        assert records[-1].error == pytest.approx(result.error)
        assert files.load(Timing, files.timing).seconds > 0
    assert set(folder.trial(cnn).load_predictions(addition=False)) == {"predicted", "label", "digit"}
    assert folder.trial(st_cnn).load_predictions(addition=False)["theta"].shape == (120, 6)


def test_the_pictures_are_drawn_from_what_the_network_does(finished):
    folder = RunFolder(finished[0])
    _, st_cnn = (folder.trial(trial) for trial in trials_of(folder.load_experiment()))
    examples, means, rotation_sweep, training = st_cnn.load_gallery().values()
    label, predicted, kind = examples["label"], examples["predicted"], examples["kind"]
    assert ((label != predicted) == (kind == 2)).all(), "the worst are all wrong, the others right"
    assert len(set(label[kind == 0])) == len(label[kind == 0]), "of each class one"
    assert examples["image"].shape == examples["output"].shape == (len(kind), 1, 28, 28)
    assert examples["outline"].shape == (len(kind), 64, 2)
    assert means["image"].shape == means["output"].shape == (10, 1, 28, 28)
    assert set(rotation_sweep["label"]) == {4}
    upright, quarter, half = (
        rotation_sweep["image"][np.flatnonzero(rotation_sweep["angle"] == angle)[0]] for angle in (0, 90, 180)
    )
    assert np.abs(np.rot90(upright, 2, (1, 2)).astype(int) - half).max() <= 2
    assert np.abs(np.rot90(upright, -1, (1, 2)).astype(int) - quarter).max() <= 2, "clockwise"
    assert training["label"].tolist() == list(range(10))
    assert training["output"].shape == (2 + 1, 10, 1, 28, 28)
    assert np.array_equal(training["output"][0], training["image"]), "before training, nothing is transformed"
    assert training["predicted"].shape == (2 + 1, 10)


def test_the_table_goes_to_stdout_and_a_line_an_epoch_to_stderr(finished):
    _, ended = finished
    assert ended.code == 0
    header, cnn, st_cnn, *words, report, demo = ended.out.splitlines()
    assert header.split()[:4] == ["model", "seeds", "accuracy", "error"]
    assert all(len(line) <= 80 for line in ended.out.splitlines())
    assert (cnn.split()[0], st_cnn.split()[0]) == ("cnn", "st_cnn")
    assert "st_cnn" in " ".join(words)
    assert report == "report: runs/small/report.html"
    assert demo.endswith("stn-train demo runs/small")
    begin, *epochs = ended.err.splitlines()
    assert begin == "2 trials on cpu, into runs/small"
    assert [re.sub(r"[\d.]+( %| s)", r"#\1", re.sub(r"loss [\d.]+", "loss #", line)) for line in epochs] == [
        f"trial {trial} of 2  r/{model}/seed-0  epoch {epoch} of 2  loss #  error # %  # s"
        for trial, model in ((1, "cnn"), (2, "st_cnn"))
        for epoch in (1, 2)
    ]


def test_the_same_command_again_trains_nothing_and_says_the_same(trained, finished, stn, contents):
    before = contents(Path(trained))
    again = stn(*RUN)
    assert (again.code, again.out) == (0, finished[1].out)
    assert again.err.splitlines()[1:] == [
        "trial 1 of 2  r/cnn/seed-0  was finished before",
        "trial 2 of 2  r/st_cnn/seed-0  was finished before",
    ]
    assert contents(Path(trained)) == before
    assert stn(*RUN, "-q") == again.__class__(0, finished[1].out, "")


def test_the_saved_configuration_is_the_same_run(trained, stn, contents):
    before = contents(Path(trained))
    again = stn("run", "--config", f"{trained}/config.yaml", "--output-dir", trained, "--threads", "1")
    assert again.code == 0
    assert again.err.count("was finished before") == 2
    assert contents(Path(trained)) == before
    assert stn("config", "check", f"{trained}/config.yaml").out.endswith("= 2 trials\n")


def test_what_it_prints_agrees_with_what_it_writes(finished):
    folder, ended = finished
    for line in ended.out.splitlines()[1:3]:
        model, _, accuracy, _, error = line.split()[:5]
        result = json.loads((folder / RESULT.format(model, 0)).read_bytes())
        wrong = 100 * result["errors"] / result["images"]
        assert (accuracy, error) == (f"{100 - wrong:.2f}", f"{wrong:.2f}")


def test_new_seeds_and_models_join_and_leave_what_was_there(trained, stn):
    earlier = {model: Path(trained, RESULT.format(model, 0)).read_bytes() for model in ("cnn", "st_cnn")}
    joined = stn(*RUN, "--seeds", "3", "--only", "r/cnn", "--quiet")
    assert (joined.code, joined.err) == (0, "")
    assert [line.split()[:2] for line in joined.out.splitlines()[1:3]] == [["cnn", "2"], ["st_cnn", "1"]]
    assert yaml.safe_load(Path(trained, "config.yaml").read_text())["seeds"] == [0, 3]
    assert {model: Path(trained, RESULT.format(model, 0)).read_bytes() for model in earlier} == earlier

    wide = "models=[{name: wide, base: cnn}]"
    joined = stn(*RUN, "--set", wide, "-q")
    assert [line.split()[0] for line in joined.out.splitlines()[1:4]] == ["cnn", "st_cnn", "wide"]
    assert {model: Path(trained, RESULT.format(model, 0)).read_bytes() for model in earlier} == earlier


def test_only_trains_what_matches(stn):
    ended = stn(*RUN, "--only", "r/st_*", "--set", "training.epochs=1")
    assert ended.code == 0
    assert "trial 1 of 1  r/st_cnn/seed-0" in ended.err
    assert "nothing to compare" in ended.out
    assert not Path("runs/small/trials/r/cnn").exists()
    assert stn("status", "runs/small").out.splitlines()[0].split() == ["r/cnn/seed-0", "pending"]


def test_a_changed_trial_is_refused_with_the_difference_and_nothing_is_lost(trained, stn, contents):
    before = contents(Path(trained))
    sentence = stn(*RUN, "--set", "training.epochs=5", "--set", "training.lr=0.01").sentence
    assert sentence == (
        "runs/small/trials/r/cnn/seed-0 holds another trial: training.epochs was 2 and is 5, "
        "training.lr was 0.003 and is 0.01; name another folder by --output-dir, or delete this one"
    )
    assert "validation was False and is True" in stn(*RUN, "--validate").sentence
    assert contents(Path(trained)) == before


@pytest.mark.slow
def test_several_datasets_are_shown_in_the_papers_layout(stn):
    command = (*RUN, "--set", "datasets=[r,rotation]", "--set", "training.epochs=1", "-q")
    half = stn(*command, "--only", "r/*")
    assert half.out.split()[:3] == ["model", "seeds", "accuracy"], "one dataset so far"
    assert stn(*command, "--only", "rotation/st_*").out.splitlines()[1].split()[-1] == "-"
    ended = stn(*command)
    assert (ended.code, ended.err) == (0, "")
    layout, told, comparisons, *_ = ended.out.split("\n\n")
    (header, cnn, st_cnn), (compared, first, second) = (part.splitlines() for part in (layout, comparisons))
    assert header.split() == ["model", "r", "rotation"]
    for line, model in ((cnn, "cnn"), (st_cnn, "st_cnn")):
        errors = [
            json.loads(Path(f"runs/small/trials/{name}/{model}/seed-0/result.json").read_bytes())["errors"]
            for name in ("r", "rotation")
        ]
        assert line.split() == [model, *(f"{100 * count / 120:.2f}" for count in errors)]
    assert "mean over the seeds" in told
    assert compared.split()[:4] == ["dataset", "model", "vs", "baseline"]
    assert [line.split()[:2] for line in (first, second)] == [["r", "st_cnn"], ["rotation", "st_cnn"]]
    assert stn("report", "runs/small").out.startswith(ended.out.split("\n\nreport:")[0])


def test_validation_says_so(stn):
    ended = stn(*RUN, "--validate", "--only", "r/cnn", "--set", "training.epochs=1", "--output-dir", "tuning")
    assert ended.code == 0
    assert "validation digits" in ended.out
    assert "validation" in Path("tuning/report.md").read_text()
    result = json.loads(Path("tuning/trials/r/cnn/seed-0/result.json").read_bytes())
    assert (result["split"], result["images"], result["training_digits"]) == ("validation", 80, 400)
    assert "80 validation images of r" in stn("eval", "tuning").out
    assert "validation digits" in stn("report", "tuning").out
    shutil.copytree("tuning", "tuned")
    assert "validation digits" in stn("compare", "tuning", "tuned").out


def test_few_digits_are_shown_more_often_and_the_test_images_stay(finished, stn):
    once = ("--only", "r/cnn", "--set", "training.epochs=1", "-q")
    assert stn(*RUN, *once, "--set", "training.train_size=120", "--output-dir", "few").code == 0
    path = "trials/r/cnn/seed-0"
    result = json.loads(Path("few", path, "result.json").read_bytes())
    assert (result["training_digits"], result["trial"]["training"]["train_size"], result["images"]) == (120, 120, 120)
    few, everything = (np.load(folder / path / "predictions.npz") for folder in (Path("few"), finished[0]))
    for name in ("label", "digit"):
        assert np.array_equal(few[name], everything[name])
    assert stn("eval", "few").code == 0
    held = stn(*RUN, *once, "--validate", "--set", "training.train_size=401", "--output-dir", "other").sentence
    assert held.startswith("training.train_size is 401, and digits has 400 to train on")
    built = stn(*RUN, "--set", "training.train_size=120", "--set", "prebuilt=built").sentence
    assert "training.train_size does not go with prebuilt data sets" in built


@pytest.fixture
def a_second_an_epoch(monkeypatch):
    """Nothing is measured for a dry run: each epoch is said to take a second."""
    monkeypatch.setattr("stn_train.experiment.estimate.seconds_of_epoch", lambda trial, runtime: 1.0)


def test_a_dry_run_tells_sizes_and_times_and_writes_nothing(stn):
    ended = stn(*RUN, "--dry-run", "--seeds", "0,1")
    assert (ended.code, ended.err) == (0, "")
    header, cnn, st_cnn, _, *sentence = ended.out.splitlines()
    assert header.split() == ["dataset", "model", "width", "parameters", "MACs", "epochs", "a", "trial"]
    assert (cnn.split()[:2], st_cnn.split()[:2]) == (["r", "cnn"], ["r", "st_cnn"])
    assert sentence[0].startswith("4 trials: about ")
    assert [path.name for path in Path().iterdir()] == ["small.yaml"]


def test_a_localisation_network_that_learns_nothing_is_not_warned_of(stn):
    moments = ("--set", "models=[st_cnn_moments]", "--set", "training.epochs=2", "--output-dir", "moments")
    ended = stn(*RUN, *moments)
    assert ended.code == 0
    assert "warning" not in ended.err


def test_a_configuration_of_the_users_is_not_overwritten(stn):
    Path("mine").mkdir()
    Path("mine/config.yaml").write_text(written := f"# mine\n{Path('small.yaml').read_text()}")
    sentence = stn("run", "--config", "mine/config.yaml", "--output-dir", "mine").sentence
    assert sentence.startswith("mine/config.yaml was written by hand")
    assert Path("mine/config.yaml").read_text() == written


@pytest.mark.usefixtures("a_second_an_epoch")
def test_a_dry_run_as_json_says_what_would_be_trained(stn):
    command = ("run", "--config", "paper/table1", "--only", "rts/*fcn*", "--dry-run", "--json", "--threads", "1")
    planned = json.loads(stn(*command).out)
    cells = planned.pop("cells")
    where = {"device": "cpu", "threads": 1, "workers": 1}
    assert planned == where | {"trials": 12, "finished": 0, "seconds_left": 1200.0}
    assert json.loads(stn(*command, "--jobs", "8").out)["seconds_left"] == 200.0, "the last four are on four of eight"
    assert json.loads(stn(*command, "--devices", "cpu,cpu").out)["workers"] == 2
    assert [cell["model"] for cell in cells] == ["fcn", "st_fcn", "st_fcn_projective", "st_fcn_tps"]
    for cell in cells:
        assert (cell["dataset"], cell["canvas"], cell["seeds"]) == ("rts", [42, 42], [0, 1, 2])
        assert cell["parameters"] == pytest.approx(400_000, rel=0.02)
        assert (cell["epochs"], cell["seconds_per_trial"], cell["seconds_left"]) == (100, 100.0, 300.0)
    assert [cell["output_size"] for cell in cells] == [None, *([[28, 28]] * 3)]
    assert stn(*RUN, "--json").sentence.startswith("--json goes with --dry-run")


@pytest.mark.usefixtures("a_second_an_epoch")
def test_a_dry_run_counts_only_the_epochs_that_are_left(stn, trained):
    def left(*options: str) -> tuple[int, float]:
        planned = json.loads(stn(*RUN, "--dry-run", "--json", *options).out)
        return planned["finished"], planned["seconds_left"]

    assert left() == (2, 0)
    assert left("--seeds", "0,1") == (2, 4), "two epochs of each of the new seed's trials"
    assert left("--output-dir", "elsewhere") == (0, 4)
    (Path(trained) / "trials/r/cnn/seed-0/result.json").unlink()
    metrics = Path(trained) / "trials/r/cnn/seed-0/metrics.jsonl"
    write(metrics, metrics.read_text().splitlines(keepends=True)[0], LINES)
    assert left() == (1, 1), "one epoch of two was trained"
    assert "nothing is left to train" in stn(*RUN, "--dry-run", "--only", "r/st_cnn").out
    other = ("--set", "training.lr=0.5")
    assert stn(*RUN, *other, "--dry-run").sentence == stn(*RUN, *other).sentence, "what is there is another trial"


@pytest.mark.usefixtures("a_second_an_epoch")
@pytest.mark.parametrize("config", [name for name in shipped() if name not in ("paper/colocalisation", "paper/fixed")])
def test_what_a_dry_run_says_fits_into_a_terminal(stn, config):
    ended = stn("run", "--config", config, "--dry-run")
    assert ended.code == 0, ended
    assert max(map(len, ended.out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--device", "gpu"), "--device gpu: there is no such device; expected cpu, cuda, cuda:1 or mps"),
        (("--device", "meta"), "--device meta cannot be used here: "),
        (("--device", "cuda:99"), "--device cuda:99 cannot be used here: "),
        (("--seeds", "a"), "--seeds a: expected whole numbers separated by commas, such as 0,1,2"),
        (("--seeds", "1,,2"), "--seeds 1,,2: expected whole numbers"),
        (("--seeds=-1",), "--seeds -1: seeds.0: must be at least 0, not -1"),
        (("--seeds", "1,1"), "--seeds 1,1: seeds: 1 appears twice; "),
        (("--only", "rts/*"), "--only rts/* matches no dataset/model of small.yaml, which has for instance r/cnn"),
        (("--set", "parameters=1_000"), "model cnn cannot have 1,000 parameters"),
        (("--set", "training.epoch=1"), "--set training.epoch=1: training.epoch: there is no key 'epoch' here; "),
        (("--output-dir", "small.yaml"), "small.yaml cannot be used: it is a file, not a folder"),
        (("--output-dir", "small.yaml/runs"), "small.yaml/runs cannot be used: a file is where a folder should be"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing(stn, arguments, told):
    sentence, *_ = stn(*RUN, *arguments).sentences  # of a budget, one for each model
    assert sentence.startswith(told)
    assert [path.name for path in Path().iterdir()] == ["small.yaml"]


def test_a_model_that_cannot_be_built_is_found_before_another_is_trained(stn):
    changes = ("models=[cnn, cnn_paper]", "datasets=[{name: tiny, base: r, canvas: 12}]", "parameters=null")
    ended = stn(*RUN, *(part for change in changes for part in ("--set", change)))
    assert ended.sentence.startswith("model cnn_paper cannot be built for images of 12 x 12 pixels: ")
    assert not Path("runs").exists()


def test_a_folder_that_is_no_run_of_ours_is_left_alone(stn):
    Path("mine").mkdir()
    Path("mine/config.yaml").write_text("a: 1\n")
    assert stn(*RUN, "--output-dir", "mine").sentence.startswith("mine/config.yaml")
    assert Path("mine/config.yaml").read_text() == "a: 1\n"


def test_without_data_and_network_it_names_the_ways_out(stn, monkeypatch, tmp_path):
    def no_network(*_, **__):
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz")

    monkeypatch.setattr("torchvision.datasets.MNIST", no_network)
    monkeypatch.setenv("STN_TRAIN_DATA", str(tmp_path / "empty"))
    for command in (("run", "-q"), ("data", "preview"), ("data", "build", "--output-dir", "built")):
        sentence = stn(*command, "--config", "small.yaml", "--set", "source=mnist").sentence
        assert sentence.startswith(f"mnist is not in {tmp_path / 'empty'} and could not be downloaded (")
        for way in ("--data-root", "data_root", "STN_TRAIN_DATA", "--config quickstart"):
            assert way in sentence


def test_a_loss_that_is_not_finite_says_where_and_what_to_try(stn):
    changes = ("recipe=paper", "models=[cnn_paper]", "training={lr: 100, weight_decay: 10, epochs: 8}")
    ended = stn(*RUN, *(part for change in changes for part in ("--set", change)), "-q")
    assert (ended.code, ended.out) == (1, "")
    told = r"the loss is not finite at step \d+ of epoch \d; try a training.lr below 100"
    assert re.match(f"trial 1 of 1  r/cnn_paper/seed-0  failed: {told}", ended.err)


def test_a_key_that_only_changes_how_it_is_computed_changes_no_result(finished, stn):
    ended = stn(*RUN, "--only", "r/cnn", "--output-dir", "elsewhere", "--device", "cpu", "-q")
    assert ended.code == 0
    for name in ("result.json", "predictions.npz", "metrics.jsonl"):
        path = Path("trials/r/cnn/seed-0", name)
        assert ("elsewhere" / path).read_bytes() == (finished[0] / path).read_bytes()


def test_controls_are_trained_and_told_apart(stn):
    ended = stn(*RUN, "--set", "controls=true", "--set", "training.epochs=1", "--output-dir", "controlled")
    assert ended.code == 0
    models = [line.split()[0] for line in ended.out.splitlines()[1:6]]
    assert models == ["cnn", "st_cnn", *(f"st_cnn-{pose}" for pose in ("identity", "supervised", "oracle"))]
    assert "r: st_cnn against cnn, in points of error: " in ended.out
    folder = RunFolder(Path("controlled"))
    _, _, frozen, taught, told = trials_of(folder.load_experiment())
    drawn = {trial.model.name: (folder.trial(trial).path / "examples.npz").exists() for trial in (frozen, taught, told)}
    assert drawn == {"st_cnn-identity": False, "st_cnn-supervised": True, "st_cnn-oracle": False}
    scores = {}
    for trial in (frozen, told):
        files = folder.trial(trial)
        alignment = files.load(AlignmentMetrics, files.alignment)
        scores[trial.model.name] = [removed(spread) for spread in alignment.pose if spread.component == "rotation"]
    assert scores == {"st_cnn-identity": [pytest.approx(0, abs=1e-3)], "st_cnn-oracle": [pytest.approx(100, abs=1e-3)]}
    for trial in (taught, told):
        again, *_ = json.loads(stn("eval", f"controlled/trials/{trial.key}", "--json").out)["checkpoints"]
        files = folder.trial(trial)
        assert again["errors"] == files.load(TrialResult, files.result).errors, "who is given the poses is so here, too"
    refused = stn("eval", f"controlled/trials/{told.key}", "--dataset", "e").sentence
    assert "--dataset e: st_cnn-oracle is given the true pose of an image, and e has none to give" in refused
    assert stn("eval", f"controlled/trials/{taught.key}", "--dataset", "e").code == 0, "this one is not"


def test_a_transformer_that_breaks_while_it_trains_is_warned_of_and_reported(stn):
    """At a thousand times the network's rate."""
    ended = stn(*RUN, "--only", "*/st_cnn", "--set", "training.localisation_lr=1000")
    assert ended.code == 0
    warned = [line for line in ended.err.splitlines() if line.startswith("warning: r/st_cnn/seed-0: the transformer ")]
    assert len(warned) == 1, "once, however long it lasts"
    assert "try a training.localisation_lr below 1000" in warned[0]
    assert "warning: r/st_cnn, seed 0: the transformer " in ended.out
    report = next(Path.cwd().rglob("report.md")).read_text()
    assert "- Warning: r/st_cnn, seed 0: the transformer " in report
    assert "## Diagnostics of the transformers" in report


def test_a_finished_run_is_trained_on_by_extend(trained, stn):
    longer = ("--set", "training.epochs=3")
    assert "--extend" in stn(*RUN, *longer).sentences[0]
    before = Path(trained, RESULT.format("cnn", 0)).read_bytes()
    for line in ((*RUN, "--extend", "--set", "training.epochs=1"), (*RUN, *longer, "--extend", "--only", "r/cnn")):
        assert stn(*line).code == 2
    assert Path(trained, RESULT.format("cnn", 0)).read_bytes() == before
    ended = stn(*RUN, *longer, "--extend", "-q")
    assert ended.code == 0, ended
    for trial in trials_of(RunFolder(Path(trained)).load_experiment()):
        files = RunFolder(Path(trained)).trial(trial)
        assert (trial.training.epochs, trial.training.restarts) == (3, (2,))
        assert len(files.load_metrics()) == 3
        assert files.load(TrialResult, files.result).trial == trial
    page = Path(trained, "report.html").read_text()
    assert "begun anew after 2" in page
