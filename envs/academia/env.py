"""Academia: answer questions about papers and authors with a citation network (AgentGym's Academia).

The actions are in `tools.py`, what carries them out in `backend.py`, the network in `network.py`, the questions in
`tasks.py`.
"""

from __future__ import annotations

from pathlib import Path

from atlas_ray.environments.contract import EnvironmentCard
from atlas_ray.errors import ConfigError
from envs.academia.backend import AcademiaBackend
from envs.academia.network import generated, read
from envs.academia.tasks import TEMPLATES, tasks
from envs.academia.tools import EXAMPLE, HINT, TOOLBOX
from envs.tools.env import ToolEnv
from envs.tools.files import read_tasks
from envs.tools.tasks import N_TEST, N_TRAIN


class AcademiaEnv(ToolEnv):
    """`info["score"]` becomes 1 when `finish` is called with the right answer.

    Args:
        data: A task file in AgentGym's form instead of the generated tasks.
        graph: A file of the Citation Network Dataset instead of the generated network; needs `data`.
        max_rounds: Rounds before truncation, the paper's 12 unless given.

    Nothing in a task is random, so `seed` changes nothing.
    """

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
        card = EnvironmentCard(
            name="academia",
            held_in=False,
            metric="success_rate",
            max_rounds=12,
            instruction=TOOLBOX.instruction(HINT, EXAMPLE),
            n_train=N_TRAIN if chosen is None else len(chosen.train),
            n_test=N_TEST if chosen is None else len(chosen.test),
            source="AgentGym's Academia tools (AgentBoard); generated tasks on a generated citation network",
            action_rule="last",
        )
        super().__init__(
            card,
            toolbox=TOOLBOX,
            backend=AcademiaBackend(generated if given is None else lambda: given),
            tasks=chosen or tasks,
            templates=TEMPLATES if chosen is None else (),
            max_rounds=max_rounds,
        )
