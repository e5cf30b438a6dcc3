"""`ToolEnv`: the rules that the five tool environments share (AgentGym's agentenv-tool).

An action is parsed, checked against the tool's signature and passed to the backend. A failure on the way is an
observation that explains it, and leaves the state as it was. `info["faults"]` counts the failures of a live service.
"""

from __future__ import annotations

import json
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import gymnasium

from atlas_ray.environments.contract import EnvironmentCard, Metric, Outcome, Split, TextEnv, first_texts, item_number
from atlas_ray.errors import EnvironmentError
from atlas_ray.trajectory import Message, ToolCall
from envs.tools.backend import Backend, Fault, Refused
from envs.tools.expert import ToolExpert
from envs.tools.grammar import (
    FORMAT_ERROR,
    INVALID_INPUT,
    MAX_CALL_CHARS,
    WITH_INPUT,
    ArgumentError,
    format_call,
    observation_text,
    parse_arguments,
    parse_call,
    refused_by,
    shorten,
    start_text,
)
from envs.tools.tasks import N_TEST, N_TRAIN, Play, Task, TaskSet, Template
from envs.tools.toolbox import Toolbox


class PrintableText(gymnasium.spaces.Text):
    """Any printable Unicode text, with line breaks: films have titles in every script."""

    def contains(self, x: Any) -> bool:
        """Whether it is such a text and not too long."""
        return isinstance(x, str) and len(x) <= self.max_length and x.replace("\n", "").isprintable()


class LoggedCall(NamedTuple):
    """A call that succeeded in this episode."""

    name: str
    arguments: dict[str, Any]
    value: Any
    """What the tool returned, unabridged."""


class ToolEnv(TextEnv):
    """An environment of tools; see the package for what a subclass gives.

    Args:
        name, held_in, metric, rounds, source: As in `EnvironmentCard`.
        instruction: What `toolbox` makes of the environment's hint and example.
        toolbox: The tools.
        backend: Carries them out; this environment has it for itself.
        templates: What the generated tasks are made from.
        generated: Makes them when the first episode begins.
        given: Tasks from a file, to be played instead.
        max_rounds: As in `TextEnv`.
    """

    observation_space = PrintableText(max_length=100_000, min_length=0, charset=string.printable)
    action_space = PrintableText(max_length=MAX_CALL_CHARS, min_length=1, charset=string.printable)
    max_action_chars: ClassVar[int] = MAX_CALL_CHARS
    refusals: ClassVar[str] = refused_by()

    def __init__(
        self,
        name: str,
        *,
        held_in: bool,
        metric: Metric = "success_rate",
        rounds: int,
        source: str,
        instruction: str,
        toolbox: Toolbox,
        backend: Backend,
        templates: tuple[Template, ...],
        generated: Callable[[], TaskSet],
        given: TaskSet | None,
        max_rounds: int | None,
    ) -> None:
        card = EnvironmentCard(
            name=name,
            held_in=held_in,
            metric=metric,
            max_rounds=rounds,
            instruction=instruction,
            n_train=N_TRAIN if given is None else len(given.train),
            n_test=N_TEST if given is None else len(given.test),
            source=source,
            action_rule="last",
        )
        super().__init__(card, max_rounds=max_rounds)
        self.toolbox = toolbox
        self.backend = backend
        self._generated, self._given = generated, given
        self._templates = {template.name: template for template in templates} if given is None else {}
        self._current: Task | None = None
        self._log: tuple[LoggedCall, ...] = ()
        self._faults = 0

    @property
    def task(self) -> Task:
        """The task of the episode.

        Raises:
            EnvironmentError: There was no reset.
        """
        if self._current is None:
            raise EnvironmentError(f"{self.card.name}: there is no task before reset()")
        return self._current

    @property
    def log(self) -> tuple[LoggedCall, ...]:
        """The calls that succeeded, in order; read only."""
        return self._log

    # -- what a subclass may change -------------------------------------------------------------------------------

    def _judge(self, finished: bool, given: Any) -> float:
        """The metric after a successful call, in [0, 1]; the episode's score is the highest so far.

        Args:
            finished: Whether the call was `finish`.
            given: Its answer then.
        """
        answer = self.task.answer
        return float(finished and answer is not None and answer.accepts(given))

    def _solved(self, score: float) -> bool:
        """Whether the task is solved, given the episode's score."""
        return score >= 1.0

    def _play_file(self, task: Task) -> Play:
        """The way through a task that came from a file, where upstream's files have one.

        Raises:
            EnvironmentError: They have none.
        """
        raise EnvironmentError(
            f"{self.card.name}: there is no expert for {task.origin or 'this task'}: upstream's file gives an answer "
            "but no way to it; leave out `data` for tasks with an expert"
        )

    # -- the environment contract ---------------------------------------------------------------------------------

    def _start(self, task: int, split: Split, seed: int | None) -> str:
        self._current = (self._given or self._generated()).of(split)[task]
        self._log, self._faults = (), 0
        self.backend.open(self._current)
        return start_text(self._current.goal)

    def _act(self, action: str) -> Outcome:
        call = parse_call(action)
        if call is None:
            return self._answer(FORMAT_ERROR)
        tool = self.toolbox.get(call.name)
        if tool is None:
            return self._answer(observation_text(f"ERROR | Invalid action: {shorten(call.name)}."))
        try:
            arguments = self.toolbox.check(call.name, parse_arguments(call.arguments))
        except ArgumentError as error:
            return self._answer(observation_text(f"ERROR | {INVALID_INPUT} {error}"))
        if call.name == "check_valid_actions":
            return self._answer(observation_text(f"You can use following valid actions: {self.toolbox.names}"))
        try:
            if call.name == "finish":
                return self._finish(arguments)
            value = getattr(self.backend, call.name)(**arguments)
        except Refused as error:
            return self._answer(observation_text(error))
        except Fault as error:
            self._faults += 1
            return self._answer(observation_text(error))
        self._log = (*self._log, LoggedCall(call.name, arguments, value))
        score = max(self._score, self._judge(False, None))
        return Outcome(observation_text(value), score, self._solved(score))

    def _finish(self, arguments: Mapping[str, Any]) -> Outcome:
        """End the episode; a `Fault` while it is judged lets it go on instead."""
        answer = arguments["answer"]
        if isinstance(answer, list) and (all(isinstance(x, str) for x in answer) or not any(map(_unordered, answer))):
            answer = sorted(answer)
        score = max(self._score, self._judge(True, answer))
        return Outcome(observation_text(answer), score, self._solved(score), done=True)

    def _answer(self, observation: str) -> Outcome:
        return Outcome(observation, self._score, self._success)

    def _explain_format(self) -> str:
        return FORMAT_ERROR

    def valid_actions(self) -> list[str]:
        """The calls that take no argument; the others cannot be listed."""
        if not self.running:
            return []
        names = (name for name in self.toolbox.names if not self._parameters(name))
        return sorted(format_call(name, {}) for name in names)

    def _parameters(self, name: str) -> list[str]:
        tool = self.toolbox.get(name)
        return list(tool.parameters) if tool is not None else []

    def looks(self) -> list[str]:
        """The question for the valid actions; any other call is remembered, and the expert builds on what it told."""
        return [action for action in self.valid_actions() if action == format_call("check_valid_actions", {})]

    def tools(self) -> list[dict[str, Any]]:
        """A function for each tool, with its signature; see `TextEnv.tools`."""
        return self.toolbox.definitions()

    def action_of(self, call: ToolCall) -> str:
        """The call as text; whether it can be done, its observation says. See `TextEnv.action_of`."""
        return f"{call.name} {WITH_INPUT} {call.arguments or '{}'}"

    def call_of(self, action: str) -> ToolCall | None:
        """The call that an action is, its arguments as JSON where they can be read; see `TextEnv.call_of`."""
        call = parse_call(action)
        if call is None:
            return None
        try:
            arguments = json.dumps(parse_arguments(call.arguments), ensure_ascii=False)
        except ArgumentError:  # the environment says so too
            arguments = call.arguments
        return ToolCall(name=call.name, arguments=arguments)

    def expert(self) -> ToolExpert:
        """The expert of the running task.

        Raises:
            EnvironmentError: The task came from a file that gives no way to its answer.
        """
        task = self.task
        template = self._templates.get(task.template)
        if template is None:
            self._play_file(task)
        return ToolExpert(self, lambda: template.play(task) if template else self._play_file(task))

    def locate(self, item_id: int | str) -> tuple[Split, int]:
        """The line of the task file, counted from 0; see `TextEnv.locate`."""
        name, n = self.card.name, self.card.n_test
        number = item_number(item_id, name, f"tool_{name}")
        if self._templates:
            raise EnvironmentError(f"{name}: item ids number the lines of AgentGym's task file; give data={name}.jsonl")
        if number is None or number >= n:
            raise EnvironmentError(f"{name}: there is no item {item_id!r}; the file's are {name}_0 to {name}_{n - 1}")
        return "test", number

    def recognise(self, messages: Sequence[Message]) -> tuple[Split, int] | None:
        """The task whose goal the first observation states, if there is one such task; see `TextEnv.recognise`."""
        said = " ".join(first_texts(messages).split())
        tasks = self._given or self._generated()
        splits: tuple[Split, ...] = ("train", "test")
        found = [
            (said.rindex(goal), len(goal), split, number)
            for split in splits
            for number, task in enumerate(tasks.of(split))
            if (goal := " ".join(task.goal.split())) in said
        ]
        best = max((each[:2] for each in found), default=None)  # the last and longest: instructions hold an example
        same = [(split, number) for *where, split, number in found if tuple(where) == best]
        return same[0] if len(same) == 1 else None  # questions about the hidden place or date have equal goals

    def _save(self) -> tuple[Task, tuple[LoggedCall, ...], int, Any]:
        return self.task, self._log, self._faults, self.backend.save()

    def _load(self, inner: tuple[Task, tuple[LoggedCall, ...], int, Any]) -> None:
        self._current, self._log, self._faults, saved = inner
        self.backend.load(self._current, saved)

    def _info(self) -> dict[str, Any]:
        return {**super()._info(), "faults": self._faults}


def _unordered(item: object) -> bool:
    return isinstance(item, bool) or not isinstance(item, int | float)
