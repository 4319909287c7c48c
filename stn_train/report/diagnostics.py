"""What is wrong with a transformer, in words, from what was recorded after each epoch. Torch-free."""

from collections.abc import Sequence
from dataclasses import dataclass

from stn_train.evaluation.metrics import Diagnostics
from stn_train.run_folder import EpochRecord
from stn_train.specs import TrainingSpec, divergence_advice, stillness_advice

_OUT_OF_BOUNDS = 0.9
_COLLAPSED = 0.1
_FOLDED = 0.05
_IDENTITY = 0.01
_UNUSED = 1e-6
_EARLY = 0.25
"""The share of the epochs before which a transformer may not have begun to move."""


@dataclass(frozen=True)
class TransformerWarning:
    """What is wrong, as a word to tell one from another, and as a sentence without a full stop, with what to try."""

    kind: str
    sentence: str


def warnings_of(record: EpochRecord, recipe: TrainingSpec) -> list[TransformerWarning]:
    """What is wrong after an epoch of a training by this recipe: of each transformer the first that applies."""
    begun = record.epoch > max(_EARLY * recipe.epochs, 1)
    several = len(record.transformers) > 1
    found = []
    for number, diagnostics in enumerate(record.transformers, start=1):
        if warning := _warning(diagnostics, begun, recipe):
            kind, sentence = warning
            found.append(
                TransformerWarning(f"{kind} {number}", f"the transformer {f'{number} ' if several else ''}{sentence}")
            )
    return found


def mean_diagnostics(records: Sequence[EpochRecord]) -> tuple[Diagnostics, ...]:
    """The diagnostics of each transformer, in the mean over these records, one of each seed."""
    return tuple(
        Diagnostics(
            **{name: sum(getattr(one, name) for one in of_seeds) / len(of_seeds) for name in Diagnostics.model_fields}
        )
        for of_seeds in zip(*(record.transformers for record in records), strict=True)
    )


def _warning(diagnostics: Diagnostics, begun: bool, recipe: TrainingSpec) -> tuple[str, str] | None:
    """The kind, and the sentence without its subject; `begun` says that by now it should have learnt something."""
    slower = divergence_advice(recipe, transforms=True)
    if diagnostics.outside > _OUT_OF_BOUNDS:
        return (
            "out_of_bounds",
            f"samples almost only outside the image ({diagnostics.outside:.0%} of its points); {slower}",
        )
    if diagnostics.scale < _COLLAPSED:
        return (
            "collapsed",
            f"has collapsed to a point: its output is {diagnostics.scale:.2g} of the image along each side; {slower}",
        )
    if diagnostics.folded > _FOLDED:
        return "folded", f"folds over or mirrors {diagnostics.folded:.0%} of the images; {slower}"
    if begun and diagnostics.gradient < _UNUSED:
        return "unused", (
            "learns nothing: no gradient reaches its localisation network, so what follows does not use its output; "
            f"see that the classifier reads what the transformer puts out, or {slower}"
        )
    if begun and diagnostics.moved < _IDENTITY:
        return "identity", f"has not left the identity; {stillness_advice(recipe)}"
    if begun and diagnostics.std < _IDENTITY:
        return (
            "input_independent",
            f"does the same to every image, whatever it shows; more training.epochs may help, or {slower}",
        )
    return None
