"""What an environment server does: play an episode, or replay a trajectory. Decides by the type of the task.

Pure: which server does a task, and what happens when the server is lost, is decided in `driver.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from atlas_ray.environments.contract import TextEnv
from atlas_ray.rollout import episode, replay
from atlas_ray.rollout.episode import EpisodeRecorder, PolicyFor
from atlas_ray.rollout.replay import Replay, ReplaySpec
from atlas_ray.rollout.spec import EpisodeSpec
from atlas_ray.trajectory import Episode, Stop

Task = EpisodeSpec | ReplaySpec
Result = Episode | Replay
"""Of a task; `error` says why it could not be done."""


@dataclass(frozen=True)
class TaskResult:
    """What a server answers to a task."""

    result: Result
    should_recycle: bool
    """Whether the server should be replaced once its tasks are done."""


def do(task: Task, env: TextEnv, policy_for: PolicyFor, recorder: EpisodeRecorder) -> Result:
    """Do a task in an environment that nothing else uses meanwhile.

    Raises:
        EndpointError: the endpoint refuses every request.
    """
    if isinstance(task, ReplaySpec):
        return replay.replay(env, task, recorder)
    return episode.play(env, policy_for, task, recorder)


def failed(task: Task, error: str, *, stop: Stop = "error", recorder: EpisodeRecorder | None = None) -> Result:
    """The result of a task that could not be done."""
    if isinstance(task, ReplaySpec):
        return replay.failed(task, error, recorder=recorder)
    return episode.failed(task, error, stop=stop, recorder=recorder)
