"""Wordle: find a hidden word of the vocabulary from feedback on each letter of a guess (LMRL-Gym, AgentGym).

Words, splits and the scoring of guesses are in `tasks.py`, the expert in `expert.py`.
"""

from __future__ import annotations

from pathlib import Path

from atlas_ray.environments.contract import EnvironmentCard, Outcome, Split, TextEnv
from envs.wordle.expert import WordleExpert
from envs.wordle.tasks import feedback, hidden_words, load_words

INSTRUCTION = "You are an expert in the game Wordle."

RULES = """\
Find the hidden 5 letter word in at most {max_rounds} guesses. Write a guess as letters with spaces, like \
"s h i r e". The reply has a letter for each of yours: g if it is right, y if it is in the word at another place, b if \
it is not in the word. Only these words are valid:
{words}
Write one thought and one guess in this format:
Thought:
your reasoning

Action:
your guess

The game begins."""

_INVALID = 'invalid word: guess one of the valid words as 5 letters with spaces, like "s h i r e"'


class WordleEnv(TextEnv):
    """Tasks are hidden words; `info["score"]` becomes 1 when the word is guessed.

    Args:
        vocabulary: A text file of words, one a line, instead of ours; its words are split anew.
        strict: Score repeated letters as real Wordle does, not as upstream.
        max_rounds: Guesses, valid or not, before truncation; the paper's 8 unless given (upstream's own game has 6).

    `valid_actions` are the words of the vocabulary. Nothing in a task is random, so `seed` changes nothing.
    """

    def __init__(
        self, *, vocabulary: str | Path | None = None, strict: bool = False, max_rounds: int | None = None
    ) -> None:
        self._words = load_words(None if vocabulary is None else Path(vocabulary))
        self._strict = strict
        card = EnvironmentCard(
            name="wordle",
            held_in=True,
            metric="success_rate",
            max_rounds=8,
            instruction=INSTRUCTION,
            n_train=len(hidden_words(self._words, "train")),
            n_test=len(hidden_words(self._words, "test")),
            source="LMRL-Gym Wordle (MIT) as in AgentGym; the vocabulary is our own",
            action_rule="first",
        )
        super().__init__(card, max_rounds=max_rounds)
        self._known = frozenset(self._words)
        self._actions = sorted(map(" ".join, self._words))
        self._hidden = ""
        self._guesses: tuple[tuple[str, str], ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        """The vocabulary."""
        return self._words

    @property
    def strict(self) -> bool:
        """Whether repeated letters are scored as in real Wordle."""
        return self._strict

    @property
    def guesses(self) -> tuple[tuple[str, str], ...]:
        """The valid guesses so far with their feedback, both without spaces."""
        return self._guesses

    def _start(self, task: int, split: Split, seed: int | None) -> str:
        self._hidden = hidden_words(self._words, split)[task]
        self._guesses = ()
        return RULES.format(max_rounds=self.card.max_rounds, words=" ".join(self._words))

    def _act(self, action: str) -> Outcome:
        guess = action.strip().replace(" ", "")
        if guess not in self._known:
            return Outcome(_INVALID, 0.0)
        marks = feedback(guess, self._hidden, self._strict)
        self._guesses = (*self._guesses, (guess, marks))
        success = guess == self._hidden
        return Outcome(" ".join(marks), float(success), success, success)

    def _explain_format(self) -> str:
        return _INVALID

    def valid_actions(self) -> list[str]:
        return list(self._actions) if self.running else []

    def expert(self) -> WordleExpert:
        return WordleExpert(self)

    def _save(self) -> tuple[str, tuple[tuple[str, str], ...]]:
        return self._hidden, self._guesses

    def _load(self, inner: tuple[str, tuple[tuple[str, str], ...]]) -> None:
        self._hidden, self._guesses = inner
