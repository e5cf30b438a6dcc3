"""BabyAI's 40 levels in AgentGym's order, and the level and seed of each task number.

With all levels, a training task is AgentGym's item of the same number: level `item % 40 + 1`, seed `item // 40`. Test
tasks use seeds that no training task has. The levels themselves are minigrid's.
"""

from __future__ import annotations

from collections.abc import Sequence

from atlas_ray.environments.contract import Split
from atlas_ray.errors import ConfigError

LEVELS = (
    "GoToRedBallGrey",
    "GoToRedBall",
    "GoToRedBallNoDists",
    "GoToObjS6",
    "GoToLocalS8N7",
    "GoToObjMazeS7",
    "GoToImpUnlock",
    "GoToSeqS5R2",
    "GoToRedBlueBall",
    "GoToDoor",
    "GoToObjDoor",
    "Open",
    "OpenRedDoor",
    "OpenDoorLoc",
    "OpenRedBlueDoorsDebug",
    "OpenDoorsOrderN4Debug",
    "Pickup",
    "UnblockPickup",
    "PickupLoc",
    "PickupDistDebug",
    "PickupAbove",
    "PutNextLocalS6N4",
    "PutNextS7N4Carrying",
    "Unlock",
    "UnlockLocalDist",
    "KeyInBox",
    "UnlockPickupDist",
    "BlockedUnlockPickup",
    "UnlockToUnlock",
    "ActionObjDoor",
    "FindObjS7",
    "KeyCorridorS6R3",
    "OneRoomS20",
    "MoveTwoAcrossS8N9",
    "SynthS5R2",
    "SynthLoc",
    "SynthSeq",
    "MiniBossLevel",
    "BossLevel",
    "BossLevelNoUnlock",
)
"""Level n of AgentGym is `LEVELS[n - 1]`; see `minigrid_id`."""

N_TRAIN_SEEDS = 1000
N_TEST_SEEDS = 100


def minigrid_id(level: int) -> str:
    """The Gymnasium id of a level by number.

    AgentGym's `GoToObjS6` is a room of size 4: minigrid 2 had that size under this name, minigrid 3 calls it S4.
    """
    name = LEVELS[level - 1]
    return f"BabyAI-{'GoToObjS4' if name == 'GoToObjS6' else name}-v0"


def check_levels(levels: Sequence[int | str] | None) -> tuple[int, ...]:
    """The chosen levels as numbers from 1, in the order given; all of them for None.

    Raises:
        ConfigError: Not a list, empty, a repeat, or no such level.
    """
    if levels is None:
        return tuple(range(1, len(LEVELS) + 1))
    if isinstance(levels, str) or not isinstance(levels, Sequence) or not levels:
        raise ConfigError(f"babyai: levels is {levels!r}; give a list of numbers 1 to {len(LEVELS)} or names")
    numbers = [_level_number(level) for level in levels]
    if len(set(numbers)) < len(numbers):
        raise ConfigError(f"babyai: levels {list(levels)} names a level twice")
    return tuple(numbers)


def _level_number(level: int | str) -> int:
    if isinstance(level, str):
        short = level.removeprefix("BabyAI-").partition("-v")[0]
        if short in LEVELS:
            return LEVELS.index(short) + 1
    elif not isinstance(level, bool) and isinstance(level, int) and 1 <= level <= len(LEVELS):
        return level
    raise ConfigError(
        f"babyai: there is no level {level!r}; give a number from 1 to {len(LEVELS)} or one of {', '.join(LEVELS)}"
    )


def level_and_seed(task: int, split: Split, levels: tuple[int, ...]) -> tuple[int, int]:
    """The level's number and minigrid's seed for a task over the given levels."""
    seed, index = divmod(task, len(levels))
    return levels[index], seed if split == "train" else N_TRAIN_SEEDS + seed
