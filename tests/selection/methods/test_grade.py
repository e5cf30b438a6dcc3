"""Method `grade`: the question, the strict reading of answers, and what is chosen."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_ray.inference.types import Reply
from atlas_ray.selection import grading
from atlas_ray.selection.answer import AnswerError
from atlas_ray.selection.budget import budget
from atlas_ray.selection.prompt import PromptTooLongError, Question
from atlas_ray.trajectory import Selection
from tests.selection.data import RATIOS, made, reply, trajectory

GOLDEN = Path(__file__).parents[2] / "golden" / "grade_question.json"


def graded(*grades: int, **more: Any) -> str:
    entries = [{"step": step, "grade": grade} for step, grade in enumerate(grades)]
    return json.dumps({"assessment": "The logs decide.", "grades": entries} | more)


def judged(*answers: Reply, n_steps: int = 4, stand_in: bool = False, **options: Any) -> tuple[Selection, list[Any]]:
    asked: list[Question] = []
    queue = list(answers)

    async def ask(question: Question) -> Reply:
        asked.append(question)
        return queue.pop(0)

    method = made("grade", ratio=options.pop("ratio", 0.5), **options)
    row = asyncio.run(method.judge(trajectory(1, n_steps), ask, model="m", price=(1.0, 1.0), stand_in=stand_in))
    return row, asked


def test_the_question_is_the_golden_one() -> None:
    failed = trajectory(2, 1).model_copy(update={"success": False})
    questions = [grading.build(trajectory(1, 2), 10**6), grading.build(failed, 10**6), grading.build_short(failed)]
    shown = [each.question.messages for each in questions]
    repaired = grading.repair(questions[0].question, trajectory(1, 2), "7", "it is prose").messages[-2:]
    assert [*shown, repaired] == json.loads(GOLDEN.read_text())


def test_observations_are_elided_to_fit_and_steps_never() -> None:
    subject = trajectory(1, 5, observation="o" * 3000)
    prompt = grading.build(subject, 6000)
    texts = [message["content"] for message in prompt.question.messages]
    assert sum(map(len, texts)) <= 6000
    assert prompt.elided is not None
    assert all(message.content in texts[1] for message in subject.steps)
    with pytest.raises(PromptTooLongError):
        grading.build(trajectory(1, 5, thought="x" * 3000), 6000)


@pytest.mark.parametrize(
    "text",
    [
        graded(3, 9, 0, 7), "<think>1, 2?</think>So:\n```json\n" + graded(3, 9, 0, 7) + "\n```",
        '{"grades": [3, 9, 0, 7]}', '{"grades": ["3", "9", "0", "7"]}',
        json.dumps({"answer": json.loads(graded(3, 9, 0, 7))}), '{"plan": "first {"} then ' + graded(3, 9, 0, 7),
    ],
)  # fmt: skip
def test_good_answers(text: str) -> None:
    assert grading.parse(text, 4).grades == (3, 9, 0, 7)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", "empty"),
        ("9, 8, 7, 6", "unreadable"),
        ('{"steps": [1]}', "unreadable"),
        (graded(3, 9, 0), "wrong_count"),
        (graded(3, 9, 0, 7, 5), "out_of_range"),
        ('{"grades": [3, 9, 0]}', "wrong_count"),
        ('{"grades": []}', "wrong_count"),
        ('{"grades": 7}', "unreadable"),
        (graded(3, 9, 11, 7), "out_of_range"),
        (graded(3, 9, -1, 7), "out_of_range"),
        ('{"grades": [3, 9, 4.5, 7]}', "unreadable"),
        ('{"grades": [3, 9, true, 7]}', "unreadable"),
        ('{"grades": [{"step": 0, "grade": 1}, 9, 0, 7]}', "unreadable"),
        ('{"grades": [{"step": 0}]}', "unreadable"),
        (graded(1, 2, 3, 4).replace('"step": 3', '"step": 2'), "wrong_count"),
        (graded(1, 2, 3, 4)[:-3], "unreadable"),
        (graded(1, 2, 3, 4) + ' and {"grades": [1', "unreadable"),
        ("<think>" + graded(1, 2, 3, 4), "unreadable"),
    ],
)
def test_bad_answers(text: str, kind: str) -> None:
    with pytest.raises(AnswerError) as error:
        grading.parse(text, 4)
    assert error.value.kind == kind


@given(st.text(max_size=200) | st.sampled_from(['{"grades": [', '{"grades": [[]]}', '{"grades": null}', '{"grades"']))
def test_whatever_is_answered_is_grades_or_a_named_error(text: str) -> None:
    with contextlib.suppress(AnswerError):
        assert len(grading.parse(text, 2).grades) == 2


@given(grades=st.lists(st.integers(0, 10), min_size=1, max_size=20), ratio=RATIOS, least=st.none() | st.integers(0, 10))
def test_the_best_grades_are_chosen_within_the_budget(grades: list[int], ratio: float, least: int | None) -> None:
    row, _ = judged(reply(graded(*grades)), n_steps=len(grades), ratio=ratio, threshold=least)
    assert row.scores == tuple(grades)
    best = sorted(range(len(grades)), key=lambda step: (-grades[step], step))[: budget(len(grades), ratio)]
    assert row.steps == tuple(sorted(step for step in best if least is None or grades[step] >= least))


def test_a_bad_answer_is_repaired_once_then_an_error_row() -> None:
    row, asked = judged(reply(graded(1, 2, 3)), reply(graded(1, 2, 3, 9)))
    assert (row.steps, row.reason, row.provenance["repaired"]) == ((2, 3), "The logs decide.", True)
    assert "step 3 has no grade (3 of 4 have one)" in asked[1].messages[-1]["content"]
    row, asked = judged(reply("no"), reply("", refusal="I will not"))
    assert (row.steps, row.scores, row.error) == ((), None, "refusal: I will not")
    assert row.usage.prompt_tokens == 2000
    assert judged(n_steps=0)[0].error is None  # nothing is asked


def test_the_stand_in_answers_one_digit_a_step() -> None:
    import re

    row, [question] = judged(reply('{"grades": [1, 9, 0, 3]}'), stand_in=True)
    assert row.steps == (1, 3)
    assert row.provenance["stand_in"] is True
    assert question.regex is not None
    assert re.fullmatch(question.regex, '{"grades": [1, 9, 0, 3]}')
    assert not re.fullmatch(question.regex, '{"grades": [1, 9, 0]}')
