"""What the paper reports, to stand beside ours. Torch-free.

Jaderberg, Simonyan, Zisserman, Kavukcuoglu, Spatial Transformer Networks (arXiv:1506.02025): section 4.1, table 1, and
the appendix for MNIST addition. Test errors in percent, means over three seeds.
"""

from stn_train.specs import DATASETS, DatasetSpec, TransformerSpec, TrialSpec

_Network = tuple[str, str | None, int]
"""A classifier, the family of its transformers, and how many of them stand side by side at the input."""

_DISTORTED = ("r", "rts", "p", "e", "tc")
_ON_DISTORTED: dict[_Network, tuple[float, ...]] = {
    ("fcn", None, 0): (2.1, 5.2, 3.1, 3.2, 13.2),
    ("cnn_paper", None, 0): (1.2, 0.8, 1.5, 1.4, 3.5),
    ("fcn", "affine", 1): (1.2, 0.8, 1.5, 2.7, 2.0),
    ("fcn", "projective", 1): (1.3, 0.9, 1.4, 2.6),
    ("fcn", "tps", 1): (1.1, 0.8, 1.4, 2.4),
    ("cnn_paper", "affine", 1): (0.7, 0.5, 0.8, 1.2, 1.7),
    ("cnn_paper", "projective", 1): (0.8, 0.6, 0.8, 1.3),
    ("cnn_paper", "tps", 1): (0.7, 0.5, 0.8, 1.1),
}
"""By dataset, in the order of _DISTORTED. On tc the paper has one transformer for each classifier and does not say of
which family it is: here, affine."""

_ON_ADDITION: dict[_Network, float] = {
    ("fcn", None, 0): 47.7,
    ("cnn_paper", None, 0): 14.7,
    ("cnn_paper", "affine", 1): 22.6,
    ("cnn_paper", "projective", 1): 18.5,
    ("cnn_paper", "tps", 1): 19.1,
    ("cnn_paper", "affine", 2): 9.0,
    ("cnn_paper", "projective", 2): 5.9,
    ("cnn_paper", "tps", 2): 5.8,
}

_ERRORS: dict[tuple[str, _Network], float] = {
    **{
        (dataset, network): error
        for network, errors in _ON_DISTORTED.items()
        for dataset, error in zip(_DISTORTED, errors, strict=False)
    },
    **{("addition", network): error for network, error in _ON_ADDITION.items()},
}

_LOCALISATION = {"fcn": "fc_paper", "cnn_paper": "conv_paper"}


def paper_error(trial: TrialSpec) -> float | None:
    """The paper's test error, in percent, for what a trial measures; None where the paper has no such experiment.

    It has one where the digits are MNIST's test digits, the dataset is the preset of the paper's name, unchanged, and
    the network is the paper's: its classifier, with its localisation network and its family at the input, and not asked
    about turned images. Parameters, recipe, seeds and the transformer's output are the trial's own.
    """
    dataset, transformer = trial.dataset, trial.model.transformer
    if trial.source != "mnist" or trial.validation or trial.model.tta_angles or not _is_preset(dataset):
        return None
    if transformer is None:
        return _ERRORS.get((dataset.name, (trial.model.classifier, None, 0)))
    if not _is_the_papers(transformer, trial.model.classifier):
        return None
    return _ERRORS.get((dataset.name, (trial.model.classifier, transformer.family, transformer.parallel)))


def _is_preset(dataset: DatasetSpec) -> bool:
    return dataset.name in DATASETS and dataset == DatasetSpec.model_validate(dataset.name)


def _is_the_papers(transformer: TransformerSpec, classifier: str) -> bool:
    wanted = (_LOCALISATION.get(classifier), (0,), 4, "predicted")
    return (transformer.localisation, transformer.before, transformer.control_points, transformer.pose) == wanted
