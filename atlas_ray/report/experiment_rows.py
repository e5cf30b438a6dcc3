"""The rows of `experiment.json`: one per combination, model and environment, from the run directories alone.

A row holds what the model is, what its selection and its training were, how it played, and every test episode in
short, so that anyone can compute other figures from the file. A cell that failed is a row with its error. A selection
that nothing is tuned on has a row too, with its distance to the truth and nothing played. Rows of other machines come
from their `experiment.json`.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, TypeAdapter, ValidationError

from atlas_ray.config import PipelineConfig, explain
from atlas_ray.environments.contract import EnvironmentCard
from atlas_ray.errors import DataError
from atlas_ray.evaluation import ledger
from atlas_ray.evaluation.statistics import PrecisionRecall, success_curve
from atlas_ray.roster import Kind, RosterEntry, checkpoint_name
from atlas_ray.selection.compare import TrajectoryShape, figures, shapes_of
from atlas_ray.store import Store
from atlas_ray.trajectory import Episode

FORMAT = 1
"""Of `experiment.json`."""
SELECTION = "selection"
"""The kind of a row that is no model's."""


class Row(BaseModel):
    """What is read of a row; docs/evidence.md says what the fields mean."""

    combination: str
    values: dict[str, Any]
    kind: Kind | Literal["selection"]
    model: str | None
    selection: str | None
    training_seed: int | None
    method: str | None
    filters: list[str] | None
    environment: str
    within: int | None
    error: str | None
    mean_rounds: float | None
    curve: list[dict[str, Any]]
    episodes: list[tuple[str, int, int, int, int, float]]
    looks: int | None
    steps: int | None
    labelled_tokens: int | None
    training_seconds: float | None
    precision: float | None
    precision_ci95: list[float] | None
    recall: float | None
    recall_ci95: list[float] | None
    selected: int | None


@dataclass(frozen=True)
class RunOfGrid:
    """One combination of an experiment, and where its run lies."""

    name: str
    values: dict[str, Any]
    """Of the options that differ between the combinations."""
    config: PipelineConfig
    store: Store
    cards: Mapping[str, EnvironmentCard]
    """Of the evaluated environments."""
    models: list[RosterEntry]
    """Those that are evaluated, in order."""
    failures: Mapping[str, str]
    """Error by the name of a model, or of a `selection <name>` that nothing is trained on."""


def rows_of(
    run: RunOfGrid, within: Mapping[str, int], truths: Mapping[str, Mapping[str, PrecisionRecall]]
) -> list[dict[str, Any]]:
    """The rows of one combination; a model that has not been evaluated yet has none.

    Args:
        run: the combination.
        within: rounds within which a success counts, where they are fewer than the environment's cap.
        truths: of `truth_of`.
    """
    logged: dict[str, list[dict[str, Any]]] = {}
    for record in run.store.journal("metrics", "train.jsonl"):
        logged.setdefault(str(record["checkpoint"]), []).append(record)
    looks = run.store.facts("looks")
    rows = []
    for entry in run.models:
        facts = _model(run, entry, logged)
        error = run.failures.get(entry.name)
        evaluated = run.store.exists("evaluation", entry.name, "results.json")
        if error is None and not evaluated:
            continue
        episodes = ledger.counted(run.store, entry.name) if error is None else []
        results = run.store.read_json("evaluation", entry.name, "results.json") if error is None else None
        for env, card in run.cards.items():
            found = None if results is None else results["environments"].get(env)
            played = [episode for episode in episodes if episode.env == env]
            cap = min(card.max_rounds, within.get(env, card.max_rounds))
            counted = looks.get(entry.name, {}).get("environments", {}).get(env)
            rows.append(
                facts
                | {"environment": env, "held_in": card.held_in, "metric": card.metric, "within": cap, "error": error}
                | _played(played, found, cap, card.max_rounds)
                | _looked(counted if error is None else None)
                | _scored(truths.get(str(entry.selection), {}).get(env))
            )
    trained = {entry.selection for entry in run.models}
    for name in sorted(truths.keys() - trained):
        facts = _facts(run, None, SELECTION, name, None) | _trained([])
        rows += [
            facts
            | {"environment": env, "held_in": card.held_in, "metric": card.metric, "within": None, "error": None}
            | _played([], None, 0, 0) | _looked(None) | _scored(truths[name][env])
            for env, card in run.cards.items() if env in truths[name]
        ]  # fmt: skip
    return rows


def read_rows(path: str, combinations: Collection[str]) -> list[dict[str, Any]]:
    """The rows of an `experiment.json` that was written elsewhere.

    Args:
        path: of the file.
        combinations: names of those that the experiment has.

    Raises:
        DataError: the file is no `experiment.json`, or of another experiment.
        StoreError: it is missing, or no JSON.
    """
    folder, name = posixpath.split(path)
    data = Store(folder or ".").read_json(name)
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise DataError(f"{path}: expected an experiment.json of format {FORMAT}")
    try:
        TypeAdapter(list[Row]).validate_python(data.get("rows"))
    except ValidationError as error:
        raise DataError(f"{path}: rows.{explain(error)}") from error
    rows: list[dict[str, Any]] = data["rows"]
    for row in rows:
        if row["combination"] not in combinations:
            raise DataError(
                f"{path}: a row of the combination {row['combination']!r}, which this experiment does not have; it has "
                f"{', '.join(sorted(combinations))}"
            )
    return rows


def truth_of(run: RunOfGrid) -> dict[str, dict[str, PrecisionRecall]]:
    """Precision and recall of every stored selection whose truth is known, by environment."""
    names = [name for name in run.store.names("selections") if _has_rows(run.store, "selections", name)]
    if not names or not _has_rows(run.store, "trajectories"):
        return {}
    shapes: dict[str, dict[str, TrajectoryShape]] = {}
    scores: dict[str, dict[str, PrecisionRecall]] = {}
    for name in names:
        folder = run.store.trajectory_folder(name)
        if folder not in shapes:
            shapes[folder] = shapes_of(run.store.read_trajectories(name), None)
        for found in figures({name: run.store.read_selections(name)}, shapes[folder]):
            [own] = found.selections
            if own.truth is not None:
                scores.setdefault(name, {})[found.environment] = own.truth
    return scores


def _has_rows(store: Store, *parts: str) -> bool:
    return any(name.endswith(".parquet") for name in store.names(*parts))


def _model(run: RunOfGrid, entry: RosterEntry, logged: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    checkpoint = "warmup" if entry.kind == "warmup" else ""
    if entry.selection is not None and entry.seed is not None:
        checkpoint = checkpoint_name(run.config, entry.selection, entry.seed)
    return _facts(run, entry.name, entry.kind, entry.selection, entry.seed) | _trained(logged.get(checkpoint, ()))


def _facts(run: RunOfGrid, model: str | None, kind: str, selection: str | None, seed: int | None) -> dict[str, Any]:
    spec = None if selection is None else run.config.selection(selection)
    return {
        "combination": run.name, "values": run.values, "model": model, "kind": kind, "selection": selection,
        "training_seed": seed, "method": spec and spec.method, "ratio": spec and spec.ratio,
        "filters": None if spec is None else list(spec.filters),
    }  # fmt: skip


def _trained(steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "optimizer_steps": len(steps) or None,
        "labelled_tokens": sum(step["labelled_tokens"] for step in steps) or None,
        "training_seconds": round(sum(step["seconds"] for step in steps), 3) or None,
    }


def _played(
    episodes: Sequence[Episode], found: Mapping[str, Any] | None, within: int, max_rounds: int
) -> dict[str, Any]:
    done = [episode for episode in episodes if episode.error is None]
    solved = [episode.success and episode.rounds <= within for episode in done]
    names = ("score", "ci95", "success_rate", "mean_rounds", "n", "errors")
    row: dict[str, Any] = {name: None if found is None else found[name] for name in names}
    return row | {
        "success_within": 100 * sum(solved) / len(solved) if solved else None,
        "curve": [
            {"rounds": point.rounds, "success": point.success, "ci95": list(point.ci95)}
            for point in success_curve([done], max_rounds)
        ],
        "episodes": [[e.split, e.task, e.seed, e.rounds, int(e.success), round(e.score, 6)] for e in done],
    }


def _looked(counted: Mapping[str, int] | None) -> dict[str, Any]:
    if not counted or not counted["steps"]:
        return {"looks": None, "steps": None, "share_of_looks": None}
    return {**counted, "share_of_looks": counted["looks"] / counted["steps"]}


def _scored(found: PrecisionRecall | None) -> dict[str, Any]:
    names = ("precision", "precision_ci95", "recall", "recall_ci95", "selected")
    return {name: None if found is None else _listed(getattr(found, name)) for name in names}


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
