"""What a checkpoint holds, checked before it is used: anyone may have written it."""

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from stn_train.evaluation.evidence import Health
from stn_train.specs import Spec, TrialSpec

_OF_ADAMW = {"step", "exp_avg", "exp_avg_sq"}
_OF_MUON = {"momentum", "step"}


class _Look(Spec):
    error: float = Field(ge=0, le=100)
    transformers: Annotated[tuple[Health, ...], Field(strict=False, max_length=64)]
    seen: dict[str, Any]


class _Course(Spec):
    """How far a training is, and what was seen on the way."""

    epoch: int = Field(ge=0)
    seconds: float = Field(ge=0)
    step_losses: Annotated[tuple[float, ...], Field(strict=False, max_length=10_000_000)]
    losses: Annotated[tuple[float, ...], Field(strict=False, max_length=10_000)]
    looks: Annotated[tuple[_Look, ...], Field(strict=False, max_length=10_000)]


class _Rate(Spec, extra="ignore"):
    lr: float = Field(ge=0)


class _Rates(Spec, extra="ignore"):
    param_groups: Annotated[tuple[_Rate, ...], Field(strict=False, max_length=8)]


def refuse_other_course(content: Mapping[str, Any], trial: TrialSpec) -> None:
    """Raise ValueError where what a checkpoint says of a trial's epochs cannot be."""
    course = _Course.model_validate({name: content[name] for name in _Course.model_fields})
    if course.epoch > trial.training.epochs or not course.epoch == len(course.losses) == len(course.looks):
        raise ValueError(
            f"it has {len(course.losses)} losses and {len(course.looks)} looks of {course.epoch} epochs, "
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
            raise ValueError(f"{name} is {_words(one)}, and {_words(tensor)} is wanted")
        if not (torch.isfinite(one) | (one == tensor.cpu())).all():
            raise ValueError(f"{name} holds numbers that are not finite")
    return found


def optimiser_state(found: object, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """What an optimiser like this one remembers, as its `load_state_dict` wants it; its rate is all else that is read.

    Raises ValueError where `found` is another's state.
    """
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    orthogonal = [group["orthogonal"] for group in optimiser.param_groups for _ in group["params"]]
    entries = found.get("state") if isinstance(found, dict) else None
    if not isinstance(entries, dict) or not entries.keys() <= set(range(len(parameters))):
        raise ValueError("its optimiser has other parameters")
    rest = _OF_ADAMW if isinstance(optimiser, torch.optim.AdamW) else set()
    state = {}
    for index, entry in entries.items():
        names = _OF_MUON if orthogonal[index] else rest
        wanted = {name: torch.zeros(()) if name == "step" else parameters[index] for name in names}
        kept = {name: value for name, value in entry.items() if value is not None} if isinstance(entry, dict) else entry
        state[index] = tensors_like(kept, wanted)
    groups = optimiser.state_dict()["param_groups"]
    rates = _Rates.model_validate(found).param_groups
    if len(rates) != len(groups):
        raise ValueError("its optimiser has other groups of parameters")
    return {
        "state": state,
        "param_groups": [{**group, "lr": rate.lr} for group, rate in zip(groups, rates, strict=True)],
    }


def _words(tensor: Tensor) -> str:
    return f"{' x '.join(map(str, tensor.shape)) or 'one'} of {str(tensor.dtype).removeprefix('torch.')}"
