"""Numbers to verdicts: errors with their intervals, and paired comparisons of networks. Torch-free.

Throughout, `wrong` is a boolean array (S x M) that says which of M images the network of each of S seeds got wrong,
and `digit` (M) names the test digit that each image shows. Images of one digit are not independent of each other, so
it is the digits that are counted: a digit shown five times in the same way weighs as much as one shown once.
All intervals are 95 % intervals; errors are in percent, differences in percentage points.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import hypot, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import binomtest, norm, t

_LEVEL = 0.05
_SMALLEST = 1e-12


@dataclass(frozen=True)
class Estimate:
    """A value with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def error_over_seeds(wrong: NDArray[np.bool_], digit: NDArray[np.integer]) -> Estimate:
    """The mean error over seeds, in percent, with its interval within 0 to 100.

    One seed: Wilson's interval; it says what this network would err on other test digits. It is that of as many
    images as would have the error's cluster-robust variance if all were independent: their number where every digit
    has one image, and the digits' number where that variance is zero (as where no image is wrong). Several seeds: the
    reach of that interval for the seed-averaged error (other test digits), to either side, and that of the t interval
    over seeds (other trainings), added in quadrature. Chance that belongs to a seed and a digit together is in both,
    so the interval is, if anything, too wide.

    wrong: (S, M); digit: (M). Raises ValueError with fewer than two distinct digits.
    """
    digits, seeds = _wilson(wrong, digit), mean_over_seeds(100 * wrong.mean(axis=1))
    below, above = (hypot(end - seeds.value, seeds.high - seeds.value) for end in (digits.low, digits.high))
    return Estimate(seeds.value, max(seeds.value - below, 0.0), min(seeds.value + above, 100.0))


def mean_over_seeds(values: Sequence[float]) -> Estimate:
    """The mean of one value a seed, with its t interval over the seeds; of a single seed, no more than the value."""
    numbers = np.array(values, dtype=float)
    value = float(numbers.mean())
    reach = _reach([_over_seeds(numbers)], _LEVEL) if len(numbers) > 1 else 0.0
    return Estimate(value, value - reach, value + reach)


@dataclass(frozen=True)
class Comparison:
    """A model against its baseline, on the same images and the same seeds.

    `difference`: how much more it errs, in percentage points. `p`: that models which err equally often would differ as
    much. `mcnemar`: the exact p of each seed's pair of networks by itself; empty where a digit stands in several
    images. `adjusted`: p, corrected for the other comparisons beside it (see `corrected`).
    """

    difference: Estimate
    p: float
    mcnemar: tuple[float, ...]
    seeds: int
    adjusted: float

    @property
    def is_shown(self) -> bool:
        """Whether the difference counts as shown."""
        return self.adjusted < _LEVEL


def compare(
    wrong_model: NDArray[np.bool_], wrong_baseline: NDArray[np.bool_], digit: NDArray[np.integer]
) -> Comparison:
    """Compare a model with its baseline, alone.

    One seed: the difference has the paired t interval, with the standard error clustered by digit; it says what other
    test digits would give, and speaks of these two networks only. Several seeds: the half-widths of that interval for
    the seed-averaged difference (other test digits) and of the t interval over seeds (other trainings), added in
    quadrature. Chance that belongs to a seed and a digit together is in both, so the interval is, if anything, too
    wide. `p` is the level at which the interval would end at zero; of one seed, McNemar's if that is larger: on a
    handful of errors the interval is too sure.

    wrong_model, wrong_baseline: (S, M), row by row the same seed; digit: (M). Raises ValueError with fewer than two
    distinct digits.
    """
    difference = 100.0 * (wrong_model.astype(float) - wrong_baseline)
    value = float(difference.mean())
    chances = [_Chance(sqrt(_variance_over_digits(difference.mean(axis=0), digit)), len(np.unique(digit)) - 1)]
    if len(difference) > 1:
        chances.append(_over_seeds(difference.mean(axis=1)))
    reach = _reach(chances, _LEVEL)
    p = _level_that_reaches(abs(value), chances)
    exact: tuple[float, ...] = ()
    if len(np.unique(digit)) == len(digit):
        exact = tuple(mcnemar(*pair) for pair in zip(wrong_model, wrong_baseline, strict=True))
    if len(exact) == 1:
        p = max(p, *exact)
    return Comparison(Estimate(value, value - reach, value + reach), p, exact, len(difference), adjusted=p)


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Comparisons that stand side by side, with p adjusted by Holm's method.

    Then, where nothing differs, the chance that any of them counts as shown is 5 % at most.
    """
    order = sorted(range(len(comparisons)), key=lambda index: comparisons[index].p)
    result, highest = list(comparisons), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * comparisons[index].p))
        result[index] = replace(comparisons[index], adjusted=highest)
    return result


def mcnemar(wrong_model: NDArray[np.bool_], wrong_baseline: NDArray[np.bool_]) -> float:
    """McNemar's exact p, two-sided, that two networks err equally often on the same images.

    Only where every image shows another digit: images are taken as independent. wrong_model, wrong_baseline: (M).
    """
    only_model = int(np.sum(wrong_model & ~wrong_baseline))
    only_baseline = int(np.sum(wrong_baseline & ~wrong_model))
    apart = only_model + only_baseline
    return float(binomtest(only_model, apart).pvalue) if apart else 1.0


def verdict(model: str, baseline: str, comparison: Comparison) -> str:
    """What a comparison shows, in a plain sentence without a full stop."""
    difference, seeds = comparison.difference, comparison.seeds
    told = [f"p {p_value(comparison.p)}"]
    if comparison.adjusted != comparison.p:
        told.append(f"{p_value(comparison.adjusted)} among these comparisons")
    told.append(f"{seeds} seeds" if seeds > 1 else "one seed: it speaks of these two networks only")
    source = ", ".join(told)
    if not comparison.is_shown:
        return (
            f"no difference shown between {model} and {baseline} (difference {difference.value:z.2f} points, "
            f"95 % interval {difference.low:z.2f} to {difference.high:z.2f}, {source})"
        )
    least, most = sorted((abs(difference.low), abs(difference.high)))
    return (
        f"{model} errs on {abs(difference.value):.2f} points {'fewer' if difference.value < 0 else 'more'} images than "
        f"{baseline} (95 % interval {least:.2f} to {most:.2f}, {source})"
    )


def where_from(
    model: str,
    baseline: str,
    size: Comparison,
    transforming: Comparison,
    taught: Comparison | None,
    given: Comparison | None,
) -> str:
    """Where a model's gain over its baseline comes from, in a sentence without a full stop.

    size: its control frozen at the identity against the baseline; transforming: the model against that control; taught,
    given: its controls that are taught the true pose, and given it, against the model.
    """
    more = [
        f"{_points(comparison)} beyond that when {what} the true pose instead"
        for what, comparison in (("taught", taught), ("given", given))
        if comparison
    ]
    return (
        f"{model} against {baseline}, in points of error: {_points(size)} with the size of its output alone (frozen at "
        f"the identity), {_points(transforming)} with transforming"
    ) + "".join(f"; {one}" for one in more)


def _points(comparison: Comparison) -> str:
    ends = comparison.difference
    return f"{ends.value:+z.2f} [{ends.low:z.2f}, {ends.high:z.2f}]"


def p_value(p: float) -> str:
    """A p to three decimals."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _wilson(wrong: NDArray[np.bool_], digit: NDArray[np.integer]) -> Estimate:
    share, digits = float(wrong.mean()), len(np.unique(digit))
    variance = _variance_over_digits(wrong.mean(axis=0), digit) * (digits - 1) / digits
    images = min(share * (1 - share) / variance, wrong.size) if variance else digits
    z = float(norm.isf(_LEVEL / 2))
    middle = share + z**2 / (2 * images)
    reach = z * sqrt(share * (1 - share) / images + (z / (2 * images)) ** 2)
    low, high = ((middle + side * reach) / (1 + z**2 / images) for side in (-1, 1))
    return Estimate(100 * share, 100 * max(low, 0.0), 100 * min(high, 1.0))


@dataclass(frozen=True)
class _Chance:
    """One source of chance in a mean: its standard error, and the degrees of freedom of that."""

    error: float
    freedom: int


def _over_seeds(values: NDArray[np.floating]) -> _Chance:
    """In the mean of `values` (S), S at least 2."""
    return _Chance(float(values.std(ddof=1)) / sqrt(len(values)), len(values) - 1)


def _reach(chances: Sequence[_Chance], level: float) -> float:
    """Half the width of the interval that all of them together leave out with this probability."""
    return hypot(*(float(t.isf(level / 2, chance.freedom)) * chance.error for chance in chances))


def _level_that_reaches(distance: float, chances: Sequence[_Chance]) -> float:
    """The level of the interval whose half-width is `distance`."""
    if distance <= _reach(chances, 1.0):  # which is zero, but for rounding
        return 1.0
    if distance >= _reach(chances, _SMALLEST):
        return _SMALLEST
    return float(brentq(lambda level: _reach(chances, level) - distance, _SMALLEST, 1.0))


def _variance_over_digits(values: NDArray[np.floating], digit: NDArray[np.integer]) -> float:
    """Of the mean of `values` (M), clustered by digit; with one image a digit, the ordinary squared standard error."""
    _, cluster = np.unique(digit, return_inverse=True)
    residuals = np.bincount(cluster, weights=values - values.mean())
    digits = len(residuals)
    if digits < 2:
        raise ValueError("an interval over test digits needs at least two of them")
    return float(digits / (digits - 1) * np.sum(residuals**2) / len(values) ** 2)
