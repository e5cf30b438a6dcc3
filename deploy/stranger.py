"""A stranger's way through everything, from the wheel to a pushed agent: `make stranger`.

All of it happens in a new folder, with an environment, a home and a Hub of its own. Of the checkout come the release,
built first, and the documents. Each step is a line; the first that fails ends the way, with the end of what it said.
What needs a browser or a person (how the pages look, `atlas-ray serve`) is left to the tests.
"""

from __future__ import annotations

import argparse
import io
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from deploy import release
from deploy.release import ROOT
from tests import tiny_model
from tests.hub_server import WRITER, serving

SMALL = (
    "--model MODEL --environments '{textcraft: {depths: [1], distractors: 2}}' --collect.trajectories '{textcraft: 8}' "
    "--select.selections '{}' --train.selections perplexity --train.epochs 1 --evaluate.models random perplexity "
    "--evaluate.environments textcraft --evaluate.tasks 2 --evaluate.max_new_tokens 8 --engine.cpu_kv_cache_gib 1"
)
"""Options that make the quickstart a matter of a minute, with the tests' random model of two layers."""
_FOREIGN = ("ATLAS_", "HF_", "HUGGING_FACE_", "OPENAI_", "PYTHON", "RAY_", "VIRTUAL_ENV")
"""How variables begin that a stranger's environment would not have."""
_LOADING_S = 60.0


class Failed(Exception):
    """A step did not do what it is to do."""


@dataclass(frozen=True)
class Step:
    """A command of the way."""

    name: str
    command: str
    """`OPTIONS` in it are those of the pipeline."""
    says: str
    """What is in its output when it has done its work; of one that serves, in its page."""
    folder: str = "."
    serves: bool = False
    """It serves a page until it is ended, and names the address in its first line."""


STEPS = (
    Step("doctor", "atlas-ray doctor", "The quickstart can run"),
    Step("quickstart", "atlas-ray pipeline --config quickstart OPTIONS", "run directory"),
    Step("view", "atlas-ray view runs/quickstart --port 0", "<title>", serves=True),
    Step("env new", "atlas-ray env new my_shell", "my_shell_env"),
    Step("its tests", "python -m pytest", " passed", "my_shell_env"),
    Step("its install", "pip install -e .", "Successfully installed my-shell-env", "my_shell_env"),
    Step("its contract", "atlas-ray env check my_shell", "my_shell keeps the contract"),
    Step("its expert",
         "atlas-ray collect --config quickstart --run_dir runs/my_shell --collect.trajectories '{my_shell: 16}'",
         "16 trajectories"),
    Step("method new", "atlas-ray method new longest", "longest_method"),
    Step("its tests", "python -m pytest", " passed", "longest_method"),
    Step("its install", "pip install -e .", "Successfully installed longest-method", "longest_method"),
    Step("its selection", "atlas-ray select --config quickstart OPTIONS --select.methods longest",
         "select longest: done"),
    Step("push", "atlas-ray push runs/quickstart --to me/agent --private", "hf://me/agent: pushed"),
    Step("read again", "atlas-ray import hf://datasets/me/agent/trajectories --dry-run", " 0 malformed"),
    Step("docs", "python -m mkdocs build --strict --config-file CHECKOUT/mkdocs.yml --site-dir SITE", "built in"),
)  # fmt: skip


class Stranger:
    """A folder, and the variables of whoever works in it."""

    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        self.folder, self._log = folder, folder / "log.txt"
        for name in ("home", "work"):
            shutil.rmtree(folder / name, ignore_errors=True)
            (folder / name).mkdir()
        own = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        path = [each for each in own["PATH"].split(os.pathsep) if each != str(Path(sys.executable).parent)]
        self._env = own | variables | {
            "HOME": str(folder / "home"), "PATH": os.pathsep.join([str(folder / "venv" / "bin"), *path]),
            "RAY_TMPDIR": str(folder / "ray"), "NO_MKDOCS_2_WARNING": "1",
        }  # fmt: skip

    def take(self, step: Step, options: str = "") -> None:
        """Take a step.

        Raises:
            Failed: it ended with an error, or without what it is to say; the text has the end of its output.
        """
        words = [
            word.replace("CHECKOUT", str(ROOT)).replace("SITE", str(self.folder / "site"))
            .replace("MODEL", str(self.folder / "model"))
            for word in shlex.split(step.command.replace("OPTIONS", options))
        ]  # fmt: skip
        with self._log.open("a+") as log:
            log.write(f"\n$ {shlex.join(words)}\n")
            log.flush()
            start = log.tell()
            try:
                process = subprocess.Popen(
                    words, cwd=self.folder / "work" / step.folder, env=self._env, text=True,
                    stdout=subprocess.PIPE if step.serves else log, stderr=log,
                )  # fmt: skip
            except OSError as error:
                raise Failed(f"{shlex.join(words)}: {error}") from error
            page = _page(process) if step.serves else ""
            code = process.wait()
            log.seek(start)
            said = page or log.read()
        if code or step.says not in said:
            why = f"exit code {code}" if code else f"it does not say {step.says!r}"
            raise Failed(f"{shlex.join(words)}: {why}\n{said[-3000:]}")


def _page(process: subprocess.Popen[str]) -> str:
    """The page of `atlas-ray view` once all of its run is read; the command is ended then, as by Ctrl-C."""
    assert process.stdout is not None
    try:
        url = next((word for word in process.stdout.readline().split() if word.startswith("http")), None)
        if url is None:
            return ""
        page = httpx.get(url, timeout=_LOADING_S).raise_for_status().text
        deadline = time.monotonic() + _LOADING_S
        while "figures" not in _state(url)["runs"][0]["versions"]:
            if time.monotonic() > deadline:
                raise Failed(f"{url}: the run is not read after {_LOADING_S:.0f} s")
            time.sleep(0.2)
        return page
    except httpx.HTTPError as error:
        raise Failed(f"{url}: {error}") from error
    finally:
        process.send_signal(signal.SIGINT)


def _state(url: str) -> dict[str, Any]:
    state: dict[str, Any] = httpx.get(f"{url}api/state", timeout=_LOADING_S).raise_for_status().json()
    return state


@contextmanager
def told(name: str) -> Iterator[None]:
    """Print the name of a step and what it took."""
    started = time.monotonic()
    print(f"{name:<16}", end="", flush=True)
    yield
    print(f"ok {time.monotonic() - started:8.1f} s", flush=True)


def go(folder: Path, options: str) -> None:
    """Go the whole way in a folder; packages that are in its environment already are not installed again.

    Raises:
        Failed: a step failed.
    """
    with told("wheel"):
        (folder / "dist").mkdir(exist_ok=True)
        _, wheel = release.build(folder / "dist")
    with told("environment"):
        install = ["bash", str(folder / "dist" / "install.sh"), str(folder / "venv"), str(wheel)]
        env = os.environ | {"PYTHON": sys.executable}
        done = subprocess.run(install, cwd=folder, env=env, capture_output=True, text=True)
        if done.returncode:
            raise Failed(f"{shlex.join(install)}: exit code {done.returncode}\n{done.stderr[-3000:]}")
    if options:
        with told("model"), redirect_stderr(io.StringIO()):  # a progress bar
            tiny_model.write(folder / "model")
    with serving() as hub:
        left = [folder / "venv" / "bin" / "pip", "uninstall", "-qq", "-y", "my-shell-env", "longest-method"]
        subprocess.run(left, capture_output=True, check=True)  # of an earlier way in this folder
        stranger = Stranger(folder, {"HF_ENDPOINT": hub.url, "HF_TOKEN": WRITER, "HF_HUB_DISABLE_XET": "1"})
        for step in STEPS:
            with told(step.name):
                stranger.take(step, options)


def main() -> None:
    """Read the options, go the way, clean up behind it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--small", action="store_true", help="a few trajectories and a random model")
    parser.add_argument("--folder", type=Path, help="where to do it (a short path); it stays, to be used again")
    asked = parser.parse_args()
    # the path is short: Ray's sockets lie in it
    folder = asked.folder.absolute() if asked.folder else Path(tempfile.mkdtemp(prefix="stranger-", dir="/tmp"))
    folder.mkdir(exist_ok=True)
    try:
        go(folder, SMALL if asked.small else "")
    except Failed as failed:
        sys.exit(f"FAILED\n{failed}\nerror: the way ended here; what was said is in {folder}/log.txt")
    if not asked.folder:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
