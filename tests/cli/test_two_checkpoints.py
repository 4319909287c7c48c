"""The last two checkpoints are kept: where the newest is damaged, a training goes on from the one before."""

import errno
import os
import shutil
from pathlib import Path

import pytest
import torch
from undisturbed import assert_undisturbed

from stn_train import storage
from stn_train.training.checkpoint import read_checkpoint

RUN = ("run", "--config", "small.yaml", "--threads", "1", "--only", "r/cnn", "-q")
TRIAL = Path("trials/r/cnn/seed-0")
NEWEST, BEFORE = (Path("runs/small") / TRIAL / name for name in ("checkpoint.pt", "checkpoint-before.pt"))


class Killed(BaseException):
    """Stands for the process's end: nothing catches it."""


@pytest.fixture
def killed_before(stn, monkeypatch):
    """Run until a file is about to appear for the n-th time."""

    def run(name: str, times: int = 1) -> None:
        replace, left = os.replace, times

        def die(source: str, target: Path) -> None:
            nonlocal left
            left -= target.name == name
            if left == 0:
                raise Killed
            replace(source, target)

        with monkeypatch.context() as until:
            until.setattr(storage.os, "replace", die)
            with pytest.raises(Killed):
                stn(*RUN)

    return run


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [lambda path: path.write_bytes(path.read_bytes()[:5000]), Path.unlink])
def test_a_damaged_newest_falls_back_to_the_one_before_and_says_so(killed_before, stn, finished, harm):
    killed_before("predictions.npz")
    assert [read_checkpoint(path)["epoch"] for path in (NEWEST, BEFORE)] == [2, 1]
    harm(NEWEST)
    ended = stn(*RUN)
    assert (ended.code, ended.err.count("\n")) == (0, 1)
    assert ended.err.startswith(f"warning: {NEWEST} ")
    assert_undisturbed(NEWEST.parent, finished[0] / TRIAL)


def test_both_damaged_is_one_sentence_and_both_stay(killed_before, stn, finished):
    killed_before("predictions.npz")
    flip(NEWEST), flip(BEFORE)
    sentence = stn(*RUN).sentence
    assert all(word in sentence for word in (str(NEWEST), str(BEFORE), "delete them"))
    NEWEST.unlink(), BEFORE.unlink()
    assert stn(*RUN).code == 0
    assert_undisturbed(NEWEST.parent, finished[0] / TRIAL)


def test_an_older_format_is_no_reason_to_fall_back(killed_before, stn):
    killed_before("predictions.npz")
    BEFORE.unlink()
    torch.save({**torch.load(NEWEST, weights_only=True), "format": 3}, NEWEST)
    assert stn(*RUN).sentence.startswith(f"{NEWEST} has format 3, and this version reads format ")


def test_an_interrupted_write_leaves_the_last_good_one_and_the_one_before(killed_before, stn, finished):
    killed_before("checkpoint.pt", times=2)
    assert read_checkpoint(NEWEST)["epoch"] == 1
    assert stn("eval", str(NEWEST)).code == 0
    assert stn(*RUN).err == ""
    assert_undisturbed(NEWEST.parent, finished[0] / TRIAL)


def test_what_eval_cannot_read_it_does_not_replace(killed_before, stn):
    killed_before("predictions.npz")
    flip(NEWEST)
    assert stn("eval", str(NEWEST)).sentence.startswith(f"{NEWEST} is not a checkpoint of stn-train, or it is damaged")
    assert "after epoch 1 of 2" in stn("eval", str(BEFORE)).out
    NEWEST.unlink()
    assert "give the run's command again" in stn("eval", "runs/small").sentence


def test_one_that_cannot_be_read_is_not_replaced(killed_before, stn, monkeypatch):
    killed_before("predictions.npz")
    read = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.name == "checkpoint.pt":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return read(path)

    newest = NEWEST.read_bytes()
    with monkeypatch.context() as refused:
        refused.setattr(Path, "read_bytes", refuse)
        assert stn(*RUN).sentence.startswith(f"{NEWEST} cannot be ")
    assert NEWEST.read_bytes() == newest
    assert BEFORE.exists()


@pytest.mark.parametrize("harm", [flip, Path.unlink])
def test_what_the_sentence_says_mends_a_finished_trial(trained, stn, finished, harm):
    harm(NEWEST)
    result = NEWEST.with_name("result.json")
    delete = f"{NEWEST} and {result}" if NEWEST.exists() else f"{result}"
    mend = f"delete {delete} and give the run's command again, which trains it anew"
    assert stn("eval", str(NEWEST)).sentence.endswith(mend) == NEWEST.exists()
    assert stn("robustness", "runs/small", "-q").err.endswith(f"{mend}\n")
    NEWEST.unlink(missing_ok=True), result.unlink()
    assert stn(*RUN).code == 0
    Path("runs/small/trials/r/st_cnn/seed-0/robustness.json").unlink(missing_ok=True)  # the other was measured
    assert_undisturbed(NEWEST.parent, finished[0] / TRIAL)


def test_the_encoder_of_a_colocalisation_falls_back_too(stn):
    Path("where.yaml").write_text(
        "task: colocalisation\nsource: digits\ndatasets: [{name: t, base: translation, canvas: 56}]\nclasses: [3]\n"
        "encoder: {dataset: {name: moved, translation: 1}, parameters: 10_000, epochs: 2}\n"
        "localiser: {localisation: keypoints, margin: 1.0, steps: 3, batch_size: 8, lr: 0.003}\n"
    )
    command = ("colocalise", "--config", "where.yaml", "-q")
    assert stn(*command).code == 0
    newest = Path("runs/where/encoder/checkpoint.pt")
    newest.rename(newest.with_name("checkpoint-before.pt"))
    Path("runs/where/encoder/result.json").unlink()
    shutil.rmtree("runs/where/cells")
    ended = stn(*command)
    assert (ended.code, ended.err.count("\n")) == (0, 1)
    assert ended.err.startswith(f"warning: {newest} was damaged or missing")
    assert [path.name for path in newest.parent.glob("*.pt")] == ["checkpoint.pt"]
