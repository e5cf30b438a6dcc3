"""Academia: answer questions about papers and authors with a citation network (AgentGym's Academia).

`tools.py` lists the actions, `backend.py` carries them out on the network of `network.py`, and `tasks.py` has the
questions.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from atlas_ray.errors import ConfigError
from envs.academia.backend import AcademiaBackend
from envs.academia.network import generated, read
from envs.academia.tasks import TEMPLATES, tasks
from envs.academia.tools import EXAMPLE, HINT, TOOLBOX
from envs.tools.env import ToolEnv
from envs.tools.files import read_tasks
from envs.tools.grammar import refused_by


class AcademiaEnv(ToolEnv):
    """`info["score"]` becomes 1 when `finish` is called with the right answer.

    Args:
        data: A task file in AgentGym's form instead of the generated tasks.
        graph: A file of the Citation Network Dataset instead of the generated network; needs `data`.
        max_rounds: Rounds before truncation, the paper's 12 unless given.

    Nothing in a task is random, so `seed` changes nothing.
    """

    refusals: ClassVar[str] = refused_by("Please load the ", "There is no node named ", "There is no edge between ")

    def __init__(
        self, *, data: str | Path | None = None, graph: str | Path | None = None, max_rounds: int | None = None
    ) -> None:
        if graph is not None and data is None:
            raise ConfigError(
                "academia: graph needs data=PATH, a task file about that network; the generated tasks ask about the "
                "generated one"
            )
        chosen = None if data is None else read_tasks(data, "academia")
        given = None if graph is None else read(str(graph))
        super().__init__(
            "academia",
            held_in=False,
            rounds=12,
            source="AgentGym's Academia tools (AgentBoard); generated tasks on a generated citation network",
            instruction=TOOLBOX.instruction(HINT, EXAMPLE),
            toolbox=TOOLBOX,
            backend=AcademiaBackend(generated if given is None else lambda: given),
            templates=TEMPLATES,
            generated=tasks,
            given=chosen,
            max_rounds=max_rounds,
        )
