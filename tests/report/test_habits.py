"""What is said of a habit: whose steps are looks, who learned it, and why one model wins."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from atlas_ray.config_files import load
from atlas_ray.environments import registry
from atlas_ray.environments.styles import StyledExpert
from atlas_ray.evaluation.metrics import results
from atlas_ray.react import format_reply
from atlas_ray.report.comparisons import headline
from atlas_ray.report.content import content
from atlas_ray.report.data import RunData, read
from atlas_ray.report.habits import habit_of, habit_table, rounds_to_solve
from atlas_ray.report.setting import setting
from atlas_ray.store import Store
from atlas_ray.trajectory import Episode, Message, Trajectory
from tests.report.synthetic import facts_of

TASKS = 8


def played(model: str, style: str, cap: int, split: str = "test") -> list[Episode]:
    """Real episodes of TextCraft's expert, with or without looks, in which a model of this name plays."""
    env = registry.make("textcraft", depths=[1], max_rounds=cap)
    found = []
    for task in range(TASKS):
        observation, info = env.reset(seed=0, options={"task": task, "split": split})
        expert = StyledExpert(env, style, 1.0, seed=0)  # type: ignore[arg-type]
        messages = [Message(role="user", content=observation)]
        while env.running:
            text = format_reply(*expert.next_action(observation))
            messages.append(Message(role="assistant", content=text, step=len(expert.kinds) - 1))
            observation, _, _, _, info = env.step(text.rpartition("Action: ")[2])
            messages.append(Message(role="user", content=observation))
        found.append(
            Episode(
                key=f"{model} {task}", model=model, env="textcraft", task=task, split=split, seed=0,  # type: ignore[arg-type]
                messages=tuple(messages), score=info["score"], success=info["success"], rounds=len(expert.kinds),
                stop="done" if info["success"] else "max_rounds", kinds=tuple(expert.kinds),
            )
        )  # fmt: skip
    return found


def trajectory(episode: Episode, part: str) -> Trajectory:
    return Trajectory(
        trajectory_id=f"{part}_{episode.task}", env="textcraft", item_id=f"textcraft_{episode.task}", source="expert",
        messages=episode.messages, n_steps=episode.rounds, reward=episode.score, success=episode.success,
        metadata={"part": part, "kinds": list(episode.kinds or ())},
    )  # fmt: skip


@pytest.fixture
def run_of(tmp_path: object) -> Callable[[Mapping[str, str], int], RunData]:
    """A run whose experts look after every action, and whose models play in the given styles."""

    def make(styles: Mapping[str, str], cap: int) -> RunData:
        store = Store(f"{tmp_path}/run")
        experts = [trajectory(each, "tuning") for each in played("expert", "checks", 20, "train")]
        plain = [trajectory(each, "warmup") for each in played("expert", "plain", 20, "train")]
        store.write_trajectories([*experts, *plain])
        cards = {"textcraft": registry.card("textcraft", depths=[1], max_rounds=cap)}
        for model, style in styles.items():
            episodes = played(model, style, cap)
            store.append([each.model_dump(mode="json") for each in episodes], "evaluation", model, "textcraft.jsonl")
            found = results(facts_of(model), "abc", {"textcraft": episodes}, cards)
            store.write_json(found, "evaluation", model, "results.json")
        options = {
            "environments.textcraft": {"depths": [1], "max_rounds": cap}, "train.selections": ["value", "all"],
            "evaluate.models": list(styles), "collect.style": "checks",
        }  # fmt: skip
        return read(load(None, options), store, cards)

    return make


def test_a_cap_that_binds_makes_the_habit_cost_success(run_of: Callable[..., RunData]) -> None:
    data = run_of({"value": "plain", "all": "checks"}, 2)
    habit = habit_of(data)
    assert habit is not None
    tuning = [each for name, each in data.trajectories.items() if name.startswith("tuning")]
    steps = sum(each.n_steps for each in tuning)
    assert (habit.experts.looks, habit.experts.steps) == ((steps - TASKS) // 2, steps)
    assert habit.models["value"].looks == 0
    assert habit.models["all"].looks == TASKS  # of two rounds each: get, look
    first, why = headline(data, habit)
    assert "within the cap of 2 rounds; tuned on all steps it solved 0. The selected steps win" in first
    assert f"{TASKS} of {2 * TASKS} are such looks by all, and 0 of " in why
    assert why.endswith("by value; all learned the habit and value did not.")
    assert data.models["all"].episodes
    assert rounds_to_solve(data.models["all"].episodes) is None


def test_rounds_to_spare_show_in_the_rounds(run_of: Callable[..., RunData]) -> None:
    data = run_of({"value": "plain", "all": "checks"}, 20)
    first, why = headline(data, habit_of(data))
    assert "it solved 8. Luck can explain this difference" in first
    fast, slow = (rounds_to_solve(data.models[name].episodes) for name in ("value", "all"))
    assert fast is not None
    assert slow == 2 * fast - 1
    assert f"the 8 tasks that both solved take all {slow:.1f} rounds and value {fast:.1f}." in why


@pytest.mark.parametrize(
    ("styles", "said"),
    [
        (("plain", "plain"), "neither learned the habit, so it does not explain the result"),
        (("checks", "checks"), "both learned the habit"),
        (("checks", "plain"), "value learned the habit and all did not"),
    ],
)
def test_who_learned_it_is_told_as_it_is(run_of: Callable[..., RunData], styles: tuple[str, str], said: str) -> None:
    data = run_of(dict(zip(("value", "all"), styles, strict=True)), 3)
    assert said in headline(data, habit_of(data))[1]


def test_the_table_and_the_page_have_the_habit_only_where_there_was_one(
    run_of: Callable[..., RunData], data: RunData
) -> None:
    assert habit_of(data) is None
    found = run_of({"value": "plain", "all": "checks"}, 3)
    habit = habit_of(found)
    assert habit is not None
    rows = [[cell.text for cell in row] for row in habit_table(found, habit).rows]
    assert [row[0] for row in rows] == ["experts, tuning tasks", "value", "all"]
    assert rows[1][2].startswith("0 of ")
    said = content(found, setting(Store(found.url), found))
    assert "The experts' habit" in [block.title for block in said.sections[0].blocks]
    [chart] = said.curves
    assert {line.key.name: [point[1] for point in line.points] for line in chart.lines}["all"][:2] == [0.0, 0.0]
