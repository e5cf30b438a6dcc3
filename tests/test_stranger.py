"""The stranger's way (`make stranger`): its commands can be read, and a step that does not do its work ends it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from deploy.stranger import SMALL, STEPS, Failed, Step, Stranger
from tests.docs import commands


@pytest.mark.parametrize("options", ["", SMALL], ids=["whole", "small"])
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.command)
def test_a_step_is_read_by_its_program(step, options):
    commands.check(commands.Line("deploy/stranger.py", step.command.replace("OPTIONS", options)))


@pytest.mark.parametrize(
    ("code", "says", "why"),
    [("print('done'); exit(3)", "done", "exit code 3"), ("print('other')", "done", "it does not say 'done'")],
)
def test_a_step_that_does_not_do_its_work_ends_the_way(code, says, why, tmp_path):
    stranger = Stranger(tmp_path, {})
    with pytest.raises(Failed, match=why):
        stranger.take(Step("one", f"{sys.executable} -c {shlex.quote(code)}", says))
    with pytest.raises(Failed, match="No such file"):
        stranger.take(Step("one", "atlas-ray-none", ""))


def test_a_stranger_has_a_home_and_keys_of_its_own(tmp_path, monkeypatch):
    for name in ("OPENAI_API_KEY", "HF_TOKEN", "RAY_ADDRESS", "PYTHONPATH"):
        monkeypatch.setenv(name, "canary")
    Stranger(tmp_path, {"HF_TOKEN": "own"}).take(Step("one", "env", "HF_TOKEN=own"))
    said = (tmp_path / "log.txt").read_text()
    assert f"HOME={tmp_path}/home\n" in said
    assert "canary" not in said
    (path,) = (line for line in said.splitlines() if line.startswith("PATH="))
    assert str(Path(sys.executable).parent) not in path
