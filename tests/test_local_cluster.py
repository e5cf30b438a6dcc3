"""`deploy/cluster-local.yaml` with Ray's launcher: from a laptop, by ssh, onto two other machines; used, and ended."""

from __future__ import annotations

import json
import time

import pytest
import yaml

from tests.conftest import ROOT
from tests.machines import Machine, machines

HASTE = "export AUTOSCALER_UPDATE_INTERVAL_S=1 RAY_gcs_rpc_server_reconnect_timeout_s=5 RAY_worker_niceness=0"
"""The head looks after its workers every five seconds otherwise, and they end a minute after it, on a machine to
themselves: see `conftest.py`."""
SLOW_TO_END = {"ray::DashboardAgent", "ray::RuntimeEnvAgent"}
"""A worker's, which end about a minute after its raylet whatever is set."""
WITH_BOTH = "export RAY_AUTH_MODE=token; until ray status | grep -q '^ 2 local.cluster.node'; do sleep 0.2; done"
NODES = "RAY_AUTH_MODE=token ray list nodes --detail --format json"


@pytest.mark.timeout(1500)  # beside other work `ray up` alone takes minutes
def test_a_job_from_a_laptop_works_on_both_machines_until_they_are_taken_down(tmp_path):
    with machines("laptop", "head", "worker", folder=tmp_path, bashrc=HASTE) as (laptop, head, worker):
        config = yaml.safe_load((ROOT / "deploy" / "cluster-local.yaml").read_text())
        config["provider"] |= {"head_ip": head.address, "worker_ips": [worker.address]}
        (tmp_path / "cluster.yaml").write_text(yaml.safe_dump(config))
        typed(laptop, f"cp {laptop.key} {config['auth']['ssh_private_key']}")
        typed(laptop, f"ray up --yes {tmp_path}/cluster.yaml")
        typed(laptop, f'ray exec {tmp_path}/cluster.yaml "{WITH_BOTH}"')
        nodes = {node["node_ip"]: node["node_id"] for node in json.loads(typed(head, NODES))}
        assert set(nodes) == {head.address, worker.address}
        job = {
            "run_dir": f"{tmp_path}/run", "environments": {"wordle": {}}, "collect": {"trajectories": {"wordle": 4}},
            "rollout": {"labels": {"ray.io/node-id": nodes[worker.address]}},  # the job itself runs on the head
        }  # fmt: skip
        (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
        said = typed(laptop, f"ray submit {tmp_path}/cluster.yaml {ROOT}/jobs/collect.py --config {tmp_path}/job.yaml")
        assert f"4 trajectories in {tmp_path}/run/trajectories" in said
        assert "AuthenticationError" in laptop.run(f"ray status --address {head.address}:6379").stderr
        typed(laptop, f"ray down --yes {tmp_path}/cluster.yaml")
        while {*head.programs(), *worker.programs()} - SLOW_TO_END:
            time.sleep(0.1)


def typed(machine: Machine, command: str) -> str:
    """What a command says that has to succeed."""
    done = machine.run(command)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
