"""Painting on a cluster where there is none: what is said without Ray, and of options that mean nothing."""

import json
import subprocess
import sys

import pytest

from .conftest import Dalle


@pytest.mark.parametrize("command", [["generate", "a fox"], ["serve"], ["ray", "check"]], ids=" ".join)
def test_without_ray_the_command_that_installs_it_is_named_at_once(command):
    code = f"""
import json, sys
sys.modules["ray"] = None  # as if it were not installed
from dallecli.cli.app import run
code = run({[*command, "--ray", "auto"]!r})
print(json.dumps([code, sorted({{"torch", "numpy", "PIL", "rich"}} & set(sys.modules))]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    code, heavy = json.loads(done.stdout)
    assert code == 2
    assert done.stderr.splitlines()[0] == "error: a cluster needs ray"
    assert done.stderr.splitlines()[1].endswith("install 'ray>=2.52'")
    assert "torch" not in heavy
    assert command == ["serve"] or not heavy  # a server has imported what it paints with


@pytest.mark.parametrize("options", [["--ray-workers", "2"], ["--weights-from", "hub"]], ids=" ".join)
def test_options_of_a_cluster_without_one_are_refused(dalle: Dalle, options):
    found = dalle("generate", "a fox", *options)
    assert found.code == 2
    assert f"{options[0]} is about a Ray cluster, and none is named" in found.err
    assert "--ray auto" in found.err
