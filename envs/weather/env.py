"""Weather: answer questions about weather, places and air with a weather service (AgentGym's Weather).

`tools.py` lists the actions, `backend.py` and `live.py` carry them out, `tasks.py` has the questions.
"""

from __future__ import annotations

from pathlib import Path

from envs.tools.backend import BackendKind, choose, need_file_for_live
from envs.tools.env import ToolEnv
from envs.tools.files import read_tasks
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
        need_file_for_live("weather", backend, data)
        chosen = None if data is None else read_tasks(data, "weather")
        for task in () if chosen is None else chosen.test:
            setting_of(task)
        super().__init__(
            "weather",
            held_in=True,
            rounds=10,
            source="AgentGym's Weather tools (AgentBoard); generated tasks on a deterministic climate",
            instruction=TOOLBOX.instruction(HINT, EXAMPLE),
            toolbox=TOOLBOX,
            backend=choose("weather", backend, OfflineWeather, LiveWeather, WeatherBackend),
            templates=TEMPLATES,
            generated=tasks,
            given=chosen,
            max_rounds=max_rounds,
        )
