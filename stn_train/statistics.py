"""Numbers to verdicts: errors with their intervals, and paired comparisons of networks. Torch-free.

Throughout, `wrong` is a boolean array (S x M) that says which of M images the network of each of S seeds got wrong,
and `digit` (M) names the test digit that each image shows. Images of one digit are not independent of each other, so
it is the digits that are counted: a digit shown five times in the same way weighs as much as one shown once.
All intervals are 95 % intervals; errors are in percent, differences in percentage points.
"""

from dataclasses import dataclass
from math import hypot, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, norm, t

_UPPER = 0.975
_LEVEL = 0.05


@dataclass(frozen=True)
class Estimate:
    """A value with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def error_over_seeds(wrong: NDArray[np.bool_], digit: NDArray[np.integer]) -> Estimate:
    """The mean error over seeds, in percent, with its interval within 0 to 100.

    With several seeds it is the t interval over them: what other trainings would give on these test images. With one
    seed it is an interval over the test digits: what this network would give on others. That one is Wilson's, for as
    many images as would have the cluster-robust variance if all were independent: their number where every digit has
    one image, and the digits' number where no image (or every image) is wrong.

    wrong: (S, M); digit: (M). Raises ValueError where a single seed has fewer than two distinct digits.
    """
    errors = 100 * wrong.mean(axis=1)
    if len(errors) == 1:
        return _wilson(wrong[0], digit)
    value = float(errors.mean())
    reach = _reach_over_seeds(errors)
    return Estimate(value, max(value - reach, 0.0), min(value + reach, 100.0))


def paired_difference(
    wrong_model: NDArray[np.bool_], wrong_baseline: NDArray[np.bool_], digit: NDArray[np.integer]
) -> Estimate:
    """How much more a model errs than its baseline on the same images, in percentage points.

    One seed: the paired t interval, with the standard error clustered by digit; it says what other test digits would
    give, and speaks of these two networks only. Several seeds: the half-widths of that interval for the seed-averaged
    difference (other test digits) and of the t interval over seeds (other trainings), added in quadrature. Chance
    that belongs to a seed and a digit together is in both, so the interval is, if anything, too wide.

    wrong_model, wrong_baseline: (S, M), row by row the same seed; digit: (M). Raises ValueError with fewer than two
    distinct digits.
    """
    difference = 100.0 * (wrong_model.astype(float) - wrong_baseline)
    value = float(difference.mean())
    over_digits = _variance_over_digits(difference.mean(axis=0), digit)
    reach = float(t.ppf(_UPPER, len(np.unique(digit)) - 1)) * sqrt(over_digits)
    if len(difference) > 1:
        reach = hypot(reach, _reach_over_seeds(difference.mean(axis=1)))
    return Estimate(value, value - reach, value + reach)


def mcnemar(wrong_model: NDArray[np.bool_], wrong_baseline: NDArray[np.bool_]) -> float:
    """McNemar's exact p, two-sided, that two networks err equally often on the same images.

    Only where every image shows another digit: images are taken as independent. wrong_model, wrong_baseline: (M).
    """
    only_model = int(np.sum(wrong_model & ~wrong_baseline))
    only_baseline = int(np.sum(wrong_baseline & ~wrong_model))
    apart = only_model + only_baseline
    return float(binomtest(only_model, apart).pvalue) if apart else 1.0


def is_shown(difference: Estimate, p: float | None = None) -> bool:
    """Whether a paired difference counts as shown: its interval leaves out zero.

    Where McNemar's exact `p` is given as well, that must be below 0.05: on a handful of errors the interval alone is
    too sure.
    """
    return not difference.low <= 0 <= difference.high and (p is None or p < _LEVEL)


def verdict(model: str, baseline: str, difference: Estimate, seeds: int, p: float | None = None) -> str:
    """What a paired difference shows (see `is_shown`), in a plain sentence without a full stop."""
    sources = ([] if p is None else [f"exact McNemar p {p_value(p)}"]) + [
        f"{seeds} seeds" if seeds > 1 else "one seed: it speaks of these two networks only"
    ]
    source = ", ".join(sources)
    if not is_shown(difference, p):
        return (
            f"no difference shown between {model} and {baseline} (difference {difference.value:z.2f} points, "
            f"95 % interval {difference.low:z.2f} to {difference.high:z.2f}, {source})"
        )
    least, most = sorted((abs(difference.low), abs(difference.high)))
    return (
        f"{model} errs on {abs(difference.value):.2f} points {'fewer' if difference.value < 0 else 'more'} images than "
        f"{baseline} (95 % interval {least:.2f} to {most:.2f}, {source})"
    )


def p_value(p: float) -> str:
    """A p to three decimals."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _wilson(wrong: NDArray[np.bool_], digit: NDArray[np.integer]) -> Estimate:
    share, digits = float(wrong.mean()), len(np.unique(digit))
    variance = _variance_over_digits(wrong.astype(float), digit) * (digits - 1) / digits
    images = min(share * (1 - share) / variance, len(wrong)) if variance else digits
    z = float(norm.ppf(_UPPER))
    middle = share + z**2 / (2 * images)
    reach = z * sqrt(share * (1 - share) / images + (z / (2 * images)) ** 2)
    low, high = ((middle + side * reach) / (1 + z**2 / images) for side in (-1, 1))
    return Estimate(100 * share, 100 * max(low, 0.0), 100 * min(high, 1.0))


def _reach_over_seeds(values: NDArray[np.floating]) -> float:
    """Half the width of the t interval over seeds of the mean of `values` (S), S at least 2."""
    return float(t.ppf(_UPPER, len(values) - 1) * values.std(ddof=1) / sqrt(len(values)))


def _variance_over_digits(values: NDArray[np.floating], digit: NDArray[np.integer]) -> float:
    """Of the mean of `values` (M), clustered by digit; with one image a digit, the ordinary squared standard error."""
    _, cluster = np.unique(digit, return_inverse=True)
    residuals = np.bincount(cluster, weights=values - values.mean())
    digits = len(residuals)
    if digits < 2:
        raise ValueError("an interval over test digits needs at least two of them")
    return float(digits / (digits - 1) * np.sum(residuals**2) / len(values) ** 2)
