"""Intervals and paired tests: held to scipy, to hand counts and to simulation."""

import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import binomtest, norm, t, ttest_1samp

from stn_train.data.distortion import random_stream
from stn_train.statistics import (
    Estimate,
    compare,
    error_over_seeds,
    holm,
    mcnemar,
    mean_over_seeds,
    seeds_needed,
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


def wilson(share: float, images: float) -> tuple[float, float]:
    """In percent."""
    z = 1.959964
    half = z * np.sqrt(share * (1 - share) / images + (z / (2 * images)) ** 2)
    low, high = (100 * (share + z**2 / (2 * images) + side * half) / (1 + z**2 / images) for side in (-1, 1))
    return low, high


def tango(only_model: float, only_baseline: float, images: float, side: int, level: float = 0.05) -> float:
    """An end of Tango's interval, in percent: the shares' likelihood under a difference is maximised by search."""
    value = only_model - only_baseline

    def distance(difference: float) -> float:
        def unlikely(share: float) -> float:
            shares = np.array([share + difference, share, 1 - 2 * share - difference])
            seen = np.array([only_model, only_baseline, 1 - only_model - only_baseline])
            return -np.sum(seen * np.log(np.maximum(shares, 1e-300)))

        ends = max(0.0, -difference), (1 - difference) / 2
        share = minimize_scalar(unlikely, bounds=ends, method="bounded", options={"xatol": 1e-13}).x
        return abs(value - difference) / np.sqrt((2 * share + difference - difference**2) / images)

    wanted = norm.isf(level / 2)
    return 100 * brentq(lambda difference: distance(difference) - wanted, value + side * 1e-7, side * (1 - 1e-9))


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
    error of 2 % has the variance over digits of as many independent images as are asked about below, where two digits
    more are taken to be wrong throughout.
    """
    one = drawn(1)
    assert ends(error_over_seeds(one.repeat(3, axis=0), ONCE)) == pytest.approx(ends(error_over_seeds(one, ONCE)))
    wrong = np.concatenate([wrong_at(*range(count)) for count in (18, 20, 22)])
    images = (0.02 * 0.98 + 0.002) / ((wrong.mean(axis=0).var() + 0.002) / 1000)
    reach = 4.302653 * 0.2 / np.sqrt(3)
    low, high = wilson(0.02, images)
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


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("times", [1, 10])
def test_an_error_more_never_makes_the_highest_error_lower(seeds: int, times: int) -> None:
    """Of digits shown once or ten times: nothing wrong, one image of the first network, one more, and so on."""
    digit = repeated(np.arange(200), times)
    wrong = np.zeros((seeds, len(digit)), dtype=bool)
    highest = [error_over_seeds(wrong, digit).high]
    for image in range(0, len(digit), 9):
        wrong[0, image] = True
        highest.append(error_over_seeds(wrong, digit).high)
    assert highest == sorted(highest)


def test_one_digit_gives_no_interval() -> None:
    with pytest.raises(ValueError, match="at least two"):
        error_over_seeds(wrong_at(0, 1), np.zeros(1000, dtype=int))


@pytest.mark.parametrize(("only_model", "only_baseline"), [(12, 2), (2, 12), (3, 0), (0, 1), (300, 450)])
def test_difference_of_one_seed_has_tangos_interval(only_model: int, only_baseline: int) -> None:
    both = range(900, 950)
    model = wrong_at(*range(only_model), *both)
    baseline = wrong_at(*range(only_model, only_model + only_baseline), *both)
    shares = only_model / 1000, only_baseline / 1000
    expected = (100 * (shares[0] - shares[1]), *(tango(*shares, 1000, side) for side in (-1, 1)))
    assert ends(paired_difference(model, baseline, ONCE)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("seeds", [1, 3])
def test_networks_that_are_wrong_on_the_same_images_may_still_differ(seeds: int) -> None:
    """Where d of 10,000 images differ only in one direction, and none was seen, the score test allows d up to z^2."""
    wrong = drawn(1, seeds, 10_000)
    difference = paired_difference(wrong, wrong, np.arange(10_000))
    reach = 100 * 1.959964**2 / (10_000 + 1.959964**2)
    assert ends(difference) == pytest.approx((0, -reach, reach), abs=1e-6)
    assert reach == pytest.approx(0.038, abs=5e-4)


def test_networks_that_are_right_and_wrong_on_all_images_differ_by_all_but_a_few() -> None:
    difference = paired_difference(wrong_at(*range(1000)), wrong_at(), ONCE)
    assert difference.low < difference.value == difference.high == 100


@pytest.mark.parametrize("seeds", [1, 3])
def test_difference_counts_the_images_of_a_digit_once(seeds: int) -> None:
    model, baseline = drawn(1, seeds), drawn(2, seeds)
    once = paired_difference(model, baseline, ONCE)
    five = paired_difference(repeated(model, 5), repeated(baseline, 5), repeated(ONCE, 5))
    assert ends(five) == pytest.approx(ends(once))
    assert compare(*(repeated(wrong, 5) for wrong in (model, baseline)), repeated(ONCE, 5)).p == (
        pytest.approx(compare(model, baseline, ONCE).p)
    )


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
    for side, end in ((-1, difference.low), (1, difference.high)):
        over_digits = tango(*apart(model, baseline), side) - difference.value
        assert side * (end - difference.value) == pytest.approx(
            np.hypot(over_seeds.high - difference.value, over_digits), abs=1e-4
        )


def apart(model: np.ndarray, baseline: np.ndarray) -> tuple[float, float, float]:
    """The shares of images that only the one and only the other gets wrong, and how many independent images there are.

    One image a digit; two digits more are taken to differ throughout.
    """
    only_model, only_baseline = (model & ~baseline).mean(), (baseline & ~model).mean()
    of_one = only_model + only_baseline - (only_model - only_baseline) ** 2
    of_mean = (model.mean(axis=0) - baseline.mean(axis=0)).var() / model.shape[1]
    more = 2 / model.shape[1]
    return only_model, only_baseline, min((of_one + more) / (of_mean + more / model.shape[1]), model.size)


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("images", [450, 2000])
def test_the_difference_on_other_digits_lies_in_the_interval(seeds: int, images: int) -> None:
    """300 repeats of networks that err on 0.2 %, mostly the same images: often none, or one, tells them apart."""
    random = np.random.default_rng(5)
    covered = 0
    for _ in range(300):
        hard = np.where(random.random(images) < 0.002, 0.9, 0.0002)
        model, baseline = random.random((2, seeds, images)) < hard
        difference = paired_difference(model, baseline, np.arange(images))
        covered += difference.low < 0 < difference.high
    assert covered >= 279


@pytest.mark.parametrize("seed_effect", [0.0, 0.5])
def test_equal_models_are_told_apart_in_five_of_a_hundred_at_most(seed_effect: float) -> None:
    """200 repeats of 3 seeds, hard and easy digits; with and without seeds that train well or badly."""
    random = np.random.default_rng(3)
    covered = 0
    for _ in range(200):
        hard = np.where(random.random(1000) < 0.05, random.random(1000), 0.002)
        luck = np.exp(seed_effect * random.standard_normal((2, 3, 1)))
        model, baseline = random.random((2, 3, 1000)) < hard * luck
        covered += compare(model, baseline, ONCE).p >= 0.05
    assert covered >= 182


def test_a_difference_that_is_there_is_found() -> None:
    """5 % against 2 %, three seeds."""
    random = np.random.default_rng(4)
    difference = paired_difference(
        random.random((3, 10_000)) < 0.02, random.random((3, 10_000)) < 0.05, np.arange(10_000)
    )
    assert difference.low < -3.0 < difference.high < 0


def test_mcnemar_is_the_binomial_of_the_images_on_which_they_differ() -> None:
    """12 that only the model gets wrong, 2 that only the baseline does."""
    assert mcnemar(12, 2) == mcnemar(2, 12) == pytest.approx(2 * (1 + 14 + 91) / 2**14)
    assert mcnemar(0, 0) == 1


def test_p_of_one_seed_is_mcnemars_of_the_digits() -> None:
    model, baseline = drawn(1, images=300), drawn(2, images=300)
    once = compare(model, baseline, np.arange(300))
    exact = mcnemar((model & ~baseline).sum(), (baseline & ~model).sum())
    assert (once.mcnemar, once.p) == ((exact,), pytest.approx(exact))
    twice = compare(*(repeated(wrong, 2) for wrong in (model, baseline)), repeated(np.arange(300), 2))
    assert (twice.mcnemar, twice.p) == ((), pytest.approx(exact))


def test_p_of_several_seeds_is_the_level_at_which_the_interval_would_end_at_zero() -> None:
    model, baseline = drawn(1, 3), drawn(2, 3) | drawn(5, 3)
    found = compare(model, baseline, ONCE)
    value = found.difference.value
    per_seed = 100 * (model.mean(axis=1) - baseline.mean(axis=1))
    over_seeds = t.isf(found.p / 2, 2) * per_seed.std(ddof=1) / 3**0.5
    over_digits = tango(*apart(model, baseline), 1, found.p) - value
    assert np.hypot(over_seeds, over_digits) == pytest.approx(-value, abs=1e-4)
    assert len(found.mcnemar) == 3


def test_p_is_below_a_twentieth_where_the_interval_leaves_out_zero() -> None:
    """Of several seeds; 100 pairs of networks, of which a third differ so far."""
    random = np.random.default_rng(6)
    shown = 0
    for _ in range(100):
        model, baseline = random.random((3, 3000)) < 0.05, random.random((3, 3000)) < 0.065
        found = compare(model, baseline, np.arange(3000))
        assert (found.p < 0.05) == (found.difference.low > 0 or found.difference.high < 0)
        shown += found.p < 0.05
    assert 20 < shown < 80


def test_networks_that_err_alike_have_p_1() -> None:
    wrong = drawn(1, 2)
    assert compare(wrong, wrong, ONCE).p == 1
    assert compare(wrong[:1], wrong[:1], ONCE).p == 1
    assert compare(wrong_at(1), wrong_at(2), ONCE).p == pytest.approx(1)


# --- images of two digits ---------------------------------------------------------------------------------------


def test_images_are_dependent_that_share_a_digit_in_whichever_channel() -> None:
    """By hand: the products of all pairs of images that do, each once, also where they share both or show one twice."""
    random = np.random.default_rng(7)
    digit = random.integers(0, 40, (200, 2))
    wrong = (random.random(40) < 0.5)[digit].any(axis=1) & (random.random(200) < 0.5)
    residuals = wrong - wrong.mean()
    sharing = (digit[:, None, :, None] == digit[None, :, None, :]).any(axis=(2, 3))
    assert (digit[:, 0] == digit[:, 1]).any()
    assert len(np.unique(np.sort(digit), axis=0)) < 200
    of_mean = np.sum(sharing * np.outer(residuals, residuals)) / 200**2
    digits = len(np.unique(digit))
    images = (wrong.var() + 2 / digits) / (of_mean + 2 / digits**2)
    assert images < 150
    expected = (100 * wrong.mean(), *wilson(wrong.mean(), images))
    assert ends(error_over_seeds(wrong[None], digit)) == pytest.approx(expected, abs=1e-4)
    assert ends(error_over_seeds(wrong[None], digit[:, ::-1])) == pytest.approx(expected, abs=1e-4)


def test_a_digit_that_stands_in_both_channels_is_one() -> None:
    model, baseline = drawn(1), drawn(2)
    digit = np.arange(1000) % 200
    for one, two in ((ONCE, np.stack([ONCE] * 2, axis=1)), (digit, np.stack([digit] * 2, axis=1))):
        assert error_over_seeds(model, two) == error_over_seeds(model, one)
        assert paired_difference(model, baseline, two) == paired_difference(model, baseline, one)


def test_mcnemars_test_is_left_out_where_a_digit_stands_in_two_images() -> None:
    model, baseline = drawn(1), drawn(2)
    assert compare(model, baseline, np.stack([ONCE, np.roll(ONCE, 1)], axis=1)).mcnemar == ()
    assert len(compare(model, baseline, np.stack([ONCE, 1000 + ONCE], axis=1)).mcnemar) == 1


def test_errors_and_differences_on_pairs_of_digits_lie_in_their_intervals() -> None:
    """600 repeats of 1000 images that show each digit twice, in the order of addition; most depends on the digits."""
    random = np.random.default_rng(8)
    digit = np.stack([ONCE, random_stream("partner", 20_150_605, "test").permutation(ONCE)], axis=1)
    errors = differences = 0
    for _ in range(600):
        shared, own = random.standard_normal(1000), random.standard_normal((2, 1000))
        hard = (np.sqrt(0.6) * shared + np.sqrt(0.4) * own)[:, digit].sum(axis=2) / np.sqrt(2)
        model, baseline = np.sqrt(0.9) * hard + np.sqrt(0.1) * random.standard_normal((2, 1000)) > norm.isf(0.25)
        error = error_over_seeds(model[None], digit)
        difference = paired_difference(model[None], baseline[None], digit)
        errors += error.low < 25 < error.high
        differences += difference.low < 0 < difference.high
    assert 0.93 * 600 <= errors <= 0.97 * 600
    assert 0.93 * 600 <= differences <= 0.97 * 600


def test_correction_is_holms() -> None:
    """By hand: the smallest of four times 4, the next times 3 and so on, never below one before it, at most 1."""
    assert holm([0.01, 0.04, 0.03, 0.8]) == pytest.approx([0.04, 0.09, 0.09, 0.8])
    assert holm([0.6, 0.7])[1] == 1
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def test_a_mean_over_seeds_has_its_t_interval_and_a_single_one_none() -> None:
    values = np.random.default_rng(0).normal(3, 1, 5)
    interval = ttest_1samp(values, 0).confidence_interval()
    assert ends(mean_over_seeds(values)) == pytest.approx((values.mean(), interval.low, interval.high))
    assert ends(mean_over_seeds([4.0])) == (4, 4, 4)


def test_on_four_images_nothing_is_shown() -> None:
    """Their interval leaves out zero, but four of four fall on one side in an eighth of all such cases."""
    found = compare(wrong_at(), wrong_at(0, 1, 2, 3), ONCE)
    assert found.difference.high < 0
    assert found.p == pytest.approx(0.125)
    assert compare(*(wrong.repeat(3, axis=0) for wrong in (wrong_at(), wrong_at(0, 1, 2, 3))), ONCE).p == (
        pytest.approx(0.125)
    )


# --- how many seeds a difference needs --------------------------------------------------------------------------


def trained(random: np.random.Generator, seeds: int, digits: int = 1000, luck: float = 0.1) -> list[np.ndarray]:
    """What a model and its baseline get wrong on fresh digits, of which a fifth is hard; each training has its luck.

    The model errs less on half of the hard digits, by 30 %: 0.9 points in all.
    """
    hard = np.where(random.random(digits) < 0.2, 0.6 * random.random(digits), 0.0)
    helped = hard * np.where(random.random(digits) < 0.5, 0.7, 1.0)
    trainings = 1 + luck * random.uniform(-1, 1, (2, seeds, 1))
    return [
        random.random((seeds, digits)) < of_each * luck for of_each, luck in zip((helped, hard), trainings, strict=True)
    ]


GAIN = 100 * 0.2 * 0.3 * 0.5 * 0.3
"""How much less the model errs, in points."""


def test_with_the_seeds_that_it_needs_a_difference_is_shown_in_four_of_five_cases() -> None:
    """200 cases, each of other digits and other trainings; the spread is that of many seeds, and hardly by chance."""
    random = np.random.default_rng(9)
    each = [seeds_needed(*trained(random, 50, 2000), np.arange(2000), GAIN) for _ in range(5)]
    needed = int(np.median([number for number in each if number is not None]))
    assert 3 < needed < 50
    shown = sum(compare(*trained(random, needed, 2000), np.arange(2000)).p < 0.05 for _ in range(200))
    assert 0.7 * 200 <= shown <= 0.9 * 200


def test_a_smaller_difference_needs_more_seeds_until_the_digits_do_not_let_it() -> None:
    errors = trained(np.random.default_rng(10), 20)
    needed = [seeds_needed(*errors, ONCE, points) for points in (10, 3, 2, 1.5, 0.05, 0.001)]
    finite = [number for number in needed if number is not None]
    assert finite == sorted(set(finite))
    assert finite[0] >= 2
    assert needed == [*finite, *[None] * (len(needed) - len(finite))]
    assert needed[-2:] == [None, None]
    assert seeds_needed(*errors, ONCE, -3) == needed[1], "whichever of the two errs less"


def test_what_few_digits_do_not_let_more_digits_do() -> None:
    random = np.random.default_rng(11)
    few, many = (seeds_needed(*trained(random, 20, digits), np.arange(digits), 0.5) for digits in (300, 30_000))
    assert few is None
    assert many is not None


def test_the_images_of_a_digit_count_once_among_the_seeds_that_are_needed() -> None:
    errors = trained(np.random.default_rng(12), 10)
    five = seeds_needed(*(repeated(wrong, 5) for wrong in errors), repeated(ONCE, 5), 2)
    assert (
        five
        == seeds_needed(*errors, ONCE, 2)
        != seeds_needed(*(repeated(wrong, 5) for wrong in errors), np.arange(5000), 2)
    )


def test_trainings_that_differ_more_need_more_seeds() -> None:
    even, uneven = (seeds_needed(*trained(np.random.default_rng(13), 20, luck=luck), ONCE, 2.0) for luck in (0, 0.5))
    assert even is not None
    assert uneven is not None
    assert even < uneven
