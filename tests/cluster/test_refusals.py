"""What is wrong with a cluster is said before anything is painted."""

import json
import shutil
import socket
import time
from pathlib import Path

import pytest

from .conftest import ROOT, Machines, begin, ended, here, lines

NO_ROOM = """__import__("dallecli.errors").errors.OutOfMemory("it takes 9 GB, and 1 GB is free")"""
TITLES = "machine address gpus cpus dallecli python torch device free trouble"


def test_an_address_where_nobody_is_ends_at_once():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    began = time.monotonic()
    found = here("generate", "--prompts", lines(2), "--ray", f"127.0.0.1:{port}")
    assert found.code == 4
    assert "no Ray cluster is reached: Connection refused" in found.err
    assert time.monotonic() - began < 20
    assert not Path("p").exists()


def test_what_is_no_address_is_refused():
    found = here("generate", "a fox", "--ray", "ray://head:10001")
    assert found.code == 2
    assert "HOST:6379, or auto" in found.err


@pytest.mark.parametrize(
    ("file", "old", "new", "code", "said"),
    [
        ("version.py", '"0.', '"9.', 5, "is installed there, and"),
        ("fake_engine.py", '"0" * 64', '"9" * 64', 3, "the weights of starter are others here than the driver's"),
        ("fake_engine.py", 'return "next to nothing"', f"raise {NO_ROOM}", 5, "it takes 9 GB, and 1 GB is free"),
    ],
    ids=["version", "weights", "memory"],
)
def test_a_machine_that_does_not_fit_is_named(machines: Machines, tmp_path: Path, file, old, new, code, said):
    """Its workers import a copy of dalle in which something is different."""
    other = tmp_path / "other"
    shutil.copytree(ROOT / "dallecli", other / "dallecli", ignore=shutil.ignore_patterns("__pycache__", "starter*"))
    path = other / "dallecli" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    node = machines.add(path=str(other))
    try:
        found = machines.dalle("generate", "--prompts", lines(2))
    finally:
        machines.remove(node)
    assert found.code == code, found.err
    assert said in found.err
    assert "where: " in found.err
    assert not Path("p").exists()


def test_all_machines_are_shown_in_a_table(machines: Machines):
    found = ended(begin("ray", "check", "starter", "--ray", machines.address))
    assert found.code == 0, found.err
    titles, *rows = found.lines
    assert titles.split() == TITLES.split()
    assert len(rows) == len(machines.cluster.list_all_nodes())
    assert all(row.endswith("none") for row in rows)


def test_a_model_that_is_not_there_is_said(machines: Machines):
    found = ended(begin("ray", "check", "karlo", "--ray", machines.address, "--json"))
    assert found.code == 5
    nodes = [json.loads(line) for line in found.lines]
    assert {node["models"]["karlo"] for node in nodes} == {"karlo is not on this machine"}
