"""Jericho: text adventures on a Z-machine, scored by the share of sub-goals reached, as in AgentBoard.

The Z-machine is in `engine.py`, games and sub-goal files are in `tasks.py`, the expert in `expert.py`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

from atlas_ray.environments.contract import EnvironmentCard, Outcome, Split, TextEnv
from atlas_ray.environments.process import EngineFailure, EngineProcess
from atlas_ray.errors import ConfigError
from envs.jericho.engine import MAX_COMMAND_CHARS, Points, Snapshot, StoryReply, read_points
from envs.jericho.expert import JerichoExpert
from envs.jericho.tasks import N_TEST, N_TRAIN, WHOLE_GAME, StoryTask, generated_game, read_subgoals

INSTRUCTION = """\
You play a text adventure: a world of rooms and things that you act in by short commands. You are told a goal; reach \
it step by step. Some commands:
look: see where you are
inventory: see what you carry
examine THING: look at it closely
take THING, drop THING, put THING on THING, insert THING into THING
open THING, close THING, unlock THING with THING
north, south, east, west, up, down: go there
check valid actions: list commands that work here
The story may know others. Give one command a round, in this format:
Thought: your reasoning
Action: your command"""

CHECK = "check valid actions"
_META = frozenset(
    ("save", "restore", "restart", "quit", "q", "undo", "script", "unscript", "record", "replay", "verify", "notify")
)

_PROSE = re.compile(r"[A-Za-z0-9 ,.;:'\"?!-]+")
"""Frotz takes a backslash, and some stories `#` and `$`, as the beginning of a command about the program."""


class JerichoEnv(TextEnv):
    """`info["score"]` is the share of sub-goals reached, or of the story's points; success is that it is 1.

    Args:
        story: A story file (.z3, .z5, .z8) to play instead of the generated games.
        subgoals: Its sub-goal file (README.md), task i being its task i in either split; without one there is one
            task, the whole story, scored by its own points.
        max_rounds: Rounds before truncation, the paper's 15 unless given.

    `valid_actions` tries commands and takes them back. `seed` varies the story's random numbers.
    """

    refusals: ClassVar[str] = (
        r"An action is a short command|The command .{1,42} is not valid here|(?:\([^)]{1,80}\) )?(?:"
        r"That(?:'s| is) (?:not|already|fixed|plainly)|That (?:can't|seems)|(?:It|They) (?:is|are) (?:already|fixed)|"
        r"It(?:'s| is) (?:already|fixed|locked)|You (?:can't|cannot|must|aren't|haven't|need to|have to|already)|"
        r"You can only|You(?:'re| are) (?:already|carrying too many)|You'll have to say|But you|There's nothing|"
        r"Nothing to do|I (?:only understood|didn't understand|beg your pardon)|Sorry, |"
        r"(?:What|Which|Who) do you (?:want|mean)|There is no more room|"
        r"The [^.]{1,60} (?:is|are) (?:already|fixed in place))"
    )

    def __init__(
        self, *, story: str | Path | None = None, subgoals: str | Path | None = None, max_rounds: int | None = None
    ) -> None:
        self._story, self._tasks = _own_story(story, subgoals)
        card = EnvironmentCard(
            name="jericho",
            held_in=False,
            metric="progress_rate",
            max_rounds=15,
            instruction=INSTRUCTION,
            n_train=len(self._tasks) if self._tasks else N_TRAIN,
            n_test=len(self._tasks) if self._tasks else N_TEST,
            source="Jericho's Z-machine (GPL-2.0), games of TextWorld (MIT), form as in AgentBoard",
            process_mib=64,
            action_rule="last",
        )
        super().__init__(card, max_rounds=max_rounds)
        self._engine = EngineProcess("envs.jericho.engine:StoryEngine")
        self._file = ""
        self._task_now = WHOLE_GAME
        self._reached: frozenset[int] = frozenset()
        self._followed = 0
        self._total: int | None = None

    @property
    def task(self) -> StoryTask:
        """The task of the running episode."""
        return self._task_now

    @property
    def followed(self) -> int:
        """How many commands of the walkthrough were given, in order."""
        return self._followed

    def points(self) -> Points:
        """The story's own score, maximum and moves, where they can be read."""
        points: Points = self._ask("points")
        return points

    def _start(self, task: int, split: Split, seed: int | None) -> str:
        self._choose(task, split)
        self._reached, self._followed = frozenset(), 0
        self._begin_engine()
        it = self._task_now
        reply: StoryReply = self._ask(
            "begin", self._file, it.seed if seed is None else it.seed + 1 + abs(seed), it.start
        )
        self._total = None if it.subgoals else self.points().total
        text = reply.text
        if it.opening is not None and it.opening in text:
            text = text[text.index(it.opening) :]
        return f"Goal: {it.goal}\nObservation: {_plain(text)}"

    def _choose(self, task: int, split: Split) -> None:
        if self._tasks:
            self._file, self._task_now = str(self._story), self._tasks[task]
        else:
            path, self._task_now = generated_game(task if split == "train" else N_TRAIN + task)
            self._file = str(path)

    def _begin_engine(self) -> None:
        try:
            self._engine.start()
        except EngineFailure as error:
            raise self._engine_failed(error) from error

    def _ask(self, method: str, *arguments: Any) -> Any:
        try:
            return self._engine.call(method, *arguments)
        except EngineFailure as error:
            raise self._engine_failed(error) from error

    def _act(self, action: str) -> Outcome:
        command = " ".join(action.split())
        words = re.findall(r"[a-z0-9]+", command.casefold())
        if not words or len(command) > MAX_COMMAND_CHARS or not _PROSE.fullmatch(command):
            return Outcome(self._explain_format(), self._score)
        if command.casefold() == CHECK:
            return Outcome(f"You can take the following actions: {', '.join(self.valid_actions())}", self._score)
        if not _META.isdisjoint(words):
            return Outcome(f"The command {command[:40]!r} is not valid here: stories go on and on.", self._score)
        reply: StoryReply = self._ask("step", command)
        walkthrough = self._task_now.walkthrough
        if self._followed < len(walkthrough) and command == walkthrough[self._followed]:
            self._followed += 1
        score = self._measure(reply)
        return Outcome(_plain(reply.text), score, success=score == 1.0, done=reply.over or score == 1.0)

    def _measure(self, reply: StoryReply) -> float:
        """The score after a reply; sub-goals stay reached, points may be lost again."""
        goals = self._task_now.subgoals
        if not goals:
            if reply.won:
                return 1.0
            points = self._points_after(reply) if self._total else None
            return min(max(points / self._total, 0.0), 1.0) if points is not None and self._total else self._score
        text = _plain(reply.text).casefold()
        points = self._points_after(reply) if any(goal.score is not None for goal in goals) else None
        now = {
            i
            for i, goal in enumerate(goals)
            if (goal.text is not None and _plain(goal.text).casefold() in text)
            or (goal.score is not None and points is not None and points >= goal.score)
        }
        self._reached |= now
        return len(self._reached) / len(goals)

    def _points_after(self, reply: StoryReply) -> int | None:
        return read_points(reply.text).points if reply.over else self.points().points  # an ended story takes no command

    def _explain_format(self) -> str:
        return (
            f"An action is a short command in plain words of at most {MAX_COMMAND_CHARS} characters, such as 'look' or "
            f"'take lamp'; '{CHECK}' lists some."
        )

    def valid_actions(self) -> list[str]:
        if not self.running:
            return []
        actions: list[str] = self._ask("valid_actions", self._task_now.nouns)
        return actions

    def looks(self) -> list[str]:
        """By their verbs, because a story counts every command; see `TextEnv.looks`."""
        return [action for action in self.valid_actions() if action.split()[0] in ("examine", "inventory", "look")]

    def expert(self) -> JerichoExpert:
        return JerichoExpert(self)

    def close(self) -> None:
        """End the engine's process; the next reset starts another."""
        self._engine.close()

    def _save(self) -> tuple[Snapshot, frozenset[int], int, int | None]:
        return self._ask("save"), self._reached, self._followed, self._total

    def _load(self, inner: tuple[Snapshot, frozenset[int], int, int | None]) -> None:
        snapshot, self._reached, self._followed, self._total = inner
        self._choose(self._task, self._split)
        self._begin_engine()
        self._ask("load", self._file, snapshot)


def _own_story(story: str | Path | None, subgoals: str | Path | None) -> tuple[Path | None, tuple[StoryTask, ...]]:
    if story is None:
        if subgoals is not None:
            raise ConfigError("jericho: subgoals needs a story; give story=PATH of the game that the file is about")
        return None, ()
    path = Path(story)
    if not path.is_file():
        raise ConfigError(f"jericho: story {path} is not there; give the path of a .z3, .z5 or .z8 file")
    if path.suffix.lower() not in (".z3", ".z5", ".z8") or path.read_bytes()[:1] not in (b"\x03", b"\x05", b"\x08"):
        raise ConfigError(f"jericho: story {path} is no Z-machine story of version 3, 5 or 8 (.z3, .z5, .z8)")
    return path.resolve(), (WHOLE_GAME,) if subgoals is None else read_subgoals(Path(subgoals))


def _plain(text: str) -> str:
    """One line of printable ASCII, as AgentBoard shows replies."""
    return re.sub(r"[^\x20-\x7e]", "?", " ".join(text.split())) or "Nothing happens."
