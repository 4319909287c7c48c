"""What a run, or a trial, that was disturbed must end with: what it would have ended with undisturbed."""

from pathlib import Path
from typing import Any

import torch

from stn_train.training.checkpoint import read_checkpoint

SAME = ("result.json", "predictions.npz", "metrics.jsonl")


def findings(folder: Path) -> dict[str, bytes]:
    """What must not depend on how often a run was stopped."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for name in (*SAME, "config.yaml")
        for path in folder.rglob(name)
    }


def leftovers(folder: Path) -> set[Path]:
    """The files that were being written when something happened."""
    return set(folder.rglob("*.tmp"))


def assert_undisturbed(ours: Path, theirs: Path) -> None:
    """The same findings, byte for byte; the same training, tensor for tensor; the same files and no others."""
    assert findings(ours) == findings(theirs)
    for path in theirs.rglob("checkpoint.pt"):
        one, other = (read_checkpoint(folder / path.relative_to(theirs)) for folder in (ours, theirs))
        assert all(_same(one[name], other[name]) for name in other if name != "seconds")
    files, expected = ({path.relative_to(folder) for path in folder.rglob("*")} for folder in (ours, theirs))
    assert {path for path in files ^ expected if path.name != ".lock"} == set()


def _same(one: Any, other: Any) -> bool:
    if isinstance(other, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in other)
    if isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)
