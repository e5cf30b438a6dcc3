"""Tasks of a tool environment: what they hold, how answers are checked, and how templates make them.

A template makes a question and its answer from the offline store, and holds the expert's way to the answer through the
tools alone (`expert.py`). Upstream's task files are read in `files.py`.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from atlas_ray.environments.contract import Split

Difficulty = Literal["easy", "hard"]

N_TRAIN, N_TEST = 200, 20
"""Tasks that are generated for each environment."""

_QUOTES = "'\"`“”‘’"


@dataclass(frozen=True, slots=True)
class Answer:
    """What `finish` must be called with.

    Texts are compared without case, outer quotes, a final full stop and differences of white space (NFKC); lists
    as sets with repetitions, as upstream sorts both sides; numbers within `tolerance`, also where they are given as
    a text. A number is right for a text that is its numeral.

    Attributes:
        value: A text, a number, or a list of them.
        tolerance: How far a number may be off.
        alternatives: Other answers that are right.
    """

    value: Any
    tolerance: float = 1e-6
    alternatives: tuple[Any, ...] = ()

    def accepts(self, given: object) -> bool:
        """Whether an answer, as parsed from the action, is right."""
        return any(_agree(gold, given, self.tolerance) for gold in (self.value, *self.alternatives))


def _agree(gold: Any, given: object, tolerance: float) -> bool:
    if isinstance(gold, list | tuple):
        if not isinstance(given, list | tuple) or len(given) != len(gold):
            return False
        left = list(gold)
        for item in given:
            match = next((i for i, wanted in enumerate(left) if _agree(wanted, item, tolerance)), None)
            if match is None:
                return False
            del left[match]
        return True
    if isinstance(gold, int | float) and not isinstance(gold, bool):
        number = _number(given)
        return number is not None and abs(number - gold) <= max(tolerance, 1e-9 * abs(gold))
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        return False
    return normalise(str(gold)) == normalise(str(given))


def _number(given: object) -> float | None:
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        return None
    try:
        return float(given)
    except (ValueError, OverflowError):
        return None


def normalise(text: str) -> str:
    """A text in the form in which answers are compared."""
    words = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return words.strip(_QUOTES).removesuffix(".").strip(_QUOTES).strip()


@dataclass(frozen=True, slots=True)
class Task:
    """One task.

    Attributes:
        goal: What the agent is asked to do.
        answer: What `finish` must be called with; None if only the final state counts.
        setting: What the episode starts from, such as `current_date`, `current_location`, a seed of a start state.
        parameters: What the template filled in; for its expert's eyes.
        template: The template's name, empty for a task from a file.
        difficulty: By the number of calls that the expert needs.
        final: The state that the episode must end in, in the environment's own form; None if none is asked for.
        origin: Where a task from a file stands, for errors.
    """

    goal: str
    answer: Answer | None
    setting: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    template: str = ""
    difficulty: Difficulty = "hard"
    final: Any = None
    origin: str = ""


class Step(NamedTuple):
    """The next step of an expert: the thought, the tool and its arguments."""

    thought: str
    name: str
    arguments: Mapping[str, Any]


Play = Generator[Step, Any, None]
"""An expert's way through one task: a generator that yields steps and is sent their results; the last is `finish`."""


def use(thought: str, tool: str, /, **arguments: Any) -> Step:
    """A step that calls a tool."""
    return Step(thought, tool, arguments)


def finish(thought: str, answer: Any) -> Step:
    """The last step."""
    return Step(thought, "finish", {"answer": answer})


@dataclass(frozen=True, slots=True)
class Template:
    """A kind of task.

    Attributes:
        name: Its id.
        difficulty: "easy" for at most three calls before `finish`, "hard" for more.
        draw: Makes a task from a random number generator, or None if the draw gives no good question; it computes
            the answer from the store, not by the expert.
        play: The expert's way through a task of this template, through the tools alone.
    """

    name: str
    difficulty: Difficulty
    draw: Callable[[random.Random], Task | None]
    play: Callable[[Task], Play]


def template(
    draw: Callable[[random.Random], Task | None], play: Callable[[Task], Play], *, easy: bool = False
) -> Template:
    """A template with the name of its play."""
    return Template(play.__name__, "easy" if easy else "hard", draw, play)


class TaskSet(NamedTuple):
    """The tasks of an environment, numbered from 0 in each split."""

    train: tuple[Task, ...]
    test: tuple[Task, ...]

    def of(self, split: Split) -> tuple[Task, ...]:
        """The tasks of a split."""
        return self.train if split == "train" else self.test


def generate(name: str, templates: Sequence[Template], *, n_train: int = N_TRAIN, n_test: int = N_TEST) -> TaskSet:
    """Make an environment's tasks: every template in turn, no two tasks the same, then shuffled.

    The first n tasks of a split are a fair sample of the templates. The same in any process.

    Raises:
        RuntimeError: A template has too few different questions in it.
    """
    seen: set[tuple[str, str]] = set()

    def draw(split: Split, number: int) -> Task:
        template = templates[number % len(templates)]
        for attempt in range(1000):
            task = template.draw(random.Random(f"{name} {split} {number} {attempt}"))
            if task is None:
                continue
            identity = (task.goal, repr(sorted(task.setting.items())))
            if identity not in seen:
                seen.add(identity)
                return replace(task, template=template.name, difficulty=template.difficulty)
        raise RuntimeError(f"{name}: template {template.name!r} finds no new question for {split} task {number}")

    def tasks(split: Split, n: int) -> tuple[Task, ...]:
        drawn = [draw(split, number) for number in range(n)]
        random.Random(f"{name} {split} order").shuffle(drawn)
        return tuple(drawn)

    return TaskSet(tasks("train", n_train), tasks("test", n_test))
