"""Does a spatial transformer help, and does it undo the distortion?

What one would call from a notebook is importable from here; torch is imported only when such a name is first used.
"""

import os
import sys
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stn_train.config import load_config
    from stn_train.data.datasets import render
    from stn_train.data.distortion import sample_distortion
    from stn_train.data.sources import load_digits
    from stn_train.experiment.load import load_network
    from stn_train.geometry import FAMILIES, Family, bilinear_sampler
    from stn_train.models.build import build_model
    from stn_train.models.insert import insert_transformer
    from stn_train.models.transformer import ParallelTransformers, SpatialTransformer

_HOMES = {
    "FAMILIES": "stn_train.geometry",
    "Family": "stn_train.geometry",
    "ParallelTransformers": "stn_train.models.transformer",
    "SpatialTransformer": "stn_train.models.transformer",
    "bilinear_sampler": "stn_train.geometry",
    "build_model": "stn_train.models.build",
    "sample_distortion": "stn_train.data.distortion",
    "insert_transformer": "stn_train.models.insert",
    "load_config": "stn_train.config",
    "load_digits": "stn_train.data.sources",
    "load_network": "stn_train.experiment.load",
    "render": "stn_train.data.datasets",
}

__all__ = [
    "FAMILIES",
    "Family",
    "ParallelTransformers",
    "SpatialTransformer",
    "bilinear_sampler",
    "build_model",
    "insert_transformer",
    "load_config",
    "load_digits",
    "load_network",
    "render",
    "sample_distortion",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)


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
