"""Localisation networks, the spatial transformer, classifiers, and fitting a width to a parameter budget."""

from stn_train.models.build import Model, build_model
from stn_train.models.transformer import SpatialTransformer

__all__ = ["Model", "SpatialTransformer", "build_model"]
