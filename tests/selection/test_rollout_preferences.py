"""Step preferences of a stored selection: which rollouts are its own, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter, defaultdict

import pytest

from atlas_ray.config import DpoConfig
from atlas_ray.errors import ConfigError, SelectionError
from atlas_ray.react import parse_reply
from atlas_ray.selection.methods.value import JOURNAL
from atlas_ray.selection.rollout_preferences import established, playing_selection
from tests.rollout.experts import expert_trajectories
from tests.selection.test_value_rollouts import CONFIG, context, played, select  # noqa: F401


def at(context, max_p):  # noqa: F811
    """The context with another `train.dpo.max_p`."""
    train = context.config.train.model_copy(update={"dpo": DpoConfig(max_p=max_p)})
    return dataclasses.replace(context, config=context.config.model_copy(update={"train": train}))


def test_preferences_rest_on_the_rollouts_that_the_selection_played(context):  # noqa: F811
    store = context.store
    store.write_trajectories(expert_trajectories()[:6])
    value = {row.trajectory_id: row for row in select(context, "value")}
    rows = played(context)
    # Another player's episode, a failed one and one of a trajectory that is gone do not count.
    other, failed, gone = (json.loads(json.dumps(rows[0])) for _ in range(3))
    other["episode"]["key"] = "f" * 16
    failed["episode"]["error"] = "deadline: late"
    gone["trajectory_id"] = "gone"
    store.append([other, failed, gone], *JOURNAL)
    result = established(at(context, 1.0), "value")
    assert result.critical_steps == sum(len(row.steps) for row in value.values())
    assert result.facts()["preferences"] == len(result.preferences) > 0

    actions = defaultdict(Counter)
    for row in rows:
        action = parse_reply(row["episode"]["messages"][0]["content"], result.rules[row["episode"]["env"]]).action
        actions[row["trajectory_id"], row["step"]][action] += 1
    for each in result.preferences:
        assert each.step in value[each.trajectory_id].steps
        taken = actions[each.trajectory_id, each.step]
        assert taken[each.worse.action] == each.worse.count or each.worse.by == "expert"
        assert each.better.value >= each.worse.value
        assert each.history[-1].role == "user"
    by_expert = [each for each in result.preferences if each.better.by == "expert"]
    for each in by_expert:
        after, n_steps = each.step + 1, len(value[each.trajectory_id].scores)
        follow = 4 if after == n_steps else sum(actions[each.trajectory_id, after].values())
        assert each.better.count == follow + actions[each.trajectory_id, each.step][each.better.action]
    assert len(established(at(context, 0.2), "value").preferences) < len(result.preferences)
    with pytest.raises(
        SelectionError, match="'value': 0 preferences .*raise value's rollouts .now 4. or train.dpo.max_p"
    ):
        established(at(context, 1e-9), "value")


def test_a_selection_without_rollouts_is_refused(context):  # noqa: F811
    with pytest.raises(ConfigError, match="selection 'llm' rests on no rollouts.*method value"):
        playing_selection(context.config, "llm")
    for name in ("value", "strict", "pivot"):
        assert playing_selection(context.config, name).spec.method == "value"
    assert CONFIG["select"]["value"]["rollouts"] == playing_selection(context.config, "pivot").options.rollouts
