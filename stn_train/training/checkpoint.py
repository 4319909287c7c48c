"""Checkpoints: the whole state of a training, written atomically, loaded as data and never as code."""

import io
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from stn_train import storage
from stn_train.errors import UserError, first_line
from stn_train.models.network import Network
from stn_train.specs import ModelSpec, TrialSpec
from stn_train.training.loop import TrainingState

FORMAT = 8


def save_checkpoint(path: Path, trial: TrialSpec, state: TrainingState, records: Sequence[str] = ()) -> None:
    """Write the state of a trial's training, as plain values and tensors; `records` are its epochs', as JSON.

    The checkpoint that stood there is kept: see `previous_checkpoint`.
    """
    content = {
        "format": FORMAT,
        "trial": trial.model_dump_json(),
        "epoch": state.epoch,
        "seconds": state.seconds,
        "step_losses": [float(loss) for loss in state.step_losses],
        "records": list(records),
        "network": state.network.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "average": None if state.average is None else state.average.state_dict(),
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    storage.write(path, buffer.getvalue(), storage.ARCHIVE, before=previous_checkpoint(path))


def previous_checkpoint(path: Path) -> Path:
    """Where the checkpoint before the newest is kept until its trial has finished."""
    return path.with_stem(f"{path.stem}-before")


def newest_whole(path: Path) -> Path | None:
    """The newest checkpoint that is whole, `path` or the one before it; None where there is no checkpoint at all.

    Raises UserError where none of them is whole.
    """
    found = [each for each in (path, previous_checkpoint(path)) if each.exists()]
    for each in found:
        if storage.verified(each.read_bytes(), storage.ARCHIVE) is not None:
            return each
    if len(found) == 2:
        both = " and ".join(map(str, found))
        raise UserError(f"{both} are damaged; delete them and give the run's command again, which trains anew")
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


def read_checkpoint(path: Path, sent: bytes | None = None) -> dict[str, Any]:
    """A checkpoint's content, on the CPU, as `save_checkpoint` describes it; but its `trial` is a TrialSpec.

    `sent`: the file's bytes, where they came from another machine. Raises UserError where there is none, it is somebody
    else's, or it is not as it was written.
    """
    mend = way_out(path)
    try:
        stored = path.read_bytes() if sent is None else sent
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {mend}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    try:
        content: dict[str, Any] = torch.load(io.BytesIO(stored), map_location="cpu", weights_only=True)
        storage.check_format(path, content["format"], FORMAT, mend)
        if storage.verified(stored, storage.ARCHIVE) is None:
            raise ValueError
        trial = TrialSpec.model_validate_json(content["trial"])
        content |= {
            "trial": trial,
            "epoch": int(content["epoch"]),
            "seconds": float(content["seconds"]),
            "step_losses": [float(loss) for loss in content["step_losses"]],
            "records": [str(record) for record in content["records"]],
        }
        if not 0 <= content["epoch"] <= trial.training.epochs:
            raise ValueError
        averaged = bool(trial.training.ema_decay) and content["optimizer"] is not None  # the pair that ships has none
        with _of_this_model(path):
            if averaged != (content["average"] is not None):
                raise ValueError("its weights are averaged, or not, against the recipe")
        return content
    except UserError:
        raise
    except Exception:  # what torch, zipfile and pickle raise, of many kinds
        raise UserError(f"{path} is not a checkpoint of stn-train, or it is damaged; {mend}") from None


def way_out(path: Path) -> str:
    """What helps where a checkpoint is missing or damaged; to delete it only where a run would write it anew."""
    folder = path.absolute().parent
    in_a_trial = folder.match("trials/*/*/seed-*")
    of_an_encoder = folder.name == "encoder" and (folder.parent / "environment.json").is_file()
    if path.name not in ("checkpoint.pt", "checkpoint-before.pt") or not (in_a_trial or of_an_encoder):
        return "name a run's folder, a trial's folder or a checkpoint.pt that `stn-train run` wrote"
    result = path.with_name("result.json")
    if previous_checkpoint(path).exists() and not result.exists():
        return "give the run's command again, which goes on from the checkpoint before it"
    found = [str(each) for each in (path, result) if each.exists()]
    delete = f"delete {' and '.join(found)} and " if found else ""
    return f"{delete}give the run's command again, which trains it anew"


def restore(state: TrainingState, content: Mapping[str, Any], path: Path) -> None:
    """Bring a fresh state to where `read_checkpoint`'s content left it. Raises UserError for another model's."""
    with _of_this_model(path):
        state.network.load_state_dict(tensors_like(content["network"], state.network.state_dict()))
        state.optimizer.load_state_dict(optimizer_state(content["optimizer"], state.optimizer))
        if state.average is not None:
            state.average.load_state_dict(tensors_like(content["average"], state.average.state_dict()))
    state.epoch, state.seconds = content["epoch"], content["seconds"]
    device = next(state.network.parameters()).device
    state.step_losses = [torch.tensor(loss, device=device) for loss in content["step_losses"]]


def restore_weights(network: Network, content: Mapping[str, Any], path: Path) -> None:
    """Give a network the weights that are evaluated, and nothing else. Raises UserError for another model's."""
    with _of_this_model(path):
        network.load_state_dict(tensors_like(_evaluated(content), network.state_dict()))


def _evaluated(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights of the network to evaluate by their names: the averaged one's, where there is one."""
    if content["average"] is None:
        return dict(content["network"])
    average = content["average"].items()
    return {name.removeprefix("module."): weights for name, weights in average if name != "n_averaged"}


@contextmanager
def _of_this_model(path: Path) -> Iterator[None]:
    """Tell by a UserError what does not fit inside."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} belongs to another model, or is damaged: {first_line(error)}") from None


def restore_localisation(network: Network, spec: ModelSpec, sent: bytes | None = None) -> None:
    """Give a fresh network the localisation network, as it is evaluated, of the checkpoint that its model names.

    `sent`: that file's bytes, where they came from another machine. Raises UserError where there is none, or where it
    is another than the model's.
    """
    transformer = spec.transformer
    assert transformer is not None
    path = storage.at_home(transformer.localisation_from or "")
    content = read_checkpoint(path, sent)
    theirs = content["trial"].model.transformer
    if theirs is None or not theirs.is_single or theirs.pose not in ("predicted", "supervised"):
        raise UserError(f"{path} has no localisation network at its input, and {spec.name} needs one; name another")
    start = "transformer.localisation." + ("module." if theirs.freeze else "")
    end = "module." if transformer.freeze else ""
    weights = _evaluated(content)
    found = {end + name.removeprefix(start): tensor for name, tensor in weights.items() if name.startswith(start)}
    localisation = cast(nn.Module, cast(nn.Module, network.transformer).localisation)
    try:
        for key in ("family", "control_points", "localisation", "bounds"):
            if getattr(theirs, key) != getattr(transformer, key):
                raise ValueError(f"its {key} is {getattr(theirs, key)} and not {getattr(transformer, key)}")
        localisation.load_state_dict(tensors_like(found, localisation.state_dict()))
    except ValueError as error:
        raise UserError(f"{spec.name} cannot start from the localisation network of {path}: {error}") from None


def tensors_like(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Tensors of anyone's, which have to have the names, shapes and types of those wanted, and to be finite.

    But where those wanted are not, as in a mask of attention, they have to be the same. Raises ValueError otherwise.
    """
    if found.keys() != wanted.keys():
        raise ValueError("its tensors have other names")
    for name, tensor in wanted.items():
        one = found[name]
        if (one.layout, one.shape, one.dtype) != (tensor.layout, tensor.shape, tensor.dtype):
            shape = " x ".join(map(str, tensor.shape)) or "one number"
            raise ValueError(f"{name} is not {shape} of {str(tensor.dtype).removeprefix('torch.')}")
        if not (torch.isfinite(one) | (one == tensor.cpu())).all():
            raise ValueError(f"{name} holds numbers that are not finite")
    return found


def optimizer_state(found: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What an optimizer like this one remembers, as its `load_state_dict` wants it; of the rest its rates alone.

    Raises ValueError, or what Python does of other structures, where `found` is another's state.
    """
    names: list[tuple[str, ...]] = []  # of what is remembered of each parameter
    for group in optimizer.param_groups:
        adam = ("step", "exp_avg", "exp_avg_sq") if isinstance(optimizer, torch.optim.AdamW) else ()
        names += [("momentum", "step") if group["orthogonal"] else adam] * len(group["params"])
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, entry in found["state"].items():
        kept = {name: value for name, value in entry.items() if value is not None}
        wanted = names[index] if kept else ()
        tensors_like(kept, {name: torch.zeros(()) if name == "step" else parameters[index] for name in wanted})
    rates = [float(group["lr"]) for group in found["param_groups"]]
    if not all(map(math.isfinite, rates)):
        raise ValueError("a learning rate is not finite")
    groups = zip(optimizer.state_dict()["param_groups"], rates, strict=True)
    return {"state": found["state"], "param_groups": [{**group, "lr": rate} for group, rate in groups]}
