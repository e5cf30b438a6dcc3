"""`python -m envs`: the list, playing by hand, watching the expert, and what it says about mistakes."""

from __future__ import annotations

import io

import pytest

from atlas_ray.environments import names
from envs.__main__ import main


def test_the_list_names_every_environment(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    shown = capsys.readouterr().out
    for name in names():
        assert f"{name}\n  held-" in shown
    assert "0 rounds, 1,000 training and 134 test tasks\n  ALFWorld (MIT)" in shown
    assert "snapshots: replay, in a process of its own (455 MiB); options: max_rounds" in shown


def test_the_expert_plays(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["play", "textcraft", "--task", "3", "--expert", "--split", "test", "--option", "depths=[1]"]) == 0
    shown = capsys.readouterr().out
    assert "[1/20] Thought: " in shown
    assert "success after" in shown


def test_a_person_plays(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("move down\n" * 2))
    assert main(["play", "maze", "--option", "max_rounds=2", "--split", "test"]) == 0
    assert "no success after 2 rounds, score 0.00" in capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert main(["play", "maze"]) == 0
    assert "Given up." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["play", "chess"], "there is no environment 'chess'"),
        (["play", "maze", "--task", "5000"], "has no task 5000"),
        (["play", "maze", "--option", "layout"], "NAME=VALUE"),
        (["play", "maze", "--option", "layout=spiral"], "choose 'double_t' or 'random'"),
        (["play", "maze", "--option", "walls=3"], "no option 'walls'"),
    ],
)
def test_mistakes_are_said_in_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.count("\n") == 1
