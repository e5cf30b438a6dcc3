"""Styles of experts: one that looks after every action, one that slips, one that goes the long way.

Real experts have habits, and a model that imitates every step learns the habit too. `StyledExpert` adds habits to an
environment's expert and says of each step what it is, so a selection of steps can be scored against the truth. How an
expert solves a task is in the environment's own `expert.py`; recording the kinds of steps is the caller's part.
"""

from __future__ import annotations

import copy
import difflib
import random
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

from pydantic import Field

from atlas_ray.environments.contract import Expert, Split, State, TextEnv
from atlas_ray.errors import ConfigError
from atlas_ray.hashing import content_hash
from atlas_ray.section import Section

Style = Literal["plain", "checks", "slips", "wanders"]
Kind = Literal["productive", "habit", "slip", "recovery", "wander"]
"""What a step is. There are as many productive steps as the plain expert needs in all; the other kinds are extra.

`habit` is a look, `slip` a wasted action, `recovery` a step that only a slip made necessary, and `wander` a step of a
detour or of the way back from it.
"""

_TRIES = 8
"""Actions that are tried before a slip or detour is given up."""
_LONGEST_DETOUR = 2
"""Steps of a detour without the way back."""
_GLANCES = 3
"""Looks by which two states are told apart where they cannot be compared."""
_TRIED_TASKS = 5
"""Tasks in which a style has to show for the first time."""

_CHECKING = (
    "Before I go on, I check where things stand.",
    "I make sure of how things are before the next step.",
    "Let me see what has become of that first.",
    "I would rather look once more before I act.",
)
_SLIPPING = (
    "I think this is what comes next.",
    "This should bring me further.",
    "This looks right to me, so I do it now.",
    "I am fairly sure that I need this.",
)
_RECOVERING = (
    "That last action was a mistake, and I have to make up for it.",
    "What I did there was wrong, so I put it right.",
    "That did not help and I have to correct it.",
)
_RECOVERING_LATER = (
    "I am still making up for my mistake.",
    "This is needed because of the mistake that I made.",
)
_WANDERING = (
    "There is no hurry, so I try something else first.",
    "Before I get to it, I see what this does.",
    "I take the long way and do this first.",
)
_RETURNING = (
    "Enough of that, I go back to the task.",
    "That was a detour, so now I return to what I was about.",
    "Back to where I was.",
)


class ExpertStyle(Section):
    """How an expert plays."""

    style: Style = "plain"
    """`plain`: as it is. `checks`: looks after its actions. `slips`: makes mistakes. `wanders`: makes detours."""
    rate: float = Field(1.0, ge=0.0, le=1.0)
    """Probability of a look after an action, or of a slip or detour before a productive action."""


class _Planned(NamedTuple):
    action: str
    kind: Kind


class StyledExpert:
    """Plays the running episode of `env` as its expert does, with a habit; it has to be asked for every step.

    Slips and detours are tried out from snapshots, with copies of the expert: one is played only if the expert then
    still succeeds within the round cap. At most one is played before each productive step. The environment is left as
    it was. All chance derives from the seed, the environment and the task.

    Args:
        env: In its episode.
        style: See `ExpertStyle`.
        rate: See `ExpertStyle`.
        seed: Varies the habit.

    Attributes:
        kinds: The kind of every step so far.

    Raises:
        ConfigError: There is no such style or rate, or the environment lists no actions to make a habit of.
    """

    def __init__(self, env: TextEnv, style: Style, rate: float, seed: int) -> None:
        _refuse_wrong(env, style, rate)
        self._env, self._style, self._rate, self._seed = env, style, rate, seed
        start = env.snapshot()
        self._random = random.Random(f"style {style} {seed} {env.card.name} {start.split} {start.task}")
        self._expert = env.expert()
        self.kinds: list[Kind] = []
        self._postponed: tuple[str, str] | None = None
        self._plan: list[_Planned] | None = None
        self._detour: list[str] = []
        self._may_stray = True

    @property
    def last_kind(self) -> Kind:
        """The kind of the latest step."""
        return self.kinds[-1]

    def next_action(self, observation: str) -> tuple[str, str]:
        """The next step's thought and action; see `Expert`."""
        if self._style == "checks":
            thought, action, kind = self._checking(observation)
        else:
            thought, action, kind = self._straying(observation)
        self.kinds.append(kind)
        return thought, action

    # -- checks -----------------------------------------------------------------------------------------------------

    def _checking(self, observation: str) -> tuple[str, str, Kind]:
        """A look, if the last step was an action and chance wants it; otherwise the expert's step."""
        if self._postponed is not None:
            step, self._postponed = self._postponed, None
            return *step, "productive"
        # The expert is asked before the look, because it learns from the observation that the look replaces.
        step = self._expert.next_action(observation)
        if self.kinds and self._random.random() < self._rate and (looks := self._env.looks()):
            self._postponed = step
            return self._random.choice(_CHECKING), min(looks, key=self._preference), "habit"
        return *step, "productive"

    def _preference(self, look: str) -> tuple[int, str]:
        """Rank of a look: an expert has one favourite among the most general looks, which have the fewest words."""
        return len(look.split()), content_hash([self._seed, self._env.card.name, look])

    # -- slips and detours ------------------------------------------------------------------------------------------

    def _straying(self, observation: str) -> tuple[str, str, Kind]:
        """The next step of a slip or detour, if one has begun or begins here; otherwise the expert's step."""
        # The expert is asked at every step, also where it is not followed: it remembers what it observes.
        thought, action = self._expert.next_action(observation)
        if self._detour:
            return self._random.choice(_WANDERING), self._detour.pop(0), "wander"
        if self._plan is None:
            strays = self._style != "plain" and self._rate > 0
            self._plan = self._plan_from(self._env.snapshot(), action) if strays else []
        may_stray = self._may_stray and bool(self._plan) and self._plan[0].kind == "productive"
        if may_stray and self._random.random() < self._rate:
            here = self._env.snapshot()
            stray = self._slip(here, self._plan) if self._style == "slips" else self._wander(here, self._plan)
            self._env.restore(here)
            if stray is not None:
                self._may_stray = False
                return stray
        kind: Kind = "productive"
        if self._plan:
            planned = self._plan.pop(0)
            if planned.action == action:
                kind = planned.kind
            else:
                self._plan = []  # the expert leaves what it proved, so nothing more is known of its way
        self._may_stray = kind == "productive"
        if kind == "productive":
            return thought, action, kind
        opening: tuple[str, ...] = _RETURNING
        if kind == "recovery":
            opening = _RECOVERING if self.last_kind == "slip" else _RECOVERING_LATER
        return f"{self._random.choice(opening)} {thought}", action, kind

    def _plan_from(self, here: State, action: str) -> list[_Planned]:
        """All steps that the expert takes from here, of which it has just named the first; empty if it fails."""
        expert = self._copy()
        played = self._finish(expert, self._env.step(action))
        self._env.restore(here)
        return [] if played is None else [_Planned(each, "productive") for each in (action, *played)]

    def _slip(self, here: State, plan: list[_Planned]) -> tuple[str, str, Kind] | None:
        """Another action than the expert's that does not shorten its way; None if none was found."""
        found = self._other_action(here, [], plan)
        if found is None:
            return None
        action, played = found
        self._plan = _aligned(plan, played)
        return self._random.choice(_SLIPPING), action, "slip"

    def _wander(self, here: State, plan: list[_Planned]) -> tuple[str, str, Kind] | None:
        """The first step of a detour after which the whole way is still ahead; None if none was found."""
        detour: list[str] = []
        back: list[_Planned] = []
        for _ in range(self._random.randint(1, _LONGEST_DETOUR)):
            found = self._other_action(here, detour, plan)
            if found is None:
                break
            detour.append(found[0])
            back = [_Planned(action, "wander") for action in found[1][: len(found[1]) - len(plan)]]
        if not detour:
            return None
        self._plan = [*back, *plan]
        self._detour = detour[1:]
        return self._random.choice(_WANDERING), detour[0], "wander"

    def _other_action(self, here: State, before: list[str], plan: list[_Planned]) -> tuple[str, list[str]] | None:
        """An action after the actions `before` that fits the style, and what the expert plays after it."""
        _, proposed = self._retrace(here, before)
        kept_out = {proposed or plan[0].action, *self._env.looks()}
        candidates = [each for each in self._env.valid_actions() if each not in kept_out]
        state = self._tell_apart()
        for action in self._random.sample(candidates, min(_TRIES, len(candidates))):
            self._retrace(here, before)
            self._env.step(action)
            if not self._env.running or self._tell_apart() == state:
                continue
            expert, _ = self._retrace(here, before)
            played = self._finish(expert, self._env.step(action))
            if played is not None and self._fits(played, plan):
                return action, played
        return None

    def _fits(self, played: list[str], plan: list[_Planned]) -> bool:
        """Whether what the expert plays after an action makes that action a slip, or a part of a detour."""
        if self._style == "slips":
            return len(played) >= len(plan)
        return played[-len(plan) :] == [planned.action for planned in plan]

    def _retrace(self, here: State, actions: Sequence[str]) -> tuple[Expert, str | None]:
        """Play `actions` from `here`: the expert as it is then, and what it proposed after the last of them."""
        self._env.restore(here)
        expert, proposed = self._copy(), None
        for action in actions:
            proposed = expert.next_action(self._env.step(action)[0])[1]
        return expert, proposed

    def _finish(self, expert: Expert, event: tuple[str, float, bool, bool, dict[str, Any]]) -> list[str] | None:
        """The actions by which the expert ends the episode after an event; None if it does not end it with success."""
        played = []
        while self._env.running:
            played.append(expert.next_action(event[0])[1])
            event = self._env.step(played[-1])
        return played if event[2] and event[4]["success"] else None

    def _copy(self) -> Expert:
        """The expert as it is, for the same environment."""
        return copy.deepcopy(self._expert, {id(self._env): self._env})

    def _tell_apart(self) -> Any:
        """What differs in different states; where snapshots are replays, what some looks show, which takes rounds."""
        if self._env.card.snapshot == "native":
            return self._env.snapshot().inner
        glances = sorted(self._env.looks(), key=lambda look: len(look.split()))[:_GLANCES]
        return [self._env.step(look)[0] for look in glances if self._env.running]


def _aligned(plan: list[_Planned], played: list[str]) -> list[_Planned]:
    """The steps after a slip with their kinds.

    A step of the plan keeps its kind. Of the new steps, the last ones stand for the productive steps of the plan that
    are gone; the first ones are recovery.
    """
    # Both are read backwards: of two equal actions, the later one is the plan's and the earlier one leads back to it.
    before, after = plan[::-1], played[::-1]
    kinds: dict[int, Kind] = {}
    matcher = difflib.SequenceMatcher(None, [planned.action for planned in before], after, autojunk=False)
    for block in matcher.get_matching_blocks():
        kinds |= {block.b + i: before[block.a + i].kind for i in range(block.size)}
    gone = [planned.kind for planned in plan].count("productive") - list(kinds.values()).count("productive")
    for count, i in enumerate([i for i in range(len(after)) if i not in kinds]):
        kinds[i] = "productive" if count < gone else "recovery"
    return [_Planned(action, kinds[i]) for i, action in enumerate(after)][::-1]


def check_style(env: TextEnv, style: ExpertStyle) -> None:
    """Check that the style shows in one of the first training tasks, which are played for that.

    Raises:
        ConfigError: The environment lists no actions, or none that the style could add to the expert's.
    """
    split: Split = "train" if env.card.n_train else "test"
    tasks = range(min(_TRIED_TASKS, env.card.n_tasks(split)))
    if style.style == "plain" or style.rate == 0:
        return
    for task in tasks:
        observation, _ = env.reset(options={"task": task, "split": split})
        expert = StyledExpert(env, style.style, 1.0, seed=0)
        while env.running:
            if style.style == "checks" and env.looks():
                return
            observation = env.step(expert.next_action(observation)[1])[0]
            if expert.last_kind != "productive":
                return
    raise ConfigError(
        f"{env.card.name}: in its first {len(tasks)} {split} tasks, no listed action fits the style {style.style!r} "
        f"within {env.card.max_rounds} rounds; choose another style, or raise max_rounds"
    )


def _refuse_wrong(env: TextEnv, style: str, rate: float) -> None:
    name = env.card.name
    if style not in get_args(Style):
        raise ConfigError(f"{name}: style is {style!r}; choose one of {', '.join(get_args(Style))}")
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= 1:
        raise ConfigError(f"{name}: rate of style {style!r} is {rate!r}; give a number from 0 to 1")
    if style != "plain" and not env.valid_actions():
        raise ConfigError(f"{name}: it lists no actions, so there is no expert of style {style!r}; choose 'plain'")
