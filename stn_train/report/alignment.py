"""What a model's transformers do, over its seeds: what of the distortion they undo, and how well they find the digit.

Torch-free.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

from stn_train.evaluation.metrics import LEAST, Component, Evidence, Overlap, Response, Spread, WithinClasses
from stn_train.statistics import Estimate, mean_over_seeds

OfComponent = TypeVar("OfComponent", Spread, Response)


@dataclass(frozen=True)
class Undone:
    """How far poses vary in one component, before and after, in its unit: means over seeds (see Spread).

    `score`: percent of it undone; None where there was next to nothing to undo.
    """

    component: Component
    unit: str
    before: float
    after: float
    score: Estimate | None


@dataclass(frozen=True)
class Course:
    """What is left of one component against what there was of it, in its unit: means over seeds (see Response).

    `small` and `large`: percent undone, on average, of what is nearer to the mean than `limit`, and of what is not,
    half of the images each.
    """

    component: Component
    unit: str
    before: tuple[float, ...]
    after: tuple[float, ...]
    varies: tuple[float, ...]
    limit: float
    small: Estimate
    large: Estimate


@dataclass(frozen=True)
class Covered:
    """How well the sampled regions cover the digits, over seeds (see Overlap); shares in percent."""

    iou: Estimate
    iou_found: Estimate
    aligned: Estimate
    aligned_found: Estimate
    ink: Estimate


SHARES = tuple(field.name for field in fields(Covered))
"""The names of what is in Covered."""


@dataclass(frozen=True)
class Within:
    """Of what varies among images, the percentage that lies within classes, over seeds (see WithinClasses)."""

    digits: Estimate
    images: Estimate
    output: Estimate


WITHIN = tuple(field.name for field in fields(Within))
"""The names of what is in Within."""


@dataclass(frozen=True)
class Undoing:
    """The evidence of a model on a dataset. Empty or None where there is no such pose, or no image of a class.

    `pose_of_a_digit`, `within_classes` and `courses` are of those seeds whose evidence was not written before there was
    such a thing.
    """

    pose: tuple[Undone, ...]
    pose_of_a_digit: tuple[Undone, ...]
    pose_by_class: tuple[tuple[Undone, ...], ...]
    within_classes: Within | None
    courses: tuple[Course, ...]
    overlap: Covered
    overlap_by_class: tuple[Covered | None, ...]


def undoing(evidence: Sequence[Evidence]) -> Undoing:
    """The evidence of one seed or several, taken together."""
    of_a_digit = [of_seed.pose_of_a_digit for of_seed in evidence]
    return Undoing(
        pose=_undone([of_seed.pose for of_seed in evidence]),
        pose_of_a_digit=_undone([pose for pose in of_a_digit if pose is not None]),
        pose_by_class=tuple(
            _undone(of_class) for of_class in zip(*(of_seed.pose_by_class for of_seed in evidence), strict=True)
        ),
        within_classes=_within([of_seed.within_classes for of_seed in evidence if of_seed.within_classes]),
        courses=_courses([of_seed.responses for of_seed in evidence if of_seed.responses is not None]),
        overlap=_covered([of_seed.overlap for of_seed in evidence]),
        overlap_by_class=tuple(
            _covered([overlap for overlap in of_class if overlap]) if all(of_class) else None
            for of_class in zip(*(of_seed.overlap_by_class for of_seed in evidence), strict=True)
        ),
    )


def _undone(of_seeds: Sequence[tuple[Spread, ...]]) -> tuple[Undone, ...]:
    return tuple(map(_component, _by_component(of_seeds)))


def _by_component(of_seeds: Sequence[tuple[OfComponent, ...]]) -> list[tuple[OfComponent, ...]]:
    """What the seeds say of each; empty where they do not have the same, as where one has no canonical pose."""
    if len({tuple(one.component for one in of_seed) for of_seed in of_seeds}) > 1:
        return []
    return [*zip(*of_seeds, strict=True)]


def _component(spreads: Sequence[Spread]) -> Undone:
    scores = [spread.score for spread in spreads if spread.score is not None]
    return Undone(
        component=spreads[0].component,
        unit=LEAST[spreads[0].component][1],
        before=sum(spread.before for spread in spreads) / len(spreads),
        after=sum(spread.after for spread in spreads) / len(spreads),
        score=mean_over_seeds(scores) if len(scores) == len(spreads) else None,
    )


def _courses(of_seeds: Sequence[tuple[Response, ...]]) -> tuple[Course, ...]:
    return tuple(map(_course, _by_component(of_seeds)))


def _course(responses: Sequence[Response]) -> Course:
    """Seeds have as many parts, and the same ones; but where maps bend, parts are of each seed's own mean map."""

    def means(name: str) -> tuple[float, ...]:
        return tuple(
            sum(values) / len(values) for values in zip(*(getattr(one, name) for one in responses), strict=True)
        )

    before = means("before")
    nearest = sorted(range(len(before)), key=lambda part: abs(before[part]))
    small, large = nearest[: len(nearest) // 2], nearest[len(nearest) // 2 :]
    return Course(
        component=responses[0].component,
        unit=LEAST[responses[0].component][1],
        before=before,
        after=means("after"),
        varies=means("varies"),
        limit=(abs(before[small[-1]]) + abs(before[large[0]])) / 2,
        small=mean_over_seeds([_share_undone(one, small) for one in responses]),
        large=mean_over_seeds([_share_undone(one, large) for one in responses]),
    )


def _share_undone(response: Response, parts: Sequence[int]) -> float:
    """Percent: what is left in the direction of what there was is not undone."""
    there = sum(abs(response.before[part]) for part in parts)
    left = sum(math.copysign(1, response.before[part]) * response.after[part] for part in parts)
    return 100 * (1 - left / there)


def _within(of_seeds: Sequence[WithinClasses]) -> Within | None:
    """None where there is no seed, or a seed's images are all alike."""
    told = [[100 * share for one in of_seeds if (share := getattr(one, name)) is not None] for name in WITHIN]
    return Within(*map(mean_over_seeds, told)) if min(map(len, told)) == len(of_seeds) > 0 else None


def _covered(overlaps: Sequence[Overlap]) -> Covered:
    def percent(name: str) -> Estimate:
        share = mean_over_seeds([100 * getattr(overlap, name) for overlap in overlaps])
        return Estimate(share.value, max(share.low, 0.0), min(share.high, 100.0))

    return Covered(*(percent(name) for name in SHARES))
