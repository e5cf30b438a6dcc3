"""Texts that agents might write, for fuzzing the tool environments."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import strategies as st

from atlas_ray.environments import TextEnv
from envs.tools.env import ToolEnv

INJECTIONS = (
    "'; DROP TABLE tasks; --",
    '" OR 1=1 --',
    "__import__('os').system('touch /tmp/owned')",
    '=IMPORTDATA("http://127.0.0.1/")',
    '=HYPERLINK("javascript:alert(1)")',
    "=cmd|'/c calc'!A1",
    "re.compile('(a+)+$')",
    "re.compile(__import__('os').sep)",
    "{0.__class__}",
    "%s%n",
    "\x00\x1b[31m",
    "../../etc/passwd",
)
_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=True, allow_infinity=True)
    | st.text(max_size=20)
    | st.sampled_from(INJECTIONS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def calls(env: ToolEnv, plausible: st.SearchStrategy[object]) -> st.SearchStrategy[str]:
    """Actions: a known or unknown name with right, wrong, missing and further arguments, as JSON, Python or neither."""
    value = st.one_of(plausible, plausible, _values)
    parameters = {name: list(tool.parameters) for name in env.toolbox.names if (tool := env.toolbox.get(name))}

    def arguments(name: str) -> st.SearchStrategy[str]:
        known = st.fixed_dictionaries({}, optional={p: value for p in parameters.get(name, ())})
        more = st.dictionaries(st.text(max_size=8), _values, max_size=1)
        objects = st.builds(lambda a, b: {**a, **b}, known, st.one_of(st.just({}), st.just({}), more))
        written = st.one_of(objects.map(json.dumps), objects.map(repr), _values.map(repr), st.text(max_size=30))
        return written.map(lambda text: f"{name} with Action Input: {text}")

    names = [name for name in parameters if name != "finish"]
    return st.sampled_from([*names, "drop_all", "__init__", "save"]).flatmap(arguments)


_FORBIDDEN = ("exec", "os.system", "os.exec", "subprocess.Popen", "socket.connect", "open", "pickle.find_class")
_events: list[str] | None = None


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _events is not None and event in _FORBIDDEN:
        _events.append(f"{event} {arguments}")


sys.addaudithook(_audit)


@contextmanager
def nothing_executed() -> Iterator[None]:
    """No code is run, no process started, no file or connection opened meanwhile, as the interpreter itself reports."""
    global _events
    _events = []
    try:
        yield
        assert _events == []
    finally:
        _events = None


def assert_answered(env: TextEnv, action: str, changing: tuple[str, ...]) -> None:
    """Play one action: it is answered in words, and only a change that succeeded may change the state."""
    before = env.snapshot()
    with nothing_executed():
        observation, reward, terminated, _, info = env.step(action)
    assert 0 < len(observation) < 20_000
    assert env.observation_space.contains(observation)
    assert 0 <= info["score"] <= 1
    assert not terminated
    tool_state = env.snapshot().inner[3]
    if not action.startswith(changing):
        assert tool_state == before.inner[3], action
    if "ERROR" in observation or "Error" in observation:
        assert tool_state == before.inner[3], action
        assert reward == 0
