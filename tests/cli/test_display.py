"""What the eye sees: on a real terminal, on a dumb one, and in a file."""

import re

import pytest
from PIL import Image

from dallecli.cli.display import Display
from dallecli.cli.region import Line, rendered
from dallecli.engine import Progress

from .conftest import Terminal, on_terminal, process, screen

ASK = ("generate", "a red fox", "-n", "2", "-s", "7", "--layout", "files")
COLOUR = re.compile(r"\x1b\[[0-9;]*[345][0-9][;m]")


SUMMARY = r"2 pictures in \d+\.\d s \(starter, seed 7\): 2 files in this folder"


@pytest.mark.long
def test_one_line_is_about_the_whole_run_with_the_stages_beneath_it_and_all_go_away():
    result = on_terminal(*ASK, DALLE_FAKE_SECONDS="0.03")
    assert (result.code, result.lines) == (0, ["a-red-fox-7.png", "a-red-fox-8.png"])
    drawn = "opening starter", "picture 1 of 2", "picture 2 of 2", "  prior", "  decoder", "  upsampler 2", "/25", "/s"
    for text in drawn:
        assert text in result.err
    assert re.search(r" \d+%  \d\.\d s left", result.err)
    assert COLOUR.search(result.err)
    (summary,) = [line for line in screen(result.err) if line]
    assert re.fullmatch(SUMMARY, summary)
    assert "\x1b[?25h" in result.err[result.err.rindex("\x1b[?25l") :], "the cursor is shown again"
    assert "\x1b[?7h" in result.err[result.err.rindex("\x1b[?7l") :], "lines are folded again"


@pytest.mark.parametrize(
    ("ask", "last"),
    [
        (["generate", "a fox", "a red dog", "-n", "2"], "picture 4 of 4"),
        (["generate", "a fox", "-n", "1", "--best-of", "3"], "picture 3 of 3"),
        (["generate", "a fox", "--x", "steps=20,40", "--y", "guidance=1,2"], "picture 4 of 4"),
        (["interpolate", "a fox", "a dog", "--frames", "3", "-o", "x.gif"], "frame 3 of 3"),
    ],
    ids=["prompts", "best-of", "axes", "frames"],
)
@pytest.mark.long
def test_pictures_and_frames_are_counted_over_the_whole_run(ask, last):
    result = on_terminal(*ask, "-s", "7", DALLE_FAKE_SECONDS="0.01")
    assert result.code == 0
    assert last in result.err
    assert len([line for line in screen(result.err) if line]) == 1


@pytest.mark.long
def test_a_batch_is_counted_in_one_line(tmp_path):
    (tmp_path / "work" / "p.txt").write_text("a fox\na dog\na cat\n")
    result = on_terminal("generate", "--prompts", "p.txt", DALLE_FAKE_SECONDS="0.01")
    assert result.code == 0
    assert "2 of 3 pictures" in result.err
    (summary,) = [line for line in screen(result.err) if line]
    assert summary.startswith("p: 3 painted in ")


@pytest.mark.long
def test_nothing_stale_stands_on_a_terminal_that_was_resized_while_something_was_painted():
    widths = (80, 40, 100, 60, 30, 20, 90, 25, 70, 50)
    result = on_terminal(*ASK, out_too=True, widths=widths, seconds=0.25, DALLE_FAKE_SECONDS="0.03")
    first, second, summary = [line for line in result.err.splitlines() if line]
    assert (first, second) == ("a-red-fox-7.png", "a-red-fox-8.png")
    assert re.fullmatch(SUMMARY, summary)


@pytest.mark.parametrize("width", [20, 30, 45])
def test_a_narrow_terminal_shows_where_the_run_is_and_folds_nothing(width):
    terminal = Terminal(width)
    for line in rendered([Line(label="picture 12 of 20", short="12/20", share=0.5, figures=" 50%  1 s left")], width):
        terminal.receive(line)
    assert len(terminal.rows) == 1
    assert ("12/20" if width < 45 else "picture 12 of 20") in terminal.lines[0]
    assert "50%" in terminal.lines[0]


def test_paths_stay_on_a_terminal_that_also_showed_bars():
    received = on_terminal(*ASK, out_too=True, DALLE_FAKE_SECONDS="0.01").err
    first, second, summary = [line for line in screen(received) if line]
    assert (first, second) == ("a-red-fox-7.png", "a-red-fox-8.png")
    assert re.fullmatch(SUMMARY, summary)


def test_a_pipe_gets_one_line_at_the_end_and_results_are_as_they_were():
    told = process(*ASK)
    assert (told.code, told.lines) == (0, ["a-red-fox-7.png", "a-red-fox-8.png"])
    assert re.fullmatch(SUMMARY + "\n", told.err)
    assert process("generate", "a fox", "-s", "7", "-o", "-").err.endswith(": on standard output\n")
    as_json = process("generate", "a fox", "-s", "8", "--json")
    assert [record["path"] for record in as_json.objects] == ["a-fox-8.png"]
    assert re.fullmatch(r"1 picture in \d+\.\d s \(starter, seed 8\): a-fox-8.png\n", as_json.err)
    assert process("generate", "a fox", "-s", "9", "-q").err == ""


def test_inpainting_says_beforehand_that_it_takes_longer_and_why():
    Image.new("RGB", (64, 64)).save("room.png")
    ask = ("inpaint", "room.png", "--mask", "8,8,20,20", "-s", "7")
    why = (
        "each step is taken 3 times, so that the new part fits the old one: about 3 times as long as with --resample 1"
    )
    assert process(*ask, "--resample", "3").err.splitlines()[0] == why
    assert why in process(*ask, "--resample", "3", "--dry-run").err
    assert "each step" not in process(*ask, "--resample", "1").err


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
    assert result.code == 0
    assert "\x1b" not in result.err


def test_long_work_says_a_plain_line_now_and_then(monkeypatch, capsys):
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    display = Display(quiet=False)
    for step in range(1, 26):
        now += 1.0
        display.progress(Progress(stage="upsampler_2", step=step, steps=25, picture=1, pictures=4))
    assert capsys.readouterr().err.splitlines() == [
        "upsampler 2, picture 2 of 4: step 10 of 25; 0:01:05 left",
        "upsampler 2, picture 2 of 4: step 20 of 25; 55.0 s left",
    ]


def test_a_picture_that_is_painted_in_squares_says_which(capsys, monkeypatch):
    monkeypatch.setattr("dallecli.cli.display._SPARSE_SECONDS", 0)
    display = Display(quiet=False)
    display.progress(Progress(stage="decoder", step=2, steps=5, picture=0, pictures=1, square=1, squares=6))
    display = Display(quiet=False)
    display.progress(Progress(stage="decoder", step=2, steps=5, picture=1, pictures=3, square=0, squares=2))
    assert capsys.readouterr().err.splitlines() == [
        "decoder, square 2 of 6: step 2 of 5",
        "decoder, picture 2 of 3, square 1 of 2: step 2 of 5",
    ]


def test_pictures_that_are_painted_together_are_named_together(capsys, monkeypatch):
    monkeypatch.setattr("dallecli.cli.display._SPARSE_SECONDS", 0)
    display = Display(quiet=False)
    display.progress(Progress(stage="prior", step=2, steps=5, picture=8, pictures=20, together=8))
    display = Display(quiet=False)
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
