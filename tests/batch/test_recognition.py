"""What is no prose is recognised as a whole, and the command that is named makes it right."""

import io
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from dallecli.batch.prompt_file import BadLine, PromptFile
from dallecli.batch.recognition import recognise
from dallecli.batch.wildcards import Wildcards
from dallecli.errors import BadPromptFile, BadSetting

OBJECTS = [{"prompt": "a fox", "seed": 1}, {"prompt": "a dog", "seed": 2}]
ROWS = "prompt{0}seed\na fox{0}1\na dog{0}2\n"

# What it is called, its bytes, its suffix, and how it reads after the command of the hint.
WHOLE = {
    "JSON array": ("a JSON array", json.dumps(OBJECTS).encode(), ".jsonl"),
    "indented JSON array": ("a JSON array", json.dumps(OBJECTS, indent=2).encode(), ".txt"),
    "JSON array of sentences": ("a JSON array", b'["a fox", "a dog"]', ".txt"),
    "JSON array in .json": ("a JSON array", json.dumps(OBJECTS).encode(), ".json"),
    "indented objects": (
        "JSON objects over several lines",
        "\n".join(json.dumps(one, indent=2) for one in OBJECTS).encode(),
        ".jsonl",
    ),
    "UTF-16": ("text in UTF-16, and not in UTF-8", "a fox\na dog\n".encode("utf-16"), ".txt"),
    "UTF-16 big-endian": ("text in UTF-16", b"\xfe\xff" + "a fox\na dog\n".encode("utf-16-be"), ".txt"),
    "UTF-16 without a mark": ("text in UTF-16LE", "a fox\na dog\n".encode("utf-16-le"), ".txt"),
    "UTF-32": ("text in UTF-32", "a fox\na dog\n".encode("utf-32"), ".txt"),
    "old Mac": ("carriage returns alone", b"a fox\ra dog\r", ".txt"),
    "CSV": ("a table with the columns prompt, seed", ROWS.format(",").encode(), ".txt"),
    "CSV with semicolons in .txt": ("a table with the columns prompt, seed", ROWS.format(";").encode(), ".txt"),
    "TSV": ("a table with the columns prompt, seed", ROWS.format("\t").encode(), ".txt"),
    "CSV of one column": ("a table with the columns prompt", b"prompt\na fox\na dog\n", ".txt"),
    "sep=,": ("a table as Excel writes it", b"sep=,\r\n" + ROWS.format(",").encode(), ".csv"),
    "sep=;": ("a table as Excel writes it", b"\xef\xbb\xbfsep=;\r\n" + ROWS.format(";").encode(), ".csv"),
    "semicolons": ("a table with semicolons", ROWS.format(";").encode(), ".csv"),
    "tabs": ("a table with tabs", ROWS.format("\t").encode(), ".csv"),
    "commas": ("a table with commas", ROWS.format(",").encode(), ".tsv"),
}


@pytest.mark.parametrize("what", list(WHOLE))
def test_a_file_that_is_no_prose_is_named_and_the_command_makes_it_right(what):
    called, data, suffix = WHOLE[what]
    path = Path(f"my prompts{suffix}")
    path.write_bytes(data)
    with pytest.raises(BadPromptFile) as caught:
        PromptFile(str(path), "prompt")
    assert called in caught.value.what
    hint = caught.value.hint
    assert hint is not None
    # The part before our own name is a command for the shell.
    if ", then --prompts " in hint:
        command, _, made = hint.partition(", then --prompts ")
    else:
        command, made = hint.partition(" | dalle")[0] + " > made.out", "-"
        if command.startswith("jq") and shutil.which("jq") is None:
            pytest.skip("jq is not installed")
    subprocess.run(["bash", "-c", command], check=True)
    if made == "-":
        made = "made.jsonl" if Path("made.out").read_bytes().startswith(b"{") else "made.txt"
        Path("made.out").rename(made)
    lines = list(PromptFile(made, "prompt").lines())
    assert [line.values["prompt"] for line in lines if not isinstance(line, BadLine)] == ["a fox", "a dog"]


@pytest.mark.parametrize("what", list(WHOLE))
def test_it_is_recognised_in_a_pipe_as_well(what):
    data = WHOLE[what][1]
    found = recognise(io.BytesIO(data), None, None)
    if what in ("semicolons", "tabs", "commas"):
        assert found is not None
        assert found.what.startswith("a table with the columns")
    else:
        assert found is not None
    assert found.hint is None or found.hint.startswith("… | ")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"a fox\n",
        b"[red] fox\n[blue] fox\n",
        b'["what is this?"] a fox says\n',
        b"[]\n",
        b"[1930s] style, [2000s] car\n",
        b"{red|blue} fox\n",
        b"{a fox\n",
        b'{"prompt": "a fox"}\n{"prompt": "a dog"}\n',
        b'{"prompt": "a fox"}',
        b'{"prompt" "x"}\n{"prompt": "a dog"}\n',
        b"a fox, in snow\na dog, in rain\n",
        b"prompt\n",
        b"an image, of a fox\nanother\n",
        b"image, text\n",
        b"red; blue\n",
        "ein Bär\n森\n".encode(),
        b"a fox\r\na dog\r\n",
        b"a fox\r",
        b"x\0y",
    ],
)
def test_prose_is_left_alone(data):
    for kind in (None, "txt"):
        if not (kind == "txt" and data.startswith(b'{"')):
            found = recognise(io.BytesIO(data), kind, None)
            assert found is None or data == b"[]\n", found


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
        (b"PK\x03\x04", "a ZIP archive"),
        (b"%PDF-1.7", "a PDF"),
        (b"<!DOCTYPE html><p>a fox", "a web page"),
        (b"{\\rtf1 a fox}", "RTF"),
        (b"\x1f\x8b\x08", "gzip"),
    ],
)
def test_files_that_are_no_text_are_named(data, what):
    found = recognise(io.BytesIO(data), None, None)
    assert found is not None
    assert what in found.what


def test_a_carriage_return_inside_of_a_line_is_no_prompt():
    Path("p.txt").write_bytes(b"a fox\ra dog\na hen\n")
    bad, good = PromptFile("p.txt", "prompt").lines()
    assert isinstance(bad, BadLine)
    assert "carriage return" in bad.reason
    assert good.number == 2


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("red\nblue\n".encode("utf-16"), "it is text in UTF-16"),
        (b'["red", "blue"]', "it is a JSON array"),
        (b"\x89PNG\r\n\x1a\n", "it is a PNG picture"),
    ],
)
def test_a_list_that_is_no_prose_is_named(data, reason):
    Path("colour.txt").write_bytes(data)
    with pytest.raises(BadSetting, match=reason):
        Wildcards(Path()).template("a __colour__ fox")


def test_a_list_from_an_old_mac_is_read():
    Path("colour.txt").write_bytes(b"red\rblue\r")
    assert list(Wildcards(Path()).template("__colour__").every()) == ["red", "blue"]
