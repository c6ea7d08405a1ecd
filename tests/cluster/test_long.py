"""Many faults at random moments, counted: `pytest -m "ray and slow" tests/cluster` prints the figures at its end."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from networks import NETWORKS, cable, inside, two_networks
from PIL import Image

from .conftest import NOTHING, Killer, Machines, ended, faults, here, lines, wait_for

pytestmark = pytest.mark.slow

QUICK = ("--size", "16", "--no-history")
ITEMS = 500
WORKER_KILLS = 100
DRIVER_KILLS = 20


def summed(found: list[dict[str, int]]) -> dict[str, int]:
    return {name: sum(one[name] for one in found) for name in NOTHING}


def test_five_hundred_pictures_and_a_hundred_killed_workers(machines: Machines, figures: dict[str, Any]):
    file = lines(ITEMS)
    assert here("generate", "--prompts", file, "--out", "one", *QUICK).code == 0
    killed, runs = 0, []
    while killed < WORKER_KILLS:
        out = f"run{len(runs)}"
        with Killer(machines, out, pictures=3, most=WORKER_KILLS - killed) as killer:
            many = machines.dalle(
                "generate", "--prompts", file, "--out", out, *QUICK, DALLE_FAKE_SECONDS="0.006", timeout=1800
            )
        assert many.code == 0, many.err
        killed += killer.killed
        runs.append(faults(out, "one", many.out))
    figures["killed workers"] = {"kills": killed, "pictures": ITEMS * len(runs), **summed(runs)}
    assert summed(runs) == NOTHING


def test_five_hundred_pictures_and_twenty_killed_drivers(machines: Machines, figures: dict[str, Any]):
    file = lines(ITEMS)
    assert here("generate", "--prompts", file, "--out", "one", *QUICK).code == 0
    chance, killed, runs = random.Random(0), 0, []
    while killed < DRIVER_KILLS:
        out = f"run{len(runs)}"
        printed = []
        while True:
            running = machines.start("generate", "--prompts", file, "--out", out, *QUICK, DALLE_FAKE_SECONDS="0.01")
            if killed < DRIVER_KILLS:
                _wait_for_pictures(running, out)
                time.sleep(chance.random() * 4)
                running.kill()
            text, err = running.communicate(timeout=1800)
            printed.append(text[: text.rfind("\n") + 1])
            if running.returncode == 0:
                break
            assert running.returncode == -9, err
            killed += 1
        runs.append(faults(out, "one", *printed))
    figures["killed drivers"] = {"kills": killed, "pictures": ITEMS * len(runs), **summed(runs)}
    assert summed(runs) == NOTHING


def _wait_for_pictures(running: "subprocess.Popen[str]", folder: str) -> None:
    before = _pictures(folder)
    wait_for(lambda: running.poll() is not None or _pictures(folder) > before, 300)


def _pictures(folder: str) -> int:
    return len(list(Path(folder).glob("*.png")))


def test_a_picture_that_never_ends_has_a_deadline(machines: Machines, figures: dict[str, Any]):
    """Three workers stop in the middle of it; each is given up after a minute, and another takes its place."""
    file = lines(24)
    assert here("generate", "--prompts", file, "--out", "one", *QUICK).code == 0
    with Image.open("one/00015.png") as picture:
        machines.faults.write_text(json.dumps({"SIGSTOP": picture.getpixel((0, 0))}))
    began = time.monotonic()
    many = machines.dalle("generate", "--prompts", file, "--out", "many", *QUICK, timeout=900)
    machines.faults.unlink()
    figures["stuck"] = {"seconds": round(time.monotonic() - began), "painted": len(many.lines)}
    assert many.code == 1, many.err
    assert len(many.lines) == 23
    assert "p.jsonl:16: 3 workers were lost while they painted nothing but this: no answer in" in many.err


def test_a_full_disk_ends_it_and_more_room_lets_it_go_on(machines: Machines, figures: dict[str, Any]):
    if os.geteuid() != 0:
        pytest.skip("only root mounts a small disk")
    file = lines(200)
    assert here("generate", "--prompts", file, "--out", "one", *QUICK).code == 0
    Path("many").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", "many"], check=True)
    try:
        full = machines.dalle("generate", "--prompts", file, "--out", "many", *QUICK)
        assert full.code == 5, full.err
        assert "error: the disk is full" in full.err
        done = _pictures("many")
        subprocess.run(["mount", "-o", "remount,size=20m", "many"], check=True)
        again = machines.dalle("generate", "--prompts", file, "--out", "many", *QUICK)
        assert again.code == 0, again.err
        found = faults("many", "one", full.out, again.out)
    finally:
        subprocess.run(["umount", "many"], check=True)
    figures["full disk"] = {"painted before": done, **found}
    assert found == NOTHING


def test_the_starter_paints_the_same_bytes_there(machines: Machines):
    file = lines(6)
    asked = ("generate", "--prompts", file, "--size", "16", "--fast", "--device", "cpu", "--no-history")
    assert here(*asked, "--out", "one", DALLE_ENGINE="local").code == 0
    many = machines.dalle(*asked, "--out", "many", "--ray-workers", "2", DALLE_ENGINE="local", timeout=900)
    assert many.code == 0, many.err
    assert faults("many", "one", many.out) == NOTHING


def test_a_model_that_workers_lack_is_sent_to_them(machines: Machines, tmp_path: Path, figures: dict[str, Any]):
    """Its folder is where only the driver looks: for workers it is gone as soon as they have it."""
    import oracle

    model = oracle.write(tmp_path / "tiny", oracle.SHAPES["starter"])
    file = lines(4)
    asked = ("generate", "--prompts", file, "--model", str(model), "--device", "cpu", "--no-history", "--fast")
    assert here(*asked, "--out", "one", DALLE_ENGINE="local").code == 0
    sending = ("--ray-workers", "1", "--weights-from", "driver")
    many = machines.dalle(*asked, "--out", "many", *sending, DALLE_ENGINE="local", timeout=900)
    assert many.code == 0, many.err
    assert faults("many", "one", many.out) == NOTHING
    kept = list(machines.home.rglob("cluster/*/tiny/model_index.json"))
    assert len(kept) == 1


# Two machines with a network of their own each


def _done(network: str, *command: str) -> str:
    found = ended(inside(network, *command), 600)
    assert found.code == 0, found.err[-2000:]
    return found.out


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A head without a GPU in one network namespace, and a machine with one in another; the link is between them."""
    pytest.importorskip("ray")
    for name, value in {
        "RAY_raylet_start_wait_time_s": "300",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "disabled",
    }.items():
        monkeypatch.setenv(name, value)
    with two_networks():
        start = f"{Path(sys.executable).parent / 'ray'} start --num-cpus=2 --num-gpus=1 --disable-usage-stats"
        start += " --object-store-memory=80000000"
        head = f"{start} --head --node-ip-address=10.93.0.1 --port=6379 --include-dashboard=false"
        _done(NETWORKS[0], *head.split())
        # Files of its own, too: Ray keeps them in a folder that may not have a long name.
        own = f"mkdir -p /tmp/ray && mount --bind {tmp_path} /tmp/ray"
        other = f"{own} && {start} --address=10.93.0.1:6379 --node-ip-address=10.93.0.2"
        _done(NETWORKS[1], "unshare", "-m", "sh", "-c", other)
        yield


def test_a_link_that_is_cut_and_mended(networks: Any, figures: dict[str, Any]):
    file = lines(120)
    assert here("generate", "--prompts", file, "--out", "one", *QUICK).code == 0
    command = (sys.executable, "-m", "dallecli", "generate", "--prompts", file, "--out", "many", *QUICK)
    environment = os.environ | {"DALLE_FAKE_SECONDS": "0.02"}
    running = inside(NETWORKS[0], *command, "--ray", "10.93.0.1:6379", env=environment)
    wait_for(lambda: Path("many").is_dir() and _pictures("many") > 8, 300)
    cable("down")
    began = time.monotonic()
    time.sleep(30)
    cable("up")
    many = ended(running, 900)
    found = faults("many", "one", many.out)
    figures["cut link"] = {"seconds after the cut": round(time.monotonic() - began), **found}
    assert many.code == 0, many.err
    assert found == NOTHING
