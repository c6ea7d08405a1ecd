"""What the eye sees: on a real terminal, on a dumb one, and in a file."""

import re

import pytest

from dallecli.cli.display import Display
from dallecli.engine import Progress

from .conftest import on_terminal, process, screen

ASK = ("generate", "a red fox", "-n", "2", "-s", "7", "--layout", "files")
COLOUR = re.compile(r"\x1b\[[0-9;]*[345][0-9][;m]")


def test_bars_name_stage_picture_steps_rate_and_go_away():
    result = on_terminal(*ASK, DALLE_FAKE_SECONDS="0.02")
    assert (result.code, result.lines) == (0, ["a-red-fox-7.png", "a-red-fox-8.png"])
    for text in ("opening starter", "prior, picture 1 of 2", "decoder, picture 2 of 2", "upsampler 2", "25/25", "/s"):
        assert text in result.err
    assert COLOUR.search(result.err)
    (summary,) = [line for line in screen(result.err) if line]
    assert re.fullmatch(r"2 pictures in \d+\.\d s: starter, seed 7", summary)
    assert "\x1b[?25h" in result.err[result.err.rindex("\x1b[?25l") :], "the cursor is shown again"


def test_paths_stay_on_a_terminal_that_also_showed_bars():
    received = on_terminal(*ASK, out_too=True, DALLE_FAKE_SECONDS="0.01").err
    first, second, summary = [line for line in screen(received) if line]
    assert (first, second) == ("a-red-fox-7.png", "a-red-fox-8.png")
    assert summary.startswith("2 pictures in ")


@pytest.mark.parametrize("changes", [{"TERM": "dumb"}, {"TERM": "unknown"}])
def test_a_terminal_that_cannot_move_its_cursor_gets_plain_text(changes):
    result = on_terminal(*ASK, **changes)
    assert result.code == 0
    assert "\x1b" not in result.err


def test_no_color_is_obeyed():
    text = on_terminal(*ASK, DALLE_FAKE_SECONDS="0.005", NO_COLOR="1").err
    assert "decoder" in text
    assert not COLOUR.search(text)


def test_quiet_leaves_a_terminal_alone():
    assert on_terminal(*ASK, "-q").err == ""


def test_nothing_is_drawn_into_a_file_even_if_colour_is_forced():
    result = process(*ASK, "--preview", FORCE_COLOR="1", TTY_COMPATIBLE="1")
    assert (result.code, result.err) == (0, "")


def test_long_work_says_a_plain_line_now_and_then(monkeypatch, capsys):
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    display = Display(quiet=False)
    for step in range(1, 26):
        now += 1.0
        display.progress(Progress(stage="upsampler_2", step=step, steps=25, picture=1, pictures=4))
    assert capsys.readouterr().err.splitlines() == [
        "upsampler 2, picture 2 of 4: step 10 of 25",
        "upsampler 2, picture 2 of 4: step 20 of 25",
    ]


def test_a_picture_that_is_painted_in_squares_says_which(capsys, monkeypatch):
    monkeypatch.setattr("dallecli.cli.display._SPARSE_SECONDS", 0)
    display = Display(quiet=False)
    display.progress(Progress(stage="decoder", step=2, steps=5, picture=0, pictures=1, square=1, squares=6))
    display.progress(Progress(stage="decoder", step=2, steps=5, picture=1, pictures=3, square=0, squares=2))
    assert capsys.readouterr().err.splitlines() == [
        "decoder, square 2 of 6: step 2 of 5",
        "decoder, picture 2 of 3, square 1 of 2: step 2 of 5",
    ]


def test_pictures_that_are_painted_together_are_named_together(capsys, monkeypatch):
    monkeypatch.setattr("dallecli.cli.display._SPARSE_SECONDS", 0)
    display = Display(quiet=False)
    display.progress(Progress(stage="prior", step=2, steps=5, picture=8, pictures=20, together=8))
    display.progress(Progress(stage="prior", step=2, steps=5, picture=0, pictures=1, together=1))
    assert capsys.readouterr().err.splitlines() == [
        "prior, pictures 9 to 16 of 20: step 2 of 5",
        "prior: step 2 of 5",
    ]


def test_the_preview_is_made_of_half_blocks_in_the_pictures_colours():
    result = on_terminal("generate", "a fox", "-s", "7", "--preview", COLORTERM="truecolor")
    assert result.lines == ["a-fox-7.png"]
    assert result.err.count("▀") == 64 * 32
    # The fake engine's colour of seed 7.
    assert re.search(r"38;2;(\d+;\d+;\d+);48;2;\1m▀", result.err)
    assert "▀" not in on_terminal("generate", "a fox", "-s", "7").err


def test_controls_in_names_are_harmless_on_a_terminal_and_exact_in_a_pipe(tmp_path):
    folder = tmp_path / "a\x1b]0;b"
    folder.mkdir()
    ask = ("generate", "fox", "--out", f"../{folder.name}", "-q")
    assert process(*ask, "-s", "7").out == f"../{folder.name}/fox-7.png\n".encode()
    assert on_terminal(*ask, "-s", "8", out_too=True).err == "../a^[]0;b/fox-8.png\r\n"


def test_a_picture_is_not_written_to_a_terminal():
    result = on_terminal("generate", "a fox", "-o", "-", out_too=True)
    assert result.code == 2
    assert "standard output is a terminal" in result.err


def test_prompts_on_a_terminal_cannot_speak_to_it():
    prompt = "\x1b]0;owned\x07[/oops]\u202e" + " word" * 40
    text = on_terminal("generate", prompt, "-s", "7").err
    assert "\x1b]0;owned" not in text
    assert "\u202e" not in text
    assert "dropped: word" in text
