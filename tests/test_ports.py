"""Ports for programs that are started with one."""

from __future__ import annotations

import socket

from atlas_ray.ports import free_ports


def test_ports_are_free_and_none_that_the_system_hands_out():
    with socket.create_server(("127.0.0.1", 0)) as handed_out:
        ports = free_ports(50)
        assert len(set(ports)) == 50
        assert max(ports) < handed_out.getsockname()[1]
    for port in ports:
        with socket.create_server(("127.0.0.1", port)):
            pass


def test_a_port_in_use_is_not_free():
    [port] = free_ports(1)
    with socket.create_server(("127.0.0.1", port)):
        assert port not in free_ports(5_000)
