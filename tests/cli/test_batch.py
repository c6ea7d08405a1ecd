"""Prompt files on the command line, with the fake engine."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from dallecli.batch.presence import Presence
from dallecli.cli.app import run
from dallecli.pictures.metadata import read_recipe
from dallecli.safe import safe

from .conftest import Dalle, command, environment, on_terminal, screen

FOXES = '{"prompt": "a red fox", "seed": 1, "name": "red"}\n{"prompt": "a blue fox", "seed": 2, "n": 2}\n'


@pytest.fixture
def foxes() -> Path:
    """Two lines, three pictures."""
    path = Path("foxes.jsonl")
    path.write_text(FOXES, encoding="utf-8")
    return path


def entries(folder: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in (Path(folder) / "journal.jsonl").read_text().splitlines()]


def pictures(folder: str) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*.png"))


def test_every_picture_of_a_file_becomes_a_file(dalle: Dalle, foxes):
    result = dalle("generate", "--prompts", str(foxes))
    assert result.code == 0
    assert sorted(result.lines) == [f"foxes/{name}" for name in pictures("foxes")]
    names = [line.partition("/")[2] for line in result.lines]
    assert names[0] == "red.png"
    assert [name.rpartition("-")[0] for name in names[1:]] == ["000002-1-a-blue-fox", "000002-2-a-blue-fox"]
    recipes = [read_recipe(Path(line)) for line in result.lines]
    assert [(recipe.prompt, recipe.seed) for recipe in recipes] == [
        ("a red fox", 1),
        ("a blue fox", 2),
        ("a blue fox", 3),
    ]
    assert "3 painted" in result.err


def test_the_same_command_again_has_nothing_to_do(dalle: Dalle, foxes):
    assert dalle("generate", "--prompts", str(foxes)).code == 0
    again = dalle("generate", "--prompts", str(foxes))
    assert (again.code, again.out) == (0, b"")
    assert "0 painted" in again.err
    assert "3 were there" in again.err


def test_what_was_lost_or_added_is_painted_and_nothing_else(dalle: Dalle, foxes):
    assert dalle("generate", "--prompts", str(foxes)).code == 0
    before = Path("foxes/red.png").read_bytes()
    Path("foxes/red.png").unlink()
    foxes.write_text('{"prompt": "a dog", "seed": 5, "name": "dog"}\n' + FOXES, encoding="utf-8")
    again = dalle("generate", "--prompts", str(foxes))
    assert sorted(again.lines) == ["foxes/dog.png", "foxes/red.png"]
    assert Path("foxes/red.png").read_bytes() == before


def test_a_file_that_was_merely_copied_is_the_picture_still(dalle: Dalle, foxes):
    assert dalle("generate", "--prompts", str(foxes)).code == 0
    os.utime("foxes/red.png", (1, 1))
    assert "3 were there" in dalle("generate", "--prompts", str(foxes)).err


def test_a_picture_that_somebody_changed_is_left_alone(dalle: Dalle, foxes):
    assert dalle("generate", "--prompts", str(foxes)).code == 0
    Path("foxes/red.png").write_bytes(b"mine now")
    again = dalle("generate", "--prompts", str(foxes))
    assert again.code == 1
    assert "this picture was changed since it was painted" in again.err
    assert Path("foxes/red.png").read_bytes() == b"mine now"
    assert dalle("generate", "--prompts", str(foxes), "--force").lines == ["foxes/red.png"]


def test_a_file_of_another_that_has_the_name_is_not_replaced(dalle: Dalle, foxes):
    Path("foxes").mkdir()
    Path("foxes/red.png").write_bytes(b"somebody's")
    result = dalle("generate", "--prompts", str(foxes))
    assert result.code == 1
    assert "foxes.jsonl:1: the file exists already" in result.err
    assert len(pictures("foxes")) == 3
    assert Path("foxes/red.png").read_bytes() == b"somebody's"
    failed = Path("foxes/failed.jsonl").read_text()
    assert json.loads(failed)["prompt"] == "a red fox"
    # What failed is not tried again unless that is asked for; then it is mended, and the list is gone.
    Path("foxes/red.png").unlink()
    assert dalle("generate", "--prompts", str(foxes)).code == 1
    assert dalle("generate", "--prompts", str(foxes), "--retry-failed").lines == ["foxes/red.png"]
    assert not Path("foxes/failed.jsonl").exists()


def test_other_dials_make_other_pictures_and_it_is_said(dalle: Dalle, foxes):
    assert dalle("generate", "--prompts", str(foxes), "--out", "o").code == 0
    other = dalle("generate", "--prompts", "foxes.jsonl", "--out", "o", "--steps", "9", "--force")
    assert len(other.lines) == 3
    assert "3 pictures of earlier runs are asked for no more, or differently" in other.err


def test_bad_lines_are_all_named_and_nothing_is_painted(dalle: Dalle):
    lines = ['{"prompt": "a fox"}', '{"prompt": ""}', "{", '{"prompt": "x", "size": 3}', '{"prompt": "x", "modle": 1}']
    Path("p.jsonl").write_text("\n".join(lines), encoding="utf-8")
    result = dalle("generate", "--prompts", "p.jsonl")
    assert result.code == 2
    assert result.err.splitlines()[:-3] == [
        'p.jsonl:2: the prompt is empty; say what to paint: dalle generate "a red fox"',
        "p.jsonl:3:2: this is not JSON: Expecting property name enclosed in double quotes",
        "p.jsonl:4: starter does not paint 3 pixels; it paints 16, 64, 256",
        "p.jsonl:5: dalle generate does not know 'modle'; did you mean 'model'?",
    ]
    assert "4 of 5 lines cannot be painted" in result.err
    assert not Path("p").exists()


def test_good_lines_are_painted_beside_bad_ones_which_can_be_mended(dalle: Dalle):
    Path("p.jsonl").write_text('{"prompt": "a fox"}\n{"prompt": "x", "size": 3}\n', encoding="utf-8")
    result = dalle("generate", "--prompts", "p.jsonl", "--keep-going")
    assert (result.code, len(result.lines)) == (1, 1)
    failed = Path("p/failed.jsonl")
    assert failed.read_text() == '{"prompt": "x", "size": 3}\n'
    failed.write_text(failed.read_text().replace("3", "16"), encoding="utf-8")
    assert dalle("generate", "--prompts", str(failed), "--out", "p").code == 0
    assert len(pictures("p")) == 2
    assert not failed.exists()


def test_errors_are_objects_if_results_are(dalle: Dalle):
    Path("p.jsonl").write_text("{\n", encoding="utf-8")
    result = dalle("generate", "--prompts", "p.jsonl", "--json")
    first, last = (json.loads(line) for line in result.err.splitlines())
    assert (first["error"], first["where"]) == ("BadLine", "p.jsonl:1:2")
    assert (last["error"], last["exit_code"]) == ("BadPromptFile", 2)


def test_lines_of_one_command_feed_another(dalle: Dalle, foxes):
    painted = dalle("generate", "--prompts", str(foxes), "--json")
    lines = "".join(json.dumps({"image": found["path"], "n": 2}) + "\n" for found in painted.objects)
    varied = dalle("vary", "--prompts", "-", "--json", stdin=lines.encode())
    assert varied.code == 0
    assert {found["task"] for found in varied.objects} == {"vary"}
    assert len(pictures("vary")) == 6
    assert sorted({found["line"] for found in varied.objects}) == [1, 2, 3]


def test_a_line_may_be_for_any_command(dalle: Dalle):
    Image.new("RGB", (32, 32), (200, 120, 40)).save("cat.png")
    lines = [
        {"command": "vary", "image": "cat.png"},
        {"command": "edit", "image": "cat.png", "from": "a cat", "to": "a dog", "sweep": 3},
        {"command": "inpaint", "image": "cat.png", "mask": "0,0,8,8", "prompt": "a hat"},
        {"command": "interpolate", "ends": ["cat.png", "a dog"], "frames": 4, "name": "way"},
        {"prompt": "a fox", "best_of": 5, "n": 2},
    ]
    Path("p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    result = dalle("generate", "--prompts", "p.jsonl", "--seed", "7")
    assert result.code == 0
    assert len(pictures("p")) == 1 + 3 + 1 + 4 + 2
    assert {f"way-{k}.png" for k in range(1, 5)} <= set(pictures("p"))
    assert "11 were there" in dalle("generate", "--prompts", "p.jsonl", "--seed", "7").err
    # A way of which one picture is missing gets that one, and it is the same.
    before = Path("p/way-3.png").read_bytes()
    Path("p/way-3.png").unlink()
    assert dalle("generate", "--prompts", "p.jsonl", "--seed", "7").lines == ["p/way-3.png"]
    assert Path("p/way-3.png").read_bytes() == before


@pytest.mark.parametrize(
    ("task", "options", "lines", "names"),
    [
        (
            "interpolate",
            ["--noise", "inverted"],
            [
                {"ends": ["cat.png", "dog.png"], "frames": 2},
                {"ends": ["cat.png", "a dog"], "at": 0.3, "noise": "fixed"},
            ],
            ["000001-1-cat-to-dog", "000001-2-cat-to-dog", "000002-cat-to-a-dog"],
        ),
        (
            "inpaint",
            ["--mask", "0,0,8,8", "--prompt", "a hat", "--resample", "1"],
            [{"image": "cat.png"}, {"image": "dog.png", "mask": ["4,4,4,4", "9,9,4,4"], "prompt": "a scarf"}],
            ["000001-cat-a-hat", "000002-dog-a-scarf"],
        ),
        (
            "edit",
            ["--from", "a cat", "--sweep", "2"],
            [{"image": "cat.png", "to": "a dog"}, {"image": "dog.png", "from": "a dog", "to": "a hen"}],
            ["000001-1-cat-to-a-dog", "000001-2-cat-to-a-dog", "000002-1-dog-to-a-hen", "000002-2-dog-to-a-hen"],
        ),
    ],
)
def test_every_painting_command_paints_a_prompt_file(dalle: Dalle, task, options, lines, names):
    for name in ("cat.png", "dog.png"):
        Image.new("RGB", (32, 32), "white").save(name)
    Path("lines.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    told = dalle(task, *options, "--prompts", "lines.jsonl", "--dry-run")
    assert (told.code, told.remarks) == (0, "")
    assert told.lines[: len(names)] == [f"lines/{name}-….png" for name in names]
    assert not Path("lines").exists()
    result = dalle(task, *options, "--prompts", "lines.jsonl")
    assert result.code == 0
    assert [line.removeprefix("lines/").rpartition("-")[0] for line in result.lines] == names
    assert {read_recipe(Path(line)).task for line in result.lines} == {task}


@pytest.mark.parametrize("task", ["vary", "inpaint", "edit"])
def test_the_lines_of_a_text_file_are_pictures_for_commands_that_take_one(dalle: Dalle, task):
    Image.new("RGB", (32, 32), "white").save("cat.png")
    options = {"inpaint": ["--mask", "0,0,8,8"], "edit": ["--from", "a", "--to", "b"]}.get(task, [])
    result = dalle(task, *options, "--prompts", "-", "--json", stdin=b"cat.png\n")
    assert (result.code, [found["task"] for found in result.objects]) == (0, [task])


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["edit", "cat.png"], "--prompts and 'cat.png' both say what to paint"),
        (["inpaint", "-o", "x.png"], "-o names one file, but a prompt file makes many"),
        (["interpolate", "--animate", "gif"], "--animate makes one file of all frames, but a prompt file makes one of"),
        (["inpaint", "--show-mask"], "--show-mask is about one picture"),
        (["vary", "--x", "steps=3,4"], "a sheet with axes is of one prompt, and a prompt file holds many"),
    ],
)
def test_what_a_prompt_file_cannot_make_is_refused(dalle: Dalle, arguments, reason):
    result = dalle(*arguments, "--prompts", "-", stdin=b"cat.png\n")
    assert (result.code, result.out) == (2, b"")
    assert result.err.startswith(f"error: {reason}")


def test_a_line_that_is_there_twice_is_painted_once(dalle: Dalle):
    result = dalle("generate", "--prompts", "-", "--out", "o", stdin=b"a fox\na dog\na fox\n")
    assert (result.code, len(result.lines)) == (0, 2)
    assert "1 asked for twice" in result.err


def test_names_that_some_systems_take_for_one_are_refused(dalle: Dalle):
    lines = ['{"prompt": "a", "name": "Fox"}', '{"prompt": "b", "name": "fox"}', '{"prompt": "c", "name": "../x"}']
    Path("p.jsonl").write_text("\n".join(lines), encoding="utf-8")
    result = dalle("generate", "--prompts", "p.jsonl")
    assert "p.jsonl:2: the name 'fox.png' is taken by line 1" in result.err
    assert "p.jsonl:3: the name '../x' leads out of the folder" in result.err


def test_no_link_leads_out_of_the_folder(dalle: Dalle):
    Path("outside").mkdir()
    Path("o").mkdir()
    Path("o/sub").symlink_to(Path("outside").absolute())
    lines = b"".join(b'{"prompt": "a fox", "name": "%s"}\n' % name for name in (b"sub/fox", b"sub/deeper/fox"))
    result = dalle("generate", "--prompts", "-", "--out", "o", stdin=lines)
    assert result.code == 1
    assert result.err.count("a link leads out of the output folder") == 2
    assert list(Path("outside").iterdir()) == []


def test_wildcards_are_chosen_or_multiplied(dalle: Dalle):
    Path("colour.txt").write_text("red\nblue\n", encoding="utf-8")
    Path("p.txt").write_text("a __colour__ {fox|dog}\n", encoding="utf-8")
    assert len(dalle("generate", "--prompts", "p.txt").lines) == 1
    result = dalle("generate", "--prompts", "p.txt", "--matrix", "--json", "--out", "all", "--seed", "3")
    prompts = [found["prompt"] for found in result.objects]
    assert prompts == ["a red fox", "a red dog", "a blue fox", "a blue dog"]
    assert {found["seed"] for found in result.objects} == {3}


def test_a_dry_run_says_what_would_be_done_and_does_nothing(dalle: Dalle, foxes):
    result = dalle("generate", "--prompts", str(foxes), "--dry-run")
    assert result.lines == [
        "foxes/red.png",
        "foxes/000002-1-a-blue-fox-….png",
        "foxes/000002-2-a-blue-fox-….png",
        "pictures: 3 with starter",
        "memory: next to nothing",
        "time: known after the first pictures",
    ]
    assert not Path("foxes").exists()
    facts = dalle("generate", "--prompts", str(foxes), "--dry-run", "--json").objects[0]
    assert (facts["pictures"], facts["lines"], facts["bad"]) == (3, 2, 0)
    nothing = dalle("generate", "--prompts", "-", "--dry-run", "--keep-going", stdin=b"{\n")
    assert (nothing.code, nothing.lines[0]) == (0, "pictures: none")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["a fox", "--prompts", "foxes.jsonl"], "both say what to paint"),
        (["--prompts", "foxes.jsonl", "-o", "x.png"], "-o names one file"),
        (["a fox", "--matrix"], "--matrix is about a prompt file"),
        (["a fox", "--shard", "1/2"], "--shard is about a prompt file"),
        (["--prompts", "foxes.jsonl", "--shard", "0/2"], "--shard '0/2' means nothing"),
        (["--prompts", "foxes.jsonl", "--shard", "3/2"], "--shard '3/2' means nothing"),
        (["--prompts", "empty.txt"], "there is nothing to paint in it"),
        (["--prompts", "absent.txt"], "No such file"),
    ],
)
def test_what_makes_no_sense_is_refused(dalle: Dalle, foxes, arguments, reason):
    Path("empty.txt").write_text("# nothing\n", encoding="utf-8")
    result = dalle("generate", *arguments)
    assert result.code == 2
    assert reason in result.err


def test_shards_are_parts_that_make_a_whole(dalle: Dalle):
    Path("p.txt").write_text("".join(f"fox {k}\n" for k in range(30)), encoding="utf-8")
    parts = [dalle("generate", "--prompts", "p.txt", "--shard", f"{k}/3").lines for k in (1, 2, 3)]
    assert all(parts)
    assert sorted(line for part in parts for line in part) == [f"p/{name}" for name in pictures("p")]
    assert len(pictures("p")) == 30


def test_words_that_are_not_read_are_announced_with_their_line(dalle: Dalle):
    result = dalle("generate", "--prompts", "-", stdin=b"a fox\n" + b"word " * 40)
    assert "warning: stdin:2: starter reads no further than this; dropped: word" in result.err


LINE = st.dictionaries(
    st.sampled_from(["prompt", "seed", "n", "steps", "name", "image", "command", "ends", "mask", "\x1b[2J"]),
    st.text(max_size=20) | st.integers() | st.floats() | st.lists(st.text(max_size=5), max_size=3) | st.none(),
).map(json.dumps)


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.binary(max_size=300) | st.lists(LINE, max_size=4).map(lambda lines: "\n".join(lines).encode()))
def test_whatever_a_file_holds_it_is_painted_or_refused_in_harmless_words(dalle: Dalle, data):
    result = dalle("generate", "--prompts", "-", "--dry-run", stdin=data)
    assert result.code in (0, 2)
    assert "mistake" not in result.err
    for text in (result.err, result.out.decode()):
        assert all(safe(line, limit=None) == line for line in text.split("\n"))


# Processes


def start(*arguments: str, **changes: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command(*arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(**changes),
        start_new_session=True,
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=str)
def test_a_signal_keeps_what_is_done_and_says_how_to_go_on(dalle: Dalle, number, code):
    Path("p.txt").write_text("".join(f"fox {k}\n" for k in range(60)), encoding="utf-8")
    running = start("generate", "--prompts", "p.txt", DALLE_FAKE_SECONDS="0.002")
    assert running.stdout is not None
    first = running.stdout.readline()
    asked = time.monotonic()
    running.send_signal(number)
    out, err = running.communicate(timeout=20)
    assert time.monotonic() - asked < 5
    assert running.returncode == code
    done = [first.decode().strip(), *out.decode().splitlines()]
    assert sorted(done) == [f"p/{name}" for name in pictures("p")]
    assert len(entries("p")) == len(done) < 60
    assert f"{len(done)} of 60 pictures are done; run the same command again to go on" in err.decode()
    assert b"Traceback" not in err
    again = dalle("generate", "--prompts", "p.txt")
    assert (again.code, len(again.lines)) == (0, 60 - len(done))


def test_a_reader_that_leaves_gets_no_traceback(dalle: Dalle):
    Path("p.txt").write_text("".join(f"fox {k}\n" for k in range(40)), encoding="utf-8")
    words = " ".join(f"'{word}'" for word in command("generate", "--prompts", "p.txt"))
    done = subprocess.run(
        ["bash", "-c", f"{words} | head -1"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=environment(),
        timeout=30,
    )
    assert (done.returncode, done.stderr, done.stdout.count(b"\n")) == (0, b"", 1)
    assert len(entries("p")) == len(pictures("p"))


def test_a_second_process_is_refused_by_name(dalle: Dalle, foxes):
    presence = Presence(Path("foxes"), share=False)
    for options in ([], ["--share"]):
        refused = dalle("generate", "--prompts", str(foxes), *options)
        assert refused.code == 2
        assert f"process {os.getpid()} on" in refused.err
    presence.leave()
    presence = Presence(Path("foxes"), share=True)
    assert "wait for it, or run both with --share" in dalle("generate", "--prompts", str(foxes)).err
    assert dalle("generate", "--prompts", str(foxes), "--share").code == 0
    presence.leave()


def test_processes_that_share_do_everything_once():
    Path("p.txt").write_text("".join(f"fox {k}\n" for k in range(40)), encoding="utf-8")
    sharing = [
        start("generate", "--prompts", "p.txt", "--share", "--size", "16", DALLE_FAKE_SECONDS="0.0005")
        for _ in range(3)
    ]
    painted = [found for running in sharing for found in running.communicate(timeout=60)[0].splitlines()]
    assert [running.returncode for running in sharing] == [0, 0, 0]
    assert len(painted) == len(pictures("p")) == len(entries("p")) == 40


def test_a_log_gets_sparse_lines_and_a_terminal_a_bar():
    Path("p.txt").write_text("a fox\na dog\n", encoding="utf-8")
    shown = on_terminal("generate", "--prompts", "p.txt", DALLE_FAKE_SECONDS="0.005")
    assert "of 2" in shown.err
    assert [line for line in screen(shown.err) if line] == [
        f"p: 2 painted in {shown.err.split('painted in ')[1].split()[0]} s"
    ]


def test_a_batch_leaves_no_threads_and_no_open_files():
    def held() -> tuple[int, int]:
        return threading.active_count(), len(list(Path("/proc/self/fd").iterdir())) if sys.platform == "linux" else 0

    Path("p.txt").write_text("".join(f"fox {k}\n" for k in range(50)), encoding="utf-8")
    before = held()
    assert run(["generate", "--prompts", "p.txt", "--size", "16", "--quiet"]) == 0
    time.sleep(0.05)
    assert held() == before


# dalle check


def test_check_finds_what_is_missing_changed_or_failed(dalle: Dalle, foxes):
    assert dalle("generate", "--prompts", str(foxes)).code == 0
    good = dalle("check", "foxes")
    assert (good.code, good.out, good.remarks) == (0, b"", "foxes: 3 intact\n")
    names = pictures("foxes")
    (Path("foxes") / names[0]).unlink()
    changed = Path("foxes/red.png")
    stamp = changed.stat().st_mtime_ns
    data = bytearray(changed.read_bytes())
    data[-20] ^= 1
    changed.write_bytes(data)
    os.utime(changed, ns=(stamp, stamp))  # as bits rot: nothing but the bytes tells
    bad = dalle("check", "foxes")
    assert bad.code == 1
    assert sorted(bad.lines) == ["changed: foxes/red.png", f"missing: foxes/{names[0]}"]
    assert "2 pictures are not as the journal says" in bad.err
    findings = {found["path"]: found["finding"] for found in dalle("check", "foxes", "--json").objects}
    assert findings == {"foxes/red.png": "changed", f"foxes/{names[0]}": "missing", f"foxes/{names[1]}": "intact"}


def test_check_needs_a_journal(dalle: Dalle):
    assert "there is no journal here" in dalle("check", ".").err


def test_a_torn_last_line_is_cut_and_damage_is_passed_over(dalle: Dalle, foxes):
    assert dalle("generate", "--prompts", str(foxes)).code == 0
    journal = Path("foxes/journal.jsonl")
    whole = journal.read_bytes()
    lines = whole.splitlines(keepends=True)
    journal.write_bytes(lines[0] + b"\x00garbage\xff\n[]\n" + lines[1] + lines[2][:50])
    again = dalle("generate", "--prompts", str(foxes))
    # The third is there, as its recipe says, so it is taken for what it is.
    assert (again.code, len(again.lines)) == (0, 1)
    assert journal.read_bytes().endswith(b"}\n")
    assert dalle("check", "foxes").remarks == "foxes: 3 intact, 2 unreadable lines in the journal\n"


# Choices that mean nothing


def test_what_looks_like_a_choice_and_is_none_is_named_with_its_line(dalle: Dalle):
    lines = ["a fox", "a {red,blue} fox", "a {red|blue} fox", "a {red fox", "a __colour*__ fox", r"a \{red} fox"]
    Path("p.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    result = dalle("generate", "--prompts", "p.txt", "--dry-run")
    assert result.code == 0
    assert result.remarks.splitlines() == [
        "warning: p.txt:2: {red,blue} is painted as it stands: it has no bar",
        "warning: p.txt:4: {red fox is painted as it stands: the brace is never closed",
        "warning: p.txt:5: __colour*__ is painted as it stands: no list is called so",
    ]


def test_choices_in_other_values_of_a_line_are_named(dalle: Dalle):
    lines = [
        {"prompt": "a fox", "negative": "{red|blue}"},
        {"command": "interpolate", "ends": ["a {cat|dog}", "a fox"]},
    ]
    data = "".join(json.dumps(line) + "\n" for line in lines).encode()
    result = dalle("generate", "--prompts", "-", "--dry-run", stdin=data)
    assert result.remarks.splitlines() == [
        "warning: stdin:1: choices are for prompts; 'negative' is taken as it stands",
        "warning: stdin:2: choices are for prompts; 'ends' is taken as it stands",
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ("generate", "a {red|blue} fox"),
        ("generate", "a __colour__ fox"),
        ("generate", "a fox", "--negative", "{red|blue}"),
        ("edit", "cat.png", "--from", "a cat", "--to", "a {dog|fox}"),
        ("inpaint", "cat.png", "--mask", "0,0,8,8", "--prompt", "a {dog|fox}"),
        ("interpolate", "a {dog|fox}", "a cat"),
    ],
)
def test_choices_in_arguments_are_painted_as_they_stand_and_named(dalle: Dalle, arguments):
    Image.new("RGB", (32, 32), "white").save("cat.png")
    result = dalle(*arguments, "--dry-run")
    assert result.code == 0
    assert "is painted as it stands; choices are made of lines: --prompts FILE, or -" in result.err
    assert "is painted as it stands" not in dalle("generate", "a {fox} and __", "--dry-run").err


# What is no prose

STRUCTURED = {
    "a JSON array": b'[{"prompt": "a fox"}, {"prompt": "a dog"}]',
    "a table with the columns prompt, seed": b"prompt,seed\na fox,1\na dog,2\n",
    "text in UTF-16": "a fox\na dog\n".encode("utf-16"),
    "text whose lines end with carriage returns": b"a fox\ra dog\r",
    "a table as Excel writes it": b"sep=;\r\nprompt;seed\r\na fox;1\r\n",
    "a PNG picture": b"\x89PNG\r\n\x1a\n\0\0\0",
}


@pytest.mark.parametrize("what", list(STRUCTURED))
@pytest.mark.parametrize("how", ["--prompts -", "--prompts p.txt", "-"])
def test_what_is_no_prose_is_named_and_nothing_is_painted(dalle: Dalle, what, how):
    Path("p.txt").write_bytes(STRUCTURED[what])
    result = dalle("generate", *how.split(), stdin=STRUCTURED[what])
    assert (result.code, result.out) == (2, b"")
    assert what in result.err
    assert list(Path().rglob("*.png")) == []


def test_a_json_object_is_no_sentence(dalle: Dalle):
    result = dalle("generate", stdin=b'{"prompt": "a fox"}\n')
    assert (result.code, "hint: … | dalle generate --prompts -" in result.err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "reason", "hint"),
    [
        (("generate", "prompts.txt"), "'prompts.txt' is a file", "its lines: dalle generate --prompts prompts.txt"),
        (("generate", "a fox", "my prompts.csv"), "'my prompts.csv' is a file", "--prompts 'my prompts.csv'"),
        (("generate", "./prompts.txt"), "'./prompts.txt' is a file", "--prompts ./prompts.txt"),
        (("generate", "missing.txt"), "looks like a file, and there is none of this name", "missing.txt"),
        (("generate", "cat.png"), "'cat.png' is a file", "dalle vary cat.png"),
        (("generate", "a fox", "--negative", "prompts.txt"), "'prompts.txt' is a file", "$(cat prompts.txt)"),
        (
            ("edit", "cat.png", "--from", "a cat", "--to", "prompts.txt"),
            "'prompts.txt' is a file",
            "$(cat prompts.txt)",
        ),
        (("inpaint", "cat.png", "--mask", "0,0,8,8", "--prompt", "prompts.txt"), "is a file", "$(cat prompts.txt)"),
        (("interpolate", "a fox", "missing.txt"), "No such file", ""),
        (("embed", "missing.txt"), "No such file", ""),
        (("rank", "cat.png", "missing.txt"), "No such file", ""),
    ],
)
def test_the_name_of_a_file_is_no_sentence(dalle: Dalle, arguments, reason, hint):
    Image.new("RGB", (32, 32), "white").save("cat.png")
    for name in ("prompts.txt", "my prompts.csv"):
        Path(name).write_text("a fox\n", encoding="utf-8")
    result = dalle(*arguments)
    assert (result.code, result.out) == (2, b"")
    assert reason in result.err
    assert hint in result.err


@pytest.mark.parametrize("prompt", ["prompts", "a sign that says readme.txt", "a.b. and c.", "fox/dog", "1.5"])
def test_sentences_that_resemble_files_are_painted(dalle: Dalle, prompt):
    Path("prompts").write_text("a fox\n", encoding="utf-8")
    assert dalle("generate", prompt, "--dry-run").code == 0


def test_a_list_of_pictures_is_no_list_of_prompts(dalle: Dalle):
    Image.new("RGB", (32, 32), "white").save("cat.png")
    result = dalle("generate", "--prompts", "-", stdin=b"cat.png\na fox\n")
    assert result.code == 2
    assert "stdin:1: 'cat.png' is a file, and not a sentence; dalle vary cat.png" in result.err
