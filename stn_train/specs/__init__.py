"""What an experiment is made of: datasets, models, recipes and their named presets, as frozen, checked types.

Torch-free. Every type refuses unknown keys, wrong types, NaN and values out of range; `stn_train.config` turns
those refusals into sentences with file and line.
"""

from stn_train.specs.datasets import DATASETS, ClutterSpec, DatasetSpec, ElasticSpec, PerspectiveSpec
from stn_train.specs.experiments import ExperimentSpec, Source, TrialSpec, trials_of
from stn_train.specs.fields import DIGIT, ChangeError, Count, Spec, TtaAngles, merged
from stn_train.specs.models import (
    CLASSIFIERS,
    MODELS,
    Localisation,
    ModelSpec,
    TransformerSpec,
    baseline_of,
    control_names,
    is_given_poses,
    trains_with_poses,
)
from stn_train.specs.training import RECIPES, EpochMultiplierSpec, TrainingSpec, divergence_advice, stillness_advice

__all__ = [
    "CLASSIFIERS",
    "DATASETS",
    "DIGIT",
    "MODELS",
    "RECIPES",
    "ChangeError",
    "ClutterSpec",
    "Count",
    "DatasetSpec",
    "ElasticSpec",
    "EpochMultiplierSpec",
    "ExperimentSpec",
    "Localisation",
    "ModelSpec",
    "PerspectiveSpec",
    "Source",
    "Spec",
    "TrainingSpec",
    "TransformerSpec",
    "TrialSpec",
    "TtaAngles",
    "baseline_of",
    "control_names",
    "divergence_advice",
    "is_given_poses",
    "merged",
    "stillness_advice",
    "trains_with_poses",
    "trials_of",
]
