"""What is trained on: the join with selections, truncation, refusals, the report."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_ray.chat import encode, loss_mask
from atlas_ray.config import TrainConfig
from atlas_ray.errors import DataError, TrainingError
from atlas_ray.training.examples import choose, prepare
from atlas_ray.training.prefix_tree import distinct_tokens
from atlas_ray.trajectory import Selection
from tests.tokenizers import of_kind, tokenizer
from tests.training.tiny import Labels, trajectory

TOKENIZER = tokenizer("chatml")


def selection(
    trajectory_id: str, steps: tuple[int, ...], error: str | None = None, weights: tuple[float, ...] | None = None
) -> Selection:
    return Selection(trajectory_id=trajectory_id, method="llm", ratio=0.3, steps=steps, error=error, weights=weights)


def test_trajectories_with_nothing_to_learn_are_left_out_and_counted() -> None:
    trajectories = [trajectory(number, 3) for number in range(5)]
    chosen = choose(
        trajectories,
        [
            selection("t000", (1,)),
            selection("t001", (), "parse: no list"),
            selection("t002", (0, 2), weights=(0.5, 1.0)),
            selection("t003", ()),
            selection("t004", ()),
        ],
    )
    assert [t.trajectory_id for t in chosen.trajectories] == ["t000", "t002"]
    assert chosen.labels == {"t000": {1: 1.0}, "t002": {0: 0.5, 2: 1.0}}
    assert (chosen.errors, chosen.without_steps) == (1, 2)
    assert str(chosen) == (
        "3 critical steps of 2 trajectories; left out: 1 trajectories with an error, 2 without a chosen step"
    )


def test_failed_trajectories_that_are_trained_on_are_counted() -> None:
    trajectories = [trajectory(number, 3) for number in range(3)]
    outcomes = [{"success": False}, {"success": True, "reward": 0.5}, {"reward": 0.5}]
    kept = [each.model_copy(update=outcome) for each, outcome in zip(trajectories, outcomes, strict=True)]
    chosen = choose(kept, [selection(f"t00{number}", (1,) if number != 2 else ()) for number in range(3)])
    assert chosen.failed == 1
    assert str(chosen).startswith("2 critical steps of 2 trajectories, 1 of which failed; left out: ")


def test_a_selection_that_leaves_nothing_is_refused() -> None:
    trajectories = [trajectory(number, 3) for number in range(3)]
    rows = [selection("t000", ()), selection("t001", (), "timeout: 60 s"), selection("t002", ())]
    with pytest.raises(TrainingError, match="selection llm: .*of 3 trajectories 1 have an error and 2 no chosen step"):
        choose(trajectories, rows)


def test_missing_and_double_selections_are_named() -> None:
    trajectories = [trajectory(number, 3) for number in range(3)]
    with pytest.raises(DataError, match=r"2 of 3 trajectories have no row \(t000, t002\)"):
        choose(trajectories, [selection("t001", (0,))])
    with pytest.raises(DataError, match=r"1 rows are of no trajectory to tune on \(t009\)"):
        choose(trajectories[1:2], [selection("t001", (0,)), selection("t009", (0,))])
    with pytest.raises(DataError, match="t001 has two rows"):
        choose(trajectories[1:2], [selection("t001", (0,)), selection("t001", (1,))])
    with pytest.raises(DataError, match="t000"):
        prepare(trajectories[:1], {}, TOKENIZER, TrainConfig())


def test_a_trajectory_without_labels_is_refused_by_name() -> None:
    with pytest.raises(TrainingError, match="t000"):
        prepare([trajectory(0, 3)], {"t000": {}}, TOKENIZER, TrainConfig())
    with pytest.raises(DataError, match="step 3 is out of range"):
        prepare([trajectory(0, 3)], {"t000": {3: 1}}, TOKENIZER, TrainConfig())


@pytest.mark.parametrize("weight", [0.0, -0.5, 1.5, float("nan"), 1e-60])
def test_a_weight_that_is_no_share_is_refused(weight: float) -> None:
    with pytest.raises(DataError, match=r"trajectory t000: the weight \S+ of step 1 is not in \(0, 1\]"):
        prepare([trajectory(0, 3)], {"t000": {0: 1, 1: weight}}, TOKENIZER, TrainConfig())


def test_steps_beyond_max_length_are_reported_and_refused_above_the_share() -> None:
    one = trajectory(0, 4)
    encoded = encode(one, TOKENIZER)
    limit = encoded.spans[1][1]
    examples, report = prepare(
        [one], {"t000": {0: 1, 1: 1, 2: 1}}, TOKENIZER, TrainConfig(max_length=limit, max_dropped_steps=0.5)
    )
    assert report.dropped_steps == 1
    assert report.critical_steps == 2
    assert examples[0].length == limit - 1  # the last label is only a target
    with pytest.raises(TrainingError, match=r"1 of 3 critical steps \(33.3%\) lie beyond train.max_length"):
        prepare([one], {"t000": {0: 1, 1: 1, 2: 1}}, TOKENIZER, TrainConfig(max_length=limit))
    with pytest.raises(TrainingError, match="no trajectory"):
        prepare([one], {"t000": {2: 1}}, TOKENIZER, TrainConfig(max_length=limit, max_dropped_steps=1))


def test_report_counts_steps_and_tokens() -> None:
    two = [trajectory(0, 3), trajectory(1, 4)]
    labels: Labels = {"t000": {2: 1}, "t001": {1: 0.5, 3: 1}}
    _, report = prepare(two, labels, TOKENIZER, TrainConfig())
    encoded = [encode(t, TOKENIZER) for t in two]
    labelled = sum(sum(loss_mask(e, labels[t.trajectory_id])) for e, t in zip(encoded, two, strict=True))
    assert (report.trajectories, report.steps, report.critical_steps) == (2, 7, 3)
    assert (report.labelled_tokens, report.tokens) == (labelled, sum(len(e.ids) for e in encoded))
    assert "3 of 7 steps (42.9%)" in str(report)


@settings(deadline=None)  # the machine may be busy
@given(n_steps=st.integers(1, 6), data=st.data(), mean=st.sampled_from(["token_mean", "step_mean"]))
def test_truncation_keeps_every_label_and_nothing_after_the_last(n_steps: int, data: st.DataObject, mean: str) -> None:
    one = trajectory(data.draw(st.integers(0, 50)), n_steps)
    chosen = data.draw(st.dictionaries(st.integers(0, n_steps - 1), st.floats(1e-6, 1), min_size=1))
    encoded = encode(one, TOKENIZER)
    mask = np.array(loss_mask(encoded, chosen))
    [example], _ = prepare([one], {one.trajectory_id: chosen}, TOKENIZER, TrainConfig(loss=mean))
    end = int(np.flatnonzero(mask)[-1]) + 1
    assert example.ids.tolist() == encoded.ids[:end]
    assert ((example.weights > 0) == mask[:end]).all()
    assert example.weights[-1] > 0
    assert example.full_length == len(encoded.ids)
    tokens = {step: encoded.spans[step][1] - encoded.spans[step][0] if mean == "token_mean" else 1 for step in chosen}
    expected = sum(weight * tokens[step] for step, weight in chosen.items())
    assert example.total_weight == pytest.approx(expected, rel=1e-5)


def test_trajectories_that_cannot_be_tokenised_are_left_out_by_name() -> None:
    good, bad = trajectory(0, 3), trajectory(1, 3)
    doubled = bad.model_copy(update={"messages": (bad.messages[0], *bad.messages)})
    labels: Labels = {"t000": {1: 1}, "t001": {1: 1}}
    alternating = of_kind("split", "gemma")
    examples, report = prepare([good, doubled], labels, alternating, TrainConfig())
    assert [example.trajectory_id for example in examples] == ["t000"]
    assert (report.trajectories, report.steps, report.critical_steps) == (1, 3, 1)
    [reason] = report.refused
    assert reason.startswith("trajectory t001: the chat template refuses the conversation: ")
    assert "1 trajectories cannot be tokenised and are left out (trajectory t001: " in str(report)
    with pytest.raises(TrainingError, match="no trajectory to train on is left; 1 cannot be tokenised .*t001"):
        prepare([doubled], labels, alternating, TrainConfig())


def test_a_template_that_rewrites_history_gives_one_example_for_each_chosen_step() -> None:
    thinking, one = of_kind("split", "qwen3"), trajectory(0, 4)
    examples, report = prepare([one], {"t000": {1: 0.5, 3: 1}}, thinking, TrainConfig())
    assert [example.trajectory_id for example in examples] == ["t000", "t000"]
    rows = [(ids, spans[step]) for ids, spans, _ in encode(one, thinking) for step in (1, 3) if step in spans]
    for example, (ids, (start, stop)), weight in zip(examples, rows, (0.5, 1), strict=True):
        assert example.ids.tolist() == ids[:stop]
        assert example.weights.tolist() == [0] * start + [weight] * (stop - start)
    assert (report.trajectories, report.rows, report.critical_steps, report.end_tokens) == (1, 2, 2, 2)
    assert f"rewrites earlier turns, so there are 2 rows, whose {report.row_tokens} tokens are these" in str(report)
    assert report.read_tokens == distinct_tokens([example.ids[:-1] for example in examples], [0, 1])
    assert report.read_tokens < report.row_tokens == sum(example.length for example in examples)
    limit = len(rows[0][0])
    examples, report = prepare(
        [one], {"t000": {1: 1, 3: 1}}, thinking, TrainConfig(max_length=limit, max_dropped_steps=1)
    )
    assert (len(examples), report.dropped_steps) == (1, 1)


def test_steps_whose_end_of_turn_is_no_token_are_not_trained_on() -> None:
    spelling = deepcopy(TOKENIZER)
    spelling.split_special_tokens = True
    with pytest.raises(
        TrainingError, match="1 cannot be tokenised .*t000: the end-of-turn token .* is no token of its"
    ):
        prepare([trajectory(0, 3)], {"t000": {1: 1}}, spelling, TrainConfig())
