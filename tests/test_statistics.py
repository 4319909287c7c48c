"""Intervals and paired tests: held to scipy, to hand counts and to simulation."""

import numpy as np
import pytest
from scipy.stats import binomtest, t, ttest_1samp

from stn_train.statistics import (
    Comparison,
    Estimate,
    compare,
    corrected,
    error_over_seeds,
    mcnemar,
    mean_over_seeds,
    verdict,
)

ONCE = np.arange(1000)


def wrong_at(*places: int, images: int = 1000) -> np.ndarray:
    """(1, images): wrong at these places only."""
    return np.isin(np.arange(images), places)[None]


def drawn(seed: int, seeds: int = 1, images: int = 1000) -> np.ndarray:
    """(seeds, images): each wrong with 5 %."""
    return np.random.default_rng(seed).random((seeds, images)) < 0.05


def repeated(wrong: np.ndarray, times: int) -> np.ndarray:
    """Each image's column stands `times` times."""
    return np.repeat(wrong, times, axis=-1)


def ends(estimate: Estimate) -> tuple[float, float, float]:
    return estimate.value, estimate.low, estimate.high


def paired_difference(model: np.ndarray, baseline: np.ndarray, digit: np.ndarray) -> Estimate:
    return compare(model, baseline, digit).difference


@pytest.mark.parametrize("errors", [0, 1, 57, 1000])
def test_error_of_one_seed_has_wilsons_interval(errors: int) -> None:
    """With one image a digit it is the textbook's, at no errors and at nothing but errors as well."""
    interval = binomtest(errors, 1000).proportion_ci(method="wilson")
    expected = (errors / 10, 100 * interval.low, 100 * interval.high)
    assert ends(error_over_seeds(wrong_at(*range(errors)), ONCE)) == pytest.approx(expected)


@pytest.mark.parametrize("errors", [0, 57])
def test_error_counts_the_images_of_a_digit_once(errors: int) -> None:
    wrong = wrong_at(*range(errors))
    once = error_over_seeds(wrong, ONCE)
    assert ends(error_over_seeds(repeated(wrong, 5), repeated(ONCE, 5))) == pytest.approx(ends(once))


def test_error_of_images_that_are_independent_within_digits_is_that_of_as_many_digits() -> None:
    wrong = drawn(0, images=20_000)
    grouped, single = (error_over_seeds(wrong, digit) for digit in (np.arange(20_000) % 4000, np.arange(20_000)))
    assert grouped.high - grouped.low == pytest.approx(single.high - single.low, rel=0.05)


def test_error_of_several_seeds_is_never_surer_than_seeds_or_digits_alone() -> None:
    """Seeds that agree have the interval of one; else the reach of Wilson's and of the t interval, in quadrature.

    Of 1000 digits, 18 are wrong with all of three seeds, 2 more with two and 2 with one: 1.8, 2.0 and 2.2 %. So the
    error of 2 % has the variance over digits of as many independent images as are asked about below.
    """
    one = drawn(1)
    assert ends(error_over_seeds(one.repeat(3, axis=0), ONCE)) == pytest.approx(ends(error_over_seeds(one, ONCE)))
    wrong = np.concatenate([wrong_at(*range(count)) for count in (18, 20, 22)])
    images = 0.02 * 0.98 / (wrong.mean(axis=0).var() / 1000)
    z, reach = 1.959964, 4.302653 * 0.2 / np.sqrt(3)
    half = z * np.sqrt(0.02 * 0.98 / images + (z / (2 * images)) ** 2)
    low, high = (100 * (0.02 + z**2 / (2 * images) + side * half) / (1 + z**2 / images) for side in (-1, 1))
    expected = (2.0, 2 - np.hypot(2 - low, reach), 2 + np.hypot(high - 2, reach))
    assert ends(error_over_seeds(wrong, ONCE)) == pytest.approx(expected, abs=1e-6)
    apart = np.concatenate([wrong_at(*range(count)) for count in (10, 20)])
    assert error_over_seeds(apart, ONCE).low == 0, "no error is below 0 %, however wide the interval"


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("luck", [0.0, 0.5])
def test_the_error_of_other_trainings_on_other_digits_lies_in_the_interval(seeds: int, luck: float) -> None:
    """200 repeats, hard and easy digits, seeds that train well or badly. One seed: the error of that network."""
    random = np.random.default_rng(3)
    covered = 0
    for _ in range(200):
        hard = np.where(random.random(1000) < 0.1, 0.5 * random.random(1000), 0.002)
        trained = np.exp(luck * random.uniform(-1, 1, (seeds, 1)))
        found = error_over_seeds(random.random((seeds, 1000)) < hard * trained, ONCE)
        mean = trained.mean() if seeds == 1 else np.sinh(luck) / luck if luck else 1
        covered += found.low < 100 * (0.1 * 0.25 + 0.9 * 0.002) * mean < found.high
    assert covered >= 182


def test_one_digit_gives_no_interval() -> None:
    with pytest.raises(ValueError, match="at least two"):
        error_over_seeds(wrong_at(0, 1), np.zeros(1000, dtype=int))


def test_difference_of_one_seed_is_the_paired_t_interval() -> None:
    model, baseline = drawn(1), drawn(2)
    test = ttest_1samp(100 * (model[0].astype(float) - baseline[0]), 0)
    interval = test.confidence_interval()
    expected = (100 * (model.mean() - baseline.mean()), interval.low, interval.high)
    assert ends(paired_difference(model, baseline, ONCE)) == pytest.approx(expected)


@pytest.mark.parametrize("seeds", [1, 3])
def test_difference_counts_the_images_of_a_digit_once(seeds: int) -> None:
    model, baseline = drawn(1, seeds), drawn(2, seeds)
    once = paired_difference(model, baseline, ONCE)
    five = paired_difference(repeated(model, 5), repeated(baseline, 5), repeated(ONCE, 5))
    assert ends(five) == pytest.approx(ends(once))


@pytest.mark.parametrize("seeds", [1, 3])
def test_difference_turns_round_with_the_models(seeds: int) -> None:
    model, baseline = drawn(1, seeds), drawn(2, seeds)
    there, back = paired_difference(model, baseline, ONCE), paired_difference(baseline, model, ONCE)
    assert (back.value, back.low, back.high) == pytest.approx((-there.value, -there.high, -there.low))


def test_difference_of_several_seeds_is_never_surer_than_seeds_or_digits_alone() -> None:
    """Without spread over seeds the digits' interval is left, without spread over digits the seeds'."""
    model, baseline = drawn(1), drawn(2)
    one = paired_difference(model, baseline, ONCE)
    same = paired_difference(model.repeat(3, axis=0), baseline.repeat(3, axis=0), ONCE)
    assert ends(same) == pytest.approx(ends(one))
    model, baseline = drawn(1, 3), drawn(2, 3)
    per_seed = 100 * (model.mean(axis=1) - baseline.mean(axis=1))
    over_seeds = ttest_1samp(per_seed, 0).confidence_interval()
    difference = paired_difference(model, baseline, ONCE)
    digits_reach = t.ppf(0.975, 999) * (100.0 * (model.mean(axis=0) - baseline.mean(axis=0))).std(ddof=1) / 1000**0.5
    assert difference.high - difference.value == pytest.approx(
        np.hypot(over_seeds.high - over_seeds.low, 2 * digits_reach) / 2
    )


@pytest.mark.parametrize("seed_effect", [0.0, 0.5])
def test_equal_models_are_told_apart_in_five_of_a_hundred_at_most(seed_effect: float) -> None:
    """200 repeats of 3 seeds, hard and easy digits; with and without seeds that train well or badly."""
    random = np.random.default_rng(3)
    covered = 0
    for _ in range(200):
        hard = np.where(random.random(1000) < 0.05, random.random(1000), 0.002)
        luck = np.exp(seed_effect * random.standard_normal((2, 3, 1)))
        model, baseline = random.random((2, 3, 1000)) < hard * luck
        covered += not compare(model, baseline, ONCE).is_shown
    assert covered >= 182


def test_a_difference_that_is_there_is_found() -> None:
    """5 % against 2 %, three seeds."""
    random = np.random.default_rng(4)
    difference = paired_difference(
        random.random((3, 10_000)) < 0.02, random.random((3, 10_000)) < 0.05, np.arange(10_000)
    )
    assert difference.low < -3.0 < difference.high < 0


def test_mcnemar_is_the_binomial_of_the_images_on_which_they_differ() -> None:
    """12 that only the model gets wrong, 2 that only the baseline does, 30 that both do."""
    both = range(14, 44)
    p = mcnemar(wrong_at(*range(12), *both)[0], wrong_at(12, 13, *both)[0])
    assert p == pytest.approx(2 * (1 + 14 + 91) / 2**14)
    assert mcnemar(wrong_at(*both)[0], wrong_at(*both)[0]) == 1


def test_p_is_that_of_the_paired_t_test_where_it_is_larger_than_mcnemars() -> None:
    model, baseline = drawn(1, images=300), drawn(2, images=300)
    found = compare(model, baseline, np.arange(300))
    by_t = ttest_1samp(model[0].astype(float) - baseline[0], 0).pvalue
    assert found.mcnemar == (mcnemar(model[0], baseline[0]),)
    assert found.p == pytest.approx(max(by_t, *found.mcnemar))
    assert compare(*(repeated(wrong, 2) for wrong in (model, baseline)), repeated(np.arange(300), 2)).p == (
        pytest.approx(by_t)
    )


def test_p_of_several_seeds_is_the_level_at_which_the_interval_would_end_at_zero() -> None:
    model, baseline = drawn(1, 3), drawn(2, 3) | drawn(5, 3)
    found = compare(model, baseline, ONCE)
    per_image = 100 * (model.mean(axis=0) - baseline.mean(axis=0))
    per_seed = 100 * (model.mean(axis=1) - baseline.mean(axis=1))
    errors = np.array([per_image.std(ddof=1) / 1000**0.5, per_seed.std(ddof=1) / 3**0.5])
    reach = np.linalg.norm(t.isf(found.p / 2, [999, 2]) * errors)
    assert reach == pytest.approx(-found.difference.value)
    assert len(found.mcnemar) == 3
    assert (found.p < 0.05) == (found.difference.high < 0)


def test_networks_that_err_alike_have_p_1() -> None:
    wrong = drawn(1, 2)
    assert compare(wrong, wrong, ONCE).p == 1
    assert compare(wrong[:1], wrong[:1], ONCE).p == 1
    assert compare(wrong_at(1), wrong_at(2), ONCE).p == pytest.approx(1)


LESS = Estimate(-0.92, -1.14, -0.70)


def comparison(p: float, difference: Estimate = LESS, seeds: int = 3) -> Comparison:
    return Comparison(difference, p, (), seeds, adjusted=p)


def test_correction_is_holms() -> None:
    """By hand: the smallest of four times 4, the next times 3 and so on, never below one before it, at most 1."""
    found = corrected([comparison(p) for p in (0.01, 0.04, 0.03, 0.8)])
    assert [one.adjusted for one in found] == pytest.approx([0.04, 0.09, 0.09, 0.8])
    assert [one.is_shown for one in found] == [True, False, False, False]
    assert [one.p for one in found] == [0.01, 0.04, 0.03, 0.8]
    assert corrected([comparison(0.6), comparison(0.7)])[1].adjusted == 1
    assert corrected([comparison(0.02)]) == [comparison(0.02)]
    assert corrected([]) == []


def test_a_mean_over_seeds_has_its_t_interval_and_a_single_one_none() -> None:
    values = np.random.default_rng(0).normal(3, 1, 5)
    interval = ttest_1samp(values, 0).confidence_interval()
    assert ends(mean_over_seeds(values)) == pytest.approx((values.mean(), interval.low, interval.high))
    assert ends(mean_over_seeds([4.0])) == (4, 4, 4)


def test_verdict_says_how_much_and_how_surely() -> None:
    assert verdict("st_cnn", "cnn", comparison(0.004)) == (
        "st_cnn errs on 0.92 points fewer images than cnn (95 % interval 0.70 to 1.14, p 0.004, 3 seeds)"
    )
    assert "0.92 points more images" in verdict("st_cnn", "cnn", comparison(0.004, Estimate(0.92, 0.70, 1.14)))
    assert verdict("st_cnn", "cnn", comparison(0.8, Estimate(-0.02, -0.20, 0.16))) == (
        "no difference shown between st_cnn and cnn (difference -0.02 points, 95 % interval -0.20 to 0.16, p 0.800, "
        "3 seeds)"
    )
    assert "these two networks" in verdict("st_cnn", "cnn", comparison(0.004, seeds=1))
    beside = corrected([comparison(0.03), comparison(0.2)])[0]
    assert verdict("st_cnn", "cnn", beside).startswith("no difference shown")
    assert "p 0.030, 0.060 among these comparisons" in verdict("st_cnn", "cnn", beside)


def test_verdict_on_four_images_is_that_nothing_is_shown() -> None:
    """Their interval leaves out zero, but four of four fall on one side in an eighth of all such cases."""
    found = compare(wrong_at(), wrong_at(0, 1, 2, 3), ONCE)
    assert found.difference.high < 0
    assert found.p == pytest.approx(0.125)
    assert verdict("st_cnn", "cnn", found).startswith("no difference shown")
