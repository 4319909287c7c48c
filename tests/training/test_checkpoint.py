"""Checkpoints: read as data and never as code, and refused where they are damaged or another's."""

import io
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from stn_train import storage
from stn_train.errors import UserError
from stn_train.models.network import Network
from stn_train.specs import RECIPES, ExperimentSpec, TrainingSpec, trials_of
from stn_train.training.checkpoint import FORMAT, read_checkpoint, restore, save_checkpoint
from stn_train.training.loop import TrainingState

TRIAL = trials_of(ExperimentSpec.model_validate({"name": "made_up", "datasets": ["r"], "models": ["st_cnn"]}))[0]


def state_of(units: int = 3, **changes: Any) -> TrainingState:
    recipe = TrainingSpec.model_validate({**RECIPES["default"], **changes})
    return TrainingState.start(Network(None, nn.Sequential(nn.Linear(4, units), nn.Linear(units, 2))), recipe)


@pytest.fixture
def checkpoint(tmp_path):
    """One that lies in a run's folder."""
    path = tmp_path / "trials/r/st_cnn/seed-0/checkpoint.pt"
    save_checkpoint(path, TRIAL, state_of())
    return path


def test_a_checkpoint_says_whose_it_is(checkpoint):
    assert read_checkpoint(checkpoint)["trial"] == TRIAL


def test_a_checkpoint_needs_no_code_to_be_read(checkpoint):
    content = torch.load(checkpoint, weights_only=True)
    assert content["format"] == FORMAT
    assert set(content["network"]) == {f"classifier.{name}" for name in ("0.weight", "0.bias", "1.weight", "1.bias")}


@pytest.mark.parametrize("other", [state_of(units=5), state_of(ema_decay=0.0)], ids=["another width", "no average"])
def test_a_checkpoint_of_another_model_is_refused_by_name(checkpoint, other, tmp_path):
    save_checkpoint(tmp_path / "other.pt", TRIAL, other)
    with pytest.raises(UserError, match=r"other\.pt belongs to another model") as caught:
        restore(state_of(), read_checkpoint(tmp_path / "other.pt"), tmp_path / "other.pt")
    assert "\n" not in str(caught.value)


class Masked(nn.Linear):
    """A layer with infinities where they belong, as in a mask of attention."""

    def __init__(self) -> None:
        super().__init__(4, 2)
        self.register_buffer("mask", torch.full((2, 2), -torch.inf).triu(1))


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_network_of_any_type_with_infinities_of_its_own_comes_back(tmp_path, optimizer, dtype):
    def fresh() -> TrainingState:
        recipe = TrainingSpec.model_validate({**RECIPES["default"], "optimizer": optimizer})
        return TrainingState.start(Network(None, nn.Sequential(nn.Linear(4, 4), Masked())).to(dtype), recipe)

    state, other = fresh(), fresh()
    state.network(torch.ones(3, 4, dtype=dtype)).sum().backward()
    state.optimizer.step()
    save_checkpoint(tmp_path / "checkpoint.pt", TRIAL, state)
    content = read_checkpoint(tmp_path / "checkpoint.pt")
    restore(other, content, tmp_path / "checkpoint.pt")
    for name, tensor in state.network.state_dict().items():
        assert torch.equal(other.network.state_dict()[name], tensor)
    content["network"]["classifier.1.mask"] = torch.full((2, 2), torch.inf, dtype=dtype)
    with pytest.raises(UserError, match=r"1\.mask holds numbers that are not finite"):
        restore(fresh(), content, tmp_path / "checkpoint.pt")


def save_sealed(content: Any, path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    storage.write(path, buffer.getvalue(), storage.ARCHIVE)


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_checkpoint(path)
    sentence = str(caught.value)
    assert str(path) in sentence
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_a_checkpoint_that_was_cut_short_is_refused_by_name(checkpoint, share):
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: int(share * len(content))])
    assert "damaged" in refusal(checkpoint)


def test_a_flipped_bit_in_the_weights_is_refused_by_name(checkpoint):
    content = bytearray(checkpoint.read_bytes())
    weights = read_checkpoint(checkpoint)["network"]["classifier.0.weight"].numpy().tobytes()
    content[content.index(weights)] ^= 1
    checkpoint.write_bytes(content)
    assert "damaged" in refusal(checkpoint)


@pytest.mark.parametrize("content", [b"nonsense", b"\x80\x02nonsense", bytes(1000)], ids=repr)
def test_what_is_no_checkpoint_is_refused_by_name(checkpoint, content):
    checkpoint.write_bytes(content)
    assert "is not a checkpoint of stn-train" in refusal(checkpoint)


@pytest.mark.parametrize(
    "content",
    [
        {},
        [1, 2],
        "words",
        None,
        {"format": FORMAT},
        {"format": FORMAT, "trial": "{}"},
        torch.zeros(3),
    ],
    ids=repr,
)
@pytest.mark.parametrize("save", [torch.save, save_sealed])
def test_somebody_elses_file_of_torchs_is_refused_by_name(checkpoint, content, save):
    save(content, checkpoint)
    assert "is not a checkpoint of stn-train" in refusal(checkpoint)


def test_a_file_that_is_not_there_is_told_by_name(checkpoint, tmp_path):
    checkpoint.unlink()
    assert "checkpoint.pt is missing; give the run's command again" in refusal(checkpoint)
    assert "absent.pt is missing; name a run's folder, a trial's folder or a checkpoint.pt" in refusal(
        tmp_path / "absent.pt"
    )
    assert "cannot be read" in refusal(tmp_path)


@pytest.mark.parametrize("place", ["trials/r/st_cnn/seed-0", "encoder", "elsewhere", "."])
@pytest.mark.parametrize("name", ["checkpoint.pt", "checkpoint-before.pt", "mine.pt"])
@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: b"\x00" + content[1:]])
def test_only_in_a_runs_folder_and_under_its_name_it_is_to_be_deleted(checkpoint, tmp_path, place, name, damage):
    """A copy elsewhere is the user's, and no run writes it anew; nor the result.json beside it."""
    path = tmp_path / place / name
    path.parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "environment.json").touch()
    path.write_bytes(damage(checkpoint.read_bytes()))
    path.with_name("result.json").touch()
    of_a_run = place in ("trials/r/st_cnn/seed-0", "encoder") and name != "mine.pt"
    assert ("delete" in refusal(path)) == of_a_run
    assert ("name a run's folder" in refusal(path)) != of_a_run


@pytest.mark.parametrize(
    ("number", "save"), [(3, torch.save), (FORMAT + 1, save_sealed)], ids=["before seals", "future"]
)
def test_another_format_is_told_by_its_number(checkpoint, number, save):
    save({**torch.load(checkpoint, weights_only=True), "format": number}, checkpoint)
    assert f"has format {number}, and this version reads format {FORMAT}" in refusal(checkpoint)


def test_a_checkpoint_without_a_seal_is_refused_by_name(checkpoint):
    torch.save(torch.load(checkpoint, weights_only=True), checkpoint)
    assert "damaged" in refusal(checkpoint)


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize(
    "save", [torch.save, save_sealed, lambda bomb, path: path.write_bytes(pickle.dumps(bomb, protocol=2))]
)
def test_code_hidden_in_a_checkpoint_is_not_run(checkpoint, tmp_path, save):
    content = {**torch.load(checkpoint, weights_only=True), "network": Bomb(tmp_path / "exploded")}
    save(content, checkpoint)
    pickled = checkpoint.read_bytes().startswith(b"\x80")
    refusal(checkpoint)
    assert not (tmp_path / "exploded").exists()
    pickle.loads(checkpoint.read_bytes()) if pickled else torch.load(checkpoint, weights_only=False)
    assert (tmp_path / "exploded").exists(), "the bomb of this test is a dud"


def test_saving_leaves_the_one_before_and_nothing_else(checkpoint):
    first = checkpoint.read_bytes()
    save_checkpoint(checkpoint, TRIAL, state_of())
    assert {path.name for path in checkpoint.parent.iterdir()} == {"checkpoint.pt", "checkpoint-before.pt"}
    assert checkpoint.with_name("checkpoint-before.pt").read_bytes() == first
