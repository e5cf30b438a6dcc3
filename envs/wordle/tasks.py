"""Wordle's vocabulary, the hidden word of each task, and the feedback on a guess.

The words are common English words of our own choice; a file of other words can replace them. The rules of an episode
are in `env.py`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from atlas_ray.environments.contract import Split
from atlas_ray.errors import ConfigError

LENGTH = 5
TEST_SHARE = 0.2
N_GAMES = 10_000
"""AgentGym's games that can be played with a vocabulary file; their numbers are seeds."""
GAME_GUESSES = 6
"""After so many guesses, valid or not, a game of AgentGym's is over."""

WORDS: tuple[str, ...] = tuple(
    """
    about above actor adult after again agent agree alarm album alert alike alive allow alone along amber angel anger
    angle ankle apart apple apron arena argue arise armor aroma arrow aside asset attic audio awake award aware bacon
    badge baker basic basin beach beard beast begin being below bench berry birth black blade blame blank blaze blend
    blind block blood bloom board boast bonus boost booth bound brain brake brand brass brave bread break brick bride
    brief bring broad brook broom brown brush build bunch cabin cable camel candy cargo carry catch cause cedar chain
    chair chalk charm chart chase cheap check cheek cheer chess chest chief child chill choir chunk cider civil claim
    class clean clear clerk click cliff climb clock close cloth cloud clown coach coast cocoa coral couch count court
    cover crack craft crane crash cream creek crisp cross crowd crown crust curve cycle daily dairy daisy dance delay
    depth diary diver dozen draft drain drama dream dress drift drink drive eager eagle early earth eight elbow elder
    empty enemy enjoy enter entry equal error essay event every exact exist extra fable faith false fancy favor feast
    fence ferry fever field fiber fifty final flame flash fleet float flock flood floor flour fluid flute focus force
    forge forum found frame fresh front frost fruit funny ghost giant given glass globe glory glove grace grade grain
    grand grape graph grass gravy great green greet grill groom group guard guess guest guide habit happy harsh heart
    heavy hedge hello honey honor horse hotel house human humor hurry ideal image index inner input ivory jelly jewel
    joint judge juice knife knock label labor large laser laugh layer learn lemon level light limit linen liver local
    logic loose lucky lunch magic major maple march match mayor medal melon mercy merit metal meter minor model money
    month moral motor mount mouse mouth movie music nerve never night noble noise north novel nurse ocean offer olive
    onion opera orbit order organ other outer owner paint panel panic paper party pasta patch peace peach pearl pedal
    phase phone photo piano piece pilot pinch pitch pizza place plain plane plant plate point polar porch pound power
    press price pride prime print prize proof proud pulse punch pupil purse queen quick quiet quilt radio rapid ratio
    reach ready relax reply rhyme rider ridge right rival river roast robot rough round route royal ruler rural salad
    sauce scale scarf scene scent scout serve seven shade shake shape share sharp sheep sheet shelf shell shine shirt
    shock shore short sight silly skate skill slate sleep slice slope smart smell smile smoke snack snake solar solid
    solve sound south space spark speak spice spoon sport stage stair stamp stand start steam steel stone storm story
    stove straw sugar sunny sweet swing table taste teach thank theme thick think third throw thumb tiger title toast
    today tooth topic total tower track trade trail train treat trend trial trick truck trust truth twice uncle under
    union upper urban usual valid value video visit vital vocal voice wagon waste watch water whale wheat wheel white
    whole woman world worry wrist write yacht young youth zebra
    """.split()
)


def load_words(path: Path | None) -> tuple[str, ...]:
    """The vocabulary: ours, or a text file's, one word a line, in its order and without repeats.

    Raises:
        ConfigError: The file cannot be read, or a line is not five letters a to z.
    """
    if path is None:
        return WORDS
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"wordle: the vocabulary {path} cannot be read: {error}") from error
    words: dict[str, None] = {}
    for number, line in enumerate(lines, start=1):
        word = line.strip().lower()
        if word and not is_word(word):
            raise ConfigError(f"wordle: {path} line {number}: {word[:40]!r} is not a word of {LENGTH} letters a to z")
        if word:
            words[word] = None
    if len(words) < 2:
        raise ConfigError(f"wordle: the vocabulary {path} needs at least 2 words of {LENGTH} letters, one a line")
    return tuple(words)


def is_word(text: str) -> bool:
    """Whether it is five small letters a to z."""
    return len(text) == LENGTH and text.isascii() and text.isalpha() and text.islower()


@cache
def hidden_words(words: tuple[str, ...], split: Split) -> tuple[str, ...]:
    """The word of each task: a fifth of the vocabulary for tests, the rest for training, both shuffled."""
    shuffled = sorted(words)
    random.Random("wordle split").shuffle(shuffled)
    n_test = max(1, round(len(words) * TEST_SHARE))
    return tuple(shuffled[:n_test] if split == "test" else shuffled[n_test:])


def drawn_word(words: tuple[str, ...], seed: int, guesses: Sequence[tuple[str, str]], strict: bool) -> str:
    """The word that the next guess of AgentGym's game `seed` is compared with.

    Upstream draws a word for every guess, among those that fit the guesses so far with their feedback.
    """
    rng = random.Random(seed)
    possible = list(words)
    for guess, marks in guesses:
        rng.choice(possible)
        possible = [word for word in possible if feedback(guess, word, strict) == marks]
    return rng.choice(possible)


def feedback(guess: str, hidden: str, strict: bool) -> str:
    """The five letters g, y or b for a guess, without spaces.

    Upstream calls every letter y that is anywhere in the word; with `strict`, as in real Wordle, no more of a letter
    than the word has and g does not use up.
    """
    if not strict:
        return "".join(
            "g" if letter == other else "y" if letter in hidden else "b"
            for letter, other in zip(guess, hidden, strict=True)
        )
    left = [other for letter, other in zip(guess, hidden, strict=True) if letter != other]
    marks = []
    for letter, other in zip(guess, hidden, strict=True):
        if letter == other:
            marks.append("g")
        elif letter in left:
            left.remove(letter)
            marks.append("y")
        else:
            marks.append("b")
    return "".join(marks)
