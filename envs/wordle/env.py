"""Wordle: find a hidden word of the vocabulary from feedback on each letter of a guess (LMRL-Gym, AgentGym).

Words, splits and the scoring of guesses are in `tasks.py`, the expert in `expert.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

from atlas_ray.environments.contract import EnvironmentCard, Outcome, Split, TextEnv, item_number
from atlas_ray.errors import EnvironmentError
from atlas_ray.react import parse_reply
from atlas_ray.trajectory import Message
from envs.wordle.expert import WordleExpert
from envs.wordle.tasks import GAME_GUESSES, LENGTH, N_GAMES, drawn_word, feedback, hidden_words, load_words

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
        vocabulary: A text file of words, one a line, instead of ours; its words are split anew. AgentGym's games over
            the vocabulary (`locate`), which draw the hidden word anew for every guess, can then be played too.
        strict: Score repeated letters as real Wordle does, not as upstream.
        max_rounds: Guesses, valid or not, before truncation; the paper's 8 unless given (upstream's own game has 6).

    `valid_actions` are the words of the vocabulary. Nothing in a task is random, so `seed` changes nothing.
    """

    rules: ClassVar[str] = RULES
    refusals: ClassVar[str] = r"invalid word"

    def __init__(
        self, *, vocabulary: str | Path | None = None, strict: bool = False, max_rounds: int | None = None
    ) -> None:
        self._words = load_words(None if vocabulary is None else Path(vocabulary))
        self._strict = strict
        card = EnvironmentCard(
            name="wordle",
            version=2,
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
        self._has_games = vocabulary is not None
        self._hidden: str | int = ""
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

    def locate(self, item_id: int | str) -> tuple[Split, int]:
        """AgentGym's item n is the game with seed n over its own vocabulary; see `TextEnv.locate`."""
        number = item_number(item_id, "wordle", "lmrlgym_wordle")
        if not self._has_games:
            raise EnvironmentError(
                "wordle: item ids are games over AgentGym's words, which are not here; give vocabulary=tweet_words.txt"
            )
        if number is None or number >= N_GAMES:
            raise EnvironmentError(f"wordle: there is no item {item_id!r}; they are wordle_0 to wordle_{N_GAMES - 1}")
        return "test", self.card.n_test + number

    def recognise(self, messages: Sequence[Message]) -> tuple[Split, int] | None:
        """The word of a solved game, which all earlier feedback agrees with; see `TextEnv.recognise`."""
        for message, answer in pairwise(messages):
            if message.step is not None and answer.content.split()[:LENGTH] == ["g"] * LENGTH:
                said = parse_reply(message.content, self.card.action_rule).action or ""
                word = said.replace(" ", "").lower()
                splits: tuple[Split, ...] = ("train", "test")
                for split in splits:
                    if word in hidden_words(self._words, split):
                        return split, hidden_words(self._words, split).index(word)
        return None

    def _n_items(self, split: Split) -> int:
        return N_GAMES if self._has_games and split == "test" else 0

    def _start(self, task: int, split: Split, seed: int | None) -> str:
        hidden = hidden_words(self._words, split)
        self._hidden = hidden[task] if task < len(hidden) else task - len(hidden)
        self._guesses = ()
        limit = self.card.max_rounds if isinstance(self._hidden, str) else min(self.card.max_rounds, GAME_GUESSES)
        return self.rules.format(max_rounds=limit, words=" ".join(self._words))

    def _act(self, action: str) -> Outcome:
        over = isinstance(self._hidden, int) and self.rounds + 1 >= GAME_GUESSES
        guess = action.strip().replace(" ", "")
        if guess not in self._known:
            return Outcome(_INVALID, 0.0, done=over)
        if isinstance(self._hidden, int):
            hidden = drawn_word(self._words, self._hidden, self._guesses, self._strict)
        else:
            hidden = self._hidden
        marks = feedback(guess, hidden, self._strict)
        self._guesses = (*self._guesses, (guess, marks))
        success = guess == hidden
        return Outcome(" ".join(marks), float(success), success, success or over)

    def _explain_format(self) -> str:
        return _INVALID

    def valid_actions(self) -> list[str]:
        return list(self._actions) if self.running else []

    def expert(self) -> WordleExpert:
        return WordleExpert(self)

    def _save(self) -> tuple[str | int, tuple[tuple[str, str], ...]]:
        return self._hidden, self._guesses

    def _load(self, inner: tuple[str | int, tuple[tuple[str, str], ...]]) -> None:
        self._hidden, self._guesses = inner
