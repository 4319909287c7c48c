"""What is wrong with a transformer, from what was recorded after each epoch. Torch-free; the words are in templates."""

from dataclasses import dataclass
from typing import Literal

from stn_train.run_folder import Diagnostics, EpochRecord
from stn_train.specs import TrainingSpec

Fault = Literal["out_of_bounds", "collapsed", "folded", "unused", "identity", "input_independent"]

_OUT_OF_BOUNDS = 0.9
_COLLAPSED = 0.1
_FOLDED = 0.05
_IDENTITY = 0.01
_UNUSED = 1e-6
_EARLY = 0.25
"""The share of the epochs before which a transformer may not have begun to move."""


@dataclass(frozen=True)
class TransformerWarning:
    """What is wrong with one of a network's transformers, the first of all that applies.

    `number`: which it is of so many `transformers`, from 1 on. `diagnostics`: what tells. `recipe`: of the training,
    by which the advice goes.
    """

    fault: Fault
    number: int
    transformers: int
    diagnostics: Diagnostics
    recipe: TrainingSpec

    @property
    def sentence(self) -> str:
        """What is wrong and what to try, without a full stop."""
        from stn_train.report.page import render

        return render("sentences.j2", "transformer_warning", self)


def warnings_of(record: EpochRecord, recipe: TrainingSpec) -> list[TransformerWarning]:
    """What is wrong after an epoch of a training by this recipe: at most one warning for each transformer."""
    begun = record.epoch > max(_EARLY * recipe.epochs, 1)  # by now it should have learnt something
    found = []
    for number, diagnostics in enumerate(record.transformers, start=1):
        faults: dict[Fault, bool] = {
            "out_of_bounds": diagnostics.outside > _OUT_OF_BOUNDS,
            "collapsed": diagnostics.scale < _COLLAPSED,
            "folded": diagnostics.folded > _FOLDED,
            "unused": begun and diagnostics.gradient < _UNUSED,
            "identity": begun and diagnostics.moved < _IDENTITY,
            "input_independent": begun and diagnostics.std < _IDENTITY,
        }
        applying = [fault for fault, applies in faults.items() if applies]
        if applying:
            found.append(TransformerWarning(applying[0], number, len(record.transformers), diagnostics, recipe))
    return found
