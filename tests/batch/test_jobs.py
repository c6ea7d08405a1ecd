"""From the values of a line to requests."""

import os
from typing import Any

import pytest

from dallecli.batch.jobs import Job, Reader, checked_name
from dallecli.batch.prompt_file import Line
from dallecli.batch.wildcards import Wildcards
from dallecli.errors import RequestError
from dallecli.tasks.edit import Edit
from dallecli.tasks.generate import Generate
from dallecli.tasks.inpaint import Inpaint
from dallecli.tasks.interpolate import Interpolate
from dallecli.tasks.mask import Edges
from dallecli.tasks.stages import Dials
from dallecli.tasks.vary import Vary


def jobs(values: dict[str, Any], *, command: str = "generate", matrix: bool = False, **defaults: Any) -> list[Job]:
    from pathlib import Path

    reader = Reader(
        command=command, defaults={"model": "starter", **defaults}, wildcards=Wildcards(Path()), matrix=matrix
    )
    return list(reader.jobs(Line(number=3, values=values)))


def request(values: dict[str, Any], **options: Any) -> Any:
    (job,) = jobs(values, **options)
    assert job.line == 3
    return job.request


def test_a_line_is_a_request_and_the_command_line_says_the_rest():
    found = request({"prompt": "a fox", "seed": 0, "guidance": 2}, steps=5, guidance=9.0, device="cpu", n=3)
    wanted = Generate(
        prompt="a fox", model="starter", seed=0, count=3, decoder=Dials(steps=5, guidance=2.0), device="cpu"
    )
    assert found == wanted


def test_cells_of_a_table_are_numbers_and_flags_where_these_are_wanted():
    found = request({"prompt": "a fox", "seed": " 7", "guidance": "2.5", "strict": "TRUE", "n": "2"})
    assert (found.seed, found.count, found.decoder.guidance, found.strict) == (7, 2, 2.5, True)


def test_every_command_has_its_line(cat):
    image = {"image": "cat.png", "seed": 1}
    assert isinstance(request(image, command="vary"), Vary)
    assert request({"command": "vary", "fidelity": 0.5, **image}).fidelity == 0.5
    edit = request({"command": "edit", "from": "a cat", "to": "a dog", **image})
    assert isinstance(edit, Edit)
    assert (edit.before, edit.after) == ("a cat", "a dog")
    inpaint = request({"command": "inpaint", "mask": "0,0,8,8", "expand": "left=64", "prompt": "x", **image})
    assert isinstance(inpaint, Inpaint)
    assert inpaint.mask is not None
    assert (inpaint.mask.boxes, inpaint.expand) == (((0, 0, 8, 8),), Edges(left=64))
    way = request({"command": "interpolate", "ends": ["cat.png", "a dog"], "at": 0.25})
    assert isinstance(way, Interpolate)
    assert ([end.kind for end in way.ends], way.positions) == (["picture", "text"], (0.25,))
    assert request({"command": "interpolate", "ends": ["a cat", "a dog"]}).frames == 7


def test_a_line_may_name_a_picture_to_paint_over_and_words_to_avoid(cat):
    line = {"prompt": "a fox", "negative": "a dog", "init": "cat.png", "strength": 0.5, "seed": 1}
    found = request(line)
    assert (found.negative, found.init.kind, found.strength) == ("a dog", "picture", 0.5)
    assert request({"prompt": "a fox", "seed": 1}, **{k: line[k] for k in ("negative", "init", "strength")}) == found
    hole = {"image": "cat.png", "mask": "0,0,8,8", "prompt": "a fox", "negative": "a dog"}
    assert request(hole, command="inpaint").negative == "a dog"


def test_a_line_without_a_seed_has_its_own_and_always_the_same():
    seeds = [request({"prompt": prompt}, steps=steps).seed for prompt in ("a fox", "a dog") for steps in (5, 6)]
    assert seeds[0] == seeds[1] != seeds[2] == seeds[3]
    assert request({"prompt": "a fox"}, seed=9).seed == 9


def test_every_picture_chooses_with_its_own_seed():
    found = jobs({"prompt": "a {red|blue|green} car", "seed": 5, "n": 20})
    assert [(job.part, job.request.seed, job.request.count) for job in found] == [(k, 5 + k, 1) for k in range(20)]
    assert {job.request.prompt for job in found} == {"a red car", "a blue car", "a green car"}
    alone = request({"prompt": "a {red|blue|green} car", "seed": 12})
    assert alone == found[7].request


def test_a_matrix_is_all_choices_with_the_same_seeds():
    found = jobs({"prompt": "{a|b} {c|d}", "seed": 5, "n": 2, "name": "x"}, matrix=True)
    assert [job.request.prompt for job in found] == ["a c", "a d", "b c", "b d"]
    assert {(job.request.seed, job.request.count) for job in found} == {(5, 2)}
    assert [job.name for job in found] == ["x-1", "x-2", "x-3", "x-4"]


def test_the_values_of_an_ask_make_it_again():
    for job in jobs({"prompt": r"a {red|blue} \{car|x} __", "n": 4, "name": "x"}):
        (again,) = jobs(dict(job.values))
        assert (again.request, again.name) == (job.request, job.name)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"class": "tench", "prompt": "x"}, "a class is painted instead of a prompt"),
        ({"class": ["tench"]}, "'class' is a list, and should be text"),
        ({"prompt": " "}, "only blanks"),
        ({"prompt": "a\0b"}, "NUL"),
        ({"prompt": "a\ud800"}, "not valid UTF-8"),
        ({"prompt": 7}, "'prompt' is 7, and should be text"),
        ({"prompt": "x", "seed": 1.5}, "'seed' is 1.5, and should be a whole number"),
        ({"prompt": "x", "seed": True}, "'seed' is true or false, and should be a whole number"),
        ({"prompt": "x", "seed": -1}, "the seed is -1"),
        ({"prompt": "x", "seed": 10**40}, "the seed is 1000"),
        ({"prompt": "x", "n": 0}, "the number of pictures is 0"),
        ({"prompt": "x", "n": 10**12}, "the number of pictures is"),
        ({"prompt": "x", "guidance": [4]}, "'guidance' is a list, and should be a number"),
        ({"prompt": "x", "guidance": 10**400}, "should be a number"),
        ({"prompt": "x", "guidance": "inf"}, "guidance is inf"),
        ({"prompt": "x", "steps": 1}, "1 decoder steps"),
        ({"prompt": "x", "strict": "yes"}, "should be true or false"),
        ({"prompt": "x", "stepps": 3}, "does not know 'stepps'"),
        ({"prompt": "x", "fidelity": 1}, "dalle generate does not know 'fidelity'"),
        ({"prompt": "x", "device": "tpu"}, "no device is called 'tpu'"),
        ({"prompt": "x", "command": "rm"}, "'command' is 'rm'"),
        ({"prompt": "__nope__"}, "__nope__ has no list"),
        ({"command": "vary", "image": "nope.png"}, "No such file"),
        ({"command": "vary", "image": "-"}, "cannot name standard input"),
        ({"command": "vary", "image": "pipe"}, "cannot name standard input or a pipe"),
        ({"command": "vary", "image": "a\0b"}, "the file cannot be read"),
        ({"command": "interpolate", "ends": "a cat"}, "nothing between"),
        ({"command": "interpolate", "ends": [1, 2]}, "should be text, or a list of texts"),
        ({"command": "edit", "image": "cat.png", "from": "a cat"}, "'to' is missing"),
    ],
)
def test_a_line_that_makes_no_request_says_why(cat, values, reason):
    os.mkfifo("pipe")
    with pytest.raises(RequestError) as caught:
        jobs(values)
    assert reason in caught.value.what


def test_a_mistyped_name_is_guessed():
    with pytest.raises(RequestError) as caught:
        jobs({"prompt": "x", "prior-steps": 3})
    assert caught.value.hint == "did you mean 'prior_steps'?"


@pytest.mark.parametrize("name", ["fox", "animals/fox", "ein Bär 森", "a.b", "x" * 200])
def test_a_name_may_be_this(name):
    assert checked_name(name) == name


OUTSIDE = ["/etc/x", "../x", "a/../x", "a/./x", "a//b", "x/", ".", "C:x", "a\\b", "a/" * 9 + "x"]
UNSOUND = [
    "",
    " ",
    "a\0b",
    "a\x1b[2Jb",
    "a\u202eb",
    "a\u2028b",
    "a\u3164b",
    "\ud800",
    "a*",
    "x.",
    "x ",
    ".hidden",
    "x" * 201,
    "森" * 67,
]
RESERVED = ["con", "NUL.txt", "a/lpt1"]


@pytest.mark.parametrize("name", [*OUTSIDE, *UNSOUND, *RESERVED])
def test_a_name_may_not_be_this(name):
    with pytest.raises(RequestError, match="the name"):
        checked_name(name)
