"""The exceptions that are told to the user as sentences: everything else keeps its traceback."""

import difflib
from collections.abc import Iterable
from importlib.util import find_spec


class UserError(Exception):
    """A mistake of the user's: what, where, how to mend it (exit code 2). Of several found at once, a sentence each."""

    def __str__(self) -> str:
        return "\n".join(map(str, self.args))


class FolderBusyError(UserError):
    """Another process is at work in a folder."""


class TrialError(Exception):
    """A trial cannot go on: a sentence that says why and what to try. Other trials can (exit code 1 in the end)."""


RENAMED = {
    "rate": "lr",
    "localisation_rate": "localisation_lr",
    "averaging": "ema_decay",
    "clip": "grad_clip",
    "warm_up": "warmup",
    "optimiser": "optimizer",
    "head_start": "classifier_delay",
    "growth": "curriculum",
    "bend": "elastic_augmentation",
    "digits": "train_size",
    "longer": "epoch_multiplier",
    "turns": "tta_angles",
    "--turns": "--tta-angles",
    "built": "prebuilt",
    "like": "base",
    "corners": "perspective",
    "outward": "direction",
    "stretch_only": "direction",
    "spread": "std",
    "apart": "avoid_digit",
    "control": "control_points",
    "at": "before",
    "output": "output_size",
    "ours": "default",
    "taught": "supervised",
    "true": "oracle",
    "few_digits": "low_data",
    "turning": "rotation_sweep",
}
"""Keys, options and names of an earlier version, and what they are called now."""


def did_you_mean(word: str, known: Iterable[str], otherwise: str | None = None) -> str:
    """The end of an error sentence: what the word is called now, or the nearest known name.

    Where none is near, `otherwise`, or all names. The nearest is found without regard to case; with nothing known, the
    empty string.
    """
    names = {name.lower(): name for name in known}
    if not names:
        return ""
    if (new := RENAMED.get(word)) in names:
        return f"; it is called {new!r} now"
    near = difflib.get_close_matches(word.lower(), names, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {names[near[0]]!r}?"
    return f"; known: {', '.join(sorted(names.values()))}" if otherwise is None else otherwise


def check_installed(wanted_by: str, packages: Iterable[str], extra: str) -> None:
    """Raise UserError where a package that `wanted_by` needs, one of the extra's, is missing; imports none of them."""
    for package in packages:
        found = find_spec(package)
        if found is None or found.origin is None:  # a folder of this name is no package
            raise UserError(
                f"{wanted_by}: the package {package} is not installed; pip install 'stn-train[{extra}]' installs it"
            )


def first_line(error: BaseException) -> str:
    """The first line of what an exception says; its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class Stopped(Exception):  # noqa: N818 - not an error
    """Work was stopped from outside at a point where it could be saved, and was."""
