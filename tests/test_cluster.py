"""Which of Ray's errors are a loss, after which the same command goes on, and which would come again."""

from __future__ import annotations

import pytest
from ray import exceptions

from atlas_ray.cluster import GO_ON, loss_behind
from atlas_ray.errors import SelectionError


def raised_by_a_task(cause: Exception) -> Exception:
    return exceptions.RayTaskError("work", "a traceback", cause)


def raised_while_made() -> Exception:
    return exceptions.ActorDiedError(raised_by_a_task(TypeError("a bug")))


def hidden(error: Exception) -> Exception:
    """A bug in the code that handles a loss."""
    try:
        try:
            raise exceptions.NodeDiedError("gone")
        except exceptions.NodeDiedError:
            raise error  # noqa: B904  (as a bug does)
    except Exception as bug:
        return bug


@pytest.mark.parametrize(
    "error",
    [
        exceptions.ActorDiedError(), exceptions.ActorUnavailableError("busy", None), exceptions.WorkerCrashedError(),
        exceptions.NodeDiedError("gone"), exceptions.LocalRayletDiedError(), exceptions.OutOfMemoryError("full"),
        exceptions.ObjectLostError("00", "", ""), exceptions.OwnerDiedError("00", "", ""),
        exceptions.ActorPlacementGroupRemoved(), exceptions.TaskPlacementGroupRemoved(),
        raised_by_a_task(exceptions.ActorDiedError()),
        raised_by_a_task(raised_by_a_task(exceptions.NodeDiedError("x"))),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_a_loss_is_one_line_that_says_to_run_again(error: Exception) -> None:
    said = str(loss_behind(error))
    assert said.endswith(GO_ON)
    assert "\n" not in said
    assert len(said) < 500


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a bug"), raised_by_a_task(TypeError("a bug")), raised_by_a_task(SelectionError("wrong")),
        raised_while_made(), hidden(KeyError("a bug")), raised_by_a_task(hidden(KeyError("a bug"))),
        exceptions.RaySystemError("cannot unpickle"), exceptions.RuntimeEnvSetupError("no such package"),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_what_would_come_again_is_no_loss(error: Exception) -> None:
    assert loss_behind(error) is None
