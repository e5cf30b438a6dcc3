"""The journals of evaluation: one line per episode, appended as episodes finish, in `evaluation/<model>/<env>.jsonl`.

A journal also keeps episodes that no longer count: failed ones that were played again, and those of other settings or
weights. `results.json` names the episodes that its figures count, by key. Everything that shows an evaluation reads
them here, so no two tables can show different episodes. Pure: episodes are played in `evaluate.py`.
"""

from __future__ import annotations

from collections.abc import Iterable

from atlas_ray.errors import StoreError
from atlas_ray.store import Store
from atlas_ray.trajectory import Episode

_FOLDER = "evaluation"
_RESULTS = "results.json"


def append(store: Store, episode: Episode) -> None:
    """Append an episode to the journal of its model and environment."""
    store.append([episode.model_dump(mode="json")], _FOLDER, episode.model, f"{episode.env}.jsonl")


def journaled(store: Store, model: str, environments: Iterable[str]) -> dict[str, Episode]:
    """The episodes of a model by key: the last line of each key, but no failed one after a finished one."""
    found: dict[str, Episode] = {}
    for env in environments:
        for row in store.journal(_FOLDER, model, f"{env}.jsonl"):
            if row["error"] is None or row["key"] not in found or found[row["key"]].error is not None:
                found[row["key"]] = Episode.model_validate(row)
    return found


def counted(store: Store, model: str) -> list[Episode]:
    """The episodes that a model's `results.json` counts, failed ones included, sorted by environment, task and seed.

    Raises:
        StoreError: `results.json` is missing or of the first edition, or the journal lacks an episode that it counts.
    """
    path = store.path(_FOLDER, model, _RESULTS)
    keys = store.read_json(_FOLDER, model, _RESULTS).get("episode_keys")
    if keys is None:
        raise StoreError(f"{path} names no episodes (it has no episode_keys); delete it and evaluate {model} again")
    found = journaled(store, model, keys)
    episodes = []
    for env, wanted in keys.items():
        for key in wanted:
            if key not in found:
                raise StoreError(f"{path} counts episode {key}, which {env}.jsonl lacks; run the same evaluation again")
            episodes.append(found[key])
    return sorted(episodes, key=lambda episode: (episode.env, episode.split_task, episode.seed))


def is_whole(store: Store, model: str) -> bool:
    """Whether there is a `results.json` of the model, and its journals have every episode that it counts."""
    try:
        counted(store, model)
    except StoreError:
        return False
    return True
