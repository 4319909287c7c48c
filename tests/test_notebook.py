"""The door, used as from a notebook: what it gives, what it says of mistakes, and what it leaves as it was."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import stn_train as st
from stn_train.data.sources import load_images
from stn_train.errors import TrialError, UserError

CALLS = {
    "run": "st.run('quickstart', set=FAST, output_dir='run', threads=2, quiet=True)",
    "run again": "st.run('quickstart', set=FAST, output_dir='run', threads=2, quiet=True)",
    "load_run": "repr(st.load_run('run'))",
    "tables": "st.load_run('run').comparisons",
    "predictions": "st.load_run('run').predictions('rts', 'st_cnn_paper')",
    "network": "st.load_run('run').network('rts', 'st_cnn_paper')",
    "_repr_html_": "st.load_run('run')._repr_html_()",
    "make_dataset": "st.make_dataset('rts', source='digits')",
    "build_model": "st.build_model('st_cnn', (42, 42), parameters=60_000)",
    "build_model of one's own": "st.build_model({'name': 'mine', 'classifier': 'net:Net'})",
    "insert_transformer": "st.insert_transformer(torch.nn.ReLU(), image=(1, 28, 28))",
    "evaluate": "st.evaluate(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(10)), data)",
    "load_network": "st.load_network('run/trials/rts/cnn_paper/seed-0/checkpoint.pt')",
    "load_images": "st.load_images('digits')",
    "a mistake": "st.run('quickstart', device='nonsense', threads=2, output_dir='none')",
}
"""Each function of the door, called in a process of its own that has only imported what a notebook does first."""

SCRIPT = """
import json, logging, os, random, sys, warnings
import matplotlib, numpy, pandas, scipy.stats, torch
import stn_train as st
from stn_train.data import images
from stn_train.errors import UserError

def few(all=images.scikit_digits):
    return tuple(digits.subset(torch.arange(count)) for digits, count in zip(all(), (240, 60)))

images.scikit_digits = few

FAST = {"models": ["cnn_paper", "st_cnn_paper"], "training.epochs": 1, "training.precision": "float32"}
matplotlib.rcParams["backend"] = "svg"
warnings.simplefilter("ignore", ResourceWarning)
torch.manual_seed(7)

def state():
    return {
        "torch's generator": torch.get_rng_state().tolist(),
        "the other generators": [str(numpy.random.get_state()), str(random.getstate())],
        "threads": torch.get_num_threads(),
        "denormal numbers": float(torch.tensor(1e-310, dtype=torch.float64) * 1.0),
        "gradients and types": [torch.is_grad_enabled(), str(torch.get_default_dtype())],
        "sys.path": list(sys.path),
        "warnings": list(map(str, warnings.filters)),
        "matplotlib": [str(dict(dict.items(matplotlib.rcParams))), "matplotlib.pyplot" in sys.modules],
        "surroundings": [os.getcwd(), os.environ.get("MPLBACKEND"), os.environ.get("OMP_NUM_THREADS")],
        "logging": [logging.root.level, list(map(str, logging.root.handlers)), logging.root.manager.disable],
    }

def called(code, data):
    reading, writing = os.pipe()
    if os.fork() == 0:
        try:
            before = state()
            try:
                eval(code)
            except UserError:
                pass
            now = state()
            told = [name for name in now if now[name] != before[name]]
        except BaseException as error:
            told = repr(error)
        os.write(writing, json.dumps(told).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        told = json.load(answer)
    os.wait()
    return told

data = None
found = {}
for name, code in json.loads(sys.argv[1]).items():
    if name == "evaluate":
        data = st.make_dataset("rts", source="digits")
    found[name] = called(code, data)
print(json.dumps(found))
"""
NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self, size, channels, classes):
        super().__init__()
        self.linear = nn.Linear(size[0] * size[1], classes)

    def forward(self, images):
        if self.training and len(images) > 50:  # not when it is tried before
            raise RuntimeError("I fail")
        return self.linear(images.flatten(1))
"""


@pytest.mark.slow
def test_each_call_leaves_the_callers_state_as_it_was(tmp_path):
    (tmp_path / "net.py").write_text(NET)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "svg"}
    command = [sys.executable, "-c", SCRIPT, json.dumps(CALLS)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {call: [] for call in CALLS}


@pytest.fixture(scope="module", autouse=True)
def few_digits() -> Iterator[None]:
    """Of the bundled digits, few enough to train on in a second."""
    training, test = load_images("digits")
    few = (training.subset(torch.arange(480)), replace(test.subset(torch.arange(120)), repeats=2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stn_train.data.images.scikit_digits", lambda: few)
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> st.Run:
    """One epoch of two of the quickstart's models."""
    changes = {"models": ["cnn_paper", "st_cnn_paper"], "training.epochs": 1, "training.precision": "float32"}
    folder = tmp_path_factory.mktemp("notebook") / "run"
    return st.run("quickstart", set=changes, output_dir=folder, threads=1, quiet=True)


@pytest.fixture(scope="module")
def rts():
    return st.make_dataset("rts", source="digits")


def test_the_tables_of_a_run(trained):
    assert list(trained.trials["model"]) == list(trained.summary["model"]) == ["cnn_paper", "st_cnn_paper"]
    assert set(trained.trials["dataset"]) == {"rts"}
    assert {"seed", "error", "parameters", "macs", "removed_rotation"} <= set(trained.trials.columns)
    summary = trained.summary.set_index("model")
    assert (summary["error_low"] < summary["error"]).all()
    assert (summary["error"] < summary["error_high"]).all()
    (compared,) = trained.comparisons.to_dict("records")
    assert (compared["model"], compared["baseline"]) == ("st_cnn_paper", "cnn_paper")
    difference = summary.loc["st_cnn_paper", "error"] - summary.loc["cnn_paper", "error"]
    assert compared["difference"] == pytest.approx(difference)
    assert compared["difference_low"] <= compared["difference"] <= compared["difference_high"]


@pytest.mark.parametrize("model", ["cnn_paper", "st_cnn_paper"])
def test_predictions_are_those_of_the_tables_and_of_the_network(trained, rts, model):
    table = trained.predictions("rts", model)
    assert table.columns[:3].tolist() == ["label", "predicted", "digit"]
    assert [name for name in table if name.startswith("theta")] == [f"theta_{i}" for i in range(6) if "st_" in model]
    assert np.array_equal(table["label"], rts.labels)
    assert np.array_equal(table["digit"], rts.digit)
    error = trained.trials.set_index("model").loc[model, "error"]
    assert 100 * (table["label"] != table["predicted"]).mean() == pytest.approx(error)
    confusion = np.zeros((10, 10), int)
    np.add.at(confusion, (table["label"], table["predicted"]), 1)
    assert np.array_equal(trained.results.confusions["rts", model], confusion)
    network = trained.network("rts", model)
    with torch.no_grad():
        logits = torch.cat([network(images) for images, _ in DataLoader(rts, batch_size=500)])
        theta = network.transformer.localisation(rts[3][0][None]) if network.transformer else torch.empty(1, 0)
    assert np.array_equal(logits.argmax(1), table["predicted"])
    assert table.loc[3, [name for name in table if "theta" in name]].tolist() == pytest.approx(
        theta[0].tolist(), abs=1e-5
    )

    scores = st.evaluate(network.train(), rts)
    assert network.training, "as it was"
    assert scores.error.value == pytest.approx(error)
    assert scores.accuracy.value == pytest.approx(100 - error)
    assert np.array_equal(scores.confusion, confusion)
    assert np.array_equal(scores.predicted, table["predicted"])
    row = trained.summary.set_index("model").loc[model]
    assert (scores.error.low, scores.error.high) == pytest.approx((row["error_low"], row["error_high"]))
    assert f"{100 - error:.2f}" in repr(scores)


def test_a_picture_as_it_is_gets_the_classes_of_the_tables(trained, rts):
    for index in range(3):
        found = trained.predict(rts[index][0], as_is=True)
        assert [one.network for one in found] == ["cnn_paper", "st_cnn_paper"]
        for one in found:
            assert one.predicted == str(trained.predictions("rts", one.network)["predicted"][index])
            assert np.array_equal(one.image, rts.images[index])
    theta = [f"theta_{number}" for number in range(6)]
    expected = trained.predictions("rts", "st_cnn_paper").loc[2, theta].tolist()
    assert found[1].transformations[0].theta == pytest.approx(expected, abs=1e-3)


def test_the_networks_that_ship_need_no_run():
    shipped = st.load_run()
    images = st.make_dataset("rts", source="digits").images[:8]
    for network in ("cnn", "st_cnn_keypoints"):
        assert shipped.network("rts", network)(images.float() / 255).shape == (8, 10)
    assert [one.network for one in shipped.predict(images[0], as_is=True)] == ["cnn", "st_cnn_keypoints"]


class _Tags(HTMLParser):
    """What is opened and not closed, and what would be fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag, attributes):
        self.seen.add(tag)
        self.open += [tag] * (tag not in ("br", "img", "hr", "meta", "link", "input", "col"))
        self.fetched += [value for name, value in attributes if name in ("src", "href") and value[:1] not in "#d"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_a_run_shows_itself_as_one_fragment_with_the_verdict(trained):
    page, tags = trained._repr_html_(), _Tags()
    tags.feed(page)
    assert tags.open == tags.fetched == []
    assert not tags.seen & {"html", "body", "head", "script", "link"}
    shown = trained.comparisons["shown"].item()
    assert f"{abs(trained.comparisons['difference'].item()):.2f}" in page
    assert ("no difference" in page.lower()) != shown
    assert all(f"{accuracy:.2f}" in page for accuracy in trained.summary["accuracy"])
    assert "2 of 2" in repr(trained)


def files(folder: Path) -> dict[Path, int]:
    """All files of a run's trials, and when they were written."""
    return {
        path: path.stat().st_mtime_ns
        for path in (folder / "trials").rglob("*")
        if path.is_file() and path.name != ".lock"
    }


@pytest.mark.slow
def test_run_does_as_it_is_asked_and_trains_nothing_twice(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    asked = {"seeds": [3], "only": "rts/cnn*", "set": {"training.epochs": 1}, "threads": 1, "quiet": True}
    run = st.run("quickstart", **asked)
    assert capfd.readouterr() == ("", "")
    assert run.folder.path == Path("runs/quickstart")
    assert run.trials[["model", "seed"]].values.tolist() == [["cnn_paper", 3]]
    assert (run.experiment.training.epochs, run.experiment.seeds) == (1, (3,))
    assert "1 of 3" in repr(run)
    before = files(run.folder.path)
    assert run.trials.equals(st.run("quickstart", **asked).trials)
    assert files(run.folder.path) == before

    more = st.run("quickstart", **{**asked, "only": "*"})
    assert set(before.items()) <= set(files(run.folder.path).items())
    assert list(more.trials["model"]) == ["cnn_paper", "st_cnn_paper", "st_equivariant"]
    assert (more.folder.path / "report.html").exists()
    elsewhere = st.run("quickstart", **asked, output_dir="elsewhere")
    assert elsewhere.predictions("rts", "cnn_paper", 3).equals(run.predictions("rts", "cnn_paper", 3))


def test_of_a_trial_that_fails_is_told_after_the_others(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "net", raising=False)
    Path("net.py").write_text(NET)
    Path("mixed.yaml").write_text(
        "source: digits\ndatasets: [r]\nmodels: [{name: mine, classifier: 'net:Net'}, fcn]\n"
        "training: {epochs: 1, batch_size: 96}\n"
    )
    with pytest.raises(TrialError, match=r"^r/mine/seed-0: .*I fail"):
        st.run("mixed.yaml", threads=1, quiet=True)
    run = st.load_run("runs/mixed")
    assert list(run.trials["model"]) == ["fcn"]
    assert Path("runs/mixed/report.html").exists()
    with pytest.raises(UserError, match="checkpoint"):
        run.network("r", "mine")
    with pytest.raises(UserError, match=r"predictions\.npz"):
        run.predictions("r", "mine")


def test_values_of_numpy_and_paths_are_values(tmp_path, monkeypatch):
    asked: list[str] = []

    def read(config, overrides, **_):
        asked.extend(overrides)
        raise UserError("enough")

    monkeypatch.setattr("stn_train.experiment.runtime.read_config", read)
    values = {"training.epochs": np.int64(2), "source": tmp_path / "é😀", "models": ["cnn"]}
    with pytest.raises(UserError, match="enough"):
        st.run("quickstart", seeds=np.arange(2), set=values)
    assert asked == ["training.epochs=2", f'source="{tmp_path}/é😀"', 'models=["cnn"]', "seeds=[0, 1]"]


def test_a_dataset_is_one_for_torch_and_the_same_for_the_same_seed(rts):
    images, labels = next(iter(DataLoader(rts, batch_size=32)))
    assert (images.shape, images.dtype, labels.dtype) == ((32, 1, 42, 42), torch.float32, torch.int64)
    assert torch.equal((images * 255).round().byte(), rts.images[:32])
    assert torch.equal(labels, rts.labels[:32])
    assert (len(rts.theta), len(rts)) == (len(rts.images), len(rts.labels))
    mild = {"name": "mild", "base": "rts", "rotation": 20}
    one, same, other = (st.make_dataset(mild, "train", "digits", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.images, same.images)
    assert not torch.equal(one.images, other.images)
    assert len(one) > len(rts)
    two = st.make_dataset("addition", source="digits")
    assert (two.images.shape[1], two.digit.shape[1], int(two.labels.max()) > 9) == (2, 2, True)


def test_a_model_has_the_weights_of_its_seed_and_the_size_asked_for():
    one, same, other = (st.build_model("st_cnn", (42, 42), parameters=60_000, seed=seed) for seed in (1, 1, 2))
    weights = [torch.cat([weight.flatten() for weight in model.parameters()]) for model in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert len(weights[0]) == pytest.approx(60_000, rel=0.02)
    two = st.build_model(
        {"name": "small", "base": "st_cnn", "transformer": {"output_size": 16}}, channels=2, classes=19
    )
    images = torch.rand(3, 2, 28, 28)
    assert (two(images).shape, two.transformer(images).shape) == ((3, 19), (3, 2, 16, 16))


def test_a_transformer_inserted_at_the_same_seed_has_the_same_weights_and_changes_nothing_yet():
    images, model = torch.rand(2, 1, 28, 28), torch.nn.Flatten()
    transformed = st.insert_transformer(model, image=(1, 28, 28))
    assert torch.allclose(transformed(images), model(images), atol=1e-5)
    assert transformed.transformer.warp(images)[1].shape == (2, 6)


MISTAKES = {
    "a configuration": (lambda run, rts: st.run("quickstrat"), "quickstart"),
    "a key": (lambda run, rts: st.run("quickstart", set={"training.epoch": 1}), "'epochs'"),
    "a pattern": (lambda run, rts: st.run("quickstart", only="rts/st-*"), "rts/st-"),
    "a device": (lambda run, rts: st.run("quickstart", device="gpu"), "gpu"),
    "a folder": (lambda run, rts: st.load_run("nowhere"), "nowhere"),
    "a trial of predictions": (lambda run, rts: run.predictions("rts", "st_cnn"), "rts/st_cnn_paper/seed-0"),
    "a trial of a network": (lambda run, rts: run.network("rts", "cnn_paper", seed=1), "rts/cnn_paper/seed-0"),
    "a checkpoint": (lambda run, rts: st.load_network("nowhere.pt"), "nowhere.pt"),
    "a dataset": (lambda run, rts: st.make_dataset("rtz", source="digits"), "'rts'"),
    "a dataset's key": (lambda run, rts: st.make_dataset({"name": "a", "rotate": 3}, source="digits"), "'rotation'"),
    "a dataset's kind": (lambda run, rts: st.make_dataset(3, source="digits"), "a preset's name"),
    "a source": (lambda run, rts: st.make_dataset("rts", source="digit"), "'digits'"),
    "a split": (lambda run, rts: st.make_dataset("rts", "tset", source="digits"), "'test'"),
    "a model": (lambda run, rts: st.build_model("st_cnnn"), "'st_cnn'"),
    "a model's key": (lambda run, rts: st.build_model({"name": "a", "base": "cnn", "tta_angle": [1]}), "'tta_angles'"),
    "a seed": (lambda run, rts: st.make_dataset("plain", source="digits", seed=-1), "-1"),
    "no size": (lambda run, rts: st.build_model("cnn", (0, 0)), "0 x 0"),
    "threads": (lambda run, rts: st.run("quickstart", threads=0), "threads 0"),
    "no value": (lambda run, rts: st.run("quickstart", set={"training": object()}), "object"),
    "a budget": (lambda run, rts: st.build_model("cnn", parameters=10), "10"),
    "a family": (lambda run, rts: st.insert_transformer(torch.nn.ReLU(), image=(1, 8, 8), family="afine"), "'affine'"),
    "a size": (lambda run, rts: st.evaluate(st.build_model("cnn", (28, 28)), rts), "28 x 28"),
    "classes": (lambda run, rts: st.evaluate(st.build_model("cnn", (42, 42), classes=4), rts), "4 classes"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_a_sentence(trained, rts, tmp_path, monkeypatch, mistake):
    monkeypatch.chdir(tmp_path)
    call, named = MISTAKES[mistake]
    with pytest.raises(UserError) as told:
        call(trained, rts)
    assert named in str(told.value)
    assert "\n" not in str(told.value)
    assert list(tmp_path.iterdir()) == []
