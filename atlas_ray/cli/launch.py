"""Run a command as a Ray job: on the cluster of `RAY_ADDRESS`, or on a Ray head started for it on this machine.

`python -m atlas_ray.cli.launch -- python jobs/pipeline.py --config FILE` is `ray job submit` with a head that is there
for as long as the job runs: own ports, own temp dir, dashboard on 127.0.0.1. The job's output streams to the terminal;
its exit code is ours.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx

from atlas_ray.cluster import GO_ON, LEAN_SERVE, check_address
from atlas_ray.errors import AtlasError, ClusterError
from atlas_ray.ports import free_ports

_START_TIMEOUT_S = 600.0
"""On a machine that is busy with other work Ray has taken more than two minutes."""
_STARTS = 3
"""Ray gives its processes 30 s to start, which a busy machine exceeds, and a port may be taken meanwhile."""
_NO_AGENT = "No available agent to submit job"
"""What `ray job submit` is told for a while after the start of a head on a busy machine."""
_BROKEN = "requests.exceptions.ConnectionError"
"""What `ray job submit` ends with where the head goes away while it is given the job."""
_NO_DASHBOARD = "Failed to start the dashboard"
"""What `ray start` writes where it goes on without one."""
_ON_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "VLLM_HOST_IP": "127.0.0.1"}
"""Without the first, Ray takes the machine's address in place of 127.0.0.1, and most of its processes listen on all
addresses. vLLM must know nodes by the same address."""
_NO_RETURN = {"RAY_gcs_rpc_server_reconnect_timeout_s": "5"}
"""A lost head does not come back. The driver would wait for it for a minute, in which it holds the run directory."""
_TOKEN = Path.home() / ".ray" / "auth_token"
"""Where Ray keeps its token, unless RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH says otherwise."""
_LOG = "head.log"
_LIBC = ctypes.CDLL(None)  # loaded before any fork


class _HeadLost(ClusterError):
    """The head that was started for a job ended before it took it; another one may do."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command after `--`; returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = arguments[1:] if arguments[:1] == ["--"] else arguments
    if not command or command[0] in ("-h", "--help"):
        print(f"{__doc__}\nusage: python -m atlas_ray.cli.launch -- COMMAND ...")
        return 0 if command else 2
    for number in (signal.SIGTERM, signal.SIGHUP):  # as Ctrl-C: the job and the head end with us
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        if address := os.environ.get("RAY_ADDRESS"):
            check_address(address)
            return submit(None, command)
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        return _on_own_head(command)
    except AtlasError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"interrupted: the job was stopped; {GO_ON}", file=sys.stderr)
        return 128 + signal.SIGINT


def _on_own_head(command: Sequence[str]) -> int:
    """`submit` to a head that is started for the job; to another one where that is lost before it takes the job."""
    left = _STARTS
    while True:
        left -= 1
        try:
            with local_head() as dashboard:
                print(f"Ray dashboard  {dashboard}  (sign in with the token of `ray get-auth-token`)", flush=True)
                return submit(dashboard, command)
        except _HeadLost as error:
            if not left:
                raise ClusterError(f"{error}; {GO_ON}") from error
            print(f"{error}: starting another", file=sys.stderr, flush=True)


def submit(dashboard: str | None, command: Sequence[str]) -> int:
    """`ray job submit` and wait; the job is stopped when we are interrupted.

    Args:
        dashboard: URL of the head; None for the cluster of `RAY_ADDRESS`.
        command: to run there.

    Returns:
        The job's exit code: 0 or 1; that of `ray job submit` where it was refused.

    Raises:
        ClusterError: the job was not seen to its end, because the head or the way to it was lost.
    """
    deadline = time.monotonic() + _START_TIMEOUT_S
    while True:
        code, complaints = _submit_once(dashboard, command)
        unreached = f"Failed to connect to Ray at address: {dashboard}"
        if code and dashboard and (unreached in complaints or _BROKEN in complaints):
            raise _HeadLost("Ray's head on this machine was lost before it took the job")
        if code == 0 or _NO_AGENT not in complaints or time.monotonic() > deadline:
            sys.stderr.writelines(line for line in complaints.splitlines(keepends=True) if not _is_noise(line))
            return code


def _submit_once(dashboard: str | None, command: Sequence[str]) -> tuple[int, str]:
    """As `submit`; what `ray job submit` complained about is returned."""
    address = ["--address", dashboard] if dashboard else []
    name = f"atlas-{uuid.uuid4().hex[:12]}"
    submission = [_tool("ray"), "job", "submit", *address, "--log-style=record", "--submission-id", name]
    with tempfile.TemporaryFile("w+") as complaints:
        job = subprocess.Popen(
            [*submission, "--", *command], stdout=subprocess.PIPE, stderr=complaints, text=True, start_new_session=True
        )
        assert job.stdout is not None
        is_under_way = is_orphaned = False
        try:
            for line in job.stdout:
                is_orphaned = is_orphaned or line.startswith(_ORPHANED)
                if not (is_orphaned or _is_noise(line)):
                    print(line, end="", flush=True)
                if f"Job '{name}' " in line:
                    is_under_way = "submitted successfully" in line  # the other lines say how it ended
            code = job.wait()
        finally:
            if job.poll() is None:
                _run_quietly("job", "stop", *address, "--no-wait", name)
                job.kill()
        if is_under_way:  # its code may be 0, and its complaints are about a broken connection
            raise ClusterError(_lost(name, is_own=dashboard is not None))
        if is_orphaned and code:
            raise ClusterError(
                f"Ray's supervisor of the job was lost while the job ran (killed, or out of memory?); {GO_ON}"
            )
        complaints.seek(0)
        text = complaints.read()
        if code and dashboard is None and _BROKEN in text:  # it may have the job or not
            raise ClusterError(_lost(name, is_own=False))
        return code, text


def _lost(name: str, *, is_own: bool) -> str:
    if is_own:
        return f"Ray's head on this machine was lost while the job ran (killed, or out of memory?); {GO_ON}"
    return (
        f"the connection to the job was lost; `ray job status {name}` says whether it still runs; if it or its cluster "
        f"is gone, {GO_ON}"
    )


_ORPHANED = "Job supervisor actor died"
"""Begins what Ray says, and a job does not, of a job whose supervisor was killed."""
_OWN_LINE = re.compile(
    r"^\d{4}-\d\d-\d\d [\d:,]+\s+(INFO|SUCC)\s+(cli|sdk|job_manager|streaming_executor)\.py:"
    r"|^.* -- Progress bars disabled"  # of Ray Data: our own lines are enough
    r"|^Running entrypoint for job "
    r"|^\[.* core_worker\.cc:\d+: Actor with class name: 'MapWorker"  # Ray on Ray Data's own actors
)


def _is_noise(line: str) -> bool:
    """Lines of `ray job submit` itself that say nothing about the job; its warnings and errors are shown."""
    return _OWN_LINE.match(line) is not None


@contextmanager
def local_head() -> Iterator[str]:
    """A Ray head on this machine for as long as the block lasts; yields its dashboard's URL.

    Other users of the machine are kept out by Ray's token (`~/.ray/auth_token`, made if it is missing).

    Raises:
        ClusterError: it did not start, several times; the text has the end of its log.
    """
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="atlas-ray-", dir=_short_temp()))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        if not _TOKEN.exists() or any(name.startswith("RAY_AUTH_TOKEN") for name in os.environ):
            _run_quietly("get-auth-token", "--generate")  # seconds, to look for a token
        for left in reversed(range(_STARTS)):
            start = stack.enter_context(ExitStack())
            head, url = _start(folder)
            start.callback(_stop, head)
            try:
                _wait(head, url, folder / _LOG)
                break
            except ClusterError:
                if not left or head.poll() is None:  # one that runs and does not answer would not do so the next time
                    raise
                start.close()
        try:
            yield url
        except _HeadLost as error:
            state = "runs" if head.poll() is None else "ended"
            raise _HeadLost(f"{error} (its process {state}: {_last_words(folder / _LOG)})") from error


def _start(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Start a head with ports of its own; returns it and its dashboard's URL, where nothing answers yet."""
    gcs, dashboard, agent_http, agent_grpc, runtime_env, metrics, client = free_ports(7)
    command = [
        _tool("ray"), "start", "--head", "--block", "--disable-usage-stats", "--node-ip-address=127.0.0.1",
        f"--port={gcs}", f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1",
        f"--dashboard-agent-listen-port={agent_http}", f"--dashboard-agent-grpc-port={agent_grpc}",
        f"--runtime-env-agent-port={runtime_env}", f"--metrics-export-port={metrics}",
        f"--ray-client-server-port={client}", f"--temp-dir={folder}",
        f"--num-cpus={max(2, os.cpu_count() or 2)}", f"--object-store-memory={_object_store_bytes()}",
    ]  # fmt: skip
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = LEAN_SERVE | _NO_RETURN | os.environ | _ON_LOOPBACK | {"PATH": path}
    with (folder / _LOG).open("wb") as output:
        head = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment, start_new_session=True,
            preexec_fn=_end_with_parent,  # this process has one thread
        )  # fmt: skip
    return head, f"http://127.0.0.1:{dashboard}"


def _run_quietly(*arguments: str) -> None:
    done = subprocess.run([_tool("ray"), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"ray {' '.join(arguments)} failed: {(done.stderr or done.stdout).strip()[-300:]}")


def _wait(head: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline, why = time.monotonic() + _START_TIMEOUT_S, f"it does not answer after {_START_TIMEOUT_S:.0f} s"
    while time.monotonic() < deadline:
        if head.poll() is not None:
            why = "it ended"
            break
        if _NO_DASHBOARD in log.read_text(errors="replace"):
            why = "its dashboard did not"
            _stop(head)
            break
        with suppress(httpx.TransportError):
            answer = httpx.get(f"{url}/api/version", timeout=5)
            if answer.status_code in (401, 403) or "ray_version" in answer.text:
                return
        time.sleep(0.3)  # not listening yet
    raise ClusterError(f"Ray did not start on this machine: {why}: {_last_words(log)}")


def _last_words(log: Path) -> str:
    """The last lines of a head's log, on one; it says there which of its processes ended."""
    tail = " | ".join(log.read_text(errors="replace").strip().splitlines()[-3:])
    return tail[-500:] or "no output"


def _end_with_parent() -> None:
    """Have the kernel end the head when the launcher is gone, however it ended (prctl's PR_SET_PDEATHSIG)."""
    _LIBC.prctl(1, signal.SIGTERM)


def _stop(head: subprocess.Popen[bytes]) -> None:
    """End `ray start --block`, which ends what it started; signalled too, those would make it wait for its time-out."""
    head.terminate()
    with suppress(subprocess.TimeoutExpired):  # what is left of its group then ends below
        head.wait(timeout=30)
    with suppress(ProcessLookupError):
        os.killpg(head.pid, signal.SIGKILL)
    head.wait()


def _short_temp() -> str:
    """Ray's Unix sockets live in its temp dir and may have no more than 107 characters."""
    usual = tempfile.gettempdir()
    return usual if len(usual) <= 30 else "/tmp"  # noqa: S108 - mkdtemp below makes a private folder there


def _object_store_bytes() -> int:
    """A tenth of the memory, 200 MB to 2 GB: rows are small, and engines need the rest."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(max(memory // 10, 200_000_000), 2_000_000_000)


def _tool(name: str) -> str:
    """A program of this Python's own environment."""
    return str(Path(sys.executable).parent / name)


if __name__ == "__main__":
    sys.exit(main())
