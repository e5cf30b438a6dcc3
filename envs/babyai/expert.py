"""The BabyAI expert: plays missions with macro actions and says why it takes each one.

It plans the whole mission on the whole grid, so it never searches in vain. Its thoughts mention only what the agent has
seen: while an object is out of sight, they say that it looks for it. `planner.py` finds the way to one aim; this file
turns the mission into aims and deals with keys, blocked ways and full hands.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from minigrid.envs.babyai.core.verifier import AfterInstr, AndInstr, BeforeInstr, GoToInstr, OpenInstr, PickupInstr

from envs.babyai.grid import (
    EMPTY,
    LOCKED,
    UNSEEN,
    World,
    code,
    colour,
    door_state,
    hidden_key,
    kind,
    look,
    name,
    view_positions,
)
from envs.babyai.planner import Aim, Step, doors_shut, keeps_free, obstacle, search
from envs.babyai.text import Sight

if TYPE_CHECKING:
    from envs.babyai.env import BabyAIEnv

_MAX_DETOURS = 8


class _StuckError(Exception):
    """There is no plan for the rest of the mission."""


@dataclass(frozen=True)
class _Planned:
    """A step to an aim; `thing` is what the aim is about and `because` why the mission needs it, in words."""

    step: Step
    aim: Aim
    thing: str
    because: str


@dataclass
class _Draft:
    """A partial plan: the world as it will be, the minigrid object at each position, and the steps so far."""

    world: World
    things: dict[int, Any]
    held: Any
    steps: list[_Planned] = field(default_factory=list)
    later: list[Any] = field(default_factory=list)
    """Parts of the mission after the one that is being planned."""
    detours: int = 0
    unlocking: set[int] = field(default_factory=set)

    def positions(self, description: Any) -> frozenset[int]:
        """Where the objects of a mission's description are, but for one that is held."""
        wanted = description.obj_set
        return frozenset(position for position, thing in self.things.items() if any(thing is one for one in wanted))


class BabyAIExpert:
    """Does the parts of a mission in the order that takes the fewest rounds."""

    def __init__(self, env: BabyAIEnv) -> None:
        self._env = env
        self._seen: set[int] = set()
        self._left: list[_Planned] = []
        self._expected: tuple[int, int] | None = None
        self._hopeless: list[int] | None = None

    def next_action(self, observation: str) -> tuple[str, str]:
        """The next step of the plan, which is made anew when the agent is not where it should be; see `Expert`."""
        world = self._env.world
        view = look(world)
        self._seen.update(
            position for position, cell in zip(view_positions(world), view, strict=True) if cell != UNSEEN
        )
        on_plan = self._expected == (world.position, world.direction) and bool(self._left)
        reading = self._env.reading
        if not on_plan or self._left[0].step.action not in reading.actions.keys() | reading.unlisted.keys():
            self._left = [] if self._hopeless == world.cells else self._plan_mission()
        if not self._left:
            self._expected, self._hopeless = None, world.cells.copy()
            return "I do not see a way to reach the goal from here, so I turn left to look around.", "turn left"
        planned = self._left.pop(0)
        self._expected = (planned.step.position, planned.step.direction)
        return self._reason(planned), planned.step.action

    # -- planning -------------------------------------------------------------------------------------------------

    def _plan_mission(self) -> list[_Planned]:
        """The steps of the shortest plan found; if all plans get stuck, those of the first up to there."""
        whole: list[list[_Planned]] = []
        partial: list[list[_Planned]] = []
        level, world = self._env.level, self._env.world
        for parts in _orders(level.instrs):
            things = {
                world.at(n % level.grid.width, n // level.grid.width): thing
                for n, thing in enumerate(level.grid.grid)
                if thing is not None and thing.type != "wall"
            }
            draft = _Draft(world.copy(), things, level.carrying)
            try:
                for n, part in enumerate(parts):
                    draft.later = parts[n + 1 :]
                    _do_part(draft, part)
                whole.append(draft.steps)
            except _StuckError:
                partial.append(draft.steps)
        return min(whole, key=len) if whole else partial[0]

    # -- reasons --------------------------------------------------------------------------------------------------

    def _reason(self, planned: _Planned) -> str:
        opening = f"My goal is to {self._env.goal}. " if self._env.rounds == 0 else ""
        because = f"{planned.because} " if planned.because else ""
        return f"{opening}{because}{self._sentence(planned)}"

    def _sentence(self, planned: _Planned) -> str:
        action, thing, positions = planned.step.action, planned.thing, planned.aim.positions
        reading = self._env.reading
        target = next((sight for sight in reading.sights if sight.position in positions), None)
        about = reading.targets.get(action)
        if action == "drop":
            if not positions:
                return "The place in front of me is free, so I drop it."
            return f"The place in front of me is next to the {thing}, so I drop it."
        if action == "toggle":
            return f"The {thing} is right in front of me, so I toggle."
        if about is not None and about.position in positions:
            return f"I see {_sighted(about)}, so I {action}."
        if planned.aim.verb == "drop" and not positions:
            return f"There is no good place for it here, so I {action}."
        if target is not None:
            return f"I see {_sighted(target)}. To get there, I {action}."
        if positions & self._seen:
            return f"The {thing} is out of sight now, so I {action} to get back to it."
        return f"I do not see the {thing} yet, so I {action} to look for it."


def _do_part(draft: _Draft, part: Any) -> None:
    if isinstance(part, GoToInstr):
        _reach(draft, Aim("go to", draft.positions(part.desc)), _words(part.desc), "")
    elif isinstance(part, OpenInstr):
        _open(draft, part)
    elif isinstance(part, PickupInstr):
        if any(draft.held is thing for thing in part.desc.obj_set):
            _put_away(draft, frozenset(), _words(part.desc))  # only a new pickup counts
        _take(draft, draft.positions(part.desc), _words(part.desc), "")
    else:
        _put_next(draft, part)


def _reach(draft: _Draft, aim: Aim, thing: str, because: str, to: int | None = None) -> None:
    """Plan to the aim, clearing the way as often as needed and keeping the way on to the position `to` free."""
    while True:
        reserved = _reserved(draft) - aim.positions
        found = search(draft.world, aim, reserved) or (search(draft.world, aim) if reserved else None)
        if found is not None:
            break
        blocker = obstacle(draft.world, aim.positions)
        if blocker is None:
            raise _StuckError
        _clear(draft, blocker, thing, aim.positions)
        if aim.verb == "pickup" and draft.held is not None:
            _put_away(draft, aim.positions, thing, to)
    steps, draft.world = found
    draft.steps += [_Planned(step, aim, thing, because) for step in steps]
    if aim.verb == "pickup":
        draft.held = draft.things.pop(draft.world.ahead)
    elif aim.verb == "drop":
        draft.things[draft.world.ahead], draft.held = draft.held, None


def _take(draft: _Draft, positions: frozenset[int], thing: str, because: str, to: int | None = None) -> None:
    """Pick up one of the things at the positions, with free hands, keeping the way on to the position `to` free."""
    if draft.world.carrying != EMPTY:
        empty_handed = draft.world.copy()
        empty_handed.carrying = EMPTY
        blocker = obstacle(empty_handed, positions)
        if blocker is not None and _is_locked(draft, blocker) and draft.world.carrying == _key(draft, blocker):
            _unlock(draft, blocker)
        _put_away(draft, positions, thing, to)
    _reach(draft, Aim("pickup", positions), thing, because, to)


def _put_away(draft: _Draft, goals: frozenset[int], thing: str, start: int | None = None) -> None:
    """Drop what is held where it is not in the way to the goals (from `start` too), or else anywhere."""
    held = name(draft.world.carrying)
    because = f"I carry the {held}, but I need free hands for the {thing}."
    free = Aim("drop", frozenset(), lambda after, position: keeps_free(after, position, goals, start))
    aim = free if search(draft.world, free, _reserved(draft)) else Aim("drop", frozenset())
    _reach(draft, aim, held, because)


def _clear(draft: _Draft, blocker: int, thing: str, goals: frozenset[int], start: int | None = None) -> None:
    """Open a locked door, or move an object, that is in the way (of the agent, or from `start`) to a thing."""
    draft.detours += 1
    if draft.detours > _MAX_DETOURS:
        raise _StuckError
    if _is_locked(draft, blocker):
        _unlock(draft, blocker)
    else:
        blocking = name(draft.world.cells[blocker])
        _take(draft, frozenset({blocker}), blocking, f"The {blocking} is in my way to the {thing}.")
        _put_away(draft, goals, thing, start)


def _unlock(draft: _Draft, door: int) -> None:
    """Open a locked door that is in the way."""
    _fetch_key(draft, door)
    shade = colour(draft.world.cells[door])
    because = f"I carry the {shade} key for the {shade} locked door."
    _reach(draft, Aim("open", frozenset({door})), f"{shade} door", because)


def _fetch_key(draft: _Draft, door: int) -> None:
    """Have the key of a locked door in hand."""
    shade, key = colour(draft.world.cells[door]), _key(draft, door)
    if draft.world.carrying == key:
        return
    keys = frozenset(position for position, cell in enumerate(draft.world.cells) if cell == key)
    boxes = frozenset(position for position, cell in enumerate(draft.world.cells) if hidden_key(cell) == key)
    if boxes and not keys:
        because = f"The {shade} door is locked and there is no {shade} key about, so I look into the box."
        _reach(draft, Aim("toggle", boxes), "box", because)
        keys = frozenset({draft.world.ahead})
        draft.things[draft.world.ahead] = draft.things[draft.world.ahead].contains
    if not keys or door in draft.unlocking:
        raise _StuckError  # no key, or only behind the door itself
    draft.unlocking.add(door)
    _take(draft, keys, f"{shade} key", f"The {shade} door is locked, so I need the {shade} key.", to=door)
    draft.unlocking.remove(door)


def _open(draft: _Draft, part: OpenInstr) -> None:
    doors = doors_shut(draft.world, draft.positions(part.desc))
    if not doors:
        raise _StuckError  # open doors cannot be closed again
    unlocked = frozenset(d for d in doors if not _is_locked(draft, d) or draft.world.carrying == _key(draft, d))
    if not unlocked:
        _fetch_key(draft, min(doors))
        unlocked = frozenset({min(doors)})
    thing = _words(part.desc)
    _reach(draft, Aim("toggle", unlocked), thing, f"I have to open the {thing}.")


def _put_next(draft: _Draft, part: Any) -> None:
    moved, beside = _words(part.desc_move), _words(part.desc_fixed)
    while True:
        world, fixed, targets = draft.world, draft.positions(part.desc_fixed), draft.positions(part.desc_move)
        if any(draft.held is thing for thing in part.desc_move.obj_set):
            blockers = {world.position: obstacle(world, fixed)}
        else:
            blockers = {target: obstacle(world, fixed - {target}, start=target) for target in sorted(targets)}
        free = frozenset(target for target, blocker in blockers.items() if blocker is None)
        if free:
            break
        start, blocker = next(iter(blockers.items()), (0, None))
        if blocker is None:
            raise _StuckError
        _clear(draft, blocker, beside, fixed, start)
    if not any(draft.held is thing for thing in part.desc_move.obj_set):
        _take(draft, free, moved, "")
    fixed = draft.positions(part.desc_fixed)
    steps = (1, -1, draft.world.across, -draft.world.across)
    aim = Aim("drop", fixed, lambda after, position: any(position + step in fixed for step in steps))
    _reach(draft, aim, beside, f"I carry the {name(draft.world.carrying)}.")


def _reserved(draft: _Draft) -> frozenset[int]:
    """Closed doors that a later part of the mission has to open, which nobody can do twice."""
    doors = (draft.positions(part.desc) for part in draft.later if isinstance(part, OpenInstr))
    return doors_shut(draft.world, frozenset().union(*doors))


def _is_locked(draft: _Draft, position: int) -> bool:
    cell = draft.world.cells[position]
    return kind(cell) == "door" and door_state(cell) == LOCKED


def _key(draft: _Draft, door: int) -> int:
    return code("key", colour(draft.world.cells[door]))


def _sighted(sight: Sight) -> str:
    return f"{sight.label}, {sight.where.replace('your', 'my').replace('you', 'me')}"


def _words(description: Any) -> str:
    """A mission's description without article and location, such as "red ball"."""
    return f"{description.color + ' ' if description.color else ''}{description.type or 'object'}"


def _orders(instr: Any) -> list[list[Any]]:
    """The orders in which the parts of a mission that are not done yet can be done."""
    if isinstance(instr, BeforeInstr | AfterInstr | AndInstr):
        first, second = (
            [[]] if done == "success" else _orders(half)
            for half, done in ((instr.instr_a, instr.a_done), (instr.instr_b, instr.b_done))
        )
        if isinstance(instr, AfterInstr):
            first, second = second, first
        orders = [[*one, *other] for one in first for other in second]
        if isinstance(instr, AndInstr):
            orders += [[*other, *one] for one in first for other in second if one and other]
        return orders
    return [[instr]]
