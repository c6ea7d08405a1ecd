"""`dalle generate`: what goes in, what comes out, and what is refused before anything is painted."""

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from dallecli.limits import PROMPT_BYTES
from dallecli.pictures.metadata import read_recipe
from dallecli.pictures.record import RECORD

from .conftest import Dalle


def _files(folder: str = ".") -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


# Results


def test_one_prompt_makes_one_file_and_prints_its_path(dalle: Dalle):
    result = dalle("generate", "a red fox", "-s", "7")
    assert (result.code, result.out, result.remarks) == (0, b"a-red-fox-7.png\n", "")
    with Image.open("a-red-fox-7.png") as image:
        assert image.size == (256, 256)


def test_every_argument_is_a_prompt(dalle: Dalle):
    assert dalle("generate", "a red fox", "a blue fox", "-s", "7").lines == ["a-red-fox-7.png", "a-blue-fox-7.png"]


def test_several_pictures_make_one_sheet(dalle: Dalle):
    assert dalle("generate", "a fox", "-n", "4", "-s", "7").lines == ["a-fox-7-grid.png"]
    assert _files() == ["a-fox-7-grid.png"]
    recipe = read_recipe(Path("a-fox-7-grid.png"))
    assert (recipe.seed, recipe.count) == (7, 4)


def test_files_layout_makes_a_file_for_each_seed(dalle: Dalle):
    assert dalle("generate", "a fox", "-n", "3", "-s", "7", "--layout", "files").lines == [
        "a-fox-7.png",
        "a-fox-8.png",
        "a-fox-9.png",
    ]
    assert read_recipe(Path("a-fox-9.png")).seed == 9


def test_both_layouts_at_once(dalle: Dalle):
    result = dalle("generate", "a fox", "-n", "2", "-s", "7", "--layout", "both")
    assert result.lines == ["a-fox-7.png", "a-fox-8.png", "a-fox-7-grid.png"]


def test_picture_k_of_a_row_is_the_picture_of_its_own_seed(dalle: Dalle):
    dalle("generate", "a fox", "-n", "2", "-s", "7", "--layout", "files", "--out", ".")
    dalle("generate", "a fox", "-s", "8", "-o", "alone.png")
    assert Path("a-fox-8.png").read_bytes() == Path("alone.png").read_bytes()


def test_seed_zero_is_a_seed(dalle: Dalle):
    assert dalle("generate", "a fox", "--seed", "0").lines == ["a-fox-0.png"]


def test_a_seed_that_was_not_given_is_recorded(dalle: Dalle):
    (first,), (second,) = dalle("generate", "a fox", "--json").objects, dalle("generate", "a fox", "--json").objects
    assert first["seed"] != second["seed"]
    assert read_recipe(Path(first["path"])).seed == first["seed"]


def test_every_dial_reaches_the_recipe(dalle: Dalle):
    dials = "--prior-steps 11 --prior-guidance 0 --prior-candidates 3 --steps 12 --guidance 2.5 --sampler ddim"
    dalle(
        "generate",
        "a fox",
        "-o",
        "x.png",
        "-m",
        "fake",
        *dials.split(),
        "--upsampler-steps",
        "5",
        "--upsampler-sampler",
        "dpm++",
    )
    recipe = read_recipe(Path("x.png"))
    assert recipe.model == "fake"
    assert recipe.prior_candidates == 3
    stages = {name: (stage.sampler, stage.steps, stage.guidance) for name, stage in recipe.stages.items()}
    assert stages == {
        "prior": ("ancestral", 11, 0.0),
        "decoder": ("ddim", 12, 2.5),
        "upsampler": ("dpm++", 5, 1.0),
        "upsampler_2": ("dpm++", 5, 1.0),
    }


def test_decoder_steps_is_another_name_of_steps(dalle: Dalle):
    dalle("generate", "a fox", "-o", "x.png", "--decoder-steps", "9")
    assert read_recipe(Path("x.png")).stages["decoder"].steps == 9


def test_size_picks_one_of_the_models_sizes(dalle: Dalle):
    dalle("generate", "a fox", "-o", "x.png", "--size", "64")
    with Image.open("x.png") as image:
        assert image.size == (64, 64)
    refused = dalle("generate", "a fox", "--size", "65")
    assert refused.code == 2
    assert refused.remarks == "error: starter does not paint 65 pixels\nhint: it paints 16, 64, 256\n"


@pytest.mark.parametrize(
    ("name", "format"), [("x.png", "PNG"), ("x.jpg", "JPEG"), ("x.JPEG", "JPEG"), ("x.webp", "WEBP")]
)
def test_the_name_decides_the_format(dalle: Dalle, name, format):
    assert dalle("generate", "a fox", "-o", name).lines == [name]
    with Image.open(name) as image:
        assert image.format == format


def test_format_names_the_files(dalle: Dalle):
    assert dalle("generate", "a fox", "-s", "7", "--format", "webp").lines == ["a-fox-7.webp"]
    assert dalle("generate", "a fox", "-s", "7", "--format", "jpeg", "-o", "noname").code == 0
    with Image.open("noname") as image:
        assert image.format == "JPEG"


def test_no_metadata_leaves_the_recipe_out(dalle: Dalle):
    dalle("generate", "a fox", "-o", "x.png", "--no-metadata")
    assert dalle("show", "x.png").code == 2


def test_out_names_the_folder(dalle: Dalle):
    Path("pictures").mkdir()
    assert dalle("generate", "a fox", "-s", "7", "--out", "pictures").lines == ["pictures/a-fox-7.png"]


def test_taken_names_get_numbers_and_force_replaces(dalle: Dalle):
    ask = ("generate", "a fox", "-s", "7")
    assert [dalle(*ask).lines for _ in range(3)] == [["a-fox-7.png"], ["a-fox-7-2.png"], ["a-fox-7-3.png"]]
    Path("a-fox-7.png").write_bytes(b"old")
    assert dalle(*ask, "--force").lines == ["a-fox-7.png"]
    assert Path("a-fox-7.png").read_bytes() == Path("a-fox-7-2.png").read_bytes()


def test_force_never_replaces_a_result_of_the_same_run(dalle: Dalle):
    result = dalle("generate", "a fox", "a fox!", "-s", "7", "--force")
    assert result.code == 2
    assert "two results would be called a-fox-7.png" in result.err
    assert dalle("generate", "a fox", "a fox!", "-s", "7").lines == ["a-fox-7.png", "a-fox-7-2.png"]


def test_minus_o_minus_writes_the_picture_to_stdout(dalle: Dalle):
    result = dalle("generate", "a fox", "-s", "7", "-o", "-")
    assert (result.code, result.remarks, _files()) == (0, "", [])
    with Image.open(io.BytesIO(result.out)) as image:
        assert image.format == "PNG"
    sheet = dalle("generate", "a fox", "-n", "4", "-o", "-", "--format", "webp")
    with Image.open(io.BytesIO(sheet.out)) as image:
        assert (image.format, image.size) == ("WEBP", (516, 516))


# JSON


def test_json_is_one_documented_object_a_picture(dalle: Dalle):
    objects = dalle("generate", "a fox", "-n", "2", "-s", "7", "--layout", "files", "--json").objects
    assert [list(record) for record in objects] == [list(RECORD)] * 2
    assert [(record["path"], record["seed"], record["index"], record["tile"]) for record in objects] == [
        ("a-fox-7.png", 7, 0, None),
        ("a-fox-8.png", 8, 1, None),
    ]
    assert objects[0]["scores"]["prior"] >= 0


def test_json_says_where_on_the_sheet_each_picture_is(dalle: Dalle):
    objects = dalle("generate", "a fox", "-n", "3", "-s", "7", "--json").objects
    assert {record["path"] for record in objects} == {"a-fox-7-grid.png"}
    assert [record["tile"] for record in objects] == [[0, 0], [1, 0], [2, 0]]
    with Image.open("a-fox-7-grid.png") as sheet:
        column, _ = objects[2]["tile"]
        dalle("generate", "a fox", "-s", str(objects[2]["seed"]), "-o", "alone.png")
        with Image.open("alone.png") as alone:
            assert sheet.getpixel((column * 260 + 5, 5)) == alone.getpixel((5, 5))


def test_json_of_both_layouts_ends_with_the_sheet(dalle: Dalle):
    objects = dalle("generate", "a fox", "-n", "2", "-s", "7", "--layout", "both", "--json").objects
    assert [(record["path"], record["count"], record["index"]) for record in objects] == [
        ("a-fox-7.png", 1, 0),
        ("a-fox-8.png", 1, 1),
        ("a-fox-7-grid.png", 2, None),
    ]


def test_json_is_ascii_whatever_the_prompt(dalle: Dalle):
    result = dalle("generate", "Bär \x1b[31m \u202e", "--json")
    assert result.out.isascii()
    assert b"\x1b" not in result.out
    assert result.objects[0]["prompt"] == "Bär \x1b[31m \u202e"


def test_an_error_with_json_is_one_object_on_stderr(dalle: Dalle):
    result = dalle("generate", "a fox", "--json", "--steps", "1")
    assert (result.code, result.out) == (2, b"")
    assert json.loads(result.err) == {
        "error": "BadSteps",
        "exit_code": 2,
        "what": "1 decoder steps cannot reach from noise to a picture",
        "where": None,
        "hint": "use 2 or more",
    }
    assert json.loads(dalle("generate", "--json", "--nope").err)["error"] == "RequestError"
    both = dalle("generate", "a fox", "-o", "-", "--json")
    assert (both.code, json.loads(both.err)["what"]) == (2, "-o - and --json both want standard output")


# Prompts


def test_the_prompt_comes_from_stdin_when_it_is_no_terminal(dalle: Dalle):
    assert dalle("generate", "--json", stdin="ein Bär\n".encode()).objects[0]["prompt"] == "ein Bär"
    assert dalle("generate", "--json", stdin=b"a fox\r\n").objects[0]["prompt"] == "a fox"
    assert (
        dalle("generate", "--json", stdin=b"\xef\xbb\xbfa fox\nin the snow").objects[0]["prompt"]
        == "a fox\nin the snow"
    )


def test_minus_is_stdin_among_other_prompts(dalle: Dalle):
    objects = dalle("generate", "a bear", "-", "--json", stdin=b"a fox\n").objects
    assert [record["prompt"] for record in objects] == ["a bear", "a fox"]
    assert dalle("generate", "-", "-", stdin=b"a fox").code == 2


def test_stdin_is_left_alone_when_there_is_a_prompt(dalle: Dalle):
    assert dalle("generate", "a bear", "--json", stdin=b"a fox").objects[0]["prompt"] == "a bear"


def test_nobody_is_left_waiting_at_a_terminal(dalle: Dalle):
    result = dalle("generate", terminal=True)
    assert result.code == 2
    assert result.err.startswith("error: no prompt was given\nhint: ")


@pytest.mark.parametrize(
    ("stdin", "what"),
    [
        (b"", "the prompt is empty"),
        (b"\n", "the prompt is empty"),
        (b" \t\n", "the prompt is only blanks"),
        (b"a\0b", "the prompt holds a NUL at character 1"),
        (b"fox \xff\n", "standard input is not valid UTF-8: byte 0xff at offset 4"),
        ("森".encode()[:2], "standard input is not valid UTF-8: byte 0xe6 at offset 0"),
        (b"\xed\xa0\x80", "standard input is not valid UTF-8: byte 0xed at offset 0"),
        (b"x" * 10_000_000, f"standard input has more than {PROMPT_BYTES} bytes"),
    ],
)
def test_bad_text_on_stdin_is_refused(dalle: Dalle, stdin, what):
    result = dalle("generate", stdin=stdin)
    assert (result.code, result.out, _files()) == (2, b"", [])
    assert result.err.splitlines()[0] == f"error: {what}"


def test_the_longest_prompt_passes_through_stdin(dalle: Dalle):
    assert dalle("generate", "-o", "x.png", stdin=b"x" * PROMPT_BYTES + b"\n").code == 0


@pytest.mark.parametrize("prompt", ["", "  ", "a\0b", "fox \udcff", "\ud800"])
def test_bad_text_in_an_argument_is_refused(dalle: Dalle, prompt):
    result = dalle("generate", prompt)
    assert (result.code, result.out, _files()) == (2, b"", [])


def test_one_bad_prompt_among_good_ones_stops_before_painting(dalle: Dalle):
    assert dalle("generate", "a fox", " ").code == 2
    assert _files() == []


def test_words_the_model_does_not_read_are_quoted(dalle: Dalle):
    prompt = " ".join(["word"] * 32) + " lost \x1b[31m words"
    result = dalle("generate", prompt, "--json")
    assert result.code == 0
    assert result.remarks == "warning: starter reads no further than this; dropped: lost ^[[31m words\n"
    assert (result.objects[0]["truncated"], result.objects[0]["dropped"]) == (True, ["lost", "\x1b[31m", "words"])
    assert read_recipe(Path(result.objects[0]["path"])).dropped == ("lost", "\x1b[31m", "words")


def test_strict_refuses_what_would_be_cut(dalle: Dalle):
    result = dalle("generate", " ".join(["word"] * 33), "--strict")
    assert (result.code, _files()) == (2, [])
    assert "would not read the end of this prompt: word" in result.err


def test_a_sentence_without_quotes_is_noticed(dalle: Dalle):
    assert "3 prompts of one word each" in dalle("generate", "a", "red", "fox").err


@pytest.mark.parametrize(
    "prompt", ["[/oops]", "[link=http://x]y[/link]", "\x1b]0;title\x07", "\x9b31m", "\u202egnp", "%s {} \\n"]
)
def test_prompts_cannot_speak_to_the_terminal(dalle: Dalle, prompt):
    long = prompt + " word" * 40 + " " + prompt
    for arguments in (("generate", long), ("generate", long, "--strict"), ("generate", prompt, "--model", prompt)):
        result = dalle(*arguments)
        assert result.code in (0, 2)
        assert not any(char in result.out.decode() + result.err for char in "\x1b\x07\x9b\u202e")
        assert "Traceback" not in result.err


# What is refused


@pytest.mark.parametrize(
    ("arguments", "code", "what"),
    [
        (["-n", "0"], 2, "the number of pictures is 0"),
        (["-n", "-3"], 2, "the number of pictures is -3"),
        (["-n", "1001"], 2, "the number of pictures is 1001"),
        (["-n", "many"], 2, "Invalid value for '--num' / '-n'"),
        (["-s", "-1"], 2, "the seed is -1"),
        (["--steps", "1"], 2, "1 decoder steps"),
        (["--steps", "-2"], 2, "-2 decoder steps"),
        (["--prior-steps", "1"], 2, "1 prior steps"),
        (["--upsampler-steps", "0"], 2, "0 upsampler steps"),
        (["--steps", "1001"], 2, "trained on 1000 steps, not 1001"),
        (["--guidance", "nan"], 2, "the decoder guidance is nan"),
        (["--prior-guidance", "-1"], 2, "the prior guidance is -1.0"),
        (["--guidance-start", "-0.1"], 2, "the start of the decoder guidance is -0.1"),
        (["--guidance-stop", "1.5"], 2, "the stop of the decoder guidance is 1.5"),
        (["--guidance-start", "0.5", "--guidance-stop", "0.4"], 2, "starts at 0.5 and stops at 0.4"),
        (["--reuse", "0"], 2, "the decoder reuse is 0"),
        (["--reuse", "1.5"], 2, "Invalid value for '--reuse'"),
        (["--upsampler-reuse", "101"], 2, "the upsampler reuse is 101"),
        (["--upsampler-guidance-stop", "0.5"], 2, "the upsampler of starter has no guidance-stop"),
        (["--prior-candidates", "0"], 2, "prior candidates is 0"),
        (["--sampler", "nope"], 2, "no sampler is called 'nope'"),
        (["--upsampler-sampler", "nope"], 2, "no sampler is called 'nope'"),
        (["--model", "nope"], 2, "no model is called 'nope'"),
        (["--device", "potato"], 5, "no device is called 'potato'"),
        (["--dtype", "int4"], 2, "no number type is called 'int4'"),
        (["--layout", "pile"], 2, "Invalid value for '--layout'"),
        (["--format", "gif"], 2, "Invalid value for '--format'"),
        (["--nope"], 2, "No such option: --nope"),
        (["-o", "x.gif"], 2, "what format is 'x.gif'?"),
        (["-o", "x"], 2, "what format is 'x'?"),
        (["-o", "x.png", "--format", "webp"], 2, "'x.png' is a name for png, but --format is webp"),
        (["-o", "x.png", "--out", "."], 2, "-o and --out contradict each other"),
        (["-o", "x.png", "-n", "2", "--layout", "files"], 2, "--layout files makes several"),
        (["-o", "x.png", "another prompt"], 2, "2 prompts make 2"),
        (["-o", "missing/x.png"], 2, "the output folder does not exist"),
        (["--out", "file"], 2, "the output folder is not a folder"),
        (["-o", "file/x.png"], 2, "cannot write here: Not a directory"),
        (["-o", "old.png"], 2, "the file exists already"),
        (["-o", "folder.png"], 2, "the output is a folder"),
        (["-o", "/dev/full", "--format", "png"], 2, "the output is not a regular file"),
        (["-o", "x" * 300 + ".png"], 2, "cannot write here: File name too long"),
        (["-n", "1000", "--layout", "both", "--out", "/proc"], 2, "cannot write here"),
    ],
)
def test_a_wrong_ask_is_explained_in_three_lines_and_leaves_no_file(dalle: Dalle, monkeypatch, arguments, code, what):
    Path("file").write_text("x")
    Path("old.png").write_text("old")
    Path("folder.png").mkdir()
    before = _files()
    # One step that slept would be noticed: everything is found before the first.
    monkeypatch.setenv("DALLE_FAKE_SECONDS", "60")
    result = dalle("generate", "a red fox", *arguments)
    assert (result.code, result.out) == (code, b"")
    assert what in result.err.splitlines()[0]
    assert 1 <= len(result.err.splitlines()) <= 3
    assert all(line.startswith(("error: ", "where: ", "hint: ")) for line in result.err.splitlines())
    assert _files() == before
    assert Path("old.png").read_text() == "old"


def test_a_prompt_that_no_picture_could_carry_is_refused_before_painting(dalle: Dalle):
    prompt = "\x01森" * (PROMPT_BYTES // 4)
    result = dalle("generate", prompt, "-o", "x.png")
    assert (result.code, _files()) == (2, [])
    assert "--no-metadata" in result.err
    assert dalle("generate", prompt, "-o", "x.png", "--no-metadata", "-q").code == 0


def test_no_disk_space_is_found_before_painting(dalle: Dalle, monkeypatch):
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10**9, 10**9, 1000))
    result = dalle("generate", "a fox")
    assert (result.code, _files()) == (5, [])
    assert "are free" in result.err


def test_quiet_says_nothing_but_errors(dalle: Dalle):
    prompt = " ".join(["word"] * 40)
    assert dalle("generate", prompt, "-q").remarks == ""
    assert dalle("generate", prompt, "-q", "--strict").err.startswith("error: ")


def test_a_mistake_in_dalle_is_named_as_such(dalle: Dalle, monkeypatch):
    def broken(*_: object) -> None:
        raise ZeroDivisionError("division \x1b by zero")

    monkeypatch.setattr("dallecli.fake_engine.FakeEngine.resolve", broken)
    result = dalle("generate", "a fox")
    assert result.code == 70
    assert result.remarks.splitlines() == [
        "error: a mistake in dalle itself: ZeroDivisionError: division ^[ by zero",
        "hint: run it again with --debug, and report what it prints",
    ]
    debug = dalle("generate", "a fox", "--debug")
    assert "Traceback (most recent call last):" in debug.err
    assert "\x1b" not in debug.err


def test_memory_that_runs_out_is_the_machines_fault(dalle: Dalle, monkeypatch):
    def broken(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("dallecli.fake_engine.FakeEngine.resolve", broken)
    assert dalle("generate", "a fox").code == 5


def test_pictures_that_were_finished_before_a_failure_are_kept(dalle: Dalle, monkeypatch):
    from dallecli.errors import NonFinite
    from dallecli.fake_engine import FakeEngine

    paint = FakeEngine.paint

    def failing(self, recipe, progress):
        for k, picture in enumerate(paint(self, recipe, progress)):
            if k == 2:
                raise NonFinite("the decoder gave NaN")
            yield picture

    monkeypatch.setattr(FakeEngine, "paint", failing)
    result = dalle("generate", "a fox", "-n", "4", "-s", "7")
    assert result.code == 5
    assert result.lines == ["a-fox-7.png", "a-fox-8.png"]
    assert "warning: 2 of 4 pictures of 'a fox' were finished and kept" in result.err
    assert dalle("generate", "a fox", "-n", "4", "-o", "sheet.png").lines == []
    assert not Path("sheet.png").exists()


def test_a_dry_run_says_what_would_be_painted_and_paints_nothing(dalle: Dalle):
    result = dalle("generate", "a fox", "-n", "3", "-s", "7", "--dry-run")
    assert result.code == 0
    assert result.lines == ["'a fox': 3 pictures of 256 px, seed 7, starter; memory: next to nothing"]
    (record,) = dalle("generate", "a fox", "-s", "7", "--dry-run", "--json").objects
    assert (record["recipe"]["prompt"], record["recipe"]["seed"], record["memory"]) == ("a fox", 7, "next to nothing")
    assert not list(Path().iterdir())


def test_a_dry_run_refuses_what_the_run_would_refuse(dalle: Dalle):
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8)).save(name)
    result = dalle("vary", "a.png", "b.png", "-o", "one.png", "--dry-run")
    assert result.code == 2
    assert "-o names one file, but 2 pictures make 2" in result.err
    assert result.lines == []


def test_an_unknown_memory_plan_is_a_mistake_in_the_ask(dalle: Dalle):
    result = dalle("generate", "a fox", "--memory", "tight")
    assert result.code == 2
    assert "'low', 'auto', 'high'" in result.err
