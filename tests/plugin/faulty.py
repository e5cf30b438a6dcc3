"""An environment of another package, found by its entry point, that fails on demand: for the tests of the servers."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from atlas_ray.environments import EnvironmentCard, Expert, Outcome, TextEnv


class FaultyEnv(TextEnv):
    """Add numbers up to ten; the task number decides what goes wrong in its second step.

    Args:
        folder: a file `hang-3` in it makes task 3 hang, `die-3` end its process, `late-3` its beginning hang; each step
            leaves a `trace-...` there.
        leak_mib: memory that every step keeps.
        step_s: seconds of a step.
        goal: the sum that ends an episode.
    """

    def __init__(
        self, *, folder: str = "/nowhere", leak_mib: int = 0, step_s: float = 0.0, goal: int = 10,
        max_rounds: int | None = None,
    ) -> None:  # fmt: skip
        card = EnvironmentCard(
            name="faulty", held_in=True, metric="success_rate", max_rounds=6, instruction="Thought: Action: add",
            n_train=1000, n_test=1000, source="tests", action_rule="one",
        )  # fmt: skip
        super().__init__(card, max_rounds=max_rounds)
        self.folder, self.leak_mib, self.step_s = Path(folder), leak_mib, step_s
        self.has_folder = self.folder.is_dir()
        self.goal, self.total, self.held = goal, 0, []

    def _start(self, task: int, split: str, seed: int | None) -> str:
        self._wait_while(f"late-{task}")
        self.total = task % 3
        return f"Task {task}. The sum is {self.total}."

    def _act(self, action: str) -> Outcome:
        if self.step_s:
            time.sleep(self.step_s)
        if self.leak_mib:
            self.held.append(bytes(range(256)) * 4096 * self.leak_mib)
        if self.has_folder:
            (self.folder / f"trace-{self._task}-{self.rounds}-{os.getpid()}").touch()
        if self.has_folder and self.rounds == 1:
            if (self.folder / f"die-{self._task}").exists():
                os._exit(3)
            self._wait_while(f"hang-{self._task}")
        self.total += int(action.removeprefix("add ") or 0) if action.removeprefix("add ").isdigit() else 0
        return Outcome(
            f"The sum is {self.total}.",
            min(1.0, self.total / self.goal),
            self.total == self.goal,
            self.total >= self.goal,
        )

    def _wait_while(self, name: str) -> None:
        while (self.folder / name).exists():
            time.sleep(0.1)

    def _save(self) -> Any:
        return self.total

    def _load(self, inner: Any) -> None:
        self.total = inner

    def valid_actions(self) -> list[str]:
        return [f"add {n}" for n in range(1, 4)]

    def expert(self) -> Expert:
        raise NotImplementedError
