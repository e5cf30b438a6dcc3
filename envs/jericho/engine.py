"""A Z-machine story in a child process; the only module that imports `jericho` (GPL-2.0).

libfrotz keeps its state in C globals, so each engine has a process of its own (`atlas_ray.environments.process`).
Jericho knows the score and the moves of stories whose checksum it has on file. For other stories they are read from the
status line, or from the reply to the command `score`, which is then taken back.
"""

from __future__ import annotations

import re
import warnings
from typing import Any, NamedTuple

from atlas_ray.errors import EnvironmentError

MAX_COMMAND_CHARS = 190
"""Frotz cuts longer commands off."""

Snapshot = tuple[bytes, bytes, tuple[Any, ...], bytes]
"""RAM, stack, registers and the text under way."""

_STATUS_BEFORE = re.compile(r"^\s*> ?[^\n]*(?:Score|Time): *[^\n]*\n")
_STATUS_AFTER = re.compile(r"\n?>[^\n]*\s*$")
_POINTS = re.compile(r"(?:Score: *|score (?:is|would be) |so far scored |you scored )(-?\d+)", re.IGNORECASE)
_MOVES = re.compile(r"(?:Moves: *(\d+)|in (\d+) (?:moves|move|turns|turn)\b)", re.IGNORECASE)
_TOTAL = re.compile(r"(?:total of|out of(?: a)?(?: possible| maximum)?(?: of)?) (\d+)", re.IGNORECASE)
_THE_END = re.compile(r"\*\*\*.{1,60}\*\*\*|RESTART, RESTORE|restart the game from the beginning", re.DOTALL)
_VICTORY = re.compile(r"\*\*\*\s*(?:The End|You have won|You win)[^*]*\*\*\*", re.IGNORECASE)
_REFUSAL = re.compile(
    r"can't|cannot|don't (?:know|understand|see|have)|do not (?:know|understand|see|have)|isn't|aren't|doesn't|"
    r"not a verb|not something|no such|nothing (?:to|happens)|there(?:'s| is) no |what do you want|you already|"
    r"already (?:open|closed|have|here)|you're already|beg your pardon|would be|need to|you haven't|haven't got|"
    r"only understood|which do you mean|not holding|must|that's plainly|hard to|seem to|impossible|you used the word|"
    r"fixed in place|not open|locked|achieve nothing|have no effect",
    re.IGNORECASE,
)
_DIRECTIONS = ("north", "south", "east", "west", "up", "down")
_ONE_NOUN = ("examine", "take", "drop", "open", "close", "eat")
_TWO_NOUNS = ("put {} on {}", "insert {} into {}", "unlock {1} with {0}", "lock {1} with {0}")
_PLAIN_WORDS = frozenset("a all an and are at door go here in is it look north of on one south that the there to up "
                         "west east down you your".split())  # fmt: skip


class StoryReply(NamedTuple):
    """The text that answers a command, without the status line, and whether the story is over and won."""

    text: str
    over: bool
    won: bool


class Points(NamedTuple):
    """The story's own count; None where it cannot be read."""

    points: int | None
    total: int | None
    moves: int | None


class StoryEngine:
    """Plays one story at a time.

    Raises:
        EnvironmentError: `jericho` is not installed.
    """

    def __init__(self) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                import jericho
        except ImportError as error:
            raise EnvironmentError(f"jericho: the package jericho cannot be imported ({error}); {REMEDY}") from error
        self._make = jericho.FrotzEnv
        self._story = ""
        self._frotz: Any = None

    def begin(self, story: str, seed: int, commands: tuple[str, ...]) -> StoryReply:
        """Start a story and give it some commands; the last reply."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it does not know the story's checksum, which is no news here
            if self._frotz is None or story != self._story:
                self._frotz, self._story = self._make(story, seed=seed), story
            self._frotz.seed(seed)
            text, _ = self._frotz.reset()
        reply = self._reply(text)
        for command in commands:
            reply = self.step(command)
        return reply

    def step(self, command: str) -> StoryReply:
        """Give the story one command."""
        return self._reply(self._frotz.step(command)[0])

    def save(self) -> Snapshot:
        """The state of the machine."""
        ram, stack, *registers, narrative = self._frotz.get_state()
        return ram.tobytes(), stack.tobytes(), tuple(registers), narrative

    def load(self, story: str, snapshot: Snapshot) -> None:
        """Take a state over."""
        import numpy as np

        if self._frotz is None or story != self._story:
            self.begin(story, 1, ())
        ram, stack, registers, narrative = snapshot
        self._frotz.set_state(
            (np.frombuffer(ram, np.uint8).copy(), np.frombuffer(stack, np.uint8).copy(), *registers, narrative)
        )

    def points(self) -> Points:
        """The story's own score, its maximum and the moves made; the state stays as it is."""
        if self._frotz.is_fully_supported:
            return Points(self._frotz.get_score(), self._frotz.get_max_score(), self._frotz.get_moves())
        return read_points(self._ask("score"))

    def valid_actions(self, nouns: tuple[str, ...]) -> list[str]:
        """Commands that the story does not refuse, by trying them and taking them back.

        Args:
            nouns: Names to try where they are seen; without any, the story's dictionary.
        """
        before = self.save()
        carried, seen = self._ask("inventory").casefold(), self._ask("look").casefold()
        names = nouns or self._dictionary()
        held = sorted({*filter(None, (_mention(carried, name) for name in names))})
        near = sorted({*held, *filter(None, (_mention(seen, name) for name in names))})
        candidates = [*_DIRECTIONS, *(f"{verb} {name}" for verb in _ONE_NOUN for name in near)]
        candidates += [f.format(a, b) for f in _TWO_NOUNS for a in held for b in near if a != b]
        found = []
        for command in candidates:
            text = self.step(command).text
            if text.strip() and not _REFUSAL.search(text.strip().split("\n")[0]):
                found.append(command)
            self.load(self._story, before)
        return sorted({*found, "inventory", "look"})

    def _dictionary(self) -> tuple[str, ...]:
        words = (str(entry.word) for entry in self._frotz.get_dictionary() if entry.is_noun)
        return tuple(sorted({word for word in words if word.isalpha() and len(word) > 2} - _PLAIN_WORDS))

    def _ask(self, command: str) -> str:
        before = self.save()
        text = str(self._frotz.step(command)[0])
        self.load(self._story, before)
        return text

    def _reply(self, raw: str) -> StoryReply:
        text = _STATUS_AFTER.sub("", _STATUS_BEFORE.sub("", raw)).strip()
        over = bool(_THE_END.search(text)) or bool(self._frotz.game_over() or self._frotz.victory())
        return StoryReply(text, over, bool(self._frotz.victory()) or bool(_VICTORY.search(text)))


REMEDY = "run `make engines` (a C compiler is needed) to install jericho and textworld"


def read_points(text: str) -> Points:
    """What a status line, the reply to `score` or the last words of a story say of points, their maximum and moves."""
    points, total, moves = _POINTS.search(text), _TOTAL.search(text), _MOVES.search(text)
    return Points(
        int(points[1]) if points else None,
        int(total[1]) if total else None,
        int(next(filter(None, moves.groups()))) if moves else None,
    )


def _mention(text: str, name: str) -> str | None:
    """A name as a text has it; dictionary words are cut off after 6 or 9 letters, depending on the story's version."""
    found = re.search(rf"\b{re.escape(name.casefold())}{'[a-z]*' if len(name) in (6, 9) else ''}\b", text)
    return found[0] if found else None
