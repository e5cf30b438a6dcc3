"""Jericho's tasks: sub-goal files, and games that TextWorld compiles at first use.

A sub-goal file is JSON; README.md describes its format. A generated game is a story with such a file beside it. It is
played through once before it is cached (`atlas_ray/cache.py`).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from atlas_ray.cache import cached
from atlas_ray.environments.process import EngineProcess
from atlas_ray.errors import ConfigError, EnvironmentError
from envs.jericho.engine import REMEDY

N_TRAIN, N_TEST = 10, 20
"""Generated games; 20 as AgentBoard has for its test."""
_RECIPE = "textworld-1.7.0"
"""Changes when the games below would come out differently."""


class SubGoal(BaseModel):
    """Reached when a reply of the story holds `text`, or its own score is `score` or more."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str | None = Field(None, min_length=1)
    score: int | None = None

    @model_validator(mode="after")
    def _one(self) -> SubGoal:
        if (self.text is None) == (self.score is None):
            raise ValueError("give either text or score")
        return self


class StoryTask(BaseModel):
    """A goal within a story, the commands that lead to where it begins, and what counts as progress."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    goal: str = Field(min_length=1)
    start: tuple[str, ...] = ()
    subgoals: tuple[SubGoal, ...] = ()
    """Empty: the story's own points."""
    walkthrough: tuple[str, ...] = ()
    nouns: tuple[str, ...] = ()
    """Names that valid actions are tried with; empty: the story's dictionary."""
    seed: int = Field(1, ge=1)
    """Of the story's random numbers."""
    opening: str | None = None
    """Text of the story that the first observation begins with, what is before it being left out."""


class SubGoalFile(BaseModel):
    """What a sub-goal file holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tasks: tuple[StoryTask, ...] = Field(min_length=1)


WHOLE_GAME = StoryTask(goal="Play the story to its end and score as many points as you can.")


def read_subgoals(path: Path) -> tuple[StoryTask, ...]:
    """The tasks of a sub-goal file.

    Raises:
        ConfigError: It is missing or malformed; file, task and field are named.
    """
    try:
        return SubGoalFile.model_validate_json(path.read_bytes()).tasks
    except OSError as error:
        raise ConfigError(f"jericho: sub-goal file {path} cannot be read ({error.strerror})") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "file"
        raise ConfigError(
            f"jericho: sub-goal file {path}: {where}: {first['msg']}; see envs/jericho/README.md"
        ) from None


@cache
def generated_game(number: int) -> tuple[Path, StoryTask]:
    """The story file and the task of a generated game, compiled by TextWorld's `tw-make` unless it is cached.

    Raises:
        EnvironmentError: TextWorld is not installed, or the game did not compile.
    """
    folder = cached(f"jericho/{_RECIPE}/{number:02d}", "task.json", lambda folder: _make(number, folder))
    return folder / "story.z8", StoryTask.model_validate_json((folder / "task.json").read_bytes())


def _make(number: int, folder: Path) -> None:
    maker = shutil.which(
        "tw-make", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    )
    if maker is None:
        raise EnvironmentError(f"jericho: TextWorld's tw-make is not there to compile game {number}; {REMEDY}")
    for attempt in range(5):
        size, length = 2 + number % 4, 4 + number % 6
        command = [sys.executable, maker, "custom", "--world-size", str(size), "--nb-objects", str(4 + size)]
        command += ["--quest-length", str(length), "--seed", str(1000 * (attempt + 1) + number)]
        command += ["--output", str(folder / "story.z8"), "-f", "--silent"]
        run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": "0"})
        if run.returncode != 0 or not (folder / "story.z8").is_file():
            last = (run.stderr.strip().splitlines() or ["no message"])[-1]
            raise EnvironmentError(f"jericho: tw-make did not compile game {number}: {last}; {REMEDY}")
        task = _restructure(folder / "story.z8", json.loads((folder / "story.json").read_text()))
        if task is not None:
            (folder / "task.json").write_text(task.model_dump_json(exclude_defaults=True, indent=1))
            return
    raise EnvironmentError(f"jericho: none of five seeds gave a game {number} that its own walkthrough wins")


def _restructure(story: Path, game: dict[str, Any]) -> StoryTask | None:
    """The game's quest as sub-goals: what the story says after each command of its policy."""
    walkthrough = tuple(str(command) for command in game["metadata"]["walkthrough"])
    engine = EngineProcess("envs.jericho.engine:StoryEngine")
    engine.start()
    try:
        opening = " ".join(engine.call("begin", str(story), 1, ()).text.split())
        replies = [engine.call("step", command) for command in walkthrough]
    finally:
        engine.close()
    if not replies or not replies[-1].won or len(walkthrough) > 12:
        return None
    firsts = (" ".join(reply.text.split("\n")[0].split()) for reply in replies)
    # Coming back to the first room is no progress: its heading is the reply to `look` too.
    texts = [text for text in dict.fromkeys(firsts) if text not in opening]
    things = (info for _, info in game["infos"] if info["name"] and info["type"] not in ("r", "P", "I"))
    names = sorted({str(info["name"]) for info in things})
    return StoryTask(
        goal=f"{walkthrough[-1][0].upper()}{walkthrough[-1][1:]}.",
        subgoals=tuple(SubGoal(text=text, score=None) for text in texts),
        walkthrough=walkthrough,
        nouns=tuple(names),
        opening="-= ",
    )
