"""Numbers to intervals and p: errors with their intervals, and paired comparisons of networks. Torch-free.

Throughout, `wrong` is a boolean array (S x M) that says which of M images the network of each of S seeds got wrong,
and `digit` names the test digit that each image shows (M), or the two that it shows (M x 2). Images that share a digit
are not independent of each other, so it is the digits that are counted: a digit shown five times in the same way weighs
as much as one shown once. All intervals are 95 % intervals; errors are in percent, differences in percentage points.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import betainc
from scipy.stats import chi2, norm, t

LEVEL = 0.05
"""A difference counts as shown where p, adjusted for the comparisons beside it, is below."""
POWER = 0.8
"""How often a difference that is there has to be shown for its seeds to be enough."""
_SMALLEST = 1e-12
_MOST_SEEDS = 100_000


@dataclass(frozen=True)
class Estimate:
    """A value with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def error_over_seeds(wrong: NDArray[np.bool_], digit: NDArray[np.integer]) -> Estimate:
    """The mean error over seeds, in percent, with its interval within 0 to 100.

    One seed: Wilson's interval, of as many images as are independent (see `_independent_images`); it says what this
    network would err on other test digits. Several seeds: the reach of that interval for the seed-averaged error (other
    test digits), to either side, and that of the t interval over seeds (other trainings), added in quadrature. Chance
    that belongs to a seed and a digit together is in both, so the interval is, if anything, too wide.

    wrong: (S, M); digit: (M) or (M, 2). Raises ValueError with fewer than two distinct digits.
    """
    share, seeds = float(wrong.mean()), mean_over_seeds(100 * wrong.mean(axis=1))
    images = _independent_images(share * (1 - share), wrong, digit)
    z = float(norm.isf(LEVEL / 2))
    middle = share + z**2 / (2 * images)
    reach = z * sqrt(share * (1 - share) / images + (z / (2 * images)) ** 2)
    low, high = (100 * (middle + side * reach) / (1 + z**2 / images) for side in (-1, 1))
    below, above = (hypot(end - seeds.value, seeds.high - seeds.value) for end in (max(low, 0.0), min(high, 100.0)))
    return Estimate(seeds.value, max(seeds.value - below, 0.0), min(seeds.value + above, 100.0))


def mean_over_seeds(values: Sequence[float], level: float = LEVEL) -> Estimate:
    """The mean of one value a seed, with its t interval of this level over the seeds; of one seed, only the value."""
    numbers = np.array(values, dtype=float)
    value, reach = float(numbers.mean()), 0.0
    if len(numbers) > 1:
        reach = float(t.isf(level / 2, len(numbers) - 1) * numbers.std(ddof=1) / sqrt(len(numbers)))
    return Estimate(value, value - reach, value + reach)


@dataclass(frozen=True)
class Comparison:
    """A model against its baseline, on the same images and the same seeds.

    `difference`: how much more it errs, in percentage points. `p`: that models which err equally often would differ as
    much. `mcnemar`: the exact p of each seed's pair of networks by itself; empty where a digit stands in several
    images.
    """

    difference: Estimate
    p: float
    mcnemar: tuple[float, ...]


def compare(
    wrong_model: NDArray[np.bool_], wrong_baseline: NDArray[np.bool_], digit: NDArray[np.integer]
) -> Comparison:
    """Compare a model with its baseline.

    One seed: Tango's score interval for the difference of paired proportions (Statistics in Medicine 17, 1998), of as
    many images as are independent (see `_independent_images`); it says what other test digits would give, and speaks of
    these two networks only. Several seeds: the reach of that interval for the seed-averaged shares (other test digits),
    to either side, and that of the t interval over seeds (other trainings), added in quadrature. Chance that belongs to
    a seed and a digit together is in both, so the interval is, if anything, too wide. `p` is the level at which the
    interval would end at zero, or McNemar's exact p of as many independent images if that is larger: on a handful of
    errors the interval is too sure.

    wrong_model, wrong_baseline: (S, M), row by row the same seed; digit: (M) or (M, 2). Raises ValueError with fewer
    than two distinct digits.
    """
    differences = wrong_model.astype(float) - wrong_baseline
    value, of_seeds = float(differences.mean()), differences.mean(axis=1)
    only_model, only_baseline = (float((differences == sign).mean()) for sign in (1, -1))
    images = _independent_images(only_model + only_baseline - value**2, differences, digit)

    def reach(level: float, side: int, beyond: float = 0.0) -> float:
        """How far `beyond` this distance the interval of a level reaches to the lower (-1) or upper (1) side."""
        end, seeds = _score_end(only_model, only_baseline, images, side, level), mean_over_seeds(of_seeds, level)
        return hypot(end - value, seeds.high - seeds.value) - beyond

    ends = (min(max(100 * (value + side * reach(LEVEL, side)), -100.0), 100.0) for side in (-1, 1))
    to_zero = -1 if value > 0 else 1
    if reach(1.0, to_zero, abs(value)) >= 0:  # a reach of zero, but for rounding
        p = 1.0
    elif reach(_SMALLEST, to_zero, abs(value)) <= 0:
        p = _SMALLEST
    else:
        p = float(brentq(reach, _SMALLEST, 1.0, (to_zero, abs(value))))
    p = max(p, mcnemar(images * only_model, images * only_baseline))
    exact: tuple[float, ...] = ()
    if len(np.unique(digit)) == digit.size:
        exact = tuple(mcnemar((of_seed == 1).sum(), (of_seed == -1).sum()) for of_seed in differences)
    return Comparison(Estimate(100 * value, *ends), p, exact)


def seeds_needed(
    wrong_model: NDArray[np.bool_], wrong_baseline: NDArray[np.bool_], digit: NDArray[np.integer], difference: float
) -> int | None:
    """How many seeds of each `compare` needs to show a true difference of so many points in POWER of all cases.

    None where the test digits do not let it, however many seeds. By the spread of these seeds: that of their
    differences, and that over the digits, of which what belongs to a seed and a digit together falls with more seeds.
    Estimates are taken to be normal, and the spread that each case finds to vary as it does with so many seeds.

    wrong_model, wrong_baseline: (S, M), S at least 2, row by row the same seed; digit: (M) or (M, 2).
    """
    differences, size = wrong_model.astype(float) - wrong_baseline, abs(difference) / 100
    seeds, digits, over_seeds = len(differences), len(np.unique(digit)), float(differences.mean(axis=1).var(ddof=1))
    only_one = max(float(np.abs(differences).mean()), size)
    of_mean = _variance_of_mean(differences, digit)
    of_one = sum(_variance_of_mean(one[None], digit) for one in differences) / seeds
    of_both = max(of_one - of_mean, 0.0) * seeds / (seeds - 1)
    of_digits = max(of_mean - of_both / seeds, 0.0)
    quantiles = (np.arange(200) + 0.5) / 200

    def power(number: int) -> float:
        images = (only_one - size**2 + 2 / digits) / (of_digits + of_both / number + 2 / digits**2)
        found = over_seeds * chi2.ppf(quantiles, number - 1) / (number - 1)
        reach = np.sqrt(
            norm.isf(LEVEL / 2) ** 2 * only_one / images + t.isf(LEVEL / 2, number - 1) ** 2 * found / number
        )
        return float(norm.sf((reach - size) / max(sqrt(over_seeds / number + of_digits), _SMALLEST)).mean())

    numbers = range(2, _MOST_SEEDS + 1)
    return None if power(numbers[-1]) < POWER else numbers[bisect_left(numbers, POWER, key=power)]


def holm(p: Sequence[float]) -> list[float]:
    """The p of comparisons that stand side by side, adjusted by Holm's method.

    Then, where nothing differs, the chance that any of them is below LEVEL is 5 % at most.
    """
    adjusted, highest = list(p), 0.0
    for rank, index in enumerate(np.argsort(p, kind="stable")):
        highest = max(highest, min(1.0, (len(p) - rank) * p[index]))
        adjusted[index] = highest
    return adjusted


def mcnemar(only_model: float, only_baseline: float) -> float:
    """McNemar's exact p, two-sided, that two networks err equally often on the same independent images.

    only_model, only_baseline: how many images, not always a whole number, only the one and only the other gets wrong.
    """
    fewer, more = sorted((only_model, only_baseline))
    return min(1.0, 2 * float(betainc(more, fewer + 1, 0.5))) if more else 1.0


def _score_end(only_model: float, only_baseline: float, images: float, side: int, level: float) -> float:
    """The lower (side -1) or upper (side 1) end of Tango's interval that leaves out the difference at this level.

    only_model, only_baseline: the shares of images that only the one and only the other gets wrong.
    """
    value, z = only_model - only_baseline, float(norm.isf(level / 2))

    def outside(difference: float) -> float:
        """Above zero where the score test refuses this difference."""
        slope = (2 - value) * difference - only_model - only_baseline
        root = sqrt(max(slope**2 + 8 * only_baseline * difference * (1 - difference), 0.0))
        likeliest = (root - slope) / 4  # the share that only the baseline gets wrong, if this is the difference
        return (value - difference) ** 2 - z**2 * (2 * likeliest + difference * (1 - difference)) / images

    near = value + side * _SMALLEST  # at the value itself the test's variance may be zero
    return value if outside(near) >= 0 else float(brentq(outside, near, side))


def _independent_images(variance: float, values: NDArray[np.generic], digit: NDArray[np.integer]) -> float:
    """How many independent images, one of which has this `variance`, would tell the mean of `values` (S, M) as surely.

    With one seed and one image a digit it is their number. Else it follows from the mean's variance. Two more digits
    count as wrong throughout, as Agresti and Coull (1998) add two errors: a handful of errors cannot show that seeds,
    or images of a digit, are independent; where there is none, it is the number of the digits. Raises ValueError with
    fewer than two distinct digits.
    """
    digits = len(np.unique(digit))
    if digits < 2:
        raise ValueError("an interval over test digits needs at least two of them")
    return min((variance + 2 / digits) / (_variance_of_mean(values, digit) + 2 / digits**2), values.size)


def _variance_of_mean(values: NDArray[np.generic], digit: NDArray[np.integer]) -> float:
    """The variance that the mean of `values` (S, M) has over test digits, these seeds given.

    Images count as dependent that share a digit, in whichever channel (Cameron, Gelbach and Miller 2011; for pairs
    Aronow, Samii and Assenova 2015).
    """
    numbers, shown = np.unique(digit, return_inverse=True)
    digits, shown = len(numbers), shown.reshape(len(digit), -1)
    residuals = values.mean(axis=0) - values.mean()
    first, second = shown[:, 0], shown[:, -1]
    two = first != second
    of_digit = np.bincount(first, residuals, digits) + np.bincount(second[two], residuals[two], digits)
    _, pair = np.unique(np.sort(shown[two]), axis=0, return_inverse=True)
    of_pair = np.bincount(pair.ravel(), residuals[two])  # images of the same two digits stand in the sums of both
    return max(float(of_digit @ of_digit - of_pair @ of_pair), 0.0) / len(digit) ** 2
