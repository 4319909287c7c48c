"""Saved files to tables, verdicts and figures. Torch-free; can be run again without training."""

import os
import sys
from contextlib import suppress


def _import_matplotlib(backend: str) -> None:
    """Import matplotlib, which otherwise refuses to be imported where MPLBACKEND names a backend that is not installed.

    What is drawn here needs none; a caller's own is chosen afterwards, as matplotlib would have.
    """
    del os.environ["MPLBACKEND"]
    import matplotlib

    os.environ["MPLBACKEND"] = backend
    with suppress(ValueError):
        matplotlib.rcParams["backend"] = backend


if os.environ.get("MPLBACKEND") and "matplotlib" not in sys.modules:
    _import_matplotlib(os.environ["MPLBACKEND"])
