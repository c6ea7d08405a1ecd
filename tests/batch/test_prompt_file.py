"""Prompt files of every kind, as streams of lines."""

import io
import json
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dallecli.batch.prompt_file import KINDS, BadLine, Line, PromptFile
from dallecli.errors import BadPromptFile
from dallecli.limits import LINE_BYTES


def read(path: Path) -> list[Line | BadLine]:
    file = PromptFile(str(path), "prompt")
    try:
        return list(file.lines())
    finally:
        file.close()


@pytest.fixture
def written(tmp_path):
    def write(suffix: str, content: str | bytes) -> Path:
        path = tmp_path / f"prompts{suffix}"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def values(lines: list[Line | BadLine]) -> list[tuple[int, dict[str, object]]]:
    assert all(isinstance(line, Line) for line in lines), lines
    return [(line.number, dict(line.values)) for line in lines]


def test_a_text_file_has_a_prompt_a_line(written):
    path = written(".txt", "\ufeff# foxes\na fox\n\n  a red fox \r\n\\#1 fox\nein Bär\u2028森")
    assert values(read(path)) == [
        (2, {"prompt": "a fox"}),
        (4, {"prompt": "a red fox"}),
        (5, {"prompt": "#1 fox"}),
        (6, {"prompt": "ein Bär\u2028森"}),
    ]


def test_a_line_of_json_lines_is_an_object(written):
    path = written(".jsonl", '{"prompt": "a fox", "seed": 0}\n\n{"prompt": "a\\nfox", "n": 2}\r\n')
    assert values(read(path)) == [(1, {"prompt": "a fox", "seed": 0}), (3, {"prompt": "a\nfox", "n": 2})]


@pytest.mark.parametrize(("suffix", "delimiter"), [(".csv", ","), (".tsv", "\t")])
def test_the_header_of_a_table_names_the_values(written, suffix, delimiter):
    rows = [["prompt", " seed "], ["a fox", "7"], ["", ""], ['"a ""red"" fox,\nin snow"', ""], ["a dog", "0"]]
    path = written(suffix, "\n".join(delimiter.join(row) for row in rows))
    assert values(read(path)) == [
        (2, {"prompt": "a fox", "seed": "7"}),
        (4, {"prompt": 'a "red" fox,\nin snow'}),
        (6, {"prompt": "a dog", "seed": "0"}),
    ]


@pytest.mark.parametrize(
    ("suffix", "content", "where", "reason"),
    [
        (".txt", b"a fox\na f\xf6x\na dog\n", "p:2:4", "this is not UTF-8: byte 0xf6"),
        (".txt", b"a fox\n" + b"x" * (LINE_BYTES + 9) + b"\na dog\n", "p:2", "the line has more than"),
        (".jsonl", '{"prompt": "a fox"}\n{"prompt" "x"}\n{"prompt": "a dog"}\n', "p:2:11", "not JSON: Expecting ':'"),
        (".jsonl", '{"prompt": "a fox"}\n["a fox"]\n{"prompt": "a dog"}\n', "p:2", "not a JSON object"),
        (".jsonl", '{"n": 1}\n{"guidance": NaN}\n{"n": 1}\n', "p:2", "NaN is not a number in JSON"),
        (".jsonl", '{"n": 1}\n{"n": 1, "n": 2}\n{"n": 1}\n', "p:2", "'n' is there twice"),
        (".jsonl", '{"n": 1}\n' + '{"n":' * 100_000 + '\n{"n": 1}\n', "p:2", "not JSON"),
        (".jsonl", b'{"n": 1}\n{"n": "\xc3("}\n{"n": 1}\n', "p:2:8", "not UTF-8: byte 0xc3"),
        (".csv", "prompt,n\na,1\nb\nc,2\n", "p:3", "1 cells in a table of 2 columns"),
        (".csv", b"prompt,n\na,1\n\xff,1\nc,2\n", "p:3:1", "not UTF-8"),
        (".csv", 'prompt,n\na,1\n"b"x,1\nc,2\n', "p:3", "not a row of a table"),
    ],
)
def test_a_bad_line_is_named_and_the_others_are_read(written, suffix, content, where, reason):
    lines = read(written(suffix, content))
    bad = [line for line in lines if isinstance(line, BadLine)]
    assert [line.where("p") for line in bad] == [where]
    assert reason in bad[0].reason
    assert len(lines) == 3


@pytest.mark.parametrize("content", ["a,b,a\n1,2,3\n", b"a,\xff\n1,2\n"])
def test_a_table_without_a_usable_header_has_no_rows(written, content):
    assert [type(line) for line in read(written(".csv", content))] == [BadLine]


def test_what_is_no_prompt_file_is_refused(tmp_path, written):
    for path, reason in [
        (tmp_path / "absent.txt", "No such file"),
        (tmp_path, "directory"),
        (written(".doc", "x"), "what does a .doc file hold"),
        (written("", "x"), "what does a nameless file hold"),
    ]:
        with pytest.raises(BadPromptFile, match=reason):
            PromptFile(str(path), "prompt")


@pytest.mark.parametrize(
    ("data", "kind"), [(b'\xef\xbb\xbf \n{"n": 1}\n', "jsonl"), (b"a {fox}\n", "txt"), (b"", "txt")]
)
def test_standard_input_is_json_lines_if_it_begins_like_them(monkeypatch, data, kind):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    file = PromptFile("-", "prompt")
    assert file.kind == kind
    first, again = list(file.lines()), list(file.lines())
    assert first == again


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60)
@given(data=st.binary(), suffix=st.sampled_from(sorted(KINDS)))
def test_any_bytes_are_lines_good_or_bad(tmp_path, data, suffix):
    path = tmp_path / f"prompts{suffix}"
    path.write_bytes(data)
    try:
        lines = read(path)
    except BadPromptFile as error:
        assert error.what.startswith("this is ")
        return
    for line in lines:
        assert 1 <= line.number <= data.count(b"\n") + 1
        assert isinstance(line, Line) or line.reason


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60)
@given(st.lists(st.dictionaries(st.text(), st.text() | st.integers() | st.booleans() | st.none())))
def test_json_lines_are_read_as_they_were_written(tmp_path, objects):
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(value) + "\n" for value in objects), encoding="ascii")
    assert [line.values for line in read(path) if isinstance(line, Line)] == objects


@pytest.mark.slow
def test_a_million_lines_take_no_more_memory_than_ten(tmp_path):
    path = tmp_path / "prompts.jsonl"
    with path.open("w") as file:
        file.writelines(f'{{"prompt": "a fox number {k}", "seed": {k}}}\n' for k in range(1_000_000))
    opened = PromptFile(str(path), "prompt")
    tracemalloc.start()
    assert sum(1 for _ in opened.lines()) == 1_000_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    opened.close()
    assert peak < 2**20


def test_a_quote_that_never_closes_costs_its_own_line_and_no_other(written):
    rows = [f'"a cat, {k}",{k}' for k in range(20)]
    rows[7] = '"a cat that never ends,7'
    lines = read(written(".csv", "prompt,seed\n" + "\n".join(rows) + "\n"))
    assert [line.values["seed"] for line in lines if isinstance(line, Line)] == [str(k) for k in range(20) if k != 7]
    assert [line.number for line in lines if isinstance(line, BadLine)] == [9]


def test_a_quote_that_is_open_at_the_end_costs_its_own_line_and_no_other(written):
    lines = read(written(".csv", 'prompt,seed\na,1\n"b,2\nc,3\nd,4\n'))
    assert [line.values["prompt"] for line in lines if isinstance(line, Line)] == ["a", "c", "d"]
    assert [(line.number, line.reason) for line in lines if isinstance(line, BadLine)] == [
        (3, "this is not a row of a table: unexpected end of data")
    ]


def test_blanks_after_commas_are_no_part_of_a_cell(written):
    lines = read(written(".csv", 'prompt, seed\na, 1\n b, "2"\n"c, d", 3\n'))
    assert [(line.values["prompt"].strip(), line.values["seed"]) for line in lines] == [
        *(("a", "1"), ("b", "2"), ("c, d", "3"))
    ]


def test_a_row_of_many_lines_with_too_many_cells_says_how_far_it_goes(written):
    (line,) = read(written(".csv", 'prompt,seed\n"a\nb\nc",1,2\n'))
    assert (line.number, line.reason) == (2, "3 cells in a table of 2 columns, down to line 4")
