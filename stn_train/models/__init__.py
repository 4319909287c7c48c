"""Localisation networks, the spatial transformer, classifiers, and fitting a width to a parameter budget."""

from stn_train.models.build import ModelSize, build_model, measure_model
from stn_train.models.insert import insert_transformer
from stn_train.models.network import Network
from stn_train.models.transformer import ParallelTransformers, SpatialTransformer

__all__ = [
    "ModelSize",
    "Network",
    "ParallelTransformers",
    "SpatialTransformer",
    "build_model",
    "insert_transformer",
    "measure_model",
]
