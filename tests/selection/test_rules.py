"""Budget and the methods that ask nobody: properties that hold for any trajectory."""

from __future__ import annotations

import math
import subprocess
import sys
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_ray.selection import all as every
from atlas_ray.selection import non_critical, perplexity, random
from atlas_ray.selection.budget import budget
from atlas_ray.trajectory import Selection
from tests.selection.data import trajectory

RATIOS = st.floats(1e-9, 1) | st.sampled_from([0.1, 0.29, 0.3, 0.7, 1.0])
SIZES = st.integers(0, 40)


class TestBudget:
    @pytest.mark.parametrize(
        ("n_steps", "ratio", "expected"),
        [(10, 0.3, 3), (100, 0.29, 29), (3, 0.3, 1), (1, 0.3, 1), (0, 0.3, 0), (7, 1.0, 7), (10, 0.7, 7), (7, 0.3, 2)],
    )
    def test_examples(self, n_steps: int, ratio: float, expected: int) -> None:
        assert budget(n_steps, ratio) == expected

    @given(n_steps=st.integers(1, 10_000), ratio=RATIOS)
    def test_at_least_one_and_never_more_than_the_share(self, n_steps: int, ratio: float) -> None:
        steps = budget(n_steps, ratio)
        assert 1 <= steps <= n_steps
        assert steps == 1 or Fraction(repr(ratio)) * n_steps - 1 < steps <= Fraction(repr(ratio)) * n_steps

    @given(n_steps=st.integers(0, 200), percent=st.integers(1, 100))
    def test_percentages_are_exact(self, n_steps: int, percent: int) -> None:
        assert budget(n_steps, percent / 100) == (max(1, n_steps * percent // 100) if n_steps else 0)

    @pytest.mark.parametrize(("n_steps", "ratio"), [(-1, 0.3), (3, 0.0), (3, 1.1), (3, -0.3)])
    def test_nonsense_is_refused(self, n_steps: int, ratio: float) -> None:
        with pytest.raises(ValueError, match="ratio"):
            budget(n_steps, ratio)


class TestRandom:
    @given(n_steps=SIZES, ratio=RATIOS, seed=st.integers(0, 5))
    def test_keeps_the_budget_and_repeats_itself(self, n_steps: int, ratio: float, seed: int) -> None:
        chosen = random.select(trajectory(1, n_steps), ratio, seed)
        assert len(chosen.steps) == budget(n_steps, ratio)
        assert set(chosen.steps) <= set(range(n_steps))
        assert chosen == random.select(trajectory(1, n_steps), ratio, seed)

    @given(n_steps=SIZES, low=st.integers(1, 50), high=st.integers(50, 100))
    def test_a_larger_ratio_contains_the_smaller(self, n_steps: int, low: int, high: int) -> None:
        small, large = (random.select(trajectory(2, n_steps), share / 100, 0) for share in (low, high))
        assert set(small.steps) <= set(large.steps)

    def test_is_the_same_in_another_process(self) -> None:
        code = (
            "from tests.selection.data import trajectory\nfrom atlas_ray.selection import random\n"
            "print([random.select(trajectory(n, 10), 0.3, 7).steps for n in range(5)])"
        )
        again = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        assert again.strip() == str([random.select(trajectory(n, 10), 0.3, 7).steps for n in range(5)])

    def test_every_step_is_as_likely(self) -> None:
        counts = [0] * 10
        for number in range(1000):
            for step in random.select(trajectory(number, 10), 0.3, 0).steps:
                counts[step] += 1
        assert all(abs(count - 300) < 4.5 * math.sqrt(1000 * 0.3 * 0.7) for count in counts)

    def test_seeds_differ(self) -> None:
        picks = {random.select(trajectory(1, 20), 0.3, seed).steps for seed in range(10)}
        assert len(picks) > 5


class TestAll:
    @given(n_steps=SIZES)
    def test_every_step(self, n_steps: int) -> None:
        assert every.select(trajectory(0, n_steps), 0.3, 0).steps == tuple(range(n_steps))


class TestNonCritical:
    @given(data=st.data(), n_steps=SIZES, seed=st.integers(0, 3))
    def test_same_count_from_the_complement(self, data: st.DataObject, n_steps: int, seed: int) -> None:
        critical = tuple(sorted(data.draw(st.sets(st.sampled_from(range(n_steps))) if n_steps else st.just(set()))))
        other = Selection(trajectory_id="t0001", method="llm", ratio=0.3, steps=critical)
        chosen = non_critical.select(trajectory(1, n_steps), 0.3, seed, other)
        assert not set(chosen.steps) & set(critical)
        assert len(chosen.steps) == min(len(critical), n_steps - len(critical))
        assert set(chosen.steps) <= set(range(n_steps))

    def test_an_error_row_has_an_error_row_for_complement(self) -> None:
        other = Selection(trajectory_id="t0001", method="llm", ratio=0.3, error="timeout: too slow")
        chosen = non_critical.select(trajectory(1, 5), 0.3, 0, other)
        assert chosen.steps == ()
        assert chosen.error == "complement: llm has no selection here (timeout: too slow)"


class TestPerplexity:
    @given(scores=st.lists(st.floats(1, 1e6), max_size=30), ratio=RATIOS)
    def test_the_highest_scores_win_and_ties_go_to_the_earlier(self, scores: list[float], ratio: float) -> None:
        chosen = perplexity.select(trajectory(1, len(scores)), ratio, 0, scores)
        rest = [step for step in range(len(scores)) if step not in chosen.steps]
        assert len(chosen.steps) == budget(len(scores), ratio)
        assert chosen.scores == tuple(scores)
        assert all((scores[i], -i) > (scores[j], -j) for i in chosen.steps for j in rest)

    def test_equation_5(self) -> None:
        logprobs = [-0.1, -1.0, -3.0, -0.5, -0.25]
        first, second = perplexity.perplexities(logprobs, [(2, 4), (5, 6)])
        assert first == pytest.approx(math.exp(2.0))
        assert second == pytest.approx(math.exp(0.25))

    @given(n_tokens=st.integers(1, 300), width=st.integers(2, 60))
    def test_windows_cover_and_stitch_to_the_whole(self, n_tokens: int, width: int) -> None:
        spans = perplexity.windows(n_tokens, width)
        assert spans[0][0] == 0
        assert spans[-1][1] == n_tokens
        assert all(end - start <= width for start, end in spans)
        # the score of token i in a window that starts at s tells how much it saw of what comes before
        seen = perplexity.stitch(spans, [[i - start for i in range(start + 1, end)] for start, end in spans])
        assert len(seen) == n_tokens - 1
        assert all(count >= min(i, width - width // 2) for i, count in enumerate(seen, start=1))

    def test_too_narrow_a_window_is_refused(self) -> None:
        with pytest.raises(ValueError, match="two tokens"):
            perplexity.windows(5, 1)
