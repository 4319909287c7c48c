"""Does a spatial transformer help, and does it remove the distortion?

What one would call from a notebook is importable from here; torch is imported only when such a name is first used.
"""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stn_train.config import load_config
    from stn_train.data.datasets import render
    from stn_train.data.distortion import sample_distortion
    from stn_train.data.sources import load_images
    from stn_train.geometry import FAMILIES, Family, MatrixFamily, bilinear_sampler, thin_plate_spline
    from stn_train.models.localisation import LOCALISATIONS
    from stn_train.models.transformer import ParallelTransformers, SpatialTransformer, ThetaHead
    from stn_train.notebook import (
        Run,
        build_model,
        evaluate,
        insert_transformer,
        load_network,
        load_run,
        make_dataset,
        run,
    )
    from stn_train.specs import DatasetSpec

_HOMES = {
    "stn_train.notebook": [
        *("Run", "build_model", "evaluate", "insert_transformer", "load_network", "load_run", "make_dataset", "run"),
    ],
    "stn_train.geometry": ["FAMILIES", "Family", "MatrixFamily", "bilinear_sampler", "thin_plate_spline"],
    "stn_train.models.localisation": ["LOCALISATIONS"],
    "stn_train.models.transformer": ["ParallelTransformers", "SpatialTransformer", "ThetaHead"],
    "stn_train.data.sources": ["load_images"],
    "stn_train.data.distortion": ["sample_distortion"],
    "stn_train.data.datasets": ["render"],
    "stn_train.specs": ["DatasetSpec"],
    "stn_train.config": ["load_config"],
}

__all__ = [
    "FAMILIES",
    "LOCALISATIONS",
    "DatasetSpec",
    "Family",
    "MatrixFamily",
    "ParallelTransformers",
    "Run",
    "SpatialTransformer",
    "ThetaHead",
    "bilinear_sampler",
    "build_model",
    "evaluate",
    "insert_transformer",
    "load_config",
    "load_images",
    "load_network",
    "load_run",
    "make_dataset",
    "render",
    "run",
    "sample_distortion",
    "thin_plate_spline",
]


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            with warnings.catch_warnings():  # libraries add filters when they are imported
                return getattr(import_module(home), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
