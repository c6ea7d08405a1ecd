"""`dalle` as a process: signals, pipes, bytes and locales."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from dallecli.pictures.metadata import read_recipe

from .conftest import command, environment, process

SLOW = {"DALLE_FAKE_SECONDS": "0.01"}


def _start(*arguments: str, **changes: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command(*arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(**changes),
        start_new_session=True,
    )


def _visible() -> list[str]:
    return sorted(path.name for path in Path().iterdir())


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=lambda value: str(value),
)
def test_a_signal_ends_it_with_its_code_and_keeps_what_was_finished(number, code):
    running = _start("generate", "a fox", "-n", "1000", "-s", "7", "--layout", "files", **SLOW)
    assert running.stdout is not None
    assert running.stdout.readline() == b"a-fox-7.png\n"
    running.send_signal(number)
    out, err = running.communicate(timeout=20)
    assert running.returncode == code
    kept = ["a-fox-7.png", *out.decode().splitlines()]
    assert _visible() == sorted(kept)
    assert [read_recipe(Path(name)).seed for name in kept] == list(range(7, 7 + len(kept)))
    lines = err.decode().splitlines()
    assert lines[-2:] == [f"error: stopped by {number.name}", "hint: files that were written are whole"]
    assert "Traceback" not in err.decode()


@pytest.mark.long
def test_ctrl_c_keeps_the_pictures_that_waited_for_their_sheet():
    running = _start("generate", "a fox", "-n", "1000", "-s", "7", **{"DALLE_FAKE_SECONDS": "0.001"})
    time.sleep(3)
    running.send_signal(signal.SIGINT)
    out, _ = running.communicate(timeout=20)
    assert running.returncode == 130
    assert out.decode().splitlines()
    assert _visible() == sorted(out.decode().splitlines())


@pytest.mark.long
def test_ctrl_c_leaves_no_file_where_one_name_was_asked_for():
    running = _start("generate", "a fox", "-n", "1000", "-o", "sheet.png", **SLOW)
    time.sleep(2)
    running.send_signal(signal.SIGINT)
    assert (running.wait(timeout=20), _visible()) == (130, [])


def test_what_the_parent_ignores_stays_ignored():
    running = subprocess.Popen(
        ["nohup", *command("generate", "a fox", "-n", "3", "-s", "7", "--layout", "files")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(DALLE_FAKE_SECONDS="0.005"),
    )
    assert running.stdout is not None
    running.stdout.readline()
    running.send_signal(signal.SIGHUP)
    running.communicate(timeout=20)
    assert running.returncode == 0
    assert len(_visible()) == 3


@pytest.mark.parametrize(
    "options", [["-o", "-", "-n", "100"], ["--layout", "files", "-n", "100"], ["--json", "-n", "100"]]
)
def test_a_reader_that_leaves_ends_it_quietly(options):
    running = _start("generate", "a fox", "-s", "7", "--size", "256", *options)
    assert running.stdout is not None
    assert running.stderr is not None
    running.stdout.close()
    assert running.wait(timeout=30) == 128 + signal.SIGPIPE
    assert running.stderr.read() == b""
    running.stderr.close()
    assert all(read_recipe(Path(name)) for name in _visible())


def test_head_is_such_a_reader():
    words = " ".join(f"'{word}'" for word in command("generate", "a fox", "-o", "-"))
    done = subprocess.run(
        ["bash", "-c", f"{words} | head -c 10"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=environment(),
        timeout=30,
    )
    assert (done.returncode, done.stdout) == (0, b"\x89PNG\r\n\x1a\n\0\0")
    assert re.fullmatch(rb"(1 picture in .*\n)?", done.stderr), "a reader that left early is no error"


def test_a_full_disk_behind_stdout_is_an_error():
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command("generate", "a fox"),
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment(),
        )
    assert done.returncode == 2
    warning, error = done.stderr.decode().splitlines()
    assert warning == "warning: 1 of 1 pictures of 'a fox' were finished and kept"
    assert error == "error: cannot write to standard output: No space left on device"


def test_a_closed_stdout_is_an_error():
    words = " ".join(f"'{word}'" for word in command("generate", "a fox"))
    done = subprocess.run(
        ["bash", "-c", f"{words} >&-"], stdin=subprocess.DEVNULL, capture_output=True, env=environment()
    )
    assert done.returncode == 2
    assert done.stderr.endswith(b"error: standard output is closed\n")


def test_bytes_that_are_no_text_are_named_by_offset():
    result = process("generate", b"a f\xf6x")
    assert result.code == 2
    assert result.err.startswith("error: the prompt is not valid UTF-8: byte 0xf6 at offset 3\n")


def test_file_names_that_are_no_text_pass_through():
    Path(os.fsdecode(b"caf\xe9")).mkdir()
    result = process("generate", "fox", "-s", "7", "--out", b"caf\xe9")
    assert (result.code, result.out) == (0, b"caf\xe9/fox-7.png\n")
    assert process("show", b"caf\xe9/fox-7.png").code == 0


def test_text_is_utf_8_without_a_locale():
    result = process("generate", "ein Bär 森", "-s", "7", LC_ALL="C", PYTHONUTF8="")
    assert (result.code, result.out.decode()) == (0, "ein-bär-森-7.png\n")
    assert "ein Bär 森" in process("show", "ein-bär-森-7.png", LC_ALL="C", PYTHONUTF8="").out.decode()


def test_two_processes_in_one_folder_lose_nothing():
    running = [
        _start("generate", "a fox", "-n", "20", "-s", "7", "--layout", "files", "--size", "16") for _ in range(2)
    ]
    paths = [line for process in running for line in process.communicate(timeout=30)[0].decode().splitlines()]
    assert len(set(paths)) == 40
    assert _visible() == sorted(paths)
