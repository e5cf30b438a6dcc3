"""Chat templates come with models from anywhere, and are programs: each is tried under limits of time and memory.

transformers renders them in jinja's sandbox, where they reach no file and no attribute of Python's. But the sandbox
bounds neither loops in loops nor texts times a number. So a template first renders a short conversation in a process of
its own that may use five seconds and 1 GiB; the verdict is kept on this machine. Left out: a template that waits for a
particular conversation before it never ends.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from atlas_ray.cache import cached
from atlas_ray.errors import ModelError
from atlas_ray.hashing import content_hash

CPU_S = 5
MEMORY_BYTES = 2**30
_BOMB = 3
_TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
_TURNS = [
    {"role": "user", "content": "Play."},
    {"role": "assistant", "content": "OK."},
    {"role": "user", "content": "You see a door."},
    {"role": "assistant", "content": "Thought: open it\nAction: open door"},
    {"role": "user", "content": "It is open."},
]


def check(template: str) -> None:
    """Try a chat template.

    Raises:
        ModelError: it does not end, or fills the memory.
    """

    def attempt(folder: Path) -> None:
        done = subprocess.run(
            [sys.executable, "-m", __name__], input=template.encode(), capture_output=True, check=False
        )
        if done.returncode:
            raise ModelError(
                f"its chat template took more than {CPU_S} s or {MEMORY_BYTES >> 30} GiB for five short turns; it is "
                "broken or malicious"
            )
        (folder / "ended").touch()

    cached(f"templates/{content_hash(template)}", "ended", attempt)


def main() -> int:
    """Render the template on standard input, within limits of memory and time.

    Its other errors are reported where it is used.
    """
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))  # then the system kills
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.globals |= {"raise_exception": _refuse, "strftime_now": datetime(2024, 7, 26).strftime}
    template = sys.stdin.read()
    for header in (False, True):
        try:
            environment.from_string(template).render(
                messages=_TURNS, add_generation_prompt=header, tools=None, **_TOKENS
            )
        except (MemoryError, RecursionError):
            return _BOMB
        except Exception:  # templates raise whatever their authors chose
            return 0
    return 0


def _refuse(message: Any) -> None:
    raise ValueError(message)


if __name__ == "__main__":
    sys.exit(main())
