"""The parser of the selector's answers."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_ray.selection.answer import AnswerError, SelectorAnswer, parse
from atlas_ray.selection.prompt import CATEGORIES
from atlas_ray.trajectory import Selection, selections_to_table
from tests.selection.data import answer_of

ODD: list[Any] = ["", "x", "1.5", 2.0, None, True, "9" * 5000]
INDEX = st.integers(-3, 15) | st.integers(-3, 15).map(str) | st.sampled_from(ODD)
ENTRY = INDEX | st.fixed_dictionaries(
    {"step": INDEX}, optional={"category": st.sampled_from([*CATEGORIES, "?", 3]), "reason": st.text(max_size=5)}
)


class TestParser:
    @given(text=st.text(max_size=300) | st.text(alphabet='{}[]":, \\u0steplan139conversation', max_size=120))
    @settings(max_examples=400)
    def test_any_text_is_a_valid_answer_or_a_named_error(self, text: str) -> None:
        self._valid_or_named(text)

    @given(entries=st.lists(ENTRY, max_size=8), plan=st.none() | st.text(max_size=9), prose=st.text(max_size=30))
    @settings(max_examples=400)
    def test_any_json_is_a_valid_answer_or_a_named_error(self, entries: list[Any], plan: Any, prose: str) -> None:
        self._valid_or_named(f"{prose}\n```json\n{json.dumps({'plan': plan, 'steps': entries})}\n```")

    @staticmethod
    def _valid_or_named(text: str) -> None:
        try:
            found = parse(text, 10, 3)
        except AnswerError as error:
            refused = error
        else:
            refused = None
        if refused is not None:
            assert refused.kind in {"empty", "too_long", "unreadable", "no_steps", "out_of_range", "too_many"}
            assert len(str(refused)) < 200
            return
        assert 1 <= len(found.steps) <= 3
        assert list(found.steps) == sorted(set(found.steps))
        assert set(found.steps) <= set(range(10))
        assert found.categories is None or len(found.categories) == len(found.steps)
        row = Selection(trajectory_id="t", method="llm", ratio=0.3, plan=found.plan, reason=found.reason)
        selections_to_table([row])  # what gets through can be stored

    def test_the_form_that_is_asked_for(self) -> None:
        text = json.dumps(
            {"plan": "get, craft", "steps": [
                {"step": 4, "category": "Critical Action", "reason": "it crafts"},
                {"step": 0, "category": "plan_creation", "reason": "it plans"},
            ]}
        )  # fmt: skip
        assert parse(text, 5, 2) == SelectorAnswer(
            (0, 4), ("plan creation", "critical action"), "get, craft", "4: it crafts\n0: it plans"
        )

    @pytest.mark.parametrize(
        "text",
        [
            answer_of("2", " step 4 "),
            answer_of(2, 4, 2, 4),
            "Sure! Here is my answer:\n" + answer_of(2, 4) + "\nHope this helps {really}.",
            'I would say {"steps": [0]} but on reflection: {"steps": [2, 4]}',
            '{"answer": {"steps": [4, 2]}}',
            '{"steps": ["2", 4], "plan": null}',
            "2. **The critical steps are:** conversation[2, 4]",
            "The critical steps are: conversation[2] and Conversation [4]",
        ],
    )
    def test_forms_that_mean_two_and_four(self, text: str) -> None:
        assert parse(text, 5, 2).steps == (2, 4)

    @pytest.mark.parametrize(
        "text",
        [
            '{"steps":[0]} hmm ' + " ".join(f'{{"k":{k}}}' for k in range(70)) + ' {"steps":[7]}',
            '{"steps":[0]} hmm ' + " ".join(f'{{"steps":[{k % 9}]}}' for k in range(500)) + ' {"steps":[7]}',
            '<think>{"steps":[0]} or {"steps": [1</think>{"steps":[7]}',
            'The form is {"plan": ..., "steps": [...]}.\n{"plan": "p", "steps": [7]}',
            'no opening tag {"steps":[0]}</think>\n```json\n{"steps":[7]}\n```',
            '[THINK]{"steps":[0]}[/THINK]{"steps":[7]}',
            '{"steps":[{"step":7,"reason":"it writes </think> and {\\"steps\\":[0]}"}]}',
            '{"draft": {"steps": [0]}, "steps": [7]}',
            '$\\boxed{{"steps":[7]}}$',
            "{'steps': [0]} in JSON: {\"steps\": [7]}",
            "1. The high-level plan is: go\n2. The critical steps are: conversation[7]\n"
            "3. Reason: unlike conversation[4], it decides; the critical steps are few.",
            "The critical steps are: conversation[7]. Reason: unlike conversation[4], it decides.",
            "The critical steps are: conversation[7], because, unlike conversation[4], it decides.",
            "Draft: the critical steps are conversation[0].\n\nThe critical steps are: conversation[7]",
            "The high-level plan is: from conversation[0] on.\n**Critical steps:** conversation[7]\n**Reasons**: x",
            '{"steps":[0]}\n2. The critical steps are: conversation[7]\n3. Reason: x',
            "2. The critical steps are: conversation[0]\nIn JSON:\n" + '{"steps":[7]}',
            "<think>the critical steps are: conversation[0]</think>2. The critical steps are: conversation[7]",
            "conversation[7]",
            'A draft: {"steps": [0]}.\n```json\n{"steps": [7]}\n```\nSo {"steps": [7]} it is.',
            '```json\n{"steps": [0]}\n```\nNo:\n```json\n{"steps": [7]}\n```\n',
        ],
    )
    def test_the_final_answer_counts(self, text: str) -> None:
        assert parse(text, 9, 2).steps == (7,)

    def test_steps_in_a_list_of_lines_are_one_answer(self) -> None:
        text = "The critical steps are:\n- conversation[0]: it plans\n- conversation[3]: it acts\nReason: x"
        assert parse(text, 9, 2).steps == (0, 3)

    @pytest.mark.parametrize(
        "text",
        [
            '{"steps":[0]} hmm {"k":1}',
            '```json\n{"steps": [7]}\n```\nIt decides, unlike {"steps": [0]}.',
            '{"steps":[0]} and so, finally: {"plan": "p", "steps": [{"step": 7, "reason": "it',
            '{"plan": "p", "choices": [{"steps":[0]}, {"steps":[1',
            '{"plan": "p", "alternatives": [{"steps":[0]}], "steps": [7',
            '{"plan": p, "alternative": {"steps":[0]}}',
            '{"plan": "p", "steps": [{"step": 0}, {"steps": [7]}',
            '{"steps":[0]} no: {"steps": [7],}',
            "{\"steps\":[0]} no: {'steps': [7]}",
            '{"steps":[0]} no: {steps: [7]}',
            '{"one": {"steps":[0]}, "other": {"steps":[7]}}',
            '<think>{"steps":[0]} but',
            '<think>{"steps":[0]}</think>',
            '<think>{"steps":[0]}</think>I cannot decide.',
            "<think>2. The critical steps are: conversation[0]</think>",
            "The critical steps are: conversation[0]\nNo.\nThe critical steps are: conversation[7, 8",
            "The critical steps are: conversation[0] because it plans, and later conversation[7] because it acts",
            "I like conversation[0], and above all conversation[7]",
            "The critical steps are: those unlike conversation[4]",
            "The critical steps are: conversation[7]\nconversation[4] was not chosen, as it is routine.",
            "2. The critical steps are: conversation[0]\nNo.\n2. The critical steps are: ",
            '{"steps": [0]} then "steps": [7]',
            '{"steps": [0]} no, conversation[7',
        ],
    )
    def test_a_fragment_is_not_an_answer(self, text: str) -> None:
        with pytest.raises(AnswerError) as error:
            parse(text, 9, 2)
        assert error.value.kind == "unreadable"

    @pytest.mark.parametrize(
        "text",
        [
            'I think of {"steps":[0]}',
            '{"steps":[0]} hmm, let me',
            "2. The critical steps are: conversation[0]\n3. Reason: it",
            "<think>so {",
            '{"steps": [0',
        ],
    )
    def test_of_a_cut_answer_only_a_whole_object_counts(self, text: str) -> None:
        with pytest.raises(AnswerError) as error:
            parse(text, 9, 2, cut=True)
        assert error.value.kind in ("truncated", "unreadable")
        assert parse('```json\n{"steps": [7]}\n```' + "\n" * 500, 9, 2, cut=True).steps == (7,)
        assert parse('<think>x</think>{"steps": [7]}', 9, 2, cut=True).steps == (7,)

    @pytest.mark.parametrize(
        "text",
        ["\n" * 90_000, "conversation[1]\n" * 6000, "critical steps are " * 5000, "unlike " * 14_000,
         "conversation[" * 7000, '{"a' * 30_000, "</think>" * 12_000, '{"steps":[0]}</think>' * 4500,
         "critical steps are conversation[1] . " * 2500,
         '{"a":{"steps":' * 300 + "1" + "}" * 600, "conversation[1]" + ".and" * 20_000 + " x conversation[2]"],
    )  # fmt: skip
    def test_long_answers_are_read_in_no_time(self, text: str) -> None:
        start = time.process_time()
        with contextlib.suppress(AnswerError):
            parse(text[:99_000], 9, 2)
        assert time.process_time() - start < 2

    def test_the_papers_form(self) -> None:
        text = (
            "1. **The high-level plan is:** get logs,\nthen craft\n2. **The critical steps are:** conversation[0, 3]\n"
            "3. **Reason:** they decide\n"
        )
        assert parse(text, 5, 2) == SelectorAnswer((0, 3), None, "get logs,\nthen craft", "they decide")

    @pytest.mark.parametrize(
        ("text", "kind"),
        [
            ("", "empty"),
            (" \n", "empty"),
            ("I cannot help with that.", "unreadable"),
            ('{"plan": "p"}', "unreadable"),
            ('{"steps": "2"}', "unreadable"),
            ('{"steps": [{"number": 2}]}', "unreadable"),
            ('{"steps": [2.5]}', "unreadable"),
            ('{"steps": [true]}', "unreadable"),
            ('{"steps": [[2]]}', "unreadable"),
            ('{"steps": ["２"]}', "unreadable"),
            ('{"steps": [2, 4', "unreadable"),
            ("conversation[...]", "unreadable"),
            ("conversation[2-4]", "unreadable"),
            ('{"steps": []}', "no_steps"),
            (answer_of(5), "out_of_range"),
            (answer_of(-1), "out_of_range"),
            (answer_of(1, 5), "out_of_range"),
            ("conversation[5]", "out_of_range"),
            (answer_of(0, 1, 2), "too_many"),
            ("x" * 200_000, "too_long"),
            ('{"a":' * 15_000, "unreadable"),
            ('{"' * 45_000, "unreadable"),
            ("[" * 90_000, "unreadable"),
        ],
    )
    def test_what_is_refused(self, text: str, kind: str) -> None:
        with pytest.raises(AnswerError) as error:
            parse(text, 5, 2)
        assert error.value.kind == kind

    def test_half_characters_are_replaced(self) -> None:
        found = parse('{"plan": "a\\ud800", "steps": [{"step": 1, "reason": "\\udfff"}]}', 5, 2)
        assert (found.plan, found.reason) == ("a?", "1: ?")
