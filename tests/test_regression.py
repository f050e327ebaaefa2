"""The sequential test of a regression check: levels, effects, looks, and how often it is wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from suite.names import UnknownName
from suite.regression import (
    ALPHA,
    PROFILES,
    Effect,
    FloatArray,
    Look,
    SequentialTest,
    TaskScores,
    deciding_seeds,
    detectable_drop,
    effect,
    find_profile,
    is_confirmed,
    nominal_levels,
    normalised,
    obrien_fleming_spending,
    planned_looks,
    pocock_spending,
    verdict,
)

QUICK, STANDARD = PROFILES["quick"], PROFILES["standard"]
Draw = Callable[[np.random.Generator, int], FloatArray]


def scores(bank: Sequence[float], candidate: Sequence[float], task: str = "a/b") -> TaskScores:
    return TaskScores(task, np.array(bank, dtype=float), np.array(candidate, dtype=float))


def strict_at_first(share: FloatArray) -> FloatArray:
    """O'Brien and Fleming's way to spend 0.025."""
    return 2 * stats.norm.sf(stats.norm.isf(0.0125) / np.sqrt(share))


def steady(share: FloatArray) -> FloatArray:
    """Pocock's way to spend 0.025."""
    return 0.025 * np.log1p((np.e - 1) * share)


class TestLevels:
    @pytest.mark.parametrize(
        ("spending", "bounds"),
        [
            (strict_at_first, (4.333, 2.963, 2.359, 2.014)),
            (steady, (2.368, 2.368, 2.358, 2.350)),
        ],
    )
    def test_published_bounds_come_out(
        self, spending: Callable[[FloatArray], FloatArray], bounds: tuple[float, ...]
    ):
        """Of Lan and DeMets 1983, for four looks at equal distances."""
        levels = nominal_levels((10, 20, 30, 40), 10**12, spending)
        assert stats.norm.isf(levels) == pytest.approx(bounds, abs=2e-3)

    @pytest.mark.parametrize("spending", [pocock_spending, obrien_fleming_spending])
    @pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
    def test_all_looks_together_spend_alpha(self, profile, spending):
        looks = planned_looks(profile, 2)
        information = 1 / (1 / np.array(looks) + 1 / profile.bank)
        steps = np.sqrt(np.diff(information, prepend=0.0))
        rng = np.random.default_rng(0)
        motion = np.cumsum(rng.standard_normal((400_000, len(looks))) * steps, axis=1)
        bounds = stats.norm.isf(nominal_levels(looks, profile.bank, spending))
        crossed = (motion / np.sqrt(information) > bounds).any(axis=1)
        assert crossed.mean() == pytest.approx(ALPHA, abs=0.0015)

    def test_one_look_spends_everything(self):
        assert nominal_levels((10,), 20, pocock_spending) == pytest.approx([ALPHA])

    def test_bad_news_may_come_early_and_good_news_late(self):
        early = nominal_levels((5, 10, 15, 20), 30, pocock_spending)
        late = nominal_levels((5, 10, 15, 20), 30, obrien_fleming_spending)
        assert early[0] > 20 * late[0]
        assert late == sorted(late)
        assert late[-1] > early[-1]


class TestPlan:
    def test_few_tasks_are_looked_at_until_the_rule_of_three_is_met(self):
        assert planned_looks(QUICK, 4) == (5, 10)
        assert planned_looks(QUICK, 1) == (5, 10, 15)
        assert planned_looks(STANDARD, 1) == (5, 10, 15, 20, 25, 30)
        assert planned_looks(STANDARD, 2) == (5, 10, 15, 20)

    def test_an_unknown_profile_gets_the_nearest(self):
        with pytest.raises(UnknownName, match=r"^unknown profile 'quik'; nearest: quick$"):
            find_profile("quik")

    @pytest.mark.parametrize(
        ("deviation", "tasks", "seeds", "bank", "drop"),
        [(0.1, 4, 5, 20, 0.06), (0.2, 1, 10, 20, 0.19), (0.3, 10, 20, 30, 0.07)],
    )
    def test_the_detectable_drop(
        self, deviation: float, tasks: int, seeds: int, bank: int, drop: float
    ):
        one = np.linspace(-1, 1, bank)
        one *= deviation / one.std(ddof=1)
        assert detectable_drop([one] * tasks, seeds) == pytest.approx(drop, abs=0.005)


class TestEffect:
    def test_of_one_task_it_is_welchs_test_where_the_candidate_spreads_more(self):
        rng = np.random.default_rng(1)
        one = scores(rng.normal(1, 0.1, 20), rng.normal(0.9, 0.3, 5))
        found = effect([one])
        welch = stats.ttest_ind(one.candidate, one.bank, equal_var=False)
        assert found.value == pytest.approx(one.candidate.mean() - one.bank.mean())
        assert found.freedom == pytest.approx(welch.df)
        assert found.below(0.0) == pytest.approx(float(welch.pvalue) / 2)
        low, high = welch.confidence_interval()
        assert found.interval == pytest.approx((float(low), float(high)))
        assert found.above(-0.2) == pytest.approx(
            stats.t.sf((found.value + 0.2) / found.error, welch.df)
        )

    def test_tasks_count_alike_and_their_errors_add_up(self):
        tasks = [scores([0, 1, 2], [1, 2, 3]), scores([0, 2, 4, 6], [0, 2, 4, 6])]
        found = effect(tasks)
        assert found.value == pytest.approx(0.5)
        variance = (1 / 3 + 1 / 3 + (20 / 3) / 4 + (20 / 3) / 4) / 4
        assert found.error == pytest.approx(variance**0.5)

    def test_equal_scores_prove_nothing_beyond_their_number(self):
        perfect = effect([scores([1.0] * 20, [1.0] * 5)])
        assert perfect.error == pytest.approx(0.02 * (1 / 20 + 1 / 5) ** 0.5)
        lucky = effect([scores([0.0, 1.0] * 10, [1.0] * 5)])
        spread = np.var([0.0, 1.0] * 10, ddof=1)
        assert lucky.error == pytest.approx((spread * (1 / 20 + 1 / 5)) ** 0.5)

    def test_normalised_scores_are_clipped(self):
        found = normalised(np.array([-1000.0, 10.0, 60.0, 110.0, 1e9]), 10.0, 110.0)
        assert found.tolist() == [-0.5, 0.0, 0.5, 1.0, 2.0]
        with pytest.raises(ValueError, match="a mean of 10 is not above the floor of 10"):
            normalised(np.ones(3), 10.0, 10.0)


class TestLooks:
    BANK = np.linspace(0.8, 1.2, 20).tolist()

    def looks(self, *candidates: Sequence[float], profile=QUICK) -> list[Look]:
        """The looks at tasks whose banks are alike."""
        plan = planned_looks(profile, len(candidates))
        test = SequentialTest(profile, plan, len(self.BANK), len(candidates))
        found = []
        for index, seeds in enumerate(plan):
            tasks = [
                scores(self.BANK, np.resize(own, seeds), f"a/{name}")
                for name, own in enumerate(candidates)
            ]
            found.append(test.look(index, tasks))
            if found[-1].is_last:
                break
        return found

    def test_an_unchanged_candidate_passes_once_there_are_runs_enough(self):
        found = self.looks(*[[0.85, 1.0, 1.15]] * 2)
        assert [look.seeds for look in found] == [5, 10]  # 2 x 5 runs are fewer than 3 / 0.2
        assert [look.no_worse for look in found] == [False, True]
        assert not found[-1].is_alarm
        assert verdict(found[-1], None) == "no worse"

    def test_a_large_drop_is_an_alarm_at_the_first_look(self):
        (look,) = self.looks(*[[0.45, 0.6, 0.75]] * 4)
        assert (look.worse, look.is_alarm) == (True, True)
        assert verdict(look, confirmed=True) == "regression"
        assert verdict(look, confirmed=False) == "inconclusive"

    def test_a_broken_task_is_named_although_the_mean_holds(self):
        (look,) = self.looks([0.0, 0.05, 0.1], *[[1.2, 1.3, 1.4]] * 4)
        assert (look.worse, look.broken, look.is_alarm) == (False, ("a/0",), True)

    def test_a_drop_within_the_margin_passes_with_a_note(self):
        found = self.looks(*[[0.93, 0.95, 0.97]] * 20)
        assert (found[-1].worse, found[-1].no_worse) == (True, True)
        assert not found[-1].is_alarm
        assert verdict(found[-1], None) == "no worse"

    def test_what_stays_open_says_how_many_seeds_would_decide(self):
        found = self.looks([0.3, 1.5])
        assert len(found) == 3
        assert not found[-1].is_last
        assert verdict(found[-1], None) == "inconclusive"
        wide = [scores(self.BANK, np.resize([0.3, 1.5], 16))]
        seeds = deciding_seeds(wide, QUICK.margin)
        assert seeds is not None
        more = effect([scores(self.BANK, np.resize([0.3, 1.5], 2 * (seeds // 2 + 1)))])
        assert more.above(-QUICK.margin) <= 1.1 * ALPHA
        small_bank = [scores([0.2, 1.8, 1.0], [0.9, 0.7, 0.8])]
        assert deciding_seeds(small_bank, QUICK.margin) is None

    def test_a_confirmation_tests_every_claim_of_the_alarm_at_its_share_of_alpha(self):
        rng = np.random.default_rng(2)
        error = Effect(-0.1, 0.01, 30.0)
        whole = Look(5, error, worse=True, no_worse=False, broken=())
        low = [scores(rng.normal(1, 0.1, 10), rng.normal(0.8, 0.1, 10), f"a/{i}") for i in range(4)]
        same = [replace(each, candidate=each.bank) for each in low]
        assert is_confirmed(low, whole)
        assert not is_confirmed(same, whole)
        broken = replace(whole, worse=False, broken=("a/2",))
        assert is_confirmed([*same[:2], low[2], same[3]], broken)
        assert not is_confirmed([low[0], *same[1:]], broken)


def normal(rng: np.random.Generator, runs: int) -> FloatArray:
    return rng.normal(1.0, 0.15, runs)


def bimodal(rng: np.random.Generator, runs: int) -> FloatArray:
    """One run in five stays at 0.4 of the others."""
    found = np.where(rng.random(runs) < 0.2, 0.4, 1.0) + rng.normal(0, 0.1, runs)
    return found / 0.88


def ties(rng: np.random.Generator, runs: int) -> FloatArray:
    """85 % of the runs at the cap exactly."""
    return np.where(rng.random(runs) < 0.85, 1.0, rng.uniform(0.4, 1.0, runs)) / 0.955


class TestErrorRates:
    """Simulated checks, each with a bank of its own, as a user meets them."""

    TRIALS = 400

    def rates(self, profile, draw: Draw, shift: float = 0.0, tasks: int = 4) -> dict[str, float]:
        """Shares of checks that pass, raise an alarm, and have it confirmed."""
        rng = np.random.default_rng(3)
        looks = planned_looks(profile, tasks)
        test = SequentialTest(profile, looks, profile.bank, tasks)
        counts = {"pass": 0, "alarm": 0, "confirmed": 0}
        for _ in range(self.TRIALS):
            raw = [draw(rng, profile.bank) for _ in range(tasks)]
            scale = [each.mean() for each in raw]
            bank = [normalised(each, 0.0, one) for each, one in zip(raw, scale, strict=True)]
            own = [normalised(draw(rng, looks[-1]) + shift, 0.0, one) for one in scale]
            for index, seeds in enumerate(looks):
                parts = zip(bank, own, strict=True)
                seen = [TaskScores(str(i), b, c[:seeds]) for i, (b, c) in enumerate(parts)]
                look = test.look(index, seen)
                if look.is_last:
                    break
            counts["pass"] += verdict(look, None) == "no worse"
            if look.is_alarm:
                counts["alarm"] += 1
                fresh = [
                    TaskScores(
                        str(i),
                        normalised(draw(rng, looks[-1]), 0.0, one),
                        normalised(draw(rng, looks[-1]) + shift, 0.0, one),
                    )
                    for i, one in enumerate(scale)
                ]
                counts["confirmed"] += is_confirmed(fresh, look)
        return {name: count / self.TRIALS for name, count in counts.items()}

    @pytest.mark.parametrize("profile", [QUICK, STANDARD], ids=lambda profile: profile.name)
    @pytest.mark.parametrize("draw", [normal, bimodal, ties])
    def test_harmless_changes_raise_few_alarms_and_hardly_any_confirmed_one(self, profile, draw):
        found = self.rates(profile, draw)
        assert found["alarm"] <= 0.06
        assert found["confirmed"] <= 0.01
        least = {normal: 0.9, ties: 0.85, bimodal: 0.5}[draw]
        assert found["pass"] >= least

    @pytest.mark.parametrize("profile", [QUICK, STANDARD], ids=lambda profile: profile.name)
    @pytest.mark.parametrize("draw", [normal, bimodal, ties])
    def test_a_drop_of_the_margin_hardly_passes_and_twice_that_is_found(self, profile, draw):
        assert self.rates(profile, draw, -profile.margin)["pass"] <= 0.07
        twice = self.rates(profile, draw, -2 * profile.margin)
        assert twice["pass"] == 0
        assert twice["alarm"] >= 0.97
        assert twice["confirmed"] >= 0.95
