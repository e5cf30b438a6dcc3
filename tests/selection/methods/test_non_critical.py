"""Method `non_critical`: the complement of another selection."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from atlas_ray.trajectory import Selection
from tests.selection.data import SIZES, made, trajectory


@given(data=st.data(), n_steps=SIZES, seed=st.integers(0, 3))
def test_same_count_from_the_complement(data: st.DataObject, n_steps: int, seed: int) -> None:
    critical = tuple(sorted(data.draw(st.sets(st.sampled_from(range(n_steps))) if n_steps else st.just(set()))))
    other = Selection(trajectory_id="t0001", method="llm", ratio=0.3, steps=critical)
    chosen = made("non_critical", seed=seed).choose(trajectory(1, n_steps), {"llm": other})
    assert not set(chosen.steps) & set(critical)
    assert len(chosen.steps) == min(len(critical), n_steps - len(critical))
    assert set(chosen.steps) <= set(range(n_steps))


def test_what_a_filter_removed_was_chosen_and_is_not_drawn() -> None:
    filtered = {"errors": [0], "looks": [1, 2]}
    other = Selection(trajectory_id="t0001", method="llm", ratio=1, steps=(3, 4), provenance={"filtered": filtered})
    for seed in range(5):
        chosen = made("non_critical", seed=seed).choose(trajectory(1, 7), {"llm": other})
        assert chosen.steps == (5, 6)
    assert made("non_critical").choose(trajectory(1, 6), {"llm": other}).steps == (5,)


def test_an_error_row_has_an_error_row_for_complement() -> None:
    other = Selection(trajectory_id="t0001", method="llm", ratio=0.3, error="timeout: too slow")
    method = made("non_critical", complement_of="gpt")
    assert method.inputs() == ("gpt",)
    chosen = method.choose(trajectory(1, 5), {"gpt": other})
    assert chosen.steps == ()
    assert chosen.error == "complement: gpt has no selection here (timeout: too slow)"
