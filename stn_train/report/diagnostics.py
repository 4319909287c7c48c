"""What is wrong with a transformer, in words, from what was recorded after each epoch. Torch-free."""

from collections.abc import Sequence
from dataclasses import dataclass

from stn_train.evaluation.metrics import Health
from stn_train.run_folder import EpochRecord
from stn_train.specs import TrainingSpec, calmer

_BLANK = 0.9
_DOT = 0.1
_FOLDED = 0.05
_STILL = 0.01
_UNUSED = 1e-6
_EARLY = 0.25
"""The share of the epochs before which a transformer may not have begun to move."""


@dataclass(frozen=True)
class Trouble:
    """What is wrong, as a word to tell troubles apart by, and as a sentence without a full stop, with what to try."""

    kind: str
    sentence: str


def troubles(record: EpochRecord, recipe: TrainingSpec) -> list[Trouble]:
    """What is wrong after an epoch of a training by this recipe: of each transformer the first that applies."""
    begun = record.epoch > max(_EARLY * recipe.epochs, 1)
    several = len(record.transformers) > 1
    found = []
    for number, health in enumerate(record.transformers, start=1):
        if trouble := _trouble(health, begun, recipe):
            kind, sentence = trouble
            found.append(Trouble(f"{kind} {number}", f"the transformer {f'{number} ' if several else ''}{sentence}"))
    return found


def mean_health(records: Sequence[EpochRecord]) -> tuple[Health, ...]:
    """The health of each transformer, in the mean over these records, one of each seed."""
    return tuple(
        Health(**{name: sum(getattr(one, name) for one in of_seeds) / len(of_seeds) for name in Health.model_fields})
        for of_seeds in zip(*(record.transformers for record in records), strict=True)
    )


def _trouble(health: Health, begun: bool, recipe: TrainingSpec) -> tuple[str, str] | None:
    """The kind, and the sentence without its subject; `begun` says that by now it should have learnt something."""
    slower = calmer(recipe, transforms=True)
    if health.outside > _BLANK:
        return "blank", f"reads next to nothing: {health.outside:.0%} of its points lie outside the image; {slower}"
    if health.scale < _DOT:
        return "dot", f"shows a dot: its output is {health.scale:.2g} of the image along each side; {slower}"
    if health.folded > _FOLDED:
        return "folded", f"folds over or mirrors {health.folded:.0%} of the images; {slower}"
    if begun and health.gradient < _UNUSED:
        return "unused", (
            "learns nothing: no gradient reaches its localisation network, so what follows does not use its output; "
            "see that the classifier reads what the transformer puts out"
        )
    if begun and health.moved < _STILL:
        return "still", (
            f"has not left the identity; try a training.localisation_rate above {recipe.localisation_rate:g}, "
            "or more training.epochs"
        )
    if begun and health.spread < _STILL:
        return "constant", f"does the same to every image, whatever it shows; {slower}, or more training.epochs"
    return None
