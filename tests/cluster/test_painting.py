"""What a cluster paints is what one machine paints, and what goes wrong costs nothing."""

import json
import signal
import time
from pathlib import Path

from PIL import Image

from .conftest import NOTHING, Killer, Machines, faults, here, lines, wait_for

QUICK = ("--size", "16", "--no-history")


def test_a_prompt_file_is_painted_as_by_one_machine(machines: Machines):
    file = lines(40)
    assert here("generate", "--prompts", file, "--out", "one", *QUICK).code == 0
    many = machines.dalle("generate", "--prompts", file, "--out", "many", *QUICK)
    assert many.code == 0, many.err
    assert faults("many", "one", many.out) == NOTHING
    assert len(many.lines) == 40
    again = machines.dalle("generate", "--prompts", file, "--out", "many", *QUICK)
    assert (again.code, again.out) == (0, "")
    assert "40 were there" in again.err
    # And one machine goes on where a cluster stopped.
    Path("many/00007.png").unlink()
    assert here("generate", "--prompts", file, "--out", "many", *QUICK).out == "many/00007.png\n"


def test_every_command_paints_there_from_lines(machines: Machines):
    Image.new("RGB", (32, 32), (200, 120, 40)).save("cat.png")
    asked = [
        {"prompt": "a fox", "n": 3},
        {"prompt": "a fox", "best_of": 5, "n": 2},
        {"command": "vary", "image": "cat.png"},
        {"command": "edit", "image": "cat.png", "from": "a cat", "to": "a dog", "sweep": 3},
        {"command": "inpaint", "image": "cat.png", "mask": "0,0,8,8", "prompt": "a hat"},
        {"command": "interpolate", "ends": ["cat.png", "a dog"], "frames": 4},
    ]
    Path("p.jsonl").write_text("".join(json.dumps({**line, "name": str(k)}) + "\n" for k, line in enumerate(asked)))
    assert here("generate", "--prompts", "p.jsonl", "--out", "one", "--seed", "7", *QUICK).code == 0
    many = machines.dalle("generate", "--prompts", "p.jsonl", "--out", "many", "--seed", "7", *QUICK)
    assert many.code == 0, many.err
    assert faults("many", "one", many.out) == NOTHING
    assert len(many.lines) == 14


def test_prompts_on_the_command_line_are_divided_among_workers(machines: Machines):
    asked = ("generate", "a dog", "a cat", "-n", "6", "--seed", "3", "--layout", "files", *QUICK)
    one, many = here(*asked, "--out", "one"), machines.dalle(*asked, "--out", "many")
    assert many.code == 0, many.err
    assert many.out == one.out.replace("one/", "many/")
    assert all(Path(line).read_bytes() == Path(line.replace("many", "one")).read_bytes() for line in many.lines)


def test_frames_and_the_best_of_many_are_painted_there(machines: Machines):
    for asked in (
        ("interpolate", "a dog", "a cat", "--frames", "7", "--seed", "1", "--layout", "files"),
        ("generate", "a dog", "-n", "2", "--best-of", "9", "--seed", "1", "--layout", "files"),
        ("generate", "a dog", "--seed", "1", "--x", "steps=3,5,7"),
    ):
        one, many = here(*asked, *QUICK, "--out", "one"), machines.dalle(*asked, *QUICK, "--out", "many")
        assert many.code == 0, many.err
        assert many.out == one.out.replace("one/", "many/")
        assert all(Path(line).read_bytes() == Path(line.replace("many", "one")).read_bytes() for line in many.lines)


def test_lost_workers_cost_nothing(machines: Machines):
    file = lines(60)
    assert here("generate", "--prompts", file, "--out", "one", *QUICK).code == 0
    with Killer(machines, "many", pictures=8, most=3) as killer:
        many = machines.dalle("generate", "--prompts", file, "--out", "many", *QUICK, DALLE_FAKE_SECONDS="0.01")
    assert many.code == 0, many.err
    assert killer.killed > 0
    assert faults("many", "one", many.out) == NOTHING


def test_a_machine_may_join_and_another_leave(machines: Machines):
    file = lines(60)
    assert here("generate", "--prompts", file, "--out", "one", *QUICK).code == 0
    slow = {"DALLE_FAKE_SECONDS": "0.02"}
    leaving = machines.add()
    running = machines.start("generate", "--prompts", file, "--out", "many", *QUICK, **slow)
    wait_for(lambda: Path("many").is_dir() and list(Path("many").glob("*.png")))
    joined = machines.add()
    machines.remove(leaving)
    out, err = running.communicate(timeout=300)
    machines.remove(joined)
    assert running.returncode == 0, err
    assert faults("many", "one", out) == NOTHING


def test_a_driver_that_was_killed_goes_on(machines: Machines):
    file = lines(60)
    assert here("generate", "--prompts", file, "--out", "one", *QUICK).code == 0
    running = machines.start("generate", "--prompts", file, "--out", "many", *QUICK, DALLE_FAKE_SECONDS="0.02")
    wait_for(lambda: Path("many").is_dir() and len(list(Path("many").glob("*.png"))) > 3)
    running.kill()
    out, _ = running.communicate()
    wait_for(lambda: not machines.workers())
    again = machines.dalle("generate", "--prompts", file, "--out", "many", *QUICK)
    assert again.code == 0, again.err
    assert faults("many", "one", again.out) | {"twice": 0} == NOTHING
    assert not set(out.splitlines()) & set(again.lines)


def test_who_is_asked_to_end_finishes_what_is_being_painted(machines: Machines):
    file = lines(80)
    running = machines.start("generate", "--prompts", file, "--out", "many", *QUICK, DALLE_FAKE_SECONDS="0.02")
    wait_for(lambda: Path("many").is_dir() and len(list(Path("many").glob("*.png"))) > 3)
    began = time.monotonic()
    running.send_signal(signal.SIGTERM)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 143, err
    assert time.monotonic() - began < 40
    assert "run the same command again to go on" in err
    entries = [json.loads(line) for line in Path("many/journal.jsonl").read_text().splitlines()]
    assert len(entries) == len(list(Path("many").glob("*.png")))
    assert 0 < len(entries) < 80


def test_a_picture_that_kills_its_workers_fails_and_no_other(machines: Machines):
    file = lines(12)
    assert here("generate", "--prompts", file, "--out", "one", *QUICK).code == 0
    with Image.open("one/00005.png") as picture:
        machines.faults.write_text(json.dumps({"SIGKILL": picture.getpixel((0, 0))}))
    many = machines.dalle("generate", "--prompts", file, "--out", "many", *QUICK)
    machines.faults.unlink()
    assert many.code == 1, many.err
    assert len(many.lines) == 11
    assert "p.jsonl:6: 3 workers were lost while they painted nothing but this" in many.err
    failed = [json.loads(line) for line in Path("many/failed.jsonl").read_text().splitlines()]
    assert [line["name"] for line in failed] == ["00005"]
    assert (
        machines.dalle("generate", "--prompts", "many/failed.jsonl", "--out", "many", "--retry-failed", *QUICK).code
        == 0
    )
    assert not Path("many/failed.jsonl").exists()
