"""What an experiment is made of: datasets, models, recipes and their named presets, as frozen, checked types.

Torch-free. Every type refuses unknown keys, wrong types, NaN and values out of range; `stn_train.config` turns
those refusals into sentences with file and line.
"""

from stn_train.specs.datasets import DATASETS, ClutterSpec, DatasetSpec, ElasticSpec, PerspectiveSpec
from stn_train.specs.experiments import (
    RECIPES,
    ExperimentSpec,
    Source,
    TrainingSpec,
    TrialSpec,
    divergence_advice,
    stillness_advice,
    trials_of,
)
from stn_train.specs.fields import DIGIT, Count, Spec, TtaAngles, changes
from stn_train.specs.models import (
    CLASSIFIERS,
    MODELS,
    PARTS,
    Localisation,
    ModelSpec,
    Pose,
    TransformerSpec,
    TunedSpec,
    baseline_of,
    control_names,
)

__all__ = [
    "CLASSIFIERS",
    "DATASETS",
    "DIGIT",
    "MODELS",
    "PARTS",
    "RECIPES",
    "ClutterSpec",
    "Count",
    "DatasetSpec",
    "ElasticSpec",
    "ExperimentSpec",
    "Localisation",
    "ModelSpec",
    "PerspectiveSpec",
    "Pose",
    "Source",
    "Spec",
    "TrainingSpec",
    "TransformerSpec",
    "TrialSpec",
    "TtaAngles",
    "TunedSpec",
    "baseline_of",
    "changes",
    "control_names",
    "divergence_advice",
    "stillness_advice",
    "trials_of",
]
