"""A game engine in a child process, for engines that keep global state, hang, or may crash.

`EngineProcess` starts `module:Class` in a child and calls its methods with a time limit. A child that dies or hangs
raises an `EngineFailure` of one line, and `start` then makes a new child. The child ends when its parent closes it,
drops it or dies, even during a call. The environment adds its name, task and step to the error
(`TextEnv._engine_failed`).
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
import weakref
from multiprocessing.connection import Connection
from typing import Any

from atlas_ray import errors, plugins
from atlas_ray.errors import AtlasError, EnvironmentError

_CHILD = "import sys; from atlas_ray.environments.process import serve; serve(int(sys.argv[1]))"


class EngineFailure(EnvironmentError):
    """An engine's process died, hung, or raised an error that is not an `AtlasError`."""


class EngineProcess:
    """An object that lives in a child process and is used by one caller at a time.

    Args:
        engine: `module:Class`, imported only in the child.
        arguments: Arguments of the class. They, and all arguments and results of its methods, are picklable.
        timeout_s: Seconds that one call may take.
        start_timeout_s: Seconds that importing and making the engine may take.

    Messages are pickled both ways. That is safe because the child runs the project's own code on this machine, and
    nobody else can open the socket pair between them.
    """

    def __init__(self, engine: str, *arguments: Any, timeout_s: float = 60.0, start_timeout_s: float = 180.0) -> None:
        self._engine, self._arguments = engine, arguments
        self._timeout_s, self._start_timeout_s = timeout_s, start_timeout_s
        self._child: _Child | None = None

    @property
    def pid(self) -> int | None:
        """The running child's process id."""
        return self._child.process.pid if self._child is not None else None

    def start(self) -> None:
        """Start the engine unless it is running.

        Raises:
            EngineFailure: It did not start.
            ConfigError: It cannot be imported.
            AtlasError: Raised by the engine, such as the `ConfigError` of a missing file.
        """
        if self._child is not None and self._child.process.poll() is None:
            return
        self.close()
        self._child = _Child()
        try:
            self._ask((self._engine, self._arguments), self._start_timeout_s, "starting")
        except AtlasError:
            self.close()
            raise

    def call(self, method: str, *arguments: Any) -> Any:
        """The result of a method of the engine.

        Raises:
            EngineFailure: The engine is not running, died, raised, or took longer than `timeout_s` (it is then ended).
            AtlasError: Raised by the engine.
        """
        if self._child is None:
            raise EngineFailure("its engine is not running")
        return self._ask((method, arguments), self._timeout_s, method)

    def close(self) -> None:
        """End the child, if there is one, at once."""
        if self._child is not None:
            self._child.end()
            self._child = None

    def _ask(self, message: tuple[str, tuple[Any, ...]], timeout_s: float, doing: str) -> Any:
        child = self._child
        assert child is not None
        try:
            child.connection.send(message)
            if not child.connection.poll(timeout_s):
                self.close()
                raise EngineFailure(f"its engine did not answer within {timeout_s:g} s ({doing}) and was ended")
            kind, value = child.connection.recv()
        except (EOFError, OSError):
            self.close()
            raise EngineFailure(f"its engine's process {_obituary(child.process.returncode)} ({doing})") from None
        except BaseException:
            self.close()  # else the unread answer would be taken for the next call's
            raise
        if kind == "result":
            return value
        error = getattr(errors, kind, None)
        if isinstance(error, type) and issubclass(error, AtlasError):
            raise error(value)
        raise EngineFailure(f"its engine raised {value} ({doing})")


class _Child:
    """A started process, its end of the socket pair, and the finalizer that leaves no orphan."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", _CHILD, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=2,  # what an engine prints must not mix with our output
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
            )
        self.connection = Connection(ours.detach())
        self.end = weakref.finalize(self, _end, self.process, self.connection, os.getpid())


def _end(process: subprocess.Popen[bytes], connection: Connection, owner: int) -> None:
    if os.getpid() == owner:  # not in a fork of the owner, which inherits the finalizer
        process.kill()
        process.wait()
        connection.close()


def _obituary(code: int) -> str:
    """How a process ended."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def serve(descriptor: int) -> None:
    """Run in the child: make the engine that the first message names, then answer calls until the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_die_with_parent, args=(descriptor,), daemon=True).start()
    connection = Connection(descriptor)
    engine: Any = None
    while True:
        try:
            name, arguments = connection.recv()
        except EOFError:
            return
        try:
            if engine is None:
                engine, result = plugins.load_value(name, "its engine")(*arguments), None
            else:
                result = getattr(engine, name)(*arguments)
            connection.send(("result", result))
        except AtlasError as error:
            connection.send((type(error).__name__, str(error)))
        except Exception as error:  # the parent reports it; the engine may serve the next reset
            connection.send(("", _one_line(error)))


def _die_with_parent(descriptor: int) -> None:
    """Exit the process once the other end is closed, whatever the engine is doing."""
    hang_up = select.poll()
    hang_up.register(descriptor, 0)  # a hang-up is reported always
    hang_up.poll()
    os._exit(1)


def _one_line(error: Exception) -> str:
    line = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text} at {os.path.basename(line.filename)}:{line.lineno}"
