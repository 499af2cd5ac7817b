"""Figures against published examples, and the laws they must keep."""

import itertools
import math
from statistics import NormalDist, fmean, stdev

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import optimize, stats

from apps.grading.statistics import (
    MIN_UNITS,
    Comparison,
    Conclusion,
    clustered_mean,
    compare_rates,
    compare_values,
    findings,
    holm,
    mean,
    mean_from_sums,
    pass_at_k,
    pass_hat_k,
    rate,
    repeats,
)

# Hours of sleep gained under two drugs, ten patients (Student 1908; the `sleep` data of R).
FIRST_DRUG = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
SECOND_DRUG = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
# Heights of cross- less self-fertilised maize, in eighths of an inch (Darwin 1876).
MAIZE = [6, 8, 14, 16, 23, 24, 28, 29, 41, -48, 49, 56, 60, -67, 75]

SCORES = st.floats(-1000, 1000).map(lambda value: round(value, 3))
CELLS = st.integers(0, 300)


@pytest.mark.parametrize(
    ("passed", "total", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, Statistics in Medicine 17:857, table I
        (15, 148, 0.0624, 0.1605),  # the same
        (0, 20, 0.0, 0.1611),  # the same
        (1, 29, 0.0061, 0.1718),  # the same
        (13, 16, 0.5699, 0.9341),  # Fagerland et al. 2017, Contingency tables, chapter 2
    ],
)
def test_rates_have_the_published_wilson_intervals(passed, total, low, high):
    result = rate(passed, total)
    assert (round(result.low, 4), round(result.high, 4)) == (low, high)
    assert result.value == passed / total


def test_a_rate_of_nothing_has_no_value_and_every_rate_is_possible():
    assert rate(0, 0) == (empty := rate(0, 0, 0.99))
    assert (empty.value, empty.standard_error, empty.low, empty.high) == (None, None, 0.0, 1.0)


def test_the_ends_of_the_scale_are_exact():
    for total in (1, 2, 7, 1_000_000):
        assert rate(0, total).low == 0.0 < rate(0, total).high < 1
        assert rate(total, total).high == 1.0 > rate(total, total).low > 0


@pytest.mark.parametrize(("passed", "total"), [(-1, 5), (6, 5), (1, 0)])
def test_more_passes_than_items_are_refused(passed, total):
    with pytest.raises(ValueError, match=f"{passed} passed of {total}"):
        rate(passed, total)


@given(st.integers(1, 10**6), st.data(), st.floats(0.5, 0.999))
def test_wilson_limits_are_where_the_score_test_rejects(total, data, confidence):
    passed = data.draw(st.integers(0, total))
    result = rate(passed, total, confidence)
    assert 0 <= result.low <= result.value <= result.high <= 1
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    for limit in (result.low, result.high):
        if 0 < limit < 1:
            score = abs(result.value - limit) / math.sqrt(limit * (1 - limit) / total)
            assert score == pytest.approx(z, rel=1e-6)


@given(st.integers(2, 500), st.data())
def test_a_rate_is_the_mean_of_its_ones_and_zeros(total, data):
    passed = data.draw(st.integers(0, total))
    as_mean = mean([1.0] * passed + [0.0] * (total - passed))
    assert rate(passed, total).value == pytest.approx(as_mean.value)
    assert rate(passed, total).standard_error == pytest.approx(as_mean.standard_error)


def test_the_mean_has_students_interval():
    result = mean([after - before for before, after in zip(FIRST_DRUG, SECOND_DRUG, strict=True)])
    assert result.value == pytest.approx(1.58)
    # R: t.test(extra ~ group, data = sleep, paired = TRUE)
    assert result.low == pytest.approx(0.7001142, abs=1e-7)
    assert result.high == pytest.approx(2.4598858, abs=1e-7)
    assert result.standard_error == pytest.approx(0.3889587, abs=1e-7)
    assert (result.count, result.units) == (10, 10)


def test_few_values_have_few_figures():
    nothing = mean([])
    assert (nothing.count, nothing.value, nothing.standard_error, nothing.low) == (
        0,
        None,
        None,
        None,
    )
    single = mean([0.5])
    assert (single.count, single.value, single.standard_error, single.high) == (1, 0.5, None, None)
    same = mean([0.5, 0.5, 0.5])
    assert (same.value, same.standard_error, same.low, same.high) == (0.5, 0.0, 0.5, 0.5)
    assert mean_from_sums(0, 0, 0) == clustered_mean([], []) == nothing


@given(st.lists(SCORES, min_size=2), st.floats(0.5, 0.999))
def test_means_agree_with_scipy_whether_from_values_or_from_sums(values, confidence):
    assume(stdev(values) > 1e-3)
    result = mean(values, confidence)
    assert result.value == pytest.approx(fmean(values))
    assert result.standard_error == pytest.approx(stats.sem(values))
    low, high = stats.t.interval(
        confidence, len(values) - 1, loc=result.value, scale=result.standard_error
    )
    assert (result.low, result.high) == (pytest.approx(low), pytest.approx(high))
    summed = mean_from_sums(
        len(values), math.fsum(values), math.fsum(v * v for v in values), confidence
    )
    assert summed.value == pytest.approx(result.value, rel=1e-9, abs=1e-9)
    assert summed.standard_error == pytest.approx(result.standard_error, rel=1e-3)
    assert summed.count == result.count


@given(st.lists(SCORES, min_size=2, max_size=50))
def test_with_every_value_its_own_group_clustering_changes_nothing(values):
    plain, clustered = mean(values), clustered_mean(values, range(len(values)))
    assert clustered.units == plain.units
    assert clustered.standard_error == pytest.approx(plain.standard_error, abs=1e-9)
    assert clustered.low == pytest.approx(plain.low, abs=1e-9)


@given(st.lists(SCORES, min_size=2, max_size=30), st.integers(2, 4))
def test_copies_of_a_value_add_no_evidence(values, copies):
    once = mean(values)
    result = clustered_mean(values * copies, list(range(len(values))) * copies)
    assert (result.count, result.units) == (len(values) * copies, len(values))
    assert result.standard_error == pytest.approx(once.standard_error, abs=1e-9)
    assert (result.low, result.high) == (
        pytest.approx(once.low, abs=1e-9),
        pytest.approx(once.high, abs=1e-9),
    )


def test_the_clustered_error_by_hand():
    # Mean 3; group residuals (1-3)+(2-3) = -3, (3-3) = 0, (3-3)+(6-3) = 3; 3/2 * 18 / 25.
    result = clustered_mean([1, 2, 3, 3, 6], ["a", "a", "b", "c", "c"])
    assert result.value == 3
    assert result.units == 3
    assert result.standard_error == pytest.approx(math.sqrt(1.5 * 18) / 5)
    assert result.high - 3 == pytest.approx(4.3026527 * result.standard_error)


def test_a_single_group_has_no_error():
    result = clustered_mean([1, 2, 3], "aaa")
    assert (result.value, result.units, result.standard_error, result.low) == (2, 1, None, None)


@pytest.mark.parametrize(("k", "at_least_once"), [(1, 0.3), (5, 11 / 12), (10, 1.0)])
def test_pass_at_k_is_that_of_chen(k, at_least_once):
    assert pass_at_k(10, 3, k) == pytest.approx(at_least_once)


@given(st.integers(1, 8), st.data())
def test_pass_at_k_and_pass_hat_k_count_the_subsets(attempts, data):
    passed = data.draw(st.integers(0, attempts))
    k = data.draw(st.integers(1, attempts))
    outcomes = [True] * passed + [False] * (attempts - passed)
    subsets = list(itertools.combinations(outcomes, k))
    assert pass_at_k(attempts, passed, k) == pytest.approx(fmean(map(any, subsets)))
    assert pass_hat_k(attempts, passed, k) == pytest.approx(fmean(map(all, subsets)))


@pytest.mark.parametrize(("attempts", "passed", "k"), [(3, 1, 4), (3, 1, 0), (3, 4, 1), (0, 0, 1)])
def test_more_attempts_than_were_made_cannot_be_estimated(attempts, passed, k):
    for estimate in (pass_at_k, pass_hat_k):
        with pytest.raises(ValueError, match=" of "):
            estimate(attempts, passed, k)


def test_thousands_of_attempts_are_no_trouble():
    assert pass_at_k(5_000, 1, 2_500) == pytest.approx(0.5)
    assert pass_hat_k(5_000, 4_999, 2_500) == pytest.approx(0.5)


def test_repeats_are_summed_over_items_that_have_enough_attempts():
    # Two items passed 2 of 4, one 4 of 4, one 0 of 4, one was tried once.
    result = repeats({(4, 2): 2, (4, 4): 1, (4, 0): 1, (1, 1): 1}, k=2)
    assert result.left_out == 1
    assert result.at_least_once.count == result.every_time.count == 4
    assert result.at_least_once.value == pytest.approx((5 / 6 * 2 + 1 + 0) / 4)
    assert result.every_time.value == pytest.approx((1 / 6 * 2 + 1 + 0) / 4)
    expected = mean([5 / 6, 5 / 6, 1, 0])
    assert result.at_least_once.standard_error == pytest.approx(expected.standard_error)
    outcomes = [1, 1, 0, 0] * 2 + [1] * 4 + [0] * 4 + [1]
    groups = [item for item in range(4) for _ in range(4)] + [4]
    clustered = clustered_mean(outcomes, groups)
    assert result.mean.value == pytest.approx(9 / 17)
    assert result.mean.units == 5
    assert result.mean.standard_error == pytest.approx(clustered.standard_error)


def test_items_without_an_attempt_are_no_evidence_for_the_pass_rate():
    tried = {(2, 2): 4, (2, 1): 3, (2, 0): 1}
    found = repeats(tried | {(0, 0): 9}, k=2)
    assert (found.mean.units, found.left_out) == (8, 9)
    assert found.mean == repeats(tried, k=2).mean


def test_repeats_of_nothing():
    result = repeats({}, k=3)
    assert result.mean.value is result.at_least_once.value is result.every_time.value is None
    assert repeats({(2, 1): 5}, k=3).left_out == 5


def test_paired_rates_have_the_published_interval_and_p():
    # Fagerland, Lydersen and Laake 2017, chapter 8 (Cavo 2012), as their R package prints it.
    result = compare_rates(59, 6, 16, 80)
    assert (round(result.low, 4), round(result.high, 4)) == (0.0054, 0.1240)
    assert round(result.p_value, 6) == 0.052479
    assert result.difference == pytest.approx(result.second - result.first)
    assert (result.test, result.pairs, result.units) == ("exact McNemar", 161, 161)
    # Fagerland, Lydersen and Laake 2014 (Bentur 2009).
    result = compare_rates(1, 1, 7, 12)
    assert (round(result.low, 3), round(result.high, 3)) == (0.026, 0.517)
    assert round(result.p_value, 4) == 0.0703


def test_the_exact_p_is_that_of_armitage_and_berry():
    # Two media for tubercle bacilli: Armitage and Berry 1994, page 127.
    assert round(compare_rates(20, 12, 2, 16).p_value, 4) == 0.0129


@pytest.mark.parametrize("cells", [(59, 6, 16, 80), (1, 1, 7, 12), (20, 12, 2, 16), (9, 1, 30, 5)])
def test_tangos_limits_are_where_the_restricted_likelihood_rejects(cells):
    both, lost, won, neither = cells
    pairs, result = sum(cells), compare_rates(*cells)

    def unlikelihood(losing: float, difference: float) -> float:
        won_rate, same_rate = losing + difference, 1 - 2 * losing - difference
        same = both + neither
        return -won * math.log(won_rate) - lost * math.log(losing) - same * math.log(same_rate)

    for limit, sign in ((result.low, 1), (result.high, -1)):
        bounds = (max(0, -limit) + 1e-12, (1 - limit) / 2 - 1e-12)
        losing = optimize.minimize_scalar(
            unlikelihood, bounds=bounds, args=(limit,), method="bounded", options={"xatol": 1e-12}
        ).x
        variance = (2 * losing + limit * (1 - limit)) / pairs
        score = (result.difference - limit) / math.sqrt(variance)
        assert score == pytest.approx(sign * NormalDist().inv_cdf(0.975), rel=1e-6)


def test_identical_runs_differ_by_nothing_but_not_for_certain():
    result = compare_rates(50, 0, 0, 50)
    assert (result.difference, result.p_value, result.effect) == (0, 1.0, None)
    assert result.high == -result.low == pytest.approx(0.03699350)  # z*z / (n + z*z)
    assert compare_rates(100, 0, 0, 0).high == pytest.approx(0.03699350)


def test_no_pairs_have_no_figures():
    for result in (compare_rates(0, 0, 0, 0), compare_values([], []), compare_values([], [], [])):
        assert result.pairs == result.units == 0
        assert result.difference is result.low is result.p_value is result.effect is None


def test_negative_counts_are_refused():
    with pytest.raises(ValueError, match="negative"):
        compare_rates(1, -1, 0, 0)


@given(CELLS, CELLS, CELLS, CELLS)
def test_tangos_limits_surround_the_difference_and_turn_with_it(both, lost, won, neither):
    assume(both + lost + won + neither)
    result = compare_rates(both, lost, won, neither)
    assert -1 <= result.low <= result.difference <= result.high <= 1
    assert 0 < result.p_value <= 1
    turned = compare_rates(both, won, lost, neither)
    assert turned.low == pytest.approx(-result.high, abs=1e-12)
    assert turned.p_value == result.p_value
    assert compare_rates(neither, lost, won, both).low == result.low
    if won + lost:
        assert result.effect == pytest.approx(-turned.effect)
        assert -0.5 <= result.effect <= 0.5


@given(st.integers(0, 40), st.integers(0, 40))
def test_the_exact_p_is_the_binomial_one(lost, won):
    assume(lost + won)
    total = lost + won
    tail = sum(math.comb(total, count) for count in range(min(lost, won) + 1))
    expected = min(1.0, 2 * tail / 2**total)
    assert compare_rates(5, lost, won, 5).p_value == pytest.approx(expected, rel=1e-10)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(1, 200))
def test_tangos_interval_leaves_out_zero_when_mcnemars_score_does(lost, won, agreeing):
    assume(lost + won)
    score = (won - lost) / math.sqrt(won + lost)
    assume(abs(abs(score) - 1.959963985) > 1e-6)
    result = compare_rates(agreeing, lost, won, 0)
    assert (result.low > 0 or result.high < 0) == (abs(score) > 1.96)


def test_a_million_pairs_compare():
    result = compare_rates(500_000, 90_000, 110_000, 300_000)
    assert result.p_value == pytest.approx(0.0, abs=1e-100)
    assert result.low < 0.02 < result.high
    assert result.high - result.low < 0.002


def test_paired_values_have_students_test():
    result = compare_values(FIRST_DRUG, SECOND_DRUG)
    # R: t.test(extra ~ group, data = sleep, paired = TRUE): t = 4.0621, df = 9, p = 0.002833
    assert result.p_value == pytest.approx(0.002833, abs=5e-7)
    assert result.difference == pytest.approx(1.58)
    assert (result.first, result.second) == (pytest.approx(0.75), pytest.approx(2.33))
    assert result.low == pytest.approx(0.7001142, abs=1e-7)
    assert result.effect == pytest.approx(4.0621277 / math.sqrt(10))
    assert result.test == "paired t"


def test_paired_values_have_the_rank_test_beside():
    # SciPy's documentation of wilcoxon on Darwin's maize: statistic 24, p = 0.041259765625
    result = compare_values([0] * len(MAIZE), MAIZE)
    assert result.wilcoxon_p == pytest.approx(0.041259765625)


def test_passes_in_groups_are_compared_by_group():
    first, second = [0, 0, 0, 0, 1, 1], [1, 1, 1, 1, 1, 0]
    groups = ["a", "a", "b", "b", "c", "c"]
    result = compare_values(first, second, groups)
    assert (result.pairs, result.units, result.test) == (6, 3, "clustered t")
    assert result.wilcoxon_p is None
    assert result.difference == pytest.approx(0.5)
    expected = clustered_mean([1, 1, 1, 1, 0, -1], groups)
    assert (result.low, result.high) == (expected.low, expected.high)
    t = 0.5 / expected.standard_error
    assert result.p_value == pytest.approx(2 * stats.t.sf(t, 2))
    assert compare_values(first, second, range(6)).test == "paired t"
    assert compare_values(first, second, "aaaaaa").p_value is None


def test_values_without_spread_are_the_same_or_all_moved():
    same = compare_values([0.5] * 12, [0.5] * 12)
    assert (same.p_value, same.wilcoxon_p, same.effect, same.low) == (1.0, 1.0, None, 0.0)
    moved = compare_values([0.25] * 12, [0.75] * 12)
    assert (moved.p_value, moved.effect, moved.low, moved.high) == (0.0, None, 0.5, 0.5)
    assert moved.wilcoxon_p < 0.01


def test_a_single_pair_has_only_its_difference():
    result = compare_values([0.5], [1.0])
    assert (result.pairs, result.difference) == (1, 0.5)
    assert result.low is result.p_value is result.effect is result.wilcoxon_p is None


def test_runs_of_different_lengths_are_no_pairs():
    with pytest.raises(ValueError, match="shorter"):
        compare_values([1], [])
    with pytest.raises(ValueError, match="argument"):
        compare_values([1, 2], [1, 2], ["a"])


@pytest.mark.parametrize("gains", [[0, 1], [0, 0, 1], [1, -1], [1, 1, 0, -1], [0.5, 0.25, 0.5]])
def test_ties_and_zeros_among_few_pairs_leave_the_rank_test_a_probability(gains):
    result = compare_values([0] * len(gains), gains)
    assert 0 < result.wilcoxon_p <= 1
    assert 0 < result.p_value <= 1


# From 14 pairs on, SciPy ranks ties by approximation: for fewer it tries all signs.
@given(st.lists(st.tuples(SCORES, SCORES), min_size=14, max_size=60))
def test_paired_figures_agree_with_scipy_and_turn_with_the_runs(pairs):
    first, second = map(list, zip(*pairs, strict=True))
    differences = [after - before for before, after in pairs]
    result, turned = compare_values(first, second), compare_values(second, first)
    assert turned.difference == pytest.approx(-result.difference, abs=1e-9)
    assert turned.p_value == pytest.approx(result.p_value, abs=1e-9)
    assert 0 <= result.wilcoxon_p <= 1
    if stdev(differences) > 1e-3:
        assert result.p_value == pytest.approx(stats.ttest_rel(second, first).pvalue, rel=1e-6)
        assert (result.p_value <= 0.05) == (result.low > 0 or result.high < 0)


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([0.5, 0.003, 0.32, 0.054, 0.0003], [0.64, 0.012, 0.64, 0.162, 0.0015]),  # pingouin.holm
        ([0.319, 0.201, 0.4, 0.374, 0.113], [0.957, 0.804, 0.957, 0.957, 0.565]),  # stdlib padjust
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.2], [0.2]),
        ([], []),
    ],
)
def test_holm_adjusts_as_published(p_values, adjusted):
    assert holm(p_values) == pytest.approx(adjusted)


@given(st.lists(st.floats(0, 1)))
def test_holm_lies_between_no_correction_and_bonferroni(p_values):
    adjusted = holm(p_values)
    for p, after in zip(p_values, adjusted, strict=True):
        assert p <= after <= min(1.0, p * len(p_values)) + 1e-12
    by_p = sorted(zip(p_values, adjusted, strict=True))
    assert [after for _, after in by_p] == sorted(adjusted)


def words(*comparisons: Comparison) -> list[str]:
    return [finding.conclusion.value for finding in findings(comparisons)]


def test_each_conclusion_has_its_word():
    assert words(compare_rates(50, 5, 25, 20)) == ["improved"]
    assert words(compare_rates(50, 25, 5, 20)) == ["degraded"]
    assert words(compare_rates(50, 10, 12, 20)) == ["inconclusive"]
    assert words(compare_rates(0, 0, MIN_UNITS - 1, 0)) == ["too few samples"]
    assert words(compare_rates(0, 0, MIN_UNITS, 0)) == ["improved"]
    assert words(compare_rates(0, 0, 0, 0)) == ["too few samples"]
    assert words(compare_rates(1_000, 0, 0, 0)) == ["inconclusive"]
    assert words(compare_values(FIRST_DRUG, SECOND_DRUG)) == ["improved"]
    assert words(compare_values(SECOND_DRUG, FIRST_DRUG)) == ["degraded"]
    assert words() == []


def test_many_pairs_in_few_groups_are_too_few_samples():
    groups = [item % (MIN_UNITS - 1) for item in range(500)]
    assert words(compare_values([0] * 500, [1] * 500, groups)) == ["too few samples"]


def test_one_of_many_criteria_must_be_surer_to_count():
    borderline = compare_rates(50, 6, 18, 20)
    noise = compare_rates(50, 10, 11, 20)
    assert borderline.p_value == pytest.approx(0.0227, abs=1e-4)
    assert words(borderline) == ["improved"]
    assert words(borderline, noise, noise) == ["inconclusive"] * 3


def test_a_p_value_of_exactly_alpha_counts():
    compared = compare_rates(both=20, first_only=1, second_only=9, neither=20)
    assert compared.p_value is not None
    [at_alpha] = findings([compared], alpha=compared.p_value)
    [below] = findings([compared], alpha=math.nextafter(compared.p_value, 0))
    assert (at_alpha.conclusion, below.conclusion) == ("improved", "inconclusive")


def test_what_was_not_tested_does_not_make_the_others_pay():
    borderline, tiny = compare_rates(50, 6, 18, 20), compare_rates(1, 0, 1, 0)
    first, second = findings([tiny, borderline])
    assert (first.adjusted_p, first.conclusion) == (None, Conclusion.TOO_FEW_SAMPLES)
    assert (second.adjusted_p, second.conclusion) == (borderline.p_value, Conclusion.IMPROVED)
