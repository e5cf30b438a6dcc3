"""ALFWorld's official games, read by path, and the games that AgentGym's item ids mean.

A path is an ALFWORLD_DATA directory of game.tw-pddl files, another directory of such files, or a .jsonl or .jsonl.xz
file with one game per row. A game is read when it is played. Generated games are in `generate.py`.
"""

from __future__ import annotations

import json
import lzma
import re
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any, Protocol

from atlas_ray.environments.contract import Split, item_number
from atlas_ray.errors import ConfigError, DataError, EnvironmentError

N_AGENTGYM_TRAIN, N_AGENTGYM_TEST = 2420, 200
_TASK = re.compile(r"Your task is to: ([^\"\\]*?)\.?\s*[\"\\]")


@dataclass(frozen=True)
class Game:
    """One game.

    Attributes:
        split: The split that the source says it belongs to.
        task: ALFRED's name of the task, such as "pick_and_place_simple-Mug-None-Desk-301".
        trial: What tells games of one task apart, such as "trial_T20190907_174127_043461".
        goal: The task in words, without a full stop.
        problem: The PDDL problem.
        where: Where it was read, for errors.
        walkthrough: Commands of alfworld 0.4 that win, where the source has them.
    """

    split: Split
    task: str
    trial: str
    goal: str
    problem: str
    where: str
    walkthrough: tuple[str, ...] = ()


class Games(Protocol):
    """Games by split and number."""

    def count(self, split: Split) -> int:
        """How many games the split has."""
        ...

    def game(self, split: Split, task: int) -> Game:
        """One game; raises DataError when what the source holds there is no game."""
        ...

    def find(self, task: str, trial: str) -> tuple[Split, int] | None:
        """Split and number of the game with this task and trial."""
        ...

    @property
    def folder(self) -> Path:
        """The folder in which AgentGym's mapping files are searched."""
        ...


def open_games(path: str | Path) -> Games:
    """The games of a path.

    Raises:
        DataError: There is nothing at the path, or no game in it.
        ConfigError: It is not a path of a kind that is read.
    """
    if not isinstance(path, str | Path):
        raise ConfigError(f"alfworld: data is {path!r}; give a path to a directory or a .jsonl or .jsonl.xz file")
    path = Path(path).expanduser()
    if not path.exists():
        raise DataError(
            f"alfworld: data={str(path)!r} does not exist; give an ALFWORLD_DATA directory "
            "(made by alfworld-download) or a .jsonl or .jsonl.xz file of games"
        )
    if path.is_dir():
        return FolderGames(path)
    if path.name.endswith((".jsonl", ".jsonl.xz")):
        return FileGames(path)
    raise ConfigError(f"alfworld: data={str(path)!r} is neither a directory nor a .jsonl or .jsonl.xz file")


def locate(games: Games, item_id: int | str) -> tuple[Split, int]:
    """Split and number of an AgentGym item, given as its number or as AgentTraj-L's "task_trial".

    Raises:
        EnvironmentError: AgentGym has no such item, or the games do not hold it, or a number is given and AgentGym's
            mapping files do not lie beside the games.
    """
    task, trial = _item(games.folder, item_id)
    found = games.find(task, trial)
    if found is None:
        raise EnvironmentError(f"alfworld: item {item_id!r} is the game {task}/{trial}, which these games do not hold")
    return found


def _item(folder: Path, item_id: int | str) -> tuple[str, str]:
    text = str(item_id)
    task, mark, trial = text.removeprefix("alfworld_").partition("_trial_")
    if mark:
        return task.rstrip("/"), f"trial_{trial}"
    number = item_number(item_id, "alfworld")
    if number is None or number >= N_AGENTGYM_TRAIN + N_AGENTGYM_TEST:
        raise EnvironmentError(
            f"alfworld: there is no item {item_id!r}; items are 0 to {N_AGENTGYM_TRAIN + N_AGENTGYM_TEST - 1}, "
            'or "<task>_trial_<time>" as in AgentTraj-L'
        )
    name = "mappings_train.json" if number < N_AGENTGYM_TRAIN else "mappings_test.json"
    row = _mapping(folder / name).get(number)
    if row is None:
        raise EnvironmentError(f"alfworld: {folder / name} has no item_id {number}")
    return row


@cache
def _mapping(path: Path) -> dict[int, tuple[str, str]]:
    if not path.is_file():
        raise EnvironmentError(
            f"alfworld: item numbers need AgentGym's agentenv-alfworld/configs/{path.name}; put it at {path}, "
            'or name the item "<task>_trial_<time>"'
        )
    try:
        return {row["item_id"]: (row["task_type"], row["task_id"]) for row in json.loads(path.read_text())}
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path}: not a list of rows with item_id, task_type and task_id ({error})") from error


class FolderGames:
    """The game.tw-pddl files of a directory, by path.

    With the splits of ALFWORLD_DATA below it (`json_2.1.1/train` and so on), training games are those of `train`, and
    test games those of `valid_train` (what AgentGym tests on) where it is there, else of `valid_unseen`, else of
    `valid_seen`. In any other directory task i is file i, whatever the split.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        root = next((one for one in (folder, folder / "json_2.1.1") if (one / "train").is_dir()), None)
        if root is None:
            every = _game_files(folder)
            self._files: dict[Split, list[Path]] = {"train": every, "test": every}
        else:
            tests = [_game_files(root / name) for name in ("valid_train", "valid_unseen", "valid_seen")]
            self._files = {"train": _game_files(root / "train"), "test": next(filter(None, tests), [])}
        if not any(self._files.values()):
            raise DataError(f"{folder}: no game.tw-pddl file in it; give the directory that alfworld-download filled")

    def count(self, split: Split) -> int:
        """See `Games`."""
        return len(self._files[split])

    def game(self, split: Split, task: int) -> Game:
        """See `Games`."""
        path = self._files[split][task]
        row = _object(path.read_bytes(), str(path))
        grammar, problem = _text(row, "grammar", str(path)), _text(row, "pddl_problem", str(path))
        goal = _TASK.search(grammar)
        if goal is None:
            raise DataError(f"{path}: field grammar does not say 'Your task is to: ...'")
        name, trial = path.parent.parent.name, path.parent.name
        return Game(split, name, trial, goal[1].strip(), problem, str(path), _walkthrough(row))

    def find(self, task: str, trial: str) -> tuple[Split, int] | None:
        """See `Games`."""
        return self._index.get((task, trial))

    @cached_property
    def _index(self) -> dict[tuple[str, str], tuple[Split, int]]:
        splits: tuple[Split, Split] = ("test", "train")
        return {
            (path.parent.parent.name, path.parent.name): (split, number)
            for split in splits
            for number, path in enumerate(self._files[split])
        }


def _game_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("game.tw-pddl"))


class FileGames:
    """The rows of a .jsonl or .jsonl.xz file: task i is row i in both splits.

    A row has goal and pddl_problem, and for `find` the fields split, task and trial.
    """

    def __init__(self, path: Path) -> None:
        self.folder, self._path = path.parent, path
        self._rows = _rows(path, path.stat().st_mtime_ns)
        if not self._rows:
            raise DataError(f"{path}: no game in it")

    def count(self, split: Split) -> int:
        """See `Games`."""
        return len(self._rows)

    def game(self, split: Split, task: int) -> Game:
        """See `Games`."""
        where = f"{self._path}, row {task + 1}"
        row = _object(zlib.decompress(self._rows[task]), where)
        goal = _text(row, "goal", where).strip().removesuffix(".")
        name, trial = str(row.get("task", f"row-{task + 1}")), str(row.get("trial", ""))
        its: Split = "train" if row.get("split", split) == "train" else "test"
        return Game(its, name, trial, goal, _text(row, "pddl_problem", where), where, _walkthrough(row))

    def find(self, task: str, trial: str) -> tuple[Split, int] | None:
        """See `Games`; the split is the row's own."""
        return self._index.get((task, trial))

    @cached_property
    def _index(self) -> dict[tuple[str, str], tuple[Split, int]]:
        located: dict[tuple[str, str], tuple[Split, int]] = {}
        for number in range(len(self._rows)):
            with suppress(DataError):  # a bad row is an error when it is played, not when another is looked for
                game = self.game("train", number)
                located[game.task, game.trial] = (game.split, number)
        return located


@lru_cache(maxsize=4)
def _rows(path: Path, changed: int) -> tuple[bytes, ...]:
    """The non-empty lines, compressed: the official games are 200 MB of text, and 25 MB compressed."""
    return tuple(zlib.compress(line, 1) for line in _lines(path) if line.strip())


def _lines(path: Path) -> Iterator[bytes]:
    try:
        if path.suffix == ".xz":
            with lzma.open(path) as stream:
                yield from stream
        else:
            with path.open("rb") as stream:
                yield from stream
    except (lzma.LZMAError, EOFError) as error:
        raise DataError(f"{path}: not a whole xz file ({error}); copy it again") from error


def _object(text: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(text)
    except ValueError as error:
        raise DataError(f"{where}: not JSON ({error})") from error
    if not isinstance(row, dict):
        raise DataError(f"{where}: a game is a JSON object, not {type(row).__name__}")
    return row


def _walkthrough(row: dict[str, Any]) -> tuple[str, ...]:
    commands = row.get("walkthrough")
    return tuple(map(str, commands)) if isinstance(commands, list) else ()


def _text(row: dict[str, Any], field: str, where: str) -> str:
    value = row.get(field)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where}: field {field} is missing or not a text")
    return value
