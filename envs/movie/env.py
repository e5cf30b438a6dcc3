"""Movie: answer questions about films and people with a film database (AgentGym's Movie).

`tools.py` lists the actions, `backend.py` and `live.py` carry them out, `universe.py` has the films, `tasks.py` the
questions.
"""

from __future__ import annotations

from pathlib import Path

from envs.movie.backend import MovieBackend, OfflineMovie
from envs.movie.live import LiveMovie
from envs.movie.tasks import TEMPLATES, tasks
from envs.movie.tools import EXAMPLE, HINT, TOOLBOX
from envs.tools.backend import BackendKind, choose, need_file_for_live
from envs.tools.env import ToolEnv
from envs.tools.files import read_tasks


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
        need_file_for_live("movie", backend, data)
        chosen = None if data is None else read_tasks(data, "movie")
        super().__init__(
            "movie",
            held_in=True,
            rounds=12,
            source="AgentGym's Movie tools (AgentBoard); generated tasks on a generated film universe",
            instruction=TOOLBOX.instruction(HINT, EXAMPLE),
            toolbox=TOOLBOX,
            backend=choose("movie", backend, OfflineMovie, LiveMovie, MovieBackend),
            templates=TEMPLATES,
            generated=tasks,
            given=chosen,
            max_rounds=max_rounds,
        )
