"""The checker of the environment contract: `check_env` plays an environment and raises the first broken clause.

It checks what every user of an environment relies on: repeatable texts, exact snapshots, observations instead of
errors, and an expert that solves tasks. The rules of an environment are checked by its own tests.
"""

from __future__ import annotations

import json
import pickle
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, get_args

import gymnasium

from atlas_ray.environments import registry
from atlas_ray.environments.contract import (
    MAX_ACTION_CHARS,
    EnvironmentCard,
    Expert,
    Split,
    State,
    TextEnv,
)
from atlas_ray.errors import AtlasError, EnvironmentError

NONSENSE = (
    "",
    "   \n\t",
    "Thought: hm\nAction:",
    "xyzzy",
    "craft using",
    "get 0",
    "-1",
    "{'a': [1]}; __import__('os')",
    "\x00\x1b[31m\udcff\ud83d" + "é漢🙂",
    "%s %d {0} {name} \\1 (?P<x>[",
    "a" * (MAX_ACTION_CHARS + 1),
    "9" * 1_000_000,
)
"""Actions that no environment can carry out."""
CALLS = 20
"""Valid actions that are turned into calls and back."""
LOOKS = 3
"""Looks that are tried in each state."""

Event = tuple[str, float, bool, bool, dict[str, Any]]


class ContractError(AtlasError, AssertionError):
    """An environment breaks the contract; the text begins with the clause."""


def check_env(env_id: str, *, tasks: Sequence[int] = (0, 1, 2), seed: int = 0, **options: Any) -> None:
    """Check that an environment keeps the contract, on some tasks of both splits.

    Args:
        env_id: A name or Gymnasium id, such as "maze" or "atlas/maze-v0".
        tasks: Task numbers to play; numbers that a split does not have are left out.
        seed: Varies the random actions that are tried.
        options: Keyword arguments of the environment.

    Raises:
        ContractError: A clause is broken; the text names it, with task and step.
        ConfigError: There is no such environment or option.
    """
    env, twin = registry.make(env_id, **options), registry.make(env_id, **options)
    capped = registry.make(env_id, **{**options, "max_rounds": 3})
    try:
        _check(env, twin, capped, env_id, tasks, seed, options)
    finally:
        for used in (env, twin, capped):
            used.close()


def _check(
    env: TextEnv, twin: TextEnv, capped: TextEnv, env_id: str, tasks: Sequence[int], seed: int, options: dict[str, Any]
) -> None:
    with _clause("life cycle"):
        _check_life_cycle(env)
    with _clause("card"):
        _check_card(env, env_id, options)
    solved, played = 0, 0
    for split in get_args(Split):
        for task in [task for task in tasks if task < env.card.n_tasks(split)]:
            where = f"{split} task {task}"
            rng = random.Random(f"{env_id} {split} {task} {seed}")
            with _clause(f"determinism ({where})"):
                _check_determinism(env, twin, task, split, rng)
            with _clause(f"valid actions and nonsense ({where})"):
                _check_actions(env, task, split, rng)
            with _clause(f"tools ({where})"):
                _check_tools(env, task, split)
            with _clause(f"snapshots ({where})"):
                _check_snapshots(env, twin, task, split, rng)
            with _clause(f"looks ({where})"):
                _check_looks(env, task, split, rng)
            with _clause(f"round cap ({where})"):
                _check_cap(capped, task, split)
            with _clause(f"expert ({where})"):
                success = _check_expert(env, task, split)
            if split == "train":
                solved, played = solved + success, played + 1
    with _clause("expert"):
        _require(solved == played, f"it solves {solved} of {played} training tasks within the round cap")


@contextmanager
def _clause(name: str) -> Iterator[None]:
    try:
        yield
    except ContractError as error:
        raise ContractError(f"{name}: {error}") from None


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ContractError(otherwise)


def _raises(call: Callable[[], object], what: str) -> None:
    try:
        call()
    except EnvironmentError as error:
        _require(len(str(error).strip()) > 0 and "\n" not in str(error), f"{what} needs an error of one line")
        return
    raise ContractError(f"{what} must raise an EnvironmentError")


def _check_card(env: TextEnv, env_id: str, options: dict[str, Any]) -> None:
    card = env.card
    _require(isinstance(card, EnvironmentCard), "card is not an EnvironmentCard")
    _require(env_id in (card.name, f"atlas/{card.name}-v0"), f"its name is {card.name!r}")
    _require(card.n_train + card.n_test > 0, "it has no tasks")
    made = gymnasium.make(f"atlas/{card.name}-v0", **options)
    _require(type(made.unwrapped) is type(env), "gymnasium.make gives another class")
    _require(registry.make(env_id, **options).card == card, "two instances have different cards")
    split: Split = "train" if card.n_train else "test"
    opening = card.instruction + env.reset(options={"task": 0, "split": split})[0]
    for word in ("Thought:", "Action:"):
        _require(word in opening, f"neither instruction nor first observation shows the format ({word!r})")


def _check_life_cycle(env: TextEnv) -> None:
    split: Split = "train" if env.card.n_train else "test"
    n_tasks = env.card.n_tasks(split)
    _raises(lambda: env.step("x"), "step before reset")
    _raises(env.snapshot, "snapshot before reset")
    _raises(lambda: env.restore("state"), "restore of something else")  # type: ignore[arg-type]
    for wrong in (
        {"task": n_tasks, "split": split},
        {"task": -1, "split": split},
        {"task": "0", "split": split},
        {"task": True, "split": split},
        {"split": "dev"},
        {"level": 1},
    ):
        _raises(lambda wrong=wrong: env.reset(options=wrong), f"reset with {wrong}")  # type: ignore[misc]
    env.reset(options={"task": 0, "split": split})
    _raises(lambda: env.step(3), "an action that is not a string")  # type: ignore[arg-type]
    while env.running:
        env.step("nothing")
    _raises(lambda: env.step("nothing"), "step after the end")
    _require(env.valid_actions() == [], "valid_actions must be empty after the end")
    _require(env.looks() == [], "looks must be empty after the end")


def _begin(env: TextEnv, task: int, split: Split, seed: int | None = None) -> str:
    observation, info = env.reset(seed=seed, options={"task": task, "split": split})
    _check_text(env, observation)
    _require(not env.is_error(observation), "the first observation is an error by is_error")
    _require(info["score"] == 0 and info["success"] is False, "a fresh episode has score 0 and no success")
    return observation


def _step(env: TextEnv, action: str) -> Event:
    score = env.snapshot().score
    event = env.step(action)
    observation, reward, terminated, truncated, info = event
    _check_text(env, observation)
    _require(isinstance(reward, float), f"reward is {type(reward).__name__}, not float")
    _require(isinstance(terminated, bool) and isinstance(truncated, bool), "terminated and truncated must be bool")
    _require(not (terminated and truncated), "terminated and truncated at once")
    _require(isinstance(info["score"], float) and 0 <= info["score"] <= 1, f"score {info['score']!r} is not in [0, 1]")
    _require(isinstance(info["success"], bool), f"success is {info['success']!r}, not a bool")
    _require(abs(info["score"] - score - reward) < 1e-9, "the reward is not the increase of the score")
    _require(env.running is not (terminated or truncated), "running does not agree with the step's result")
    return event


def _check_text(env: TextEnv, observation: object) -> None:
    _require(isinstance(observation, str) and observation != "", f"observation {observation!r} is not a text")
    _require(env.observation_space.contains(observation), f"observation {observation!r} is not in the text space")


def _some_action(env: TextEnv, observation: str, rng: random.Random, expert: Expert | None = None) -> str:
    """The expert's action or a random one, so that random walks get somewhere."""
    valid = env.valid_actions()
    if not valid or rng.random() < 0.5:
        return (expert or env.expert()).next_action(observation)[1]
    return rng.choice(valid)


def _check_determinism(env: TextEnv, twin: TextEnv, task: int, split: Split, rng: random.Random) -> None:
    for seed in (None, 7):
        observation = _begin(env, task, split, seed)
        _require(_begin(twin, task, split, seed) == observation, f"two resets with seed {seed} give different texts")
        expert = env.expert()
        while env.running:
            _require(env.valid_actions() == twin.valid_actions(), "two instances list different valid actions")
            action = _some_action(env, observation, rng, expert)
            event = _step(env, action)
            _require(_step(twin, action) == event, f"two instances answer {action!r} differently")
            observation = event[0]


def _check_actions(env: TextEnv, task: int, split: Split, rng: random.Random) -> None:
    valid = (_begin(env, task, split), env.valid_actions())[1]
    _require(isinstance(valid, list) and all(isinstance(a, str) for a in valid), "valid_actions is not a list of texts")
    _require(valid == sorted(set(valid)), "valid_actions is not sorted, or repeats itself")
    for action in NONSENSE:
        observation = _begin(env, task, split)
        if rng.random() < 0.5:
            _step(env, _some_action(env, observation, rng))
        if not env.running:
            continue
        before, listed = env.snapshot(), env.valid_actions()
        event = _step(env, action)
        _require(len(event[0]) < 20_000, f"the answer to {action[:40]!r} repeats it all")
        _require(event[1] == 0 and not event[2], f"{action[:40]!r} changed the score or ended the episode")
        is_told = env.refusals is None or env.is_error(event[0])
        _require(is_told, f"the answer to {action[:40]!r} is no error by is_error")
        _require(not env.running or env.valid_actions() == listed, f"{action[:40]!r} changed the valid actions")
        env.restore(before)
        follow = _some_action(env, event[0], rng)
        plain = env.step(follow)[0]
        env.restore(before)
        env.step(action)
        _require(not env.running or env.step(follow)[0] == plain, f"{action[:40]!r} changed the state")


def _check_tools(env: TextEnv, task: int, split: Split) -> None:
    """Every action that makes sense at the start is a call of a function on offer, and the call is that action."""
    observation = _begin(env, task, split)
    names = [tool["function"]["name"] for tool in json.loads(json.dumps(env.tools()))]
    _require(names != [] and len(set(names)) == len(names), f"its tools must have names of their own, not {names}")
    for action in [env.expert().next_action(observation)[1], *env.valid_actions()[:CALLS]]:
        call = env.call_of(action)
        if call is None or call.name not in names:
            raise ContractError(f"no function on offer stands for {action!r} ({call})")
        _require(env.action_of(call) == action, f"the call of {action!r} is the action {env.action_of(call)!r}")


def _check_looks(env: TextEnv, task: int, split: Split, rng: random.Random) -> None:
    """Looks at the start and after a step: valid, and the next action is answered as if nobody had looked."""
    for steps in (0, 1):
        observation = _begin(env, task, split)
        expert = env.expert()
        for _ in range(steps):
            observation = _step(env, expert.next_action(observation)[1])[0]
        if not env.running:
            return
        start, valid = env.snapshot(), env.valid_actions()
        looks = env.looks()
        _require(
            isinstance(looks, list) and looks == sorted(set(looks)), "looks is not a sorted list, or repeats itself"
        )
        _require(set(looks) <= set(valid), "looks lists an action that valid_actions does not")
        now = env.snapshot()
        same = (now.rounds, now.score, env.valid_actions()) == (start.rounds, start.score, valid)
        _require(same, "asking for looks changed the episode")
        follow = expert.next_action(observation)[1]
        plain = _step(env, follow)[0]
        for look in sorted(rng.sample(looks, min(LOOKS, len(looks)))):
            env.restore(start)
            _, reward, terminated, _, info = _step(env, look)
            _require(reward == 0 and not terminated, f"the look {look!r} changed the score or ended the episode")
            _require(info["success"] == start.success, f"the look {look!r} changed the success")
            _require(not env.running or env.valid_actions() == valid, f"the look {look!r} changed the valid actions")
            _require(not env.running or _step(env, follow)[0] == plain, f"the look {look!r} changed the state")


def _check_snapshots(env: TextEnv, twin: TextEnv, task: int, split: Split, rng: random.Random) -> None:
    observation = _begin(env, task, split)
    expert = env.expert()
    states: list[State] = [env.snapshot()]
    actions: list[str] = []
    events: list[Event] = []
    while env.running:
        actions.append(_some_action(env, observation, rng, expert))
        events.append(_step(env, actions[-1]))
        observation = events[-1][0]
        states.append(env.snapshot())
    packed = [pickle.dumps(state) for state in states]
    for depth in sorted({0, 1, len(actions) // 2, len(actions) - 1, len(actions)} & set(range(len(actions) + 1))):
        # The other instance leaves an episode of its own and goes on from a pickled snapshot; then this one does.
        other = _begin(twin, task, split, 3)
        twin.step(_some_action(twin, other, rng))
        unpacked = pickle.loads(packed[depth])  # noqa: S301  (made a few lines above)
        for player, state in ((twin, unpacked), (env, states[depth])):
            player.restore(state)
            for action, event in zip(actions[depth:], events[depth:], strict=True):
                same = _step(player, action) == event
                _require(same, f"restored at step {depth}, {action!r} is answered differently")
            _require(not player.running, f"restored at step {depth}, the episode does not end as it did")


def _check_cap(env: TextEnv, task: int, split: Split) -> None:
    _begin(env, task, split)
    rounds = 0
    while env.running:
        *_, truncated, info = _step(env, "nothing")
        rounds += 1
        _require(info["rounds"] == rounds, f"info says {info['rounds']} rounds after {rounds}")
        _require(rounds <= 3, "max_rounds=3 does not end the episode")
    _require(truncated, "the last round did not say truncated")


def _check_expert(env: TextEnv, task: int, split: Split) -> bool:
    observation = _begin(env, task, split)
    expert = env.expert()
    success = False
    while env.running:
        thought, action = expert.next_action(observation)
        _require(isinstance(thought, str) and thought.strip() == thought != "", f"thought {thought!r} is not a text")
        _require("\n" not in thought + action, "a thought and an action are one line each")
        _require("Action:" not in thought, f"thought {thought!r} holds the label of the action")
        observation, reward, _, _, info = _step(env, action)
        is_sound = reward == 0 or not env.is_error(observation)
        _require(is_sound, f"{action!r} raised the score, and its answer is an error by is_error")
        success = info["success"]
    return success
