"""What the rows of an experiment say together: success over seeds, and every selection against the references.

The outcome of a test task is whether it was solved within the rounds that the experiment fixed, as a mean over
episodes where a task has several. Comparisons are paired by task and clustered by training seed. Holm's correction is
over a family: one combination's comparisons with one reference, in one environment or over all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from atlas_ray.evaluation.statistics import (
    CurvePoint,
    Difference,
    compare_over_seeds,
    hierarchical_bootstrap,
    holm,
)
from atlas_ray.report.experiment_rows import SELECTION

ALL = "all environments"
Task = tuple[str, str, int]
"""Environment, split and number."""
Verdict = Literal["better", "worse", "not established"]


@dataclass(frozen=True)
class Arm:
    """All trainings of one selection, or one other model, in a combination."""

    combination: str
    values: Mapping[str, Any]
    name: str
    """The selection's, or the model's where no selection tuned it."""
    method: str | None
    filters: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]
    """Without an error, by seed and environment."""

    def outcomes(self, env: str, rounds: int | None = None) -> list[dict[Task, float]]:
        """Of each training: the mean outcome of each task in [0, 1].

        Args:
            env: an environment, or `ALL`.
            rounds: solved within so many; None: within what the experiment fixed.
        """
        by_seed: dict[Any, dict[Task, list[bool]]] = {}
        for row in self.rows:
            if env in (ALL, row["environment"]):
                most = row["within"] if rounds is None else rounds
                tasks = by_seed.setdefault(row["training_seed"], {})
                for split, task, _, used, success, _ in row["episodes"]:
                    tasks.setdefault((row["environment"], split, task), []).append(bool(success) and used <= most)
        return [{task: fmean(found) for task, found in tasks.items()} for tasks in by_seed.values() if tasks]

    def mean_of(self, field: str, env: str = ALL) -> float | None:
        """Mean of a field over the rows that have it."""
        known = [row[field] for row in self.rows if env in (ALL, row["environment"]) and row[field] is not None]
        return fmean(known) if known else None

    def per_training(self, field: str) -> float | None:
        """Mean over trainings of a field that all environments of a training share."""
        found = {row["training_seed"]: row[field] for row in self.rows if row[field] is not None}
        return fmean(found.values()) if found else None

    def precision(self) -> float | None:
        """Share of the selected steps that matter, in percent, over all environments."""
        known = [row for row in self.rows if row["precision"] is not None and row["selected"]]
        steps = sum(row["selected"] for row in known)
        return sum(row["precision"] * row["selected"] for row in known) / steps if steps else None

    def looks(self) -> float | None:
        """Share of the test steps that only look."""
        known = [row for row in self.rows if row["steps"]]
        steps = sum(row["steps"] for row in known)
        return sum(row["looks"] for row in known) / steps if steps else None


@dataclass(frozen=True)
class Success:
    """An arm's success within the fixed rounds, in percent."""

    mean: float
    ci95: tuple[float, float]
    seeds: int
    tasks: int


@dataclass(frozen=True)
class Compared:
    """A selection against a reference, in one combination."""

    combination: str
    environment: str
    """Or `ALL`."""
    reference: str
    selection: str
    reference_success: float
    success: float
    difference: float
    """Percentage points."""
    ci95: tuple[float, float]
    p_value: float
    p_holm: float
    """Corrected over the family."""
    seeds: tuple[int, int]
    tasks: int

    @property
    def verdict(self) -> Verdict:
        """Established where the corrected p value is below 0.05."""
        if self.p_holm >= 0.05:
            return "not established"
        return "better" if self.difference > 0 else "worse"


def arms_of(rows: Iterable[dict[str, Any]]) -> list[Arm]:
    """The arms in the order of their first rows; rows with an error, or of a selection alone, are left out."""
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        if row["error"] is None and row["kind"] != SELECTION:
            group = "tuned" if row["kind"] == "tuned" else "other"
            found.setdefault((row["combination"], group, row["selection"] or row["model"]), []).append(row)
    return [
        Arm(
            combination, own[0]["values"], name if group == "tuned" or own[0]["kind"] != "policy" else f"{name} policy",
            own[0]["method"], tuple(own[0]["filters"] or ()), tuple(own),
        )
        for (combination, group, name), own in found.items()
    ]  # fmt: skip


def success_of(arm: Arm, env: str) -> Success | None:
    """Success with an interval over seeds and tasks; None without a finished episode."""
    outcomes = arm.outcomes(env)
    if not outcomes:
        return None
    found = hierarchical_bootstrap(outcomes)
    return Success(found.mean, found.ci95, found.seeds, found.tasks)


def curve_of(arm: Arm, env: str, max_rounds: int) -> list[CurvePoint]:
    """Success within 1, 2, ... rounds, over seeds and tasks."""
    points: list[CurvePoint] = []
    before: Any = None
    for rounds in range(1, max_rounds + 1):
        outcomes = arm.outcomes(env, rounds)
        if not outcomes:
            return []
        if outcomes == before:
            points.append(CurvePoint(rounds, points[-1].success, points[-1].ci95))
            continue
        found, before = hierarchical_bootstrap(outcomes), outcomes
        points.append(CurvePoint(rounds, found.mean, found.ci95))
    return points


def comparisons(arms: Sequence[Arm], references: Sequence[str], environments: Sequence[str]) -> list[Compared]:
    """Every selection against every reference, over all environments and then in each one.

    Two references are compared once, in the table of the first.

    Args:
        arms: of all combinations.
        references: names of arms; a combination without one has no comparison with it.
        environments: that were evaluated in; with a single one, there is no second table over all.
    """
    found: list[Compared] = []
    by_combination: dict[str, dict[str, Arm]] = {}
    for arm in arms:
        by_combination.setdefault(arm.combination, {})[arm.name] = arm
    for env in (ALL, *environments) if len(environments) > 1 else environments:
        for i, reference in enumerate(references):
            for combination, own in by_combination.items():
                family = _family(own, reference, references[:i], env)
                adjusted = holm([difference.p_value for _, difference in family])
                found += [
                    Compared(
                        combination, env, reference, selection, d.first, d.second, d.difference, d.ci95, d.p_value,
                        p_holm, d.seeds, d.tasks,
                    )
                    for (selection, d), p_holm in zip(family, adjusted, strict=True)
                ]  # fmt: skip
    return found


def _family(arms: Mapping[str, Arm], reference: str, earlier: Sequence[str], env: str) -> list[tuple[str, Difference]]:
    """A combination's comparisons with a reference, by selection; those with an earlier reference are not repeated."""
    first = arms[reference].outcomes(env) if reference in arms else []
    found = []
    for name, arm in arms.items():
        second = [] if arm.method is None or name in (reference, *earlier) else arm.outcomes(env)
        difference = compare_over_seeds(first, second) if first and second else None
        if difference is not None:
            found.append((name, difference))
    return found
