"""Parts of the user's own, `package.module:name`: classifiers, localisation networks and families of transforms.

They are found as `python -m` finds modules, checked, and used as ours are.
"""

import inspect
import sys
from collections.abc import Callable
from functools import cache, wraps
from importlib import import_module
from pathlib import Path
from traceback import extract_tb
from typing import Any

import torch
from torch import nn

from stn_train.errors import UserError, did_you_mean, first_line
from stn_train.geometry import AFFINE, Family, pixel_grid
from stn_train.models.classifiers import Classifier
from stn_train.models.localisation import Localisation
from stn_train.specs import ModelSpec

_PLACES = (3, 4)
_OFF = 1e-4
"""Two maps that differ by more, in normalised coordinates, are not one but for rounding."""


def load_classifier(name: str) -> Classifier:
    """The function, or class, of this name: of invariant.py, or the user's.

    Raises UserError where it cannot be had, or not be called as a classifier is.
    """
    if ":" not in name:
        from stn_train.models.invariant import INVARIANT  # of few models

        return INVARIANT[name]
    arguments = {"size": (28, 28), "channels": 1, "classes": 10, "width": 1.0}
    return _builder("classifier", name, arguments, "size, channels, classes and, if it likes, width")


def load_localisation(name: str) -> Localisation:
    """The function, or class, of this name, that builds a localisation network. Raises UserError as for a classifier.

    It is called with the family, the size (H, W) and the channels of what it reads, by keywords.
    """
    arguments = {"family": AFFINE, "size": (28, 28), "channels": 1}
    build = _builder("localisation", name, arguments, "family, size and channels")
    return lambda family, size, channels: build(family=family, size=size, channels=channels)


@cache
def load_family(name: str) -> Family:
    """The family of this name, or that a class or function of this name makes without arguments.

    Raises UserError where it cannot be had, or breaks a law that all else relies on: its identity moves nothing, and
    its grid is where its points go.
    """
    found = _found("family", name)
    try:
        family: Family = found if isinstance(found, Family) else found()
        if not isinstance(family, Family):
            raise TypeError(f"it is a {type(family).__name__}, and no stn_train.Family")
        with torch.device("cpu"):  # a network that is measured may be built on `meta`
            _check_laws(family)
    except Exception as error:  # whatever the user's code raises
        raise UserError(
            f"family {name} is not a family of transforms ({first_line(error)}){_line_in(name, error)}; see "
            "stn_train.Family"
        ) from error
    return family


def _check_laws(family: Family) -> None:
    """Raise ValueError where a family breaks the laws of `load_family`."""
    identity = torch.tensor([family.identity], dtype=torch.float64)
    moved = identity + 0.05 * torch.linspace(-1, 1, identity.shape[1], dtype=torch.float64)
    places, aspect = pixel_grid(_PLACES, identity).flatten(0, 1), _PLACES[1] / _PLACES[0]
    laws = {
        "its identity moves points": (family.points(identity, places, aspect), places[None]),
        "its grid is not where its points go": (
            family.grid(moved, _PLACES, aspect).flatten(1, 2),
            family.points(moved, places, aspect),
        ),
    }
    for broken, (one, other) in laws.items():
        if one.shape != other.shape or not bool(((one - other).abs() <= _OFF).all()):
            raise ValueError(broken)


def _found(kind: str, name: str) -> Any:
    """What `package.module:name` names; also looked for in the current directory. Raises UserError where it fails."""
    path, _, attribute = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # as `python -m` does: a user's module lies beside the configuration
    try:
        module = import_module(path)
    except (Exception, SystemExit) as error:  # whatever the user's file raises
        raise UserError(
            f"{kind} {name}: {path} cannot be imported ({type(error).__name__}: {first_line(error)})"
            f"{_line_in(name, error)}; it has to be installed, or to lie below {here}"
        ) from None
    found = getattr(module, attribute, None)
    if not callable(found) and not isinstance(found, Family):
        known = [each for each, value in vars(module).items() if callable(value) and not each.startswith("_")]
        raise UserError(f"{kind} {name}: {path} has no function {attribute}{did_you_mean(attribute, known)}")
    return found


def _builder(kind: str, name: str, arguments: dict[str, object], said: str) -> Callable[..., nn.Module]:
    """The function of this name, which can be called with arguments of these names; `width` only if it likes."""
    function = _found(kind, name)
    try:
        known = inspect.signature(function).parameters
        given = {key: value for key, value in arguments.items() if key != "width" or key in known}
        inspect.signature(function).bind(**given)
    except (TypeError, ValueError) as error:  # a function that Python knows no signature of is a ValueError
        raise UserError(f"{kind} {name} cannot be called with {said}: {error}") from None
    return _checked(kind, name, function)


@cache
def _checked(kind: str, name: str, function: Callable[..., object]) -> Callable[..., nn.Module]:
    """The function, which raises UserError where it fails for a fractional width, or gives no module."""

    @wraps(function)
    def build(**arguments: object) -> nn.Module:
        try:
            built = function(**arguments)
        except TypeError as error:
            if "width" not in arguments:
                raise
            raise UserError(
                f"{kind} {name} fails for width={arguments['width']} ({first_line(error)}); a width has a fraction: "
                "multiply it, then round"
            ) from error
        if not isinstance(built, nn.Module):
            raise UserError(f"{kind} {name} has to return an nn.Module, and returned a {type(built).__name__}")
        return built

    return build


def line_of(model: ModelSpec, error: BaseException) -> str:
    """Where in its file a part of the user's failed, in parentheses; empty where the error is not from there."""
    return next(filter(None, (_line_in(name, error) for _, name in model.own_parts)), "")


def _line_in(name: str, error: BaseException) -> str:
    module = name.partition(":")[0].replace(".", "/")
    for frame in reversed(extract_tb(error.__traceback__)):
        file = Path(frame.filename)
        if file.as_posix().endswith((f"/{module}.py", f"/{module}/__init__.py")):
            return f" ({file.name}, line {frame.lineno})"
    return ""
