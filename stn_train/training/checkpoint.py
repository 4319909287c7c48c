"""Checkpoints: the whole state of a training, written atomically, loaded as data and never as code."""

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from stn_train import storage
from stn_train.errors import UserError, first_line
from stn_train.evaluation.metrics import Diagnostics
from stn_train.specs import Spec, TrialSpec
from stn_train.training.loop import TrainingState

_OF_ADAMW = {"step", "exp_avg", "exp_avg_sq"}
_OF_MUON = {"momentum", "step"}


class _EpochLog(Spec):
    error: float = Field(ge=0, le=100)
    transformers: Annotated[tuple[Diagnostics, ...], Field(strict=False, max_length=64)]
    seen: dict[str, Any]


class _Course(Spec):
    """How far a training is, and what was seen on the way."""

    epoch: int = Field(ge=0)
    seconds: float = Field(ge=0)
    step_losses: Annotated[tuple[float, ...], Field(strict=False, max_length=10_000_000)]
    losses: Annotated[tuple[float, ...], Field(strict=False, max_length=10_000)]
    epoch_logs: Annotated[tuple[_EpochLog, ...], Field(strict=False, max_length=10_000)]


class _Rate(Spec, extra="ignore"):
    lr: float = Field(ge=0)


class _Rates(Spec, extra="ignore"):
    param_groups: Annotated[tuple[_Rate, ...], Field(strict=False, max_length=8)]


def check_progress(content: Mapping[str, Any], trial: TrialSpec) -> None:
    """Raise ValueError where what a checkpoint says of a trial's epochs cannot be."""
    course = _Course.model_validate({name: content[name] for name in _Course.model_fields})
    if course.epoch > trial.training.epochs or not course.epoch == len(course.losses) == len(course.epoch_logs):
        raise ValueError(
            f"it has {len(course.losses)} losses and {len(course.epoch_logs)} looks of {course.epoch} epochs, "
            f"and its trial has {trial.training.epochs}"
        )


def tensors_like(found: object, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of anyone's, which have to have the names, shapes and types of those wanted, and to be finite.

    But where those wanted are not, as in a mask of attention, they have to be the same. Raises ValueError otherwise.
    """
    if not isinstance(found, dict) or found.keys() != wanted.keys():
        raise ValueError("its tensors have other names")
    for name, tensor in wanted.items():
        one = found[name]
        if not isinstance(one, Tensor) or one.layout is not torch.strided or one.device.type != "cpu":
            raise ValueError(f"{name} is no plain tensor")
        if (one.shape, one.dtype) != (tensor.shape, tensor.dtype):
            raise ValueError(f"{name} is {_words(one)}; expected {_words(tensor)}")
        if not (torch.isfinite(one) | (one == tensor.cpu())).all():
            raise ValueError(f"{name} holds numbers that are not finite")
    return found


def optimizer_state(found: object, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What an optimizer like this one remembers, as its `load_state_dict` wants it; its rate is all else that is read.

    Raises ValueError where `found` is another's state.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    orthogonal = [group["orthogonal"] for group in optimizer.param_groups for _ in group["params"]]
    entries = found.get("state") if isinstance(found, dict) else None
    if not isinstance(entries, dict) or not entries.keys() <= set(range(len(parameters))):
        raise ValueError("its optimizer has other parameters")
    rest = _OF_ADAMW if isinstance(optimizer, torch.optim.AdamW) else set()
    state = {}
    for index, entry in entries.items():
        names = _OF_MUON if orthogonal[index] else rest
        wanted = {name: torch.zeros(()) if name == "step" else parameters[index] for name in names}
        kept = {name: value for name, value in entry.items() if value is not None} if isinstance(entry, dict) else entry
        state[index] = tensors_like(kept, wanted)
    groups = optimizer.state_dict()["param_groups"]
    rates = _Rates.model_validate(found).param_groups
    if len(rates) != len(groups):
        raise ValueError("its optimizer has other groups of parameters")
    return {
        "state": state,
        "param_groups": [{**group, "lr": rate.lr} for group, rate in zip(groups, rates, strict=True)],
    }


def _words(tensor: Tensor) -> str:
    return f"{' x '.join(map(str, tensor.shape)) or 'one'} of {str(tensor.dtype).removeprefix('torch.')}"


FORMAT = 5

_NO_COMMENT = bytes(2)
"""How an archive ends that was never sealed: one of an earlier format, or somebody else's."""
_SEAL = len(storage.with_checksum(b"", storage.ARCHIVE))


def save_checkpoint(path: Path, trial: TrialSpec, state: TrainingState, epoch_logs: list[dict[str, Any]]) -> None:
    """Write the state of a trial's training, with what was seen after each epoch, as plain values and tensors.

    The checkpoint that stood there is kept: see `previous_checkpoint`.
    """
    content = {
        "format": FORMAT,
        "trial": trial.model_dump_json(),
        "epoch": state.epoch,
        "step_losses": [float(loss) for loss in state.step_losses],
        "seconds": state.seconds,
        "losses": state.losses,
        "epoch_logs": epoch_logs,
        "network": state.network.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "average": None if state.average is None else state.average.state_dict(),
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    storage.write_archive(path, buffer.getvalue(), before=previous_checkpoint(path))


def previous_checkpoint(path: Path) -> Path:
    """Where the checkpoint before the newest is kept until its trial has finished."""
    return path.with_stem(f"{path.stem}-before")


def newest_whole(path: Path) -> Path | None:
    """The newest checkpoint that is whole, `path` or the one before it; None where there is no checkpoint at all.

    Raises UserError where none of them is whole, or one cannot be read.
    """
    found = [each for each in (path, previous_checkpoint(path)) if each.exists()]
    for each in found:
        if _is_whole(each):
            return each
    if len(found) == 2:
        both = " and ".join(map(str, found))
        raise storage.DamagedError(
            f"{both} are damaged; delete them and give the run's command again, which trains anew"
        )
    for each in found:
        read_checkpoint(each)  # which says what is wrong with it
    return None


def fall_back(path: Path) -> str | None:
    """Put the checkpoint before the newest in its place where that is damaged or missing; a sentence that says so.

    None where there was no need. Raises UserError where neither is whole.
    """
    newest = newest_whole(path)
    if newest in (path, None):
        return None
    os.replace(previous_checkpoint(path), path)
    return f"{path} was damaged or missing; going on from the checkpoint before it"


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's content, on the CPU; its `trial` is a TrialSpec.

    Raises UserError where there is none or the file is somebody else's, DamagedError where it is not as it was written.
    """
    stored, mend = _stored(path), way_out(path)
    whole = storage.verified(stored, storage.ARCHIVE) is not None
    try:
        if not whole and not stored.endswith(_NO_COMMENT):
            raise ValueError
        content = torch.load(io.BytesIO(stored), map_location="cpu", weights_only=True)
        if not isinstance(content, dict) or "trial" not in content:
            raise TypeError
        storage.check_format(path, content["format"], FORMAT, mend)
        if not whole:
            raise ValueError
        trial = TrialSpec.model_validate_json(content["trial"])
        check_progress(content, trial)
        return {**content, "trial": trial}
    except UserError:
        raise
    except Exception:  # what torch, zipfile and pickle raise, of many kinds
        if not _is_in_a_run(path) and not stored[-_SEAL:].startswith(storage.ARCHIVE.removesuffix(b"%b")):
            raise UserError(f"{path} is not a checkpoint of stn-train; {mend}") from None
        raise storage.DamagedError(f"{path} is not a checkpoint of stn-train, or it is damaged; {mend}") from None


def _stored(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {way_out(path)}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def _is_whole(path: Path) -> bool:
    return storage.verified(_stored(path), storage.ARCHIVE) is not None


def _is_in_a_run(path: Path) -> bool:
    """Whether a checkpoint has the name and the place of one that a run writes."""
    folder = path.absolute().parent
    in_a_trial = folder.match("trials/*/*/seed-*")
    of_an_encoder = folder.name == "encoder" and (folder.parent / "environment.json").is_file()
    return path.name in ("checkpoint.pt", "checkpoint-before.pt") and (in_a_trial or of_an_encoder)


def way_out(path: Path) -> str:
    """What helps where a checkpoint is missing or damaged; to delete it only where a run would write it anew."""
    if not _is_in_a_run(path):
        return "name a run's folder, a trial's folder or a checkpoint.pt that `stn-train run` wrote"
    result = path.with_name("result.json")
    if previous_checkpoint(path).exists() and not result.exists():
        return "give the run's command again, which goes on from the checkpoint before it"
    found = [str(each) for each in (path, result) if each.exists()]
    delete = f"delete {' and '.join(found)} and " if found else ""
    return f"{delete}give the run's command again, which trains it anew"


def restore(state: TrainingState, content: dict[str, Any], path: Path) -> list[dict[str, Any]]:
    """Bring a fresh state to where a checkpoint left it; what was seen so far. Raises UserError for another model's."""
    try:
        if (content["average"] is None) != (state.average is None):
            raise ValueError("of its network's weights there is an average, or none, against the recipe")
        state.network.load_state_dict(tensors_like(content["network"], state.network.state_dict()))
        state.optimizer.load_state_dict(optimizer_state(content["optimizer"], state.optimizer))
        if state.average is not None:
            state.average.load_state_dict(tensors_like(content["average"], state.average.state_dict()))
    except (KeyError, ValueError) as error:
        raise UserError(f"{path} belongs to another model, or is damaged: {first_line(error)}") from None
    state.epoch, state.seconds, state.losses = content["epoch"], content["seconds"], content["losses"]
    device = next(state.network.parameters()).device
    state.step_losses = [torch.tensor(loss, device=device) for loss in content["step_losses"]]
    return list(content["epoch_logs"])
