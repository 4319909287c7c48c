"""`stn-train run --track` and `--tensorboard`: where the logs are, and what is told where they cannot be written."""

import sys
from pathlib import Path

RUN = ("run", "--config", "small.yaml", "--tensorboard", "-q")


def test_logs_lie_in_the_runs_folder_under_the_trials_keys(trained, stn):
    assert not Path(trained, "tensorboard").exists()
    ended = stn(*RUN, "--threads", "1")
    assert (ended.code, ended.err) == (0, "")
    logs = [log.relative_to(trained).parts[:-1] for log in Path(trained).rglob("events.out.tfevents.*")]
    assert sorted(logs) == [("tensorboard", "r", model, "seed-0") for model in ("cnn", "st_cnn")]


def test_without_the_package_it_says_how_to_install_it(stn, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    for line in (RUN, (*RUN[:3], "--track", "tensorboard")):
        sentence = stn(*line).sentence
        assert "the package tensorboard is not installed" in sentence
        assert "stn-train[tensorboard]" in sentence
    assert "'wandb'" in stn(*RUN[:3], "--track", "wanb").sentence
    assert not Path("runs").exists()
