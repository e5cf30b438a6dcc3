"""`python -m atlas_ray.cli.launch`: a real Ray head for the time of a job, and one line for what a user can mend."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from functools import partial

import httpx
import psutil
import pytest

from atlas_ray.cli import launch as launcher
from atlas_ray.cli.launch import local_head, submit
from atlas_ray.errors import ClusterError
from tests.conftest import ROOT
from tests.network import listening, neighbour


def launch(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.run(
        [sys.executable, "-m", "atlas_ray.cli.launch", "--", *command],
        env=clean | {"PYTHONPATH": str(ROOT)} | environment,
        cwd=ROOT, capture_output=True, text=True, timeout=600,
    )  # fmt: skip


@pytest.fixture
def head():
    """The dashboard's URL of a head that the launcher started; it is gone when the block ends."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("PYTHONPATH", str(ROOT))
        with local_head() as dashboard:
            yield dashboard
        with pytest.raises(httpx.TransportError):
            httpx.get(dashboard)


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Writes the program that the launcher then takes for `ray`."""

    def write(script: str) -> None:
        program = tmp_path / "ray"
        program.write_text(script)
        program.chmod(0o755)
        monkeypatch.setattr(launcher, "_tool", lambda name: str(tmp_path / name))
        monkeypatch.setattr(launcher, "_TOKEN", program)  # there is one
        monkeypatch.delenv("RAY_ADDRESS", raising=False)

    return write


def test_jobs_run_on_a_head_of_their_own():
    code = "import os, ray; ray.init(log_to_driver=False); print('cpus', ray.cluster_resources()['CPU'], os.getcwd())"
    done = launch("bash", "-c", f'python -c "{code}" && python jobs/collect.py --config none.yaml')
    assert done.returncode == 1, done.stderr
    assert f"cpus {float(max(2, os.cpu_count() or 2))} {ROOT}" in done.stdout, done.stdout + done.stderr
    assert "submitted successfully" not in done.stdout
    assert "error: config none.yaml: No such file" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_a_head_that_ends_at_its_start_is_started_again_and_then_said(stand_in, tmp_path):
    stand_in(f'#!/bin/sh\necho "$6" >> {tmp_path}/starts\necho the raylet took too long\nexit 1\n')
    with pytest.raises(ClusterError, match="did not start on this machine: it ended: the raylet took too long"):
        local_head().__enter__()
    assert len(set((tmp_path / "starts").read_text().split())) == 3  # with another port each time


def test_a_head_without_a_dashboard_is_started_again_though_another_program_answers(stand_in, tmp_path):
    stand_in(
        f"#!{sys.executable}\n"
        "import pathlib, sys, threading\n"
        "import prometheus_client\n"
        "[port] = [part.partition('=')[2] for part in sys.argv if part.startswith('--dashboard-port=')]\n"
        "prometheus_client.start_http_server(int(port), '127.0.0.1')\n"  # has an answer for every path
        f"with pathlib.Path({str(tmp_path / 'starts')!r}).open('a') as starts:\n"
        "    print(port, file=starts)\n"
        "threading.Timer(2.0, print, ['Failed to start the dashboard'], {'flush': True}).start()\n"
        "threading.Event().wait()\n"
    )
    with pytest.raises(ClusterError, match="did not start on this machine: its dashboard did not"):
        local_head().__enter__()
    assert len(set((tmp_path / "starts").read_text().split())) == 3  # with another port each time


def test_a_head_is_for_this_machine_and_its_token_alone(head):
    children = psutil.Process().children()
    process = next(each for each in children if {"--head", "--block"} <= set(each.cmdline()))
    while len(ports := listening(process)) < 5:  # its dashboard answers before the node's agents listen
        time.sleep(0.5)
    assert httpx.URL(head).port in ports
    with neighbour() as reach, socket.create_server(("", 0)) as open_to_all:
        port = open_to_all.getsockname()[1]
        assert reach([port, *ports]) == [port]
    for path in ("/api/jobs/", "/nodes?view=summary", "/api/v0/actors"):
        assert httpx.get(f"{head}{path}").status_code in (401, 403), path
    assert httpx.post(f"{head}/api/jobs/", json={"entrypoint": "true"}).status_code in (401, 403)


def test_a_job_is_offered_again_to_a_head_that_is_not_ready_for_it(stand_in, tmp_path, monkeypatch, capfd):
    stand_in(
        f"#!/bin/sh\necho try >> {tmp_path}/tries\n[ $(wc -l < {tmp_path}/tries) = 3 ] && echo done && exit 0\n"
        "echo 'RuntimeError: Request failed: No available agent to submit job, please try again later.' >&2\nexit 1\n"
    )
    assert submit("http://127.0.0.1:1", ["true"]) == 0
    assert tuple(capfd.readouterr()) == ("done\n", "")
    monkeypatch.setattr(launcher, "_START_TIMEOUT_S", 0.0)
    assert submit("http://127.0.0.1:1", ["true"]) == 1
    assert "No available agent" in capfd.readouterr().err


BROKEN = "requests.exceptions.ConnectionError: ('Connection aborted.', RemoteDisconnected('Remote end closed it'))"


@pytest.mark.parametrize("complaint", ["ConnectionError: Failed to connect to Ray at address: {address}.", BROKEN])
def test_a_head_that_is_lost_before_it_takes_the_job_is_started_again(
    stand_in, tmp_path, monkeypatch, capfd, complaint
):
    stand_in(
        f"#!{sys.executable}\n"
        "import http.server, pathlib, sys\n"
        "values = dict(part.split('=', 1) for part in sys.argv if '=' in part)\n"
        f"tries = pathlib.Path({str(tmp_path / 'tries')!r})\n"
        "if sys.argv[1] == 'start':\n"
        "    class Handler(http.server.BaseHTTPRequestHandler):\n"
        "        def do_GET(self):\n"
        "            self.send_error(401)\n"
        "    print('serving', flush=True)\n"
        "    http.server.HTTPServer(('127.0.0.1', int(values['--dashboard-port'])), Handler).serve_forever()\n"
        "tries.write_text(tries.read_text() + 'x' if tries.exists() else 'x')\n"
        "if tries.read_text() != 'xx':\n"
        "    address = sys.argv[sys.argv.index('--address') + 1]\n"
        f"    sys.exit({complaint!r}.replace('{{address}}', address))\n"
        "print('done')\n"
    )
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        assert launcher.main(["--", "true"]) == 0
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    out, err = capfd.readouterr()
    assert out.count("Ray dashboard") == 2
    assert out.endswith("done\n")
    assert "ConnectionError" not in err
    assert re.search(r"was lost before it took the job \(its process runs: serving .*\): starting another", err)


def test_a_cluster_that_is_lost_while_it_is_given_a_job_is_one_line(stand_in):
    stand_in(f"#!{sys.executable}\nimport sys\nsys.exit({BROKEN!r})\n")
    with pytest.raises(ClusterError, match=r"the connection to the job was lost; `ray job status atlas-\w+` says"):
        submit(None, ["true"])


def test_an_address_where_nothing_listens_is_one_line():
    done = launch("true", RAY_ADDRESS="http://127.0.0.1:1")
    assert done.returncode == 2
    assert done.stderr.startswith("error: RAY_ADDRESS=http://127.0.0.1:1: nothing answers there")


def test_a_job_whose_supervisor_is_killed_is_one_line():
    script = (
        "import psutil, threading\n"
        "print('UP', flush=True)\n"
        "next(each for each in psutil.Process().parents() if each.cmdline()[0].startswith('ray::')).kill()\n"
        "threading.Event().wait()\n"
    )
    done = launch("python", "-c", script)
    assert done.returncode == 2
    assert re.search(r"error: Ray's supervisor of the job was lost .* run the same command again", done.stderr)
    assert "UP" in done.stdout
    assert "class_name" not in done.stdout


def kill_the_head(launched: int) -> None:
    family = psutil.Process(launched).children(recursive=True)
    next(each for each in family if each.name() == "gcs_server").kill()


@pytest.mark.parametrize(
    ("end", "code", "line"),
    [
        (kill_the_head, 2, "error: Ray's head on this machine was lost while the job ran (killed, or out of memory?)"),
        (lambda launched: os.kill(launched, signal.SIGINT), 130, "interrupted: the job was stopped"),
    ],
    ids=["killed", "interrupted"],
)
def test_a_head_that_ends_under_a_job_is_one_line_and_leaves_no_process(tmp_path, end, code, line):
    script = (
        "import ray, threading\n"
        "ray.init(log_to_driver=False)\n"
        "@ray.remote\n"
        "class Waits:\n"
        "    def forever(self):\n"
        "        threading.Event().wait()\n"
        "actor = Waits.remote()\n"
        "print('UP', flush=True)\n"
        "ray.get(actor.forever.remote())\n"
    )
    clean = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    with (tmp_path / "errors").open("w+") as errors:
        job = subprocess.Popen(
            [sys.executable, "-m", "atlas_ray.cli.launch", "--", "python", "-c", script],
            env=clean | {"PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "token"}, cwd=ROOT,
            stdout=subprocess.PIPE, stderr=errors, text=True,
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # as in a terminal
        )  # fmt: skip
        assert job.stdout is not None
        next(line for line in job.stdout if line.startswith("UP"))
        family = psutil.Process(job.pid).children(recursive=True)
        end(job.pid)
        rest = job.stdout.read()
        assert job.wait(timeout=240) == code
        errors.seek(0)
        said = errors.read()
    assert said == f"{line}; run the same command again: it goes on where it was\n"
    assert "Traceback" not in rest
    _, left = psutil.wait_procs(family, timeout=60)
    assert not [each for each in left if each.status() != psutil.STATUS_ZOMBIE]
