"""The figures of selections: by hand, per environment and over all, and as they are stored."""

from __future__ import annotations

from pathlib import Path

import pytest

from atlas_ray.errors import SelectionError
from atlas_ray.evaluation.statistics import precision_recall
from atlas_ray.models import token_counter
from atlas_ray.selection.compare import OVERALL, TrajectoryShape, figures, kinds_of, shapes_of, stored
from atlas_ray.store import Store
from atlas_ray.trajectory import Selection, Trajectory
from tests.selection.data import made, trajectory


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    subjects = [trajectory(n, 10) for n in range(40)]
    subjects = [s.model_copy(update={"env": "maze" if n % 4 == 0 else "textcraft"}) for n, s in enumerate(subjects)]
    found = Store(str(tmp_path_factory.mktemp("run")))
    found.write_trajectories(subjects)
    found.write_selections("random", [made("random").choose(s, {}) for s in subjects])
    found.write_selections("all", [made("all").choose(s, {}) for s in subjects])
    first = [
        Selection(trajectory_id=s.trajectory_id, method="llm", ratio=0.3, steps=(0, 9),
                  categories=("plan creation", "critical action"))
        for s in subjects
    ]  # fmt: skip
    first[0] = Selection(trajectory_id="t0000", method="llm", ratio=0.3, error="timeout: late")
    found.write_selections("critical", first)
    return found


def test_stored_selections_per_environment_and_over_all(store: Store, tiny_model: Path) -> None:
    maze, textcraft, overall = stored(store, ["all", "critical", "random"], token_counter(str(tiny_model)))
    assert [each.environment for each in (maze, textcraft, overall)] == ["maze", "textcraft", OVERALL]
    assert [each.trajectories for each in (maze, textcraft, overall)] == [10, 30, 40]
    every, critical, drawn = overall.selections
    assert (critical.name, critical.method, critical.answered, critical.errors) == (
        "critical",
        "llm",
        39,
        {"timeout": 1},
    )
    assert (critical.picked, critical.steps) == (78, 390)
    assert maze.selections[1].answered == 9
    assert every.step_share == every.token_share == 1
    assert drawn.step_share == pytest.approx(0.3)
    assert drawn.token_share is not None
    assert 0.15 < drawn.token_share < 0.45
    assert critical.profile_by_tenth == (1.0, *[0.0] * 8, 1.0)
    assert critical.profile_by_step == (1.0, *[0.0] * 8, 1.0, None)
    assert critical.favourite == (0, 1.0)
    assert critical.categories == {"critical action": 0.5, "plan creation": 0.5}
    assert drawn.categories == {}
    (pair,) = overall.overlaps  # what overlaps with `all` follows from its definition
    assert (pair.first, pair.second, pair.n) == ("critical", "random", 39)
    facts = overall.facts()
    assert facts["overlaps"][0]["kappa"] == pair.kappa
    assert facts["selections"][1]["step_share"] == critical.step_share


def test_figures_by_hand() -> None:
    def row(key: str, *steps: int, error: str | None = None) -> Selection:
        return Selection(trajectory_id=key, method="m", ratio=0.3, steps=steps, error=error)

    shapes = {
        "a": TrajectoryShape("maze", 12, (*[1] * 11, 9)), "b": TrajectoryShape("maze", 1, (4,)),
        "c": TrajectoryShape("maze", 0, ()), "d": TrajectoryShape("maze", 3, (1, 1, 2)),
    }  # fmt: skip
    rows = [row("a", 3, 11), row("b", 0), row("c"), row("d", error="timeout: late"), row("elsewhere", 1)]
    (found,) = figures({"mine": rows}, shapes)
    (mine,) = found.selections
    assert (found.environment, found.trajectories, mine.method) == ("maze", 4, "m")
    assert (mine.answered, mine.errors, mine.picked, mine.steps) == (3, {"timeout": 1}, 3, 13)
    assert mine.step_share == pytest.approx((2 / 12 + 1) / 2)
    assert mine.token_share == pytest.approx((10 / 20 + 1) / 2)
    assert mine.profile_by_step == (0.5, 0.0, 0.0, 1.0, *[0.0] * 6, 0.5)
    assert mine.profile_by_tenth == (1 / 3, 0.0, 1.0, *[0.0] * 6, 1.0)
    assert mine.favourite == (3, 1.0)


def test_precision_and_recall_against_what_experts_recorded() -> None:
    def recorded(number: int, *kinds: str, env: str = "maze", source: str = "expert") -> Trajectory:
        fields = {"env": env, "source": source, "metadata": {"kinds": list(kinds)}}
        return trajectory(number, len(kinds)).model_copy(update=fields)

    subjects = [
        recorded(0, "productive", "habit", "productive"),
        recorded(1, "slip", "recovery", "wander", "productive"),
        recorded(2, "productive", "habit", env="textcraft"),
        recorded(3, "productive", "productive"),
        recorded(4, "slip", source="a file"),  # another word for something else
        trajectory(5, 3),
    ]
    assert kinds_of(subjects[4]) is kinds_of(subjects[5]) is None
    picks = {"t0000": (0, 1), "t0001": (1, 2), "t0002": (1,), "t0004": (0,), "t0005": (0, 1)}
    rows = [Selection(trajectory_id=name, method="m", ratio=0.5, steps=steps) for name, steps in picks.items()]
    rows.append(Selection(trajectory_id="t0003", method="m", ratio=0.5, error="timeout: late"))  # not scored
    found = {each.environment: each.selections[0].truth for each in figures({"mine": rows}, shapes_of(subjects, None))}
    maze, textcraft, overall = found["maze"], found["textcraft"], found[OVERALL]
    assert maze is not None
    assert (maze.trajectories, maze.selected, maze.relevant) == (2, 4, 4)
    assert (maze.precision, maze.recall) == (50, 50)
    assert textcraft is not None
    assert (textcraft.trajectories, textcraft.precision, textcraft.recall) == (1, 0, 0)
    assert overall == precision_recall(
        {"t0000": (0, 1), "t0001": (1, 2), "t0002": (1,)}, {"t0000": (0, 2), "t0001": (1, 3), "t0002": (0,)}
    )
    assert overall.precision == 40
    (unknown,) = figures({"mine": rows}, shapes_of(subjects[5:], lambda texts: [1] * len(texts)))
    assert unknown.selections[0].truth is None
    assert shapes_of(subjects[:1], lambda texts: [len(texts)] * len(texts)) == {
        "t0000": TrajectoryShape("maze", 3, (4, 4, 4), frozenset({0, 2}))
    }


def test_without_tokens_trajectories_or_selections() -> None:
    (found,) = figures({"mine": [], "other": []}, {})
    assert (found.environment, found.trajectories, found.overlaps) == (OVERALL, 0, ())
    assert [(each.name, each.step_share, each.token_share, each.favourite) for each in found.selections] == [
        ("mine", None, None, None), ("other", None, None, None)
    ]  # fmt: skip
    rows = [Selection(trajectory_id="a", method="m", ratio=0.3, steps=(1,))]
    (found,) = figures({"mine": rows}, {"a": TrajectoryShape("maze", 2)})
    assert (found.selections[0].step_share, found.selections[0].token_share) == (0.5, None)


def test_what_cannot_be_compared_is_one_line(store: Store) -> None:
    with pytest.raises(SelectionError, match="no selection to compare"):
        stored(store, [], None)
    with pytest.raises(SelectionError, match="'value' has no row"):
        stored(store, ["value"], None)
