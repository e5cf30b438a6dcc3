"""The Wordle expert: guesses the most informative word that can still be the hidden one, and explains what it knows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import cache, partial
from typing import TYPE_CHECKING

from envs.wordle.tasks import feedback

if TYPE_CHECKING:
    from envs.wordle.env import WordleEnv


class WordleExpert:
    """Keeps nothing between guesses: what is possible follows from the guesses made and their feedback."""

    def __init__(self, env: WordleEnv) -> None:
        self._env = env

    def next_action(self, observation: str) -> tuple[str, str]:
        """The possible word whose feedback is expected to tell most; see `Expert`."""
        guesses = self._env.guesses
        guess = " ".join(_solver(self._env.words, self._env.strict).best(guesses))
        if not guesses:
            return f"I know nothing yet, so I start with a word of common letters: {guess}.", guess
        return f"{_knowledge(guesses)} A valid word that fits is {guess}.", guess


class _Solver:
    """The best guesses for one vocabulary; compares any two words once."""

    def __init__(self, words: tuple[str, ...], strict: bool) -> None:
        self._words = words
        self._strict = strict
        self._rows: dict[str, tuple[str, ...]] = {}
        self._best: dict[tuple[tuple[str, str], ...], str] = {}

    def best(self, guesses: tuple[tuple[str, str], ...]) -> str:
        """The word, among those that fit the guesses, that is expected to tell most; the first of equals."""
        if guesses not in self._best:
            possible: Sequence[int] = range(len(self._words))
            for guess, marks in guesses:
                row = self._row(guess)
                possible = [index for index in possible if row[index] == marks]
            self._best[guesses] = max((self._words[index] for index in possible), key=partial(self._bits, possible))
        return self._best[guesses]

    def _bits(self, possible: Sequence[int], guess: str) -> float:
        """The expected information of a guess about which of the possible words it is."""
        row = self._row(guess)
        counts = Counter(row[index] for index in possible).values()
        return -sum(n / len(possible) * math.log2(n / len(possible)) for n in counts)

    def _row(self, guess: str) -> tuple[str, ...]:
        """The feedback on a guess for each word as the hidden one."""
        if guess not in self._rows:
            self._rows[guess] = tuple(feedback(guess, word, self._strict) for word in self._words)
        return self._rows[guess]


_solver = cache(_Solver)


def _knowledge(guesses: Sequence[tuple[str, str]]) -> str:
    """What the guesses tell, with positions counted from 1."""
    right: dict[int, str] = {}
    elsewhere: dict[str, set[int]] = {}
    missing: set[str] = set()
    for guess, marks in guesses:
        for position, (letter, mark) in enumerate(zip(guess, marks, strict=True), start=1):
            if mark == "g":
                right[position] = letter
            elif mark == "y":
                elsewhere.setdefault(letter, set()).add(position)
            else:
                missing.add(letter)
    missing -= elsewhere.keys() | set(right.values())
    facts = [f"{letter} at {position}" for position, letter in sorted(right.items())]
    facts += [
        f"{letter} not at {' or '.join(map(str, sorted(positions)))}" for letter, positions in sorted(elsewhere.items())
    ]
    facts += [f"no {', '.join(sorted(missing))}"] if missing else []
    return f"The word has {', '.join(facts)}."
