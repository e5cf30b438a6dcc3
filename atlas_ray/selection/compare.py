"""How stored selections of the same trajectories differ, per environment: the figures of `jobs/select.py compare`.

Shares of steps and of their tokens, category shares, where in a trajectory a method picks, and how far two methods
agree beyond chance (`agreement.py`). Trajectories are read chunk by chunk; only the chosen steps stay in memory.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from math import fsum
from typing import Any

from atlas_ray.errors import SelectionError
from atlas_ray.selection.agreement import agreements
from atlas_ray.selection.source import plan, read, read_beside
from atlas_ray.selection.summary import share_of_tokens, step_tokens
from atlas_ray.store import GROUP_ROWS, Store
from atlas_ray.trajectory import Selection

BINS = 10
"""Of the position profile: step t of n is in bin floor(10 t / n)."""
OVERALL = "all environments"


@dataclass
class _Kept:
    """What is remembered of the trajectories of an environment."""

    n_steps: dict[str, int] = field(default_factory=dict)
    rows: dict[str, list[Selection]] = field(default_factory=lambda: defaultdict(list))
    token_shares: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))


def compare(
    store: Store,
    methods: Sequence[str],
    count: Callable[[list[str]], list[int]] | None,
    ids: Collection[str] | None = None,
) -> dict[str, Any]:
    """The figures, by environment and over all of them.

    Args:
        store: the run directory.
        methods: stored selections.
        count: tokens of texts (`models.token_counter`); None leaves the share of tokens out.
        ids: the trajectories to compare on; None: all.

    Returns:
        For every environment `trajectories`, `methods` (answered, errors, share_of_steps, share_of_tokens, categories,
        profile: the share of the steps in each tenth of a trajectory that is chosen) and `pairs` (n, jaccard, that of
        random picks with the same counts, kappa).

    Raises:
        SelectionError: fewer than one method, or one has no row for a trajectory.
    """
    if not methods:
        raise SelectionError("there is no selection to compare; run jobs/select.py first")
    kept: dict[str, _Kept] = defaultdict(_Kept)
    for chunk in plan(store, ids, GROUP_ROWS).chunks:
        trajectories = read(store, chunk)
        tokens = step_tokens(trajectories, count) if count is not None else None
        for method in methods:
            for trajectory, row in zip(trajectories, read_beside(store, method, trajectories), strict=True):
                lean = Selection(
                    trajectory_id=row.trajectory_id, method=method, ratio=row.ratio, steps=row.steps,
                    categories=row.categories, error=row.error,
                )  # fmt: skip
                for name in (trajectory.env, OVERALL):
                    place = kept[name]
                    place.n_steps[trajectory.trajectory_id] = trajectory.n_steps
                    place.rows[method].append(lean)
                    if tokens is not None and row.error is None and trajectory.n_steps:
                        share = share_of_tokens(row.steps, tokens[trajectory.trajectory_id])
                        place.token_shares[method].append(share)
    names = sorted(name for name in kept if name != OVERALL)
    if len(names) != 1:
        names.append(OVERALL)
    return {"methods": list(methods), "environments": {name: _figures(kept[name]) for name in names}}


def _figures(kept: _Kept) -> dict[str, Any]:
    pairs = [
        {"first": p.first, "second": p.second, "n": p.n, "jaccard": p.jaccard, "expected": p.expected, "kappa": p.kappa}
        for p in agreements(kept.rows, kept.n_steps)
    ]
    methods = {
        method: _of_method(rows, kept.n_steps, kept.token_shares.get(method, [])) for method, rows in kept.rows.items()
    }
    return {"trajectories": len(kept.n_steps), "methods": methods, "pairs": pairs}


def _of_method(rows: Sequence[Selection], n_steps: dict[str, int], token_shares: Sequence[float]) -> dict[str, Any]:
    answered = [row for row in rows if row.error is None and n_steps[row.trajectory_id]]
    categories = Counter(category for row in answered for category in row.categories or ())
    named = categories.total()
    there, picked = [0] * BINS, [0] * BINS
    for row in answered:
        n = n_steps[row.trajectory_id]
        for step in range(n):
            there[BINS * step // n] += 1
        for step in row.steps:
            picked[BINS * step // n] += 1
    return {
        "answered": len(answered),
        "errors": sum(row.error is not None for row in rows),
        "share_of_steps": _mean([len(row.steps) / n_steps[row.trajectory_id] for row in answered]),
        "share_of_tokens": _mean(token_shares),
        "categories": {name: count / named for name, count in sorted(categories.items())},
        "profile": [chosen / steps if steps else None for chosen, steps in zip(picked, there, strict=True)],
    }


def _mean(values: Sequence[float]) -> float | None:
    return fsum(values) / len(values) if values else None
