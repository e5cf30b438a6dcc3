"""ScienceWorld: elementary-school science in a simulated house (AllenAI's engine, texts as in AgentGym).

The Java process is in `jvm.py`, the numbering of tasks in `tasks.py`, the expert in `expert.py`.
"""

from __future__ import annotations

import re
import zlib
from typing import ClassVar

from atlas_ray.environments.contract import EnvironmentCard, Outcome, Split, TextEnv
from atlas_ray.environments.process import EngineFailure
from envs.scienceworld.expert import ScienceWorldExpert
from envs.scienceworld.jvm import MEMORY_MIB, EngineReply, ScienceWorldEngine
from envs.scienceworld.tasks import Task, locate, numbering

INSTRUCTION = """\
You are an agent in a small simulated world of rooms, things and living beings, and you are given a science task. Each \
round you read an observation and answer with one action that brings the task forward. OBJ stands for a thing, LOC for \
a place. The actions are:
open OBJ, close OBJ: open or close a container or a door
activate OBJ, deactivate OBJ: turn a device on or off
connect OBJ to OBJ, disconnect OBJ: join electrical parts, or part them
use OBJ [on OBJ]: use a device or an instrument
look around: see the room
look at OBJ, look in OBJ, examine OBJ: see a thing, or what it holds
read OBJ: read a note or a book
move OBJ to OBJ: put a thing into a container or a place
pick up OBJ, put down OBJ: take a thing into your inventory, or leave it
pour OBJ into OBJ, dunk OBJ into OBJ, mix OBJ: work with liquids and mixtures
go to LOC: go through an open door
eat OBJ, flush OBJ
focus on OBJ: say which thing the task is about; a wrong one fails the task
wait, wait1: let 10 rounds or 1 round pass
task, inventory: read the task again, or see what you carry
If a name fits several things you are asked for the number of the one you mean. Answer in this format:
Thought:
your thoughts

Action:
your next action"""

_ONE_OBJECT = (
    "activate", "close", "deactivate", "eat", "flush", "focus on", "go to", "look at", "look in", "mix", "open",
    "pick up", "put down", "read", "use",
)  # fmt: skip
_NO_OBJECT = ("inventory", "look around", "task", "wait", "wait1")
_LOOKING = ("inventory", "look ", "task")


class ScienceWorldEnv(TextEnv):
    """`info["score"]` is the engine's score, success that it is 1; a task failed for good ends with score 0.

    Args:
        max_rounds: Rounds before truncation, the paper's 30 unless given.

    `valid_actions` joins each action of at most one object to each name in reach, without asking the engine which of
    them do something; those of two objects are too many to list. `seed` varies what living things do.
    """

    refusals: ClassVar[str] = (
        r"An action is one line|No known action|Unknown action|Ambiguous request: Multiple|It'?s not clear how|"
        r"I'm not sure (?:how|what)|You can't|Something can't|That (?:can't|is (?:not|already))|"
        r"The [^.\n]{1,80} (?:is (?:not|already|in is not)|isn't) "
    )

    def __init__(self, *, max_rounds: int | None = None) -> None:
        card = EnvironmentCard(
            name="scienceworld",
            version=2,
            held_in=True,
            metric="mean_reward",
            max_rounds=30,
            instruction=INSTRUCTION,
            n_train=len(numbering("train")),
            n_test=len(numbering("test")),
            source="ScienceWorld 1.2.3 (Apache-2.0), texts as in AgentGym",
            snapshot="replay",
            process_mib=MEMORY_MIB,
            action_rule="last",
        )
        super().__init__(card, max_rounds=max_rounds)
        self._engine: ScienceWorldEngine | None = None
        self._where: Task
        self._salt = 0
        self._description = ""
        self._actions: list[str] = []
        self._gold: dict[Task, list[str]] = {}

    @property
    def description(self) -> str:
        """The task in words."""
        return self._description

    @property
    def kind(self) -> str:
        """The task's type, such as "boil"."""
        return self._where.name

    @property
    def actions(self) -> tuple[str, ...]:
        """What has been done in this episode, as the engine got it."""
        return tuple(self._actions)

    def locate(self, item_id: int | str) -> tuple[Split, int]:
        """AgentGym numbers the variations of its 23 task types in the order of the types; see `TextEnv.locate`."""
        return locate(item_id)

    def gold_path(self) -> list[str]:
        """The engine's own solution of the running task."""
        path = self._gold.get(self._where)
        if path is None:
            try:
                path = self._running().gold_path(self._where.name, self._where.variation)
                self._replay(list(self._actions))
            except EngineFailure as error:
                raise self._engine_failed(error) from error
            self._gold[self._where] = path
        return path

    def _start(self, task: int, split: Split, seed: int | None) -> str:
        self._where = numbering(split)[task]
        self._salt = 0 if seed is None else zlib.crc32(f"{seed}".encode())
        try:
            first = self._replay([])
        except EngineFailure as error:
            raise self._engine_failed(error) from error
        return f"{self._description}\n{_plain(first.text)}"

    def _running(self) -> ScienceWorldEngine:
        if self._engine is None or self._engine.process.poll() is not None:
            self._engine = ScienceWorldEngine()
        return self._engine

    def _replay(self, actions: list[str]) -> EngineReply:
        """Begin the task anew and do `actions` after the first look, as AgentGym does."""
        engine = self._running()
        engine.load(self._where.name, self._where.variation, self._salt)
        self._description = _plain(engine.describe())
        self._actions = []
        answer = engine.step("look around", self._salt)
        for action in actions:
            answer = self._play(engine, action)
        return answer

    def _play(self, engine: ScienceWorldEngine, action: str) -> EngineReply:
        # A seed for each round, so that what was listed or solved in between changes nothing.
        answer = engine.step(action, self._salt + len(self._actions) + 1)
        self._actions.append(action)
        return answer

    def _act(self, action: str) -> Outcome:
        line = " ".join(action.split())
        if not (line.isascii() and line.isprintable()):
            return Outcome(self._explain_format(), self._score)
        if self._engine is None:
            raise self._engine_failed("its engine is not running")
        try:
            answer = self._play(self._engine, line)
        except EngineFailure as error:
            raise self._engine_failed(error) from error
        score = min(max(round(100 * answer.score), 0), 100) / 100  # whole percents, as the engine's package has them
        over = answer.completed or answer.score < 0
        return Outcome(_plain(answer.text), score, success=score == 1.0, done=over)

    def _explain_format(self) -> str:
        return (
            f"An action is one line of 1 to {self.max_action_chars} printable ASCII characters, such as 'look around', "
            "'open door to kitchen' or 'move seed to flower pot 1'."
        )

    def valid_actions(self) -> list[str]:
        if not self.running or self._engine is None:
            return []
        try:
            names = self._engine.objects()
        except EngineFailure as error:
            raise self._engine_failed(error) from error
        return sorted({*_NO_OBJECT, *(f"{verb} {name}" for verb in _ONE_OBJECT for name in names)})

    def looks(self) -> list[str]:
        """By their verbs; time goes on during a look as during any action. See `TextEnv.looks`."""
        return [action for action in self.valid_actions() if action.startswith(_LOOKING)]

    def expert(self) -> ScienceWorldExpert:
        return ScienceWorldExpert(self)

    def close(self) -> None:
        """End the Java process; the next reset starts another."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def _save(self) -> tuple[Task, int, tuple[str, ...]]:
        return self._where, self._salt, tuple(self._actions)

    def _load(self, inner: tuple[Task, int, tuple[str, ...]]) -> None:
        self._where, self._salt, actions = inner
        try:
            self._replay(list(actions))
        except EngineFailure as error:
            raise self._engine_failed(error) from error


def _plain(text: str) -> str:
    """Printable ASCII without trailing blanks; the engine ends some lines with them."""
    return re.sub(r"[^\x20-\x7e\n\t]", "?", text).strip() or "Nothing happens."
