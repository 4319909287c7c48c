"""`stn-train tune`: what it prints, what it writes, and that it can be stopped."""

import signal
import sys
from pathlib import Path

import pytest

from stn_train.config import load_config

TUNE = ("tune", "small.yaml", "--trials", "2", "--epochs", "1", "--threads", "1")


def test_it_ends_with_a_table_and_the_command_that_trains_with_the_best(stn):
    ended = stn(*TUNE)
    assert ended.code == 0
    assert [line for line in ended.out.splitlines() if len(line) > 80] == []
    best = {model.name: model.tuned for model in load_config("runs/small-tuning/tuned.yaml").models}
    table = {line.split()[0]: line.split()[1:] for line in ended.out.splitlines() if line.startswith(tuple(best))}
    for name, tuned in best.items():
        assert tuned is not None
        localisation_lr = "-" if tuned.localisation_lr is None else f"{tuned.localisation_lr:g}"
        assert table[name][:3] == [f"{tuned.lr:g}", localisation_lr, f"{tuned.weight_decay:g}"]
        assert float(table[name][4]) <= float(table[name][3])
    again = stn(*TUNE)
    assert again.out == ended.out
    assert "epoch 1" not in again.err
    command = ended.out.splitlines()[-1].partition("stn-train ")[2].split()
    assert command == ["run", "--config", "runs/small-tuning/tuned.yaml"]
    assert stn(*command, "--set", "training.epochs=1", "-q").code == 0
    assert "best of 2 settings" in Path("runs/small-tuned/report.md").read_text()


def test_a_line_for_each_trial_or_none_when_quiet(stn):
    lines = stn(*TUNE, "--set", "models=[cnn]").err.splitlines()
    assert sum(line.startswith("cnn  lr ") for line in lines) == 2
    assert stn(*TUNE, "--set", "models=[cnn]", "--output-dir", "quiet", "-q").err == ""


def test_a_signal_saves_and_says_how_to_go_on(start, tmp_path):
    command = start(*TUNE)
    command.wait_for("runs/small-tuning/trial-000/environment.json")
    command.send(signal.SIGTERM)
    ended = command.end()
    assert (ended.code, ended.out) == (143, "")
    assert ended.err.splitlines()[-1].endswith(f"stn-train {' '.join(TUNE)}")
    assert start(*TUNE).end().code == 0
    assert (tmp_path / "runs/small-tuning/tuned.yaml").exists()


def test_without_the_package_it_says_how_to_install_it(stn, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert "pip install 'stn-train[tune]'" in stn(*TUNE).sentence
    assert not Path("runs").exists()


@pytest.mark.parametrize("config", ["paper/colocalisation", "smal.yaml"])
def test_what_is_no_comparison_of_models_is_refused(stn, config):
    assert config in stn("tune", config).sentence
