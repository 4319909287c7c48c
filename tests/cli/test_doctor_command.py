"""`stn-train doctor`: what there is to train with."""

import json
from importlib import metadata
from pathlib import Path

import torch

from stn_train.experiment import doctor


def test_it_tells_versions_devices_threads_and_disk(stn):
    ended = stn("doctor", "--json")
    assert (ended.code, ended.err) == (0, "")
    found = json.loads(ended.out)
    assert found["versions"]["torch"] == metadata.version("torch")
    assert found["devices"][0]["name"] == "cpu"
    assert sum(device["used"] for device in found["devices"]) == 1
    assert found["threads"] == torch.get_num_threads()
    assert found["free_disk"][str(Path.cwd())] > 0
    text = stn("doctor").out
    assert metadata.version("torch") in text
    assert str(found["threads"]) in text


def test_it_tells_where_digits_are_looked_for_and_found(stn, tmp_path, monkeypatch):
    folder = tmp_path / "MNIST/raw"
    folder.mkdir(parents=True)
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (folder / f"{name}-ubyte.gz").touch()
    monkeypatch.setenv("STN_TRAIN_DATA", str(tmp_path))
    data = json.loads(stn("doctor", "--json").out)["data"]
    assert (data["folder"], data["named_by"]) == (str(tmp_path), "STN_TRAIN_DATA")
    assert data["sources"]["mnist"] == str(folder)
    assert data["sources"]["fashion_mnist"] is None
    assert data["sources"]["digits"] == "scikit-learn"
    monkeypatch.delenv("STN_TRAIN_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = json.loads(stn("doctor", "--json").out)["data"]
    assert (data["folder"], data["named_by"]) == (str(tmp_path / "cache/stn-train"), None)


def test_an_extra_that_is_missing_comes_with_the_line_that_installs_it(stn, monkeypatch):
    asks = [
        "numpy>=1",
        "torch>=2; extra == 'here'",
        "no-such-package>=4; extra == 'tune'",
        "stn-train[x]; extra == 'y'",
    ]
    monkeypatch.setattr(doctor, "requires", lambda package: asks)
    extras = json.loads(stn("doctor", "--json").out)["extras"]
    assert {name: extra["missing"] for name, extra in extras.items()} == {"here": [], "tune": ["no-such-package"]}
    assert "pip install 'stn-train[tune]'" in stn("doctor").out
    assert "stn-train[here]" not in stn("doctor").out
