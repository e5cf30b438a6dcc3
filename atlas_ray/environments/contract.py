"""The environment contract: a card, a Gymnasium text environment with snapshots, and an expert that plays it.

`TextEnv` owns what all environments share: rounds, task checks, the score and the life cycle of an episode. A subclass
writes the rules in five methods. Parsing of replies is in `atlas_ray/react.py`, playing of episodes in
`atlas_ray/rollout/`.
"""

from __future__ import annotations

import json
import re
import string
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, cast, get_args

import gymnasium
from pydantic import BaseModel, ConfigDict, Field

from atlas_ray.environments import verbs
from atlas_ray.environments.verbs import Verb
from atlas_ray.errors import ConfigError, EnvironmentError
from atlas_ray.tool_calls import ACT, arguments_of
from atlas_ray.trajectory import Message, ToolCall

Split = Literal["train", "test"]
Metric = Literal["success_rate", "mean_reward", "progress_rate"]
Ending = Literal["running", "terminated", "truncated"]

ACKNOWLEDGEMENT = "OK. I'll follow your instructions and try my best to solve the task."
MAX_ACTION_CHARS = 1000
"""A longer action is answered by an explanation of the format, unless the environment's class allows more."""


class EnvironmentCard(BaseModel):
    """What must be known of an environment before it is played.

    Attributes:
        name: The part between `atlas/` and `-v0` of the Gymnasium id.
        version: Raised when the same task and actions give other texts or scores than before; results of the earlier
            version are then computed anew.
        held_in: Whether the paper trains on it (Section 4.1) or only tests on it.
        metric: What the paper reports for it; `info["score"]` is this metric for one episode, in [0, 1].
        max_rounds: Replies after which an episode is truncated (paper, Appendix A).
        instruction: The user turn that opens an episode, before the first observation.
        acknowledgement: The assistant turn that answers it.
        n_train: Training tasks, numbered from 0.
        n_test: Test tasks, numbered from 0; none of them is a training task.
        source: Where the rules and the tasks come from.
        snapshot: "native" copies the state, "replay" repeats the actions.
        process_mib: Memory (MiB) of the operating-system process that each instance starts; 0 if it starts none.
        action_rule: How a reply's action is found: "one" = exactly one "Action:" line, "first" = after the first
            "Action:" or the whole reply, "last" = after the last "Action:".
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    version: int = Field(1, ge=1)
    held_in: bool
    metric: Metric
    max_rounds: int = Field(ge=1)
    instruction: str = Field(min_length=1)
    acknowledgement: str = ACKNOWLEDGEMENT
    n_train: int = Field(ge=0)
    n_test: int = Field(ge=0)
    source: str
    snapshot: Literal["native", "replay"] = "native"
    process_mib: int = Field(0, ge=0)
    action_rule: Literal["one", "first", "last"]

    @property
    def isolated(self) -> bool:
        """Whether each instance starts an operating-system process of its own, at its first reset."""
        return self.process_mib > 0

    def n_tasks(self, split: Split) -> int:
        """How many tasks the split has."""
        return self.n_train if split == "train" else self.n_test


class Outcome(NamedTuple):
    """The result of one action, as an environment's rules see it."""

    observation: str
    score: float
    """The metric so far, in [0, 1]; the reward of the step is its increase."""
    success: bool = False
    done: bool = False


@dataclass(frozen=True, slots=True)
class State:
    """An episode between two steps: picklable, not shared, restorable in any process.

    `inner` is the environment's own state; `TextEnv` keeps the other fields.
    """

    environment: str
    task: int
    split: Split
    seed: int | None
    rounds: int
    score: float
    success: bool
    ending: Ending
    inner: Any


class Expert(Protocol):
    """Plays the running episode of its environment, from whatever state that is in.

    What it remembers can be copied with `copy.deepcopy`, so that a way can be tried out; see `styles.py`.
    """

    def next_action(self, observation: str) -> tuple[str, str]:
        """The step's reason in words, and the action as `TextEnv.step` takes it.

        Args:
            observation: The last text that the environment gave.
        """
        ...


def item_number(item_id: int | str, *names: str) -> int | None:
    """The number in an item id such as 7, "7" or "babyai_7"; None if it is none.

    Args:
        item_id: as trajectories and lists of items have it.
        names: what may stand before the number, without "_"; all of AgentGym's words for the environment.
    """
    text = str(item_id)
    name, _, digits = text.rpartition("_")
    if (name and name not in names) or not (digits.isascii() and digits.isdigit() and len(digits) <= 9):
        return None
    return int(digits)


def first_texts(messages: Sequence[Message]) -> str:
    """What a trajectory's agent reads before its first step: instruction and first observation, in one text."""
    texts = []
    for message in messages:
        if message.step is not None:
            break
        if message.role != "assistant":
            texts.append(message.content)
    return "\n".join(texts)


class TextEnv(gymnasium.Env[str, str], ABC):
    """A text environment: `reset` and `step` as in Gymnasium, `snapshot` and `restore`, valid actions, an expert.

    A subclass passes its card to `__init__` and writes `_start`, `_act`, `_save`, `_load` and `expert`. If it can list
    actions, it writes `valid_actions` too.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}  # type: ignore[misc]
    observation_space = gymnasium.spaces.Text(max_length=100_000, min_length=0, charset=string.printable)
    action_space = gymnasium.spaces.Text(max_length=MAX_ACTION_CHARS, min_length=1, charset=string.printable)
    max_action_chars: ClassVar[int] = MAX_ACTION_CHARS
    rules: ClassVar[str] = ""
    """The text before the task in every first observation, where AgentGym's client tells it and its server does not;
    `{words}` stands for the valid words and `{max_rounds}` for the round cap."""
    refusals: ClassVar[str | None] = None
    """How observations begin that say the action was not understood or cannot be done, as a regular expression; None:
    they cannot be told from others."""

    grammar: ClassVar[tuple[Verb, ...]] = ()
    """The forms of its actions, each of which is a function for tool calls; empty: one function takes any action."""

    def __init__(self, card: EnvironmentCard, *, max_rounds: int | None = None) -> None:
        if max_rounds is not None:
            if isinstance(max_rounds, bool) or not isinstance(max_rounds, int) or max_rounds < 1:
                raise ConfigError(f"{card.name}: max_rounds is {max_rounds!r}; give a whole number of at least 1")
            card = card.model_copy(update={"max_rounds": max_rounds})
        self._card = card
        self._task = 0
        self._split: Split = "train"
        self._seed: int | None = None
        self._rounds = 0
        self._score = 0.0
        self._success = False
        self._ending: Ending | None = None

    # -- written by a subclass ------------------------------------------------------------------------------------

    @abstractmethod
    def _start(self, task: int, split: Split, seed: int | None) -> str:
        """Set up the task and return its first observation; everything random derives from the three arguments."""

    @abstractmethod
    def _act(self, action: str) -> Outcome:
        """Apply one action. If it cannot be parsed or done, the state stays as it was and the observation says so."""

    @abstractmethod
    def _save(self) -> Any:
        """The subclass's state as a picklable value that later steps do not change."""

    @abstractmethod
    def _load(self, inner: Any) -> None:
        """Restore a value of `_save`, possibly of another instance, without changing that value."""

    @abstractmethod
    def expert(self) -> Expert:
        """A new expert for the running episode."""

    def valid_actions(self) -> list[str]:
        """Actions that make sense now, sorted; empty if the environment cannot list them or the episode is over."""
        return []

    def looks(self) -> list[str]:
        """Valid actions that only look, sorted: after one of them the state is what it was.

        Every valid action is tried from a snapshot. A subclass names its looks instead where that is too dear, where
        its state counts every action, or where refused actions are listed too. Without native snapshots: none.
        """
        if not self.running or self.card.snapshot != "native":
            return []
        start, found = self.snapshot(), []
        for action in self.valid_actions():
            self.restore(start)
            before = self._save()
            outcome = self._act(action)
            if not outcome.done and self._save() == before:
                found.append(action)
        self.restore(start)
        return found

    def is_error(self, observation: str) -> bool:
        """Whether a text says that the last action was not understood or could not be done; see `refusals`."""
        return self.refusals is not None and re.match(self.refusals, observation) is not None

    def tools(self) -> list[dict[str, Any]]:
        """Its actions as functions that a model can call, in OpenAI's form: of its `grammar`, else one for all."""
        if self.grammar:
            return [verb.definition() for verb in self.grammar]
        text = {"type": "string", "description": "One action, in the words and the form that the instruction gives."}
        return [
            {
                "type": "function",
                "function": {
                    "name": ACT, "description": f"Take one action in {self.card.name}.",
                    "parameters": {"type": "object", "properties": {"text": text}, "required": ["text"]},
                },
            }
        ]  # fmt: skip

    def action_of(self, call: ToolCall) -> str:
        """The action that a call of one of its `tools` stands for, as `step` takes it.

        Raises:
            EnvironmentError: the call stands for none; the text is what the caller is told.
        """
        if self.grammar:
            return verbs.action_of(self.grammar, call)
        arguments = arguments_of(call)
        text = arguments.get("text") if isinstance(arguments, dict) else None
        if call.name != ACT or not isinstance(text, str):
            raise EnvironmentError(f'Error: call the function {ACT} with the action as its text: {{"text": "..."}}.')
        return text

    def call_of(self, action: str) -> ToolCall | None:
        """The call that stands for an action, if there is one: `action_of` gives an action that is answered alike."""
        if self.grammar:
            return verbs.call_of(self.grammar, action)
        return ToolCall(name=ACT, arguments=json.dumps({"text": action}, ensure_ascii=False))

    def locate(self, item_id: int | str) -> tuple[Split, int]:
        """Split and task number of an AgentTraj-L `item_id`, such as "babyai_7" or 7.

        The number may be beyond the card's: such a task is there for those who ask for the item, not one of the split.

        Raises:
            EnvironmentError: Upstream's task set cannot be reproduced, or has no such item.
        """
        raise EnvironmentError(
            f"{self.card.name}: item {item_id!r} cannot be mapped to a task: upstream's task order is not "
            "reproducible here; choose tasks by number instead"
        )

    def recognise(self, messages: Sequence[Message]) -> tuple[Split, int] | None:
        """Split and task number of someone else's trajectory, told by its own texts; None if they do not tell.

        Item ids of imported trajectories can be wrong or missing. An environment recognises the task in the first
        observation, or in the course of the episode.
        """
        return None

    def _n_items(self, split: Split) -> int:
        """How many tasks follow the split's own, which `locate` alone gives."""
        return 0

    def _explain_format(self) -> str:
        """The observation for an action that is empty or longer than `max_action_chars`."""
        return f"Error: an action is one line of 1 to {self.max_action_chars} characters."

    def _engine_failed(self, what: object) -> EnvironmentError:
        """End the episode whose engine died; returns the error to raise, which names environment, task and step."""
        self._ending = None
        where = f"{self.card.name}: task {self._task} ({self._split}), step {self._rounds}"
        return EnvironmentError(f"{where}: {what}; the next reset starts a new engine")

    # -- shared by all --------------------------------------------------------------------------------------------

    @property
    def card(self) -> EnvironmentCard:
        """The card of this instance; its options may change the task counts and the round cap."""
        return self._card

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: Varies what is random inside the task, but not the task; None is the task's canonical form.
            options: `task` (int, default 0) and `split` ("train" or "test", default "train").

        Returns:
            The first observation and the info dict (`score`, `success`, `rounds`, `task`, `split`).

        Raises:
            EnvironmentError: No such task, split or option.
        """
        task, split = self._check_options(options or {})
        super().reset(seed=seed)
        self._task, self._split, self._seed = task, split, seed
        self._rounds, self._score, self._success = 0, 0.0, False
        self._ending = None  # if the start fails, there is no episode to step in
        observation = self._start(task, split, seed)
        self._ending = "running"
        return observation, self._info()

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Play one round with the bare action text; the reward is the increase of `info["score"]`.

        Raises:
            EnvironmentError: No episode is running, or `action` is not a string.
        """
        name = self.card.name
        if self._ending is None:
            raise EnvironmentError(f"{name}: step() before reset(); call reset(options={{'task': ...}}) first")
        if self._ending != "running":
            raise EnvironmentError(
                f"{name}: task {self._task} ({self._split}) is over ({self._ending} after {self._rounds} rounds); "
                "call reset() to begin another episode"
            )
        if not isinstance(action, str):
            raise EnvironmentError(f"{name}: an action is a string, not {type(action).__name__}")
        if action.strip() and len(action) <= self.max_action_chars:
            outcome = self._act(action)
        else:
            outcome = Outcome(self._explain_format(), self._score)
        self._rounds += 1
        reward = outcome.score - self._score
        self._score, self._success = outcome.score, outcome.success
        truncated = not outcome.done and self._rounds >= self.card.max_rounds
        if outcome.done:
            self._ending = "terminated"
        elif truncated:
            self._ending = "truncated"
        return outcome.observation, reward, outcome.done, truncated, self._info()

    def snapshot(self) -> State:
        """The episode as it is now.

        Raises:
            EnvironmentError: There was no reset.
        """
        if self._ending is None:
            raise EnvironmentError(f"{self.card.name}: snapshot() before reset(); there is no episode to keep")
        return State(
            environment=self.card.name,
            task=self._task,
            split=self._split,
            seed=self._seed,
            rounds=self._rounds,
            score=self._score,
            success=self._success,
            ending=self._ending,
            inner=self._save(),
        )

    def restore(self, state: State) -> None:
        """Go on from a snapshot, of this or another instance made with the same options.

        Raises:
            EnvironmentError: It is not a snapshot of this environment.
        """
        if not isinstance(state, State) or state.environment != self.card.name:
            what = f"of {state.environment}" if isinstance(state, State) else f"but {type(state).__name__}"
            raise EnvironmentError(f"{self.card.name}: restore() takes a snapshot of this environment, not one {what}")
        self._task, self._split, self._seed = state.task, state.split, state.seed
        self._rounds, self._score, self._success = state.rounds, state.score, state.success
        self._ending = None  # until the subclass has restored its part
        self._load(state.inner)
        self._ending = state.ending

    @property
    def running(self) -> bool:
        """Whether an episode has begun and has not ended."""
        return self._ending == "running"

    @property
    def rounds(self) -> int:
        """Rounds played in this episode."""
        return self._rounds

    def _info(self) -> dict[str, Any]:
        return {
            "score": self._score,
            "success": self._success,
            "rounds": self._rounds,
            "task": self._task,
            "split": self._split,
        }

    def _check_options(self, options: Mapping[str, Any]) -> tuple[int, Split]:
        name = self.card.name
        unknown = sorted(set(options) - {"task", "split"})
        if unknown:
            raise EnvironmentError(f"{name}: reset has no option {unknown[0]!r}; it takes 'task' and 'split'")
        split = options.get("split", "train")
        if split not in get_args(Split):
            raise EnvironmentError(f"{name}: split is {split!r}; choose 'train' or 'test'")
        split = cast(Split, split)
        task = options.get("task", 0)
        if isinstance(task, bool) or not isinstance(task, int):
            raise EnvironmentError(f"{name}: task is {task!r}; give a whole number, counted from 0")
        n = self.card.n_tasks(split)
        if not 0 <= task < n + self._n_items(split):
            numbers = f"its tasks are 0 to {n - 1}" if n else "it has no tasks with these options"
            raise EnvironmentError(f"{name}: split {split!r} has no task {task}; {numbers}")
        return task, split
