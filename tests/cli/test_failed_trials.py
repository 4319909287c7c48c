"""One trial of many that cannot go on: named, recorded, and no reason for the others to stop."""

import json
import sys
from importlib import import_module
from pathlib import Path

import pytest

NET = """
from torch import nn


class Net(nn.Module):
    def __init__(self, size, channels, classes):
        super().__init__()
        self.linear = nn.Linear(size[0] * size[1], classes)

    def forward(self, images):
        if self.training and len(images) > 50:  # not when it is tried before
            {fault}
        return self.linear(images.flatten(1))
"""
FAULTS = {
    "raises": ("raise RuntimeError('I fail')", "RuntimeError: I fail (net_{}.py, line 12)"),
    "exits": ("raise SystemExit(3)", "SystemExit: 3 (net_{}.py, line 12)"),
    "misses a file": ("open('/nowhere/weights.bin')", "FileNotFoundError: "),
    "misuses a part of ours": (
        "from stn_train import FAMILIES, SpatialTransformer as S; S(nn.Flatten(), FAMILIES['affine'], (8, 8))(images)",
        "UserError: the localisation network gives ",
    ),
    "diverges": ("images = images * float('nan')", "the loss is not finite at step 1 of epoch 1; try "),
}
FOLDER = Path("runs/mixed")
TRIAL = FOLDER / "trials/r/mine/seed-0"


@pytest.fixture(params=FAULTS)
def fault(request, stn) -> tuple[Path, str]:
    """Beside a configuration whose first classifier fails in training: that classifier's file, and what is told."""
    raised, told = FAULTS[request.param]
    name = request.param.replace(" ", "_")
    module = Path(f"net_{name}.py")
    module.write_text(NET.format(fault=raised))
    Path("mixed.yaml").write_text(
        f"source: digits\ndatasets: [r]\nmodels: [{{name: mine, classifier: 'net_{name}:Net'}}, fcn]\n"
        "training: {epochs: 1, batch_size: 96}\n"
    )
    sys.modules.pop(module.stem, None)
    return module, told.format(name)


def test_it_is_told_and_recorded_and_the_others_go_on(stn, fault):
    ended = stn("run", "--config", "mixed.yaml", "-q")
    assert ended.code == 1
    failed, last = ended.err.splitlines()
    assert failed.startswith(f"trial 1 of 2  r/mine/seed-0  failed: {fault[1]}")
    assert "r/mine/seed-0" in last
    assert json.loads((TRIAL / "failure.json").read_bytes())["why"].startswith(fault[1])
    assert [line.split()[0] for line in ended.out.splitlines()[1:2]] == ["fcn"]
    first, second, *_ = stn("status", str(FOLDER)).out.splitlines()
    assert first.startswith(f"r/mine/seed-0  failed  {fault[1]}")
    assert second.split()[:2] == ["r/fcn/seed-0", "done"]


@pytest.mark.parametrize("fault", ["raises"], indirect=True)
def test_the_same_command_tries_it_again(stn, fault):
    stn("run", "--config", "mixed.yaml", "-q")
    assert stn("run", "--config", "mixed.yaml", "-q").code == 1, "it has not been mended"
    net = import_module(fault[0].stem).Net
    net.forward = lambda self, images: self.linear(images.flatten(1))
    ended = stn("run", "--config", "mixed.yaml", "-q")
    assert (ended.code, ended.err) == (0, "")
    assert not (TRIAL / "failure.json").exists()
    assert (TRIAL / "result.json").exists()


@pytest.mark.parametrize("fault", ["exits"], indirect=True)
def test_where_all_fail_there_is_no_report_and_no_other_mistake(stn, fault):
    ended = stn("run", "--config", "mixed.yaml", "-q", "--only", "*/mine")
    assert (ended.code, ended.out) == (1, "")
    assert not (FOLDER / "report.html").exists()


def test_a_mistake_of_ours_keeps_its_traceback_and_stops_no_other(stn, monkeypatch):
    import stn_train.experiment.trial as trial

    def fail(*_: object) -> None:
        raise ZeroDivisionError("a mistake of ours")

    monkeypatch.setattr(trial, "_write_results", fail)
    ended = stn("run", "--config", "small.yaml", "-q", "--set", "training.epochs=1")
    assert ended.code == 1
    assert ended.err.count("Traceback (most recent call last)") == 2
    assert ended.err.count("failed: ZeroDivisionError: a mistake of ours") == 2


def test_a_cell_of_a_colocalisation_that_diverges_stops_no_other(stn, monkeypatch):
    import stn_train.colocalisation.run as colocalisation
    from stn_train.errors import TrialError

    train = colocalisation.train_localiser

    def diverge_first(*arguments: object):  # type: ignore[no-untyped-def]
        monkeypatch.setattr(colocalisation, "train_localiser", train)
        raise TrialError("the loss is not finite at step 1")

    monkeypatch.setattr(colocalisation, "train_localiser", diverge_first)
    command = ("colocalise", "--config", "paper/colocalisation", "--set", "source=digits", "--set", "encoder.epochs=1")
    small = ("--set", "localiser.steps=1", "--set", "localiser.batch_size=8", "--set", "classes=[3,4]", "--only", "t/*")
    ended = stn(*command, *small, "-q")
    assert ended.code == 1
    assert ended.err.splitlines()[0].split(maxsplit=2) == ["t/3", "failed:", "the loss is not finite at step 1"]
    assert [line.split()[0] for line in ended.out.splitlines()[1:2]] == ["4"]
    assert stn(*command, *small, "-q").code == 0, "the same command tries again"


@pytest.mark.parametrize("command", [("eval", "--json"), ("visualize", "--only", "curves"), ("robustness", "-q")])
def test_one_damaged_checkpoint_stops_no_other_command_over_many(trained, stn, command):
    damaged = Path(trained, "trials/r/cnn/seed-0/checkpoint.pt")
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    ended = stn(command[0], trained, *command[1:], "--threads", "1")
    assert ended.code == 1
    assert ended.err.startswith(f"failed: {damaged}")
    assert ended.err.count("\n") == 1
    assert "st_cnn" in ended.out
    Path(trained, "trials/r/st_cnn/seed-0/checkpoint.pt").write_bytes(content)
    for written in Path(trained).rglob("robustness.json"):
        written.unlink()
    assert str(damaged) in stn(command[0], trained, *command[1:], "--threads", "1").sentence, "none is left"


@pytest.mark.parametrize(
    ("command", "raised"),
    [
        (("eval",), RuntimeError("I fail")),
        (("visualize", "--only", "confusion"), FileNotFoundError("weights.bin")),
        (("robustness", "-q"), SystemExit(3)),
    ],
)
def test_a_classifier_that_fails_later_is_told_with_its_line_and_stops_no_other(stn, command, raised):
    Path("late.py").write_text(NET.format(fault="pass"))
    sys.modules.pop("late", None)
    models = "[{name: mine, classifier: 'late:Net'}, fcn]"
    Path("mixed.yaml").write_text(f"source: digits\ndatasets: [r]\nmodels: {models}\ntraining: {{epochs: 1}}\n")
    assert stn("run", "--config", "mixed.yaml", "-q").code == 0
    late = import_module("late")
    late.raised = raised
    body = "if len(images) > 50:\n        raise raised\n    return self.linear(images.flatten(1))"
    exec(compile(f"def fail(self, images):\n    {body}\n", late.__file__, "exec"), vars(late))
    late.Net.forward = late.fail
    ended = stn(command[0], str(FOLDER), *command[1:], "--allow-imports", "--threads", "1")
    assert ended.code == 1
    assert ended.err.startswith(f"failed: {TRIAL / 'checkpoint.pt'}: {type(raised).__name__}: ")
    assert ended.err.endswith(" (late.py, line 3)\n")
    assert "fcn" in ended.out
