"""Movie: answer questions about films and people with a film database (AgentGym's Movie).

The actions are in `tools.py`, what carries them out in `backend.py` and `live.py`, the films in `universe.py`, the
questions in `tasks.py`.
"""

from __future__ import annotations

from pathlib import Path

from atlas_ray.environments.contract import EnvironmentCard
from envs.movie.backend import MovieBackend, OfflineMovie
from envs.movie.live import LiveMovie
from envs.movie.tasks import TEMPLATES, tasks
from envs.movie.tools import EXAMPLE, HINT, TOOLBOX
from envs.tools.backend import BackendKind, check_kind
from envs.tools.env import ToolEnv, need_file_for_live
from envs.tools.files import read_tasks
from envs.tools.tasks import N_TEST, N_TRAIN


class MovieEnv(ToolEnv):
    """`info["score"]` becomes 1 when `finish` is called with the right answer.

    Args:
        backend: "offline", "live" (TMDB; needs `data` and the environment variable TMDB_TOKEN), or a backend.
        data: A task file in AgentGym's form instead of the generated tasks; its answers hold on the live service.
        max_rounds: Rounds before truncation, the paper's 12 unless given.

    Nothing in a task is random, so `seed` changes nothing.
    """

    def __init__(
        self,
        *,
        backend: BackendKind | MovieBackend = "offline",
        data: str | Path | None = None,
        max_rounds: int | None = None,
    ) -> None:
        kind = check_kind("movie", backend)
        need_file_for_live("movie", kind, data)
        chosen = None if data is None else read_tasks(data, "movie")
        card = EnvironmentCard(
            name="movie",
            held_in=True,
            metric="success_rate",
            max_rounds=12,
            instruction=TOOLBOX.instruction(HINT, EXAMPLE),
            n_train=N_TRAIN if chosen is None else len(chosen.train),
            n_test=N_TEST if chosen is None else len(chosen.test),
            source="AgentGym's Movie tools (AgentBoard); generated tasks on a generated film universe",
            action_rule="last",
        )
        super().__init__(
            card,
            toolbox=TOOLBOX,
            backend=backend if isinstance(backend, MovieBackend) else _backend(kind),
            tasks=chosen or tasks,
            templates=TEMPLATES if chosen is None else (),
            max_rounds=max_rounds,
        )


def _backend(kind: BackendKind | None) -> MovieBackend:
    return LiveMovie() if kind == "live" else OfflineMovie()
