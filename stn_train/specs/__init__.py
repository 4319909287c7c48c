"""What an experiment is made of: datasets, models, recipes and their named presets, as frozen, checked types.

Torch-free. Every type refuses unknown keys, wrong types, NaN and values out of range; `stn_train.config` turns
those refusals into sentences with file and line.
"""

from stn_train.specs.datasets import (
    DATASETS,
    SOURCES,
    ClutterSpec,
    DatasetSpec,
    ElasticSpec,
    PerspectiveSpec,
    SourceSpec,
)
from stn_train.specs.experiments import (
    RECIPES,
    ExperimentSpec,
    TrainingSpec,
    TrialSpec,
    check_source,
    divergence_advice,
    has_true_pose,
    pose_is_known,
    stillness_advice,
    trials_of,
)
from stn_train.specs.fields import DIGIT, Count, Spec, TtaAngles, changes
from stn_train.specs.models import (
    CLASSIFIERS,
    MODELS,
    PARTS,
    READ_OFF,
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
    "READ_OFF",
    "RECIPES",
    "SOURCES",
    "ClutterSpec",
    "Count",
    "DatasetSpec",
    "ElasticSpec",
    "ExperimentSpec",
    "Localisation",
    "ModelSpec",
    "PerspectiveSpec",
    "Pose",
    "SourceSpec",
    "Spec",
    "TrainingSpec",
    "TransformerSpec",
    "TrialSpec",
    "TtaAngles",
    "TunedSpec",
    "baseline_of",
    "changes",
    "check_source",
    "control_names",
    "divergence_advice",
    "has_true_pose",
    "pose_is_known",
    "stillness_advice",
    "trials_of",
]
