"""Classifiers of the user's own: `package.module:function`, found, checked and called as ours are."""

import inspect
import sys
from collections.abc import Callable
from functools import cache, wraps
from importlib import import_module
from pathlib import Path
from traceback import extract_tb

from torch import nn

from stn_train.errors import UserError, did_you_mean, first_line

Classifier = Callable[..., nn.Module]
"""What makes a classifier: called by keywords, size (H, W), channels, classes and, where it has one, width.

A width is a number of eighths, so that budgets are met however coarsely a network depends on it: it is multiplied by
what a layer needs, and then rounded.
"""


def load_classifier(name: str) -> Classifier:
    """The function, or class, that `package.module:function` names; also looked for in the current directory.

    Raises UserError where there is none, or where it cannot be called with `size`, `channels` and `classes`.
    """
    path, _, attribute = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # as `python -m` does: a user's module lies beside the configuration
    try:
        module = import_module(path)
    except (Exception, SystemExit) as error:  # whatever the user's file raises
        raise UserError(
            f"classifier {name}: {path} cannot be imported ({type(error).__name__}: {first_line(error)})"
            f"{line_of(name, error)}; it has to be installed, or to lie below {here}"
        ) from None
    function = getattr(module, attribute, None)
    if not callable(function):
        known = [each for each, value in vars(module).items() if callable(value) and not each.startswith("_")]
        raise UserError(f"classifier {name}: {path} has no function {attribute}{did_you_mean(attribute, known)}")
    try:
        width = {"width": 1.0} if "width" in inspect.signature(function).parameters else {}
        inspect.signature(function).bind(size=(28, 28), channels=1, classes=10, **width)
    except (TypeError, ValueError) as error:  # a function that Python knows no signature of is a ValueError
        raise UserError(
            f"classifier {name} cannot be called with size, channels, classes and, if it likes, width: {error}"
        ) from None
    return _checked(name, function)


@cache
def _checked(name: str, function: Callable[..., object]) -> Classifier:
    """The function of this name, which raises UserError where it fails for a fractional width, or gives no module."""

    @wraps(function)
    def build(**arguments: object) -> nn.Module:
        try:
            built = function(**arguments)
        except TypeError as error:
            if "width" not in arguments:
                raise
            raise UserError(
                f"classifier {name} fails for width={arguments['width']} ({first_line(error)}); a width has a "
                "fraction: multiply it, then round"
            ) from error
        if not isinstance(built, nn.Module):
            raise UserError(f"classifier {name} has to return an nn.Module, and returned a {type(built).__name__}")
        return built

    return build


def line_of(name: str, error: BaseException) -> str:
    """Where in its file a classifier of the user's failed, in parentheses; empty where the error is not from there."""
    module = name.partition(":")[0].replace(".", "/")
    for frame in reversed(extract_tb(error.__traceback__)):
        file = Path(frame.filename)
        if file.as_posix().endswith((f"/{module}.py", f"/{module}/__init__.py")):
            return f" ({file.name}, line {frame.lineno})"
    return ""
