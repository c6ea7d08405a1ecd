"""`dalle shell`: typed at a terminal, and fed by a pipe."""

import contextlib
import json
import os
import pty
import re
import select
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image
from server.talking import process as serving

from cli.conftest import command, environment, process, screen
from dallecli.pictures.metadata import read_recipe
from dallecli.studio.choice import choose_engine, keeping

UP, TAB, CTRL_C, CTRL_D = "\x1b[A", "\t", "\x03", "\x04"


class Conversation:
    """A shell on a terminal, and somebody who types."""

    def __init__(self, terminal: int, running: subprocess.Popen[bytes]) -> None:
        self.running = running
        self.received = ""
        self._terminal = terminal
        self._seen = 0

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def see(self, pattern: str, seconds: float = 60.0) -> str:
        """Wait until something is said that was not seen before, and return what was said up to its end."""
        until = time.monotonic() + seconds
        while (found := re.search(pattern, self.received[self._seen :])) is None:
            assert time.monotonic() < until, f"{pattern!r} is not in {self.received[self._seen :]!r}"
            assert self._receive(), f"it ended before {pattern!r}: {self.received[self._seen :]!r}"
        said = self.received[self._seen : self._seen + found.end()]
        self._seen += found.end()
        return said

    def prompt(self) -> str:
        return self.see(r"dalle> ")

    def line(self, text: str) -> str:
        """Type a line, and return what is said until the next prompt."""
        self.type(f"{text}\r")
        return self.prompt()

    def end(self, seconds: float = 60.0) -> int:
        """The exit code, when it has ended."""
        until = time.monotonic() + seconds
        while self._receive():
            assert time.monotonic() < until, f"it did not end: {self.received[self._seen :]!r}"
        return self.running.wait(20)

    def _receive(self) -> bool:
        if not select.select([self._terminal], [], [], 1.0)[0]:
            return self.running.poll() is None
        with contextlib.suppress(OSError):  # Linux says so where the other side is closed
            chunk = os.read(self._terminal, 65536)
            self.received += chunk.decode("utf-8", "replace")
            return bool(chunk)
        return False


@contextmanager
def talking(*options: str, out: int | None = None, **changes: str) -> Iterator[Conversation]:
    """A shell on a terminal of its own, with its first prompt."""
    ours, theirs = pty.openpty()
    env = environment(TERM="xterm-256color", **changes)
    running = subprocess.Popen(
        command("shell", *options),
        stdin=theirs,
        stdout=theirs if out is None else out,
        stderr=theirs,
        env=env,
        start_new_session=True,
        preexec_fn=_control_terminal,
    )
    os.close(theirs)
    shell = Conversation(ours, running)
    try:
        shell.prompt()
        yield shell
    finally:
        if running.poll() is None:
            running.kill()
        running.wait()
        os.close(ours)


def _control_terminal() -> None:
    """Make standard input the terminal that sends Ctrl-C, as a login does."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def script(*lines: str, **changes: str):
    return process("shell", stdin="".join(f"{line}\n" for line in lines).encode(), **changes)


# At a terminal


def test_a_line_is_painted_and_the_next_one_goes_on_from_it():
    with talking() as shell:
        assert "a-red-car-7.png" in shell.line("a red car -s 7")
        assert "a-red-car-7-vary-" in shell.line("vary last -n 2 --layout files -s 1")
        assert re.search("prompt +a red car", shell.line("show a-red-car-7.png"))
        shown = shell.line("show")  # both files of the last line
        assert len(re.findall("task +vary", shown)) == 2, shown
        assert re.search(r"seed +1\b.*seed +2\b", shown, re.DOTALL)
        assert re.search("seed +2\\b", shell.line("show last.2"))
        assert "interpolate" in shell.line("interpolate last.1 a-red-car-7.png --frames 2 -o strip.png --json")
        assert "strip.png" in shell.line("last")
        shell.type(CTRL_D)
        assert shell.end() == 0
    assert len(list(Path().glob("*.png"))) == 4


def test_a_command_is_what_begins_like_one_and_quotes_make_a_prompt_of_it():
    with talking() as shell:
        assert "train is a process of its own" in shell.line("train in the snow")
        assert "No such" in shell.line("models of ships") or "No such" in shell.received
        assert "set takes no more than 2 words" in shell.line("set of three cups")
        assert "there is no such file" in shell.line("open door in a castle")
        assert "quit takes no more than 0 words" in shell.line("quit smoking")
        assert "help is one" in shell.line("/help")
        assert "models list is one" in shell.line("ls")
        assert "quit ends the shell" in shell.line(":q") or "help lists" in shell.received
        assert not list(Path().glob("*.png"))
        assert "train-in-the-snow-" in shell.line('"train in the snow"')
        assert "train-of-thought-" in shell.line("Train of thought")
        assert "a-cat-" in shell.line("dalle generate a cat")  # as one sentence
        assert "Usage: dalle vary" in shell.line("help vary")
        assert "and of this shell" in shell.line("help")
        shell.type("quit\r")
        assert shell.end() == 0


def test_what_is_wrong_with_a_line_is_three_lines_and_the_shell_goes_on():
    with talking() as shell:
        for line in ("a cat --steps 1", "vary nothing.png", "a cat --nosuch", "a cat -m nosuch", "show"):
            said = shell.line(line)
            facts = [text for text in said.splitlines() if re.match(r"(error|where|hint): ", text)]
            assert 1 <= len(facts) <= 3, said
            assert "Traceback" not in said
        assert "a-cat-" in shell.line("a cat")


def test_ctrl_c_stops_the_picture_that_is_painted_and_nothing_else():
    with talking(DALLE_FAKE_SECONDS="0.05") as shell:
        shell.type("a red car -n 2 --layout files\r")
        shell.see(r"prior|decoder")
        shell.type(CTRL_C)
        assert "stopped by SIGINT" in shell.prompt()
        assert "steps = 2" in shell.line("set steps 2") + shell.line("set")
        assert "a-blue-car-" in shell.line("a blue car --size 16 --prior-steps 2")
        assert shell.running.poll() is None


def test_ctrl_c_at_the_prompt_begins_a_new_line():
    with talking() as shell:
        shell.type("a red c")
        shell.see("a red c")
        shell.type(CTRL_C)
        shell.prompt()
        assert "a-cat-3.png" in shell.line("a cat -s 3")
        for _ in range(20):  # without a moment in between: a prompt is there before anybody waits for keys
            shell.type(CTRL_C)
            shell.prompt()
        shell.type(CTRL_D)
        assert shell.end() == 0
    assert [path.name for path in Path().glob("*.png")] == ["a-cat-3.png"]


def test_a_request_to_terminate_ends_the_shell_wherever_it_is():
    with talking() as shell:
        shell.running.send_signal(signal.SIGTERM)
        assert shell.end() == 143
    with talking(DALLE_FAKE_SECONDS="0.05") as shell:
        shell.type("a cat\r")
        shell.see(r"prior|decoder")
        shell.running.send_signal(signal.SIGTERM)
        assert shell.end() == 143


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.long
def test_no_signal_waits_for_a_key_that_comes_in_the_moment_before_the_shell_does(number):
    for k in range(8):  # of so many, one in twenty fell into that moment
        with talking() as shell:
            time.sleep(k / 4000)
            shell.running.send_signal(number)
            assert shell.end(20) == 128 + number


def test_lines_are_kept_for_the_next_shell_and_nobody_else(tmp_path):
    with talking() as shell:
        shell.line("a penguin in the snow -s 3")
        shell.line("set no-history true")
        shell.line("a secret")
        shell.running.kill()
    kept = tmp_path / "home" / "shell_lines"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert "a penguin in the snow -s 3" in kept.read_text()
    assert "secret" not in kept.read_text()
    with talking() as shell:
        shell.type(UP + UP)
        shell.see("a penguin in the snow -s 3")
        shell.type("\x12pengu")  # Ctrl-R
        shell.see("reverse-i-search")
        shell.type("\r")
        assert "penguin-in-the-snow-3" in shell.prompt()


def test_tab_completes_what_is_known():
    Image.new("RGB", (8, 8)).save("holiday.png")
    completions = {
        "hist": "history",
        "interp": "interpolate",
        "set upsampler-st": "upsampler-steps",
        "model kandi": "kandinsky",
        "set model kandi": "kandinsky",
        "a red car --prior-cand": "--prior-candidates",
        "a car --sampler anc": "ancestral",
        "a car --upsampler-sampler anc": "ancestral",
        "vary --fid": "--fidelity",
        "a car --layout fi": "files",  # and not fish, which the model knows
        "set layout gr": "grid",
        "umbr": "umbrella",
        "a red umbr": "umbrella",
        "vary holid": "holiday.png",
        "vary las": "last",
        "help inp": "inpaint",
        "models ver": "verify",
    }
    with talking() as shell:
        for typed, completed in completions.items():
            shell.type(typed + TAB)
            shell.see(re.escape(" ".join([*typed.split()[:-1], completed])))
            shell.type(CTRL_C)
            shell.prompt()


def test_results_of_a_redirected_shell_are_on_standard_output_alone(tmp_path):
    with (tmp_path / "out").open("wb") as out, talking(out=out.fileno()) as shell:
        assert "picture in" in shell.line("a cat -s 1")
        shell.type(CTRL_D)
        assert shell.end() == 0
    assert (tmp_path / "out").read_text() == "a-cat-1.png\n"


def test_what_stands_on_the_terminal_is_clean_after_a_picture():
    with talking(DALLE_FAKE_SECONDS="0.01") as shell:
        shell.line("a cat -s 1 --size 16")
        shell.type(CTRL_D)
        shell.end()
    lines = [line for line in screen(re.sub(r"\x1b\[\?2004[hl]", "", shell.received)) if line]
    assert lines[1:3] == ["dalle> a cat -s 1 --size 16", "a-cat-1.png"]


# Settings


def test_what_is_set_counts_for_all_lines_until_it_is_unset():
    done = script(
        "set seed 7", "set n 2", "set layout files", "a cat", "a dog -s 3 -n 1", "unset n", "unset seed", "set"
    )
    assert done.code == 0, done.err
    assert done.lines == ["a-cat-7.png", "a-cat-8.png", "a-dog-3.png", "model = starter", "layout = files"]


def test_a_line_counts_before_the_shell_and_that_before_environment_and_config(dalle):
    dalle("config", "set", "steps", "9")
    dalle("config", "set", "model", "nosuch")
    lines = (
        "a cat -o 1.png",
        "set steps 4",
        "a cat -o 2.png",
        "a cat --steps 3 -o 3.png",
        "model",
        "model karlo",
        "model",
    )
    done = script(*lines, "unset model", "model", DALLE_MODEL="starter")
    assert done.lines == ["1.png", "2.png", "3.png", "starter", "karlo", "nosuch"], done.err
    steps = [read_recipe(Path(f"{k}.png")).stages["decoder"] for k in (1, 2, 3)]
    assert [getattr(stage, "steps", None) for stage in steps] == [9, 4, 3]


def test_a_flag_needs_no_value_and_a_wrong_one_is_said():
    done = script("set best", "set", "set steps", "set nosuch 3", "set layout round", "unset guidance", "set json true")
    assert "fast = false" in done.lines
    for said in (
        "what is steps to be?",
        "'nosuch' is not a setting",
        "it should be one of",
        "guidance is not set here",
    ):
        assert said in done.err
    assert "belongs to one run" in done.err
    assert done.code == 2


def test_options_of_the_shell_are_settings_of_its_lines():
    done = process("shell", "--out", "made", "-m", "fake", "-q", stdin=b"a cat -s 1\nset\n")
    assert done.lines == ["made/a-cat-1.png", "model = fake", "out = made", "quiet = true"]
    assert done.err == ""


@pytest.mark.long
def test_a_server_paints_for_a_shell_as_for_any_command(tmp_path):
    with serving(tmp_path) as server:
        address = f"http://127.0.0.1:{server.port}"
        there = process("shell", "--server", address, stdin=b"a cat -s 1 -o there.png\n", DALLE_ENGINE="local")
        later = script(f"set server {address}", "a cat -s 1 -o later.png", DALLE_ENGINE="local")
        assert server.metric("dalle_images_total") == 2
    assert (there.lines, later.lines) == (["there.png"], ["later.png"]), there.err + later.err
    assert Path("there.png").read_bytes() == Path("later.png").read_bytes()


# Fed by a pipe


@pytest.mark.long
def test_a_script_goes_on_after_a_failure_and_its_code_is_that_of_the_first():
    done = script(
        "# a comment", "", "a cat -s 1", "a cat --steps 1", "vary nothing.png", "models path karlo", "a dog -s 2"
    )
    assert (done.code, done.lines) == (2, ["a-cat-1.png", "a-dog-2.png"])
    assert script("models path karlo", "a cat --steps 1").code == 3
    assert script().code == 0
    assert script("quit", "a cat").lines == []


def test_a_line_does_not_read_the_lines_after_it():
    done = script("generate -", "a cat -s 1", "vary -")
    assert done.lines == ["a-cat-1.png"]
    assert done.err.count("error: ") == 2


def test_a_last_line_without_an_end_odd_bytes_and_a_line_without_end():
    assert process("shell", stdin=b"a cat -s 1").lines == ["a-cat-1.png"]
    odd = process("shell", stdin=b"a c\xe4t\na \x00 cat\n\x1b[31m a dog -s 2\n" + b"x" * 5000 + b"\n")
    assert odd.code == 2
    assert "\x1b" not in odd.err
    assert "not valid UTF-8" in odd.err
    long = process("shell", stdin=b"x" * (2**20 + 10))
    assert (long.code, "1 MiB" in long.err) == (2, True)


def test_ctrl_c_stops_a_script():
    running = subprocess.Popen(
        command("shell"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=environment(DALLE_FAKE_SECONDS="0.05"),
    )  # fmt: skip
    assert running.stdin is not None
    assert running.stdout is not None
    running.stdin.write(b"a cat --size 16 --steps 2 --prior-steps 2\na dog\na fox\n")
    running.stdin.flush()
    running.stdout.readline()
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=20)
    assert (running.returncode, out) == (130, b"")
    assert err.count(b"stopped by SIGINT") == 1


def test_nobody_who_reads_ends_a_script():
    reader = f"cat lines.txt | {' '.join(map(str, command('shell')))} | head -n 1"
    Path("lines.txt").write_text("a cat -s 1\n" + "a dog\n" * 50)
    done = subprocess.run(["bash", "-c", reader], capture_output=True, env=environment(), timeout=60)
    assert (done.stdout, b"Traceback" in done.stderr) == (b"a-cat-1.png\n", False)
    assert len(list(Path().glob("*.png"))) < 10


# The model stays open


def test_the_same_choice_of_an_engine_is_the_same_engine_while_it_is_kept(monkeypatch):
    monkeypatch.setenv("DALLE_ENGINE", "local")
    with keeping():
        first = choose_engine("auto", None)
        assert choose_engine("auto") is first
        assert choose_engine("low") is not first
        assert choose_engine("auto") is not first  # two open models may be too many
    assert choose_engine("auto") is not choose_engine("auto")


@pytest.mark.slow
def test_pictures_of_a_shell_are_those_of_single_commands_also_after_one_was_stopped(local):
    quick = "--size 64 --steps 4 --prior-steps 4"
    with talking(DALLE_ENGINE="local") as shell:
        for moment in ("opening", "decoder"):  # while libraries are imported, and between two steps
            shell.type("a red car --size 64 -s 1 --steps 400\r")
            shell.see(moment)
            shell.type(CTRL_C)
            assert "stopped by SIGINT" in shell.prompt()
        assert "shell.png" in shell.line(f"a red car {quick} -s 7 -o shell.png")
        (again,) = re.findall(r"\{.*\}", shell.line(f"a red car {quick} -s 7 -o again.png --json"))
    alone = process("generate", "a red car", *quick.split(), "-s", "7", "-o", "alone.png", DALLE_ENGINE="local")
    assert alone.code == 0, alone.err
    assert Path("shell.png").read_bytes() == Path("again.png").read_bytes() == Path("alone.png").read_bytes()
    assert json.loads(again)["path"] == "again.png"
