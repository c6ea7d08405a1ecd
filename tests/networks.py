"""Two machines on one: network namespaces with a cable between them. Only root makes them, with `ip`."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest

NETWORKS: Final = ("dalle-a", "dalle-b")
ADDRESSES: Final = ("10.93.0.1", "10.93.0.2")
CABLE: Final = ("dalle0", "dalle1")
"""Its ends: the first is in the first network."""


def inside(network: str, *command: str, **options: Any) -> "subprocess.Popen[str]":
    """Start a process that sees one of the networks and no other."""
    whole = ["ip", "netns", "exec", network, *command]
    return subprocess.Popen(whole, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def cable(state: str) -> None:
    """Cut the cable ("down"), or mend it ("up")."""
    subprocess.run(["ip", "-n", NETWORKS[0], "link", "set", CABLE[0], state], check=True)


@contextmanager
def two_networks() -> Iterator[None]:
    """Inside, there are two networks. In the end all their processes are killed. Skips where there can be none."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("only root makes networks, with ip")
    commands = [
        *(f"ip netns add {name}" for name in NETWORKS),
        f"ip link add {CABLE[0]} netns {NETWORKS[0]} type veth peer name {CABLE[1]} netns {NETWORKS[1]}",
    ]
    for name, address, end in zip(NETWORKS, ADDRESSES, CABLE, strict=True):
        commands += [
            f"ip -n {name} addr add {address}/24 dev {end}",
            f"ip -n {name} link set lo up",
            f"ip -n {name} link set {end} up",
        ]
    try:
        for command in commands:
            subprocess.run(command.split(), check=True)
        yield
    finally:
        for name in NETWORKS:
            pids = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True).stdout.split()
            for pid in pids:
                subprocess.run(["kill", "-9", pid])
            subprocess.run(["ip", "netns", "del", name])
