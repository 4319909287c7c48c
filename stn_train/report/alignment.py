"""What a model's transformers do, over its seeds: what of the distortion they remove, and how well they find the digit.

Torch-free.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

from stn_train.evaluation.metrics import (
    LEAST,
    AlignmentMetrics,
    Component,
    Overlap,
    ResidualCurve,
    Spread,
    WithinClasses,
)
from stn_train.statistics import Estimate, mean_over_seeds

OfComponent = TypeVar("OfComponent", Spread, ResidualCurve)


@dataclass(frozen=True)
class ResidualSummary:
    """How far poses vary in one component, before and after, in its unit: means over seeds (see Spread).

    `score`: percent of it removed; None where there was next to nothing to remove.
    """

    component: Component
    unit: str
    before: float
    after: float
    score: Estimate | None


@dataclass(frozen=True)
class CurveSummary:
    """What is left of one component against what there was of it, in its unit: means over seeds (see ResidualCurve).

    `small` and `large`: percent removed, on average, of what is nearer to the mean than `limit`, and of what is not,
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
class OverlapSummary:
    """How well the sampled regions cover the digits, over seeds (see Overlap); shares in percent."""

    iou: Estimate
    iou_found: Estimate
    aligned: Estimate
    aligned_found: Estimate
    ink: Estimate


SHARES = tuple(field.name for field in fields(OverlapSummary))
"""The names of what is in OverlapSummary."""


@dataclass(frozen=True)
class VarianceSummary:
    """Of what varies among images, the percentage that lies within classes, over seeds (see WithinClasses)."""

    digits: Estimate
    images: Estimate
    output: Estimate


WITHIN = tuple(field.name for field in fields(VarianceSummary))
"""The names of what is in VarianceSummary."""


@dataclass(frozen=True)
class AlignmentSummary:
    """How well a model aligns a dataset. Empty or None where there is no such pose, or no image of a class.

    `pose_of_a_digit`, `within_classes` and `residual_curves` are of those seeds whose metrics were not written before
    there was such a thing.
    """

    pose: tuple[ResidualSummary, ...]
    pose_of_a_digit: tuple[ResidualSummary, ...]
    pose_by_class: tuple[tuple[ResidualSummary, ...], ...]
    within_classes: VarianceSummary | None
    residual_curves: tuple[CurveSummary, ...]
    overlap: OverlapSummary
    overlap_by_class: tuple[OverlapSummary | None, ...]


def summarise(alignments: Sequence[AlignmentMetrics]) -> AlignmentSummary:
    """The alignment metrics of one seed or several, taken together."""
    of_a_digit = [of_seed.pose_of_a_digit for of_seed in alignments]
    return AlignmentSummary(
        pose=_residuals([of_seed.pose for of_seed in alignments]),
        pose_of_a_digit=_residuals([pose for pose in of_a_digit if pose is not None]),
        pose_by_class=tuple(
            _residuals(of_class) for of_class in zip(*(of_seed.pose_by_class for of_seed in alignments), strict=True)
        ),
        within_classes=_within([of_seed.within_classes for of_seed in alignments if of_seed.within_classes]),
        residual_curves=_residual_curves(
            [of_seed.residual_curves for of_seed in alignments if of_seed.residual_curves is not None]
        ),
        overlap=_covered([of_seed.overlap for of_seed in alignments]),
        overlap_by_class=tuple(
            _covered([overlap for overlap in of_class if overlap]) if all(of_class) else None
            for of_class in zip(*(of_seed.overlap_by_class for of_seed in alignments), strict=True)
        ),
    )


def _residuals(of_seeds: Sequence[tuple[Spread, ...]]) -> tuple[ResidualSummary, ...]:
    return tuple(map(_component, _by_component(of_seeds)))


def _by_component(of_seeds: Sequence[tuple[OfComponent, ...]]) -> list[tuple[OfComponent, ...]]:
    """What the seeds say of each; empty where they do not have the same, as where one has no canonical pose."""
    if len({tuple(one.component for one in of_seed) for of_seed in of_seeds}) > 1:
        return []
    return [*zip(*of_seeds, strict=True)]


def _component(spreads: Sequence[Spread]) -> ResidualSummary:
    scores = [spread.score for spread in spreads if spread.score is not None]
    return ResidualSummary(
        component=spreads[0].component,
        unit=LEAST[spreads[0].component][1],
        before=sum(spread.before for spread in spreads) / len(spreads),
        after=sum(spread.after for spread in spreads) / len(spreads),
        score=mean_over_seeds(scores) if len(scores) == len(spreads) else None,
    )


def _residual_curves(of_seeds: Sequence[tuple[ResidualCurve, ...]]) -> tuple[CurveSummary, ...]:
    return tuple(map(_curve, _by_component(of_seeds)))


def _curve(residual_curves: Sequence[ResidualCurve]) -> CurveSummary:
    """Seeds have as many parts, and the same ones; but where maps bend, parts are of each seed's own mean map."""

    def means(name: str) -> tuple[float, ...]:
        return tuple(
            sum(values) / len(values) for values in zip(*(getattr(one, name) for one in residual_curves), strict=True)
        )

    before = means("before")
    nearest = sorted(range(len(before)), key=lambda part: abs(before[part]))
    small, large = nearest[: len(nearest) // 2], nearest[len(nearest) // 2 :]
    return CurveSummary(
        component=residual_curves[0].component,
        unit=LEAST[residual_curves[0].component][1],
        before=before,
        after=means("after"),
        varies=means("varies"),
        limit=(abs(before[small[-1]]) + abs(before[large[0]])) / 2,
        small=mean_over_seeds([_share_removed(one, small) for one in residual_curves]),
        large=mean_over_seeds([_share_removed(one, large) for one in residual_curves]),
    )


def _share_removed(response: ResidualCurve, parts: Sequence[int]) -> float:
    """Percent: what is left in the direction of what there was is not removed."""
    there = sum(abs(response.before[part]) for part in parts)
    left = sum(math.copysign(1, response.before[part]) * response.after[part] for part in parts)
    return 100 * (1 - left / there)


def _within(of_seeds: Sequence[WithinClasses]) -> VarianceSummary | None:
    """None where there is no seed, or a seed's images are all alike."""
    told = [[100 * share for one in of_seeds if (share := getattr(one, name)) is not None] for name in WITHIN]
    return VarianceSummary(*map(mean_over_seeds, told)) if min(map(len, told)) == len(of_seeds) > 0 else None


def _covered(overlaps: Sequence[Overlap]) -> OverlapSummary:
    def percent(name: str) -> Estimate:
        share = mean_over_seeds([100 * getattr(overlap, name) for overlap in overlaps])
        return Estimate(share.value, max(share.low, 0.0), min(share.high, 100.0))

    return OverlapSummary(*(percent(name) for name in SHARES))
