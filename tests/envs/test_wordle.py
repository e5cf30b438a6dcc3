"""Wordle: feedback, vocabulary, splits, the expert."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_ray.errors import ConfigError, EnvironmentError
from envs.wordle.env import WordleEnv
from envs.wordle.tasks import WORDS, feedback, hidden_words, load_words
from tests.reference import reference


@pytest.mark.parametrize(
    ("guess", "hidden", "upstream", "real"),
    [
        ("crane", "crane", "ggggg", "ggggg"),
        ("crane", "nacre", "yyyyg", "yyyyg"),
        ("sheep", "those", "ygyyb", "ygybb"),
        ("eagle", "lemon", "ybbyy", "ybbyb"),
        ("level", "hello", "ygbyy", "ygbby"),
        ("allow", "label", "yyybb", "yyybb"),
    ],
)
def test_feedback(guess: str, hidden: str, upstream: str, real: str) -> None:
    assert feedback(guess, hidden, strict=False) == upstream
    assert feedback(guess, hidden, strict=True) == real


@given(guess=st.sampled_from(WORDS), hidden=st.sampled_from(WORDS))
def test_strict_feedback_counts_letters(guess: str, hidden: str) -> None:
    strict, loose = feedback(guess, hidden, strict=True), feedback(guess, hidden, strict=False)
    for letter in set(guess):
        marked = sum(mark in "gy" for mark, other in zip(strict, guess, strict=True) if other == letter)
        assert marked == min(guess.count(letter), hidden.count(letter))
    assert all(s == m or (s, m) == ("b", "y") for s, m in zip(strict, loose, strict=True))


def test_vocabulary_and_splits() -> None:
    assert len(WORDS) == len(set(WORDS)) >= 400
    train, test = hidden_words(WORDS, "train"), hidden_words(WORDS, "test")
    assert set(train) | set(test) == set(WORDS)
    assert not set(train) & set(test)
    assert len(test) == round(len(WORDS) / 5)


def test_texts() -> None:
    env = WordleEnv()
    observation, _ = env.reset(options={"task": 3})
    hidden = hidden_words(WORDS, "train")[3]
    assert "at most 8 guesses" in observation
    assert " ".join(WORDS) in observation
    assert hidden not in observation.replace(" ".join(WORDS), "")
    for wrong in ("s h i r e s", "q q q q q", "S T O N E", "guesst", ""):
        assert env.step(wrong)[0].startswith("invalid word")
    other = next(word for word in WORDS if word != hidden)
    assert env.step(other)[0] == " ".join(feedback(other, hidden, strict=False))
    observation, reward, terminated, _, info = env.step(" ".join(hidden))
    assert (observation, reward, terminated, info["success"]) == ("g g g g g", 1.0, True, True)


@pytest.mark.parametrize("strict", [False, True])
def test_the_expert_solves_every_word(strict: bool) -> None:
    env = WordleEnv(strict=strict)
    rounds = []
    for split in ("train", "test"):
        for task in range(env.card.n_tasks(split)):  # type: ignore[arg-type]
            observation, _ = env.reset(options={"task": task, "split": split})
            expert = env.expert()
            info: dict[str, Any] = {}
            while env.running:
                thought, action = expert.next_action(observation)
                assert action in thought
                observation, *_, info = env.step(action)
            assert info["success"]
            rounds.append(info["rounds"])
    assert max(rounds) <= 6
    assert sum(rounds) / len(rounds) < 3.2


def test_the_expert_says_what_the_feedback_means() -> None:
    env = WordleEnv()
    env.reset(options={"task": hidden_words(WORDS, "train").index("storm"), "split": "train"})
    env.step("s h o r t")
    thought, action = env.expert().next_action("g b g g y")
    assert thought.startswith("The word has s at 1, o at 3, r at 4, t not at 5, no h. A valid word that fits is ")
    assert action == "s t o r m"


def test_own_vocabulary(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text("Apple\nbread\n\ncloud\nbread\ndrive\nearth\n")
    assert load_words(file) == ("apple", "bread", "cloud", "drive", "earth")
    card = WordleEnv(vocabulary=str(file)).card
    assert (card.n_train, card.n_test) == (4, 1)
    file.write_text("apple\nto\n")
    with pytest.raises(ConfigError, match=r"words.txt line 2: 'to' is not a word of 5 letters"):
        WordleEnv(vocabulary=file)
    bad = tmp_path / "short.txt"
    bad.write_text("apple\n")
    with pytest.raises(ConfigError, match="needs at least 2 words"):
        WordleEnv(vocabulary=bad)
    with pytest.raises(ConfigError, match="cannot be read"):
        WordleEnv(vocabulary=tmp_path / "none.txt")


@reference("wordle/tweet_words.txt")
def test_agentgyms_vocabulary_is_played_to_the_end(path: str) -> None:
    env = WordleEnv(vocabulary=path, max_rounds=6)
    assert env.card.n_train + env.card.n_test == 40
    for task in range(env.card.n_train):
        observation, _ = env.reset(options={"task": task})
        expert = env.expert()
        info: dict[str, Any] = {}
        while env.running:
            observation, *_, info = env.step(expert.next_action(observation)[1])
        assert info["success"]


@pytest.mark.parametrize(
    ("item", "answers"),
    [
        (0, ["b y b b y", "g g g g g"]),
        (5, ["b g b b b", "g b y b b", "g b y y b", "b g b y g", "g g g g g"]),
        (7, ["g b b b y", "b y b b b", "b b b y b", "y b b b b", "b b g b b", "g g g g g"]),
    ],
)
def test_items_are_games_that_draw_the_word_anew(tmp_path: Path, item: int, answers: list[str]) -> None:
    """The answers are LMRL-Gym's own game's, run over these words."""
    file = tmp_path / "words.txt"
    file.write_text("panic\nsolar\nshire\nproxy\npoint\nrobot\n")
    env = WordleEnv(vocabulary=file)
    split, task = env.locate(f"lmrlgym_wordle_{item}")
    assert task >= env.card.n_tasks(split), "games are in no split"
    env.reset(options={"task": task, "split": split})
    words = ["solar", "proxy", "panic", "robot", "point", "shire"]
    assert [env.step(" ".join(word))[0] for word in words[: len(answers)]] == answers
    assert not env.running
    for wrong in (env.locate, WordleEnv().locate):
        with pytest.raises(EnvironmentError, match="wordle: "):
            wrong("wordle_10000")


@reference("wordle/tweet_words.txt")
def test_a_game_of_agentgyms_has_six_guesses(path: str) -> None:
    env = WordleEnv(vocabulary=path)
    split, task = env.locate(4)
    observation, _ = env.reset(options={"task": task, "split": split})
    assert "at most 6 guesses" in observation
    for turn in range(6):
        *_, terminated, truncated, info = env.step("z z z z z")
        assert (terminated, truncated) == (turn == 5, False)
    assert info["score"] == 0


@reference("wordle/tweet_words.txt")
def test_a_game_is_consistent_with_one_word_and_can_be_restored(path: str) -> None:
    env = WordleEnv(vocabulary=path)
    for item in range(25):
        split, task = env.locate(f"lmrlgym_wordle_{item}")
        observation, info = env.reset(options={"task": task, "split": split})
        expert = env.expert()
        while env.running:
            state = env.snapshot()
            action = expert.next_action(observation)[1]
            observation, *_, info = env.step(action)
            again = WordleEnv(vocabulary=path)
            again.restore(state)
            assert again.step(action)[0] == observation
        assert info["success"]
        last = env.guesses[-1][0]
        assert all(feedback(guess, last, strict=False) == marks for guess, marks in env.guesses)
