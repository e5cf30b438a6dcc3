"""Weather: answer questions about weather, places and air with a weather service (AgentGym's Weather).

The actions are in `tools.py`, what carries them out in `backend.py` and `live.py`, the questions in `tasks.py`.
"""

from __future__ import annotations

from pathlib import Path

from atlas_ray.environments.contract import EnvironmentCard
from envs.tools.backend import BackendKind, check_kind
from envs.tools.env import ToolEnv, need_file_for_live
from envs.tools.files import read_tasks
from envs.tools.tasks import N_TEST, N_TRAIN
from envs.weather.backend import OfflineWeather, WeatherBackend, setting_of
from envs.weather.live import LiveWeather
from envs.weather.tasks import TEMPLATES, tasks
from envs.weather.tools import EXAMPLE, HINT, TOOLBOX


class WeatherEnv(ToolEnv):
    """`info["score"]` becomes 1 when `finish` is called with the right answer.

    Args:
        backend: "offline", "live" (Open-Meteo; needs `data`), or a backend.
        data: A task file in AgentGym's form instead of the generated tasks; its answers hold on the live service.
        max_rounds: Rounds before truncation, the paper's 10 unless given.

    Nothing in a task is random, so `seed` changes nothing.
    """

    def __init__(
        self,
        *,
        backend: BackendKind | WeatherBackend = "offline",
        data: str | Path | None = None,
        max_rounds: int | None = None,
    ) -> None:
        kind = check_kind("weather", backend)
        need_file_for_live("weather", kind, data)
        chosen = None if data is None else read_tasks(data, "weather")
        for task in () if chosen is None else chosen.test:
            setting_of(task)
        card = EnvironmentCard(
            name="weather",
            held_in=True,
            metric="success_rate",
            max_rounds=10,
            instruction=TOOLBOX.instruction(HINT, EXAMPLE),
            n_train=N_TRAIN if chosen is None else len(chosen.train),
            n_test=N_TEST if chosen is None else len(chosen.test),
            source="AgentGym's Weather tools (AgentBoard); generated tasks on a deterministic climate",
            action_rule="last",
        )
        super().__init__(
            card,
            toolbox=TOOLBOX,
            backend=backend if isinstance(backend, WeatherBackend) else _backend(kind),
            tasks=chosen or tasks,
            templates=TEMPLATES if chosen is None else (),
            max_rounds=max_rounds,
        )


def _backend(kind: BackendKind | None) -> WeatherBackend:
    return LiveWeather() if kind == "live" else OfflineWeather()
