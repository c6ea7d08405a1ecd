"""embed, rank and --best-of: what CLIP sees, as files, in pipes, and as judgements."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dallecli.embedding_arithmetic import cosines
from dallecli.embedding_file import read_embedding
from dallecli.pictures.metadata import read_recipe
from dallecli.source import read_source

from .conftest import Dalle, Result, process


@pytest.fixture(autouse=True)
def pictures(settings: None) -> None:
    for name, colour in (("cat.png", "red"), ("dog.png", "blue")):
        Image.new("RGB", (32, 32), colour).save(name)


def _read(path: str = "z.safetensors"):
    return read_embedding(read_source(path))


# embed


def test_pictures_and_sentences_become_files_named_after_them(dalle: Dalle):
    result = dalle("embed", "cat.png", "a red cat!")
    assert (result.code, result.lines, result.remarks) == (0, ["cat.safetensors", "a-red-cat.safetensors"], "")
    assert (_read("cat.safetensors").kind, _read("a-red-cat.safetensors").kind) == ("image", "text")
    assert dalle("embed", "cat.png").lines == ["cat-2.safetensors"]


def test_a_size_that_is_not_painted_has_no_noise_to_invert(dalle: Dalle):
    result = dalle("embed", "cat.png", "--invert", "--size", "17")
    assert (result.code, result.err.splitlines()[0]) == (2, "error: starter does not paint 17 pixels")


def test_the_same_command_writes_the_same_bytes(dalle: Dalle):
    for name in ("first.safetensors", "second.safetensors"):
        dalle("embed", "cat.png", "--invert", "-o", name)
    assert Path("first.safetensors").read_bytes() == Path("second.safetensors").read_bytes()


def test_a_whole_album_is_taken_in_parts(monkeypatch):
    from dallecli.arguments import read_batches

    names = ["cat.png", "a fox", "dog.png", "cat.png"]
    size = len(Path("cat.png").read_bytes())
    parts = [[source.name for source in part] for part in read_batches(names, most=size + 1)]
    assert parts == [["cat.png", "a fox", "dog.png"], ["cat.png"]]


def test_json_says_what_is_in_the_file(dalle: Dalle):
    assert dalle("embed", "cat.png", "--json", "--invert").objects == [
        {
            "path": "cat.safetensors",
            "name": "cat.png",
            "kind": "image",
            "space": "fake",
            "dimensions": 32,
            "noise": ["decoder"],
            "model": "starter",
            "unknown": {"words": [], "pictures": []},
        }
    ]


def test_an_embedding_stands_wherever_a_picture_does(dalle: Dalle):
    dalle("embed", "cat.png", "-o", "z.safetensors", "--invert")
    for command in (
        ["vary", "z.safetensors", "--fidelity", "1"],
        ["interpolate", "z.safetensors", "dog.png", "--noise", "inverted"],
        ["edit", "z.safetensors", "--from", "a", "--to", "b"],
        ["rank", "z.safetensors", "a cat"],
        ["embed", "z.safetensors"],
    ):
        assert dalle(*command).code == 0, command


def test_meanings_are_added_and_taken_away(dalle: Dalle):
    dalle("embed", "cat.png", "--minus", "a cat", "--plus", "a dog", "--plus", "dog.png", "-o", "z.safetensors")
    dalle("embed", "cat.png", "dog.png", "a cat", "a dog")
    cat, dog, cat_text, dog_text = (_read(f"{n}.safetensors").vector for n in ("cat", "dog", "a-cat", "a-dog"))
    unit = [vector / np.linalg.norm(vector) for vector in (cat, cat_text, dog_text, dog)]
    wanted = unit[0] - unit[1] + unit[2] + unit[3]
    wanted *= np.linalg.norm(cat) / np.linalg.norm(wanted)
    assert _read().vector == pytest.approx(wanted, rel=1e-5)


def test_embeddings_go_through_pipes():
    made = process("embed", "cat.png", "-o", "-")
    changed = process("embed", "-", "--minus", "a cat", "--plus", "a dog", "-o", "-", stdin=made.out)
    result = process("vary", "-", "-n", "2", "-s", "7", stdin=changed.out)
    assert (result.code, result.remarks) == (0, "")
    path = result.lines[0]
    assert read_recipe(Path(path)).inputs[0].data == changed.out
    with Image.open(path) as sheet:
        assert sheet.width > 2 * 256, "there is no original to show in the corner"


def test_a_sentence_is_imagined_to_be_painted(dalle: Dalle):
    dalle("embed", "a cat", "-o", "z.safetensors")
    result = dalle("vary", "z.safetensors")
    assert result.remarks.splitlines() == [
        "error: this is the embedding of a sentence, not of a picture",
        "where: z.safetensors",
        "hint: say the words themselves, or embed them with --imagine",
    ]
    dalle("embed", "a cat", "--imagine", "-o", "y.safetensors")
    assert dalle("vary", "y.safetensors").code == 0


def test_another_clips_embedding_is_refused_before_anything_is_painted(dalle: Dalle):
    dalle("embed", "cat.png", "-o", "z.safetensors")
    from dataclasses import replace

    Path("y.safetensors").write_bytes(replace(_read(), space="ViT-L/14", model="karlo").encode())
    for command in (["vary"], ["interpolate", "cat.png"], ["embed", "cat.png", "--plus"]):
        result = dalle(*command, "y.safetensors")
        assert (result.code, result.out) == (2, b"")
        assert result.remarks.splitlines() == [
            "error: this embedding lives in the space of ViT-L/14, not of fake",
            "where: y.safetensors",
            "hint: it was made with --model karlo",
        ]


def test_noise_that_is_not_there_is_missed_in_time(dalle: Dalle):
    dalle("embed", "cat.png", "-o", "z.safetensors")
    result = dalle("vary", "z.safetensors", "--fidelity", "0.5")
    assert result.err.splitlines()[0] == "error: this embedding brings no noise to start from"


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["cat.png", "dog.png", "-o", "z.safetensors"], "-o names one file, but 2 inputs make 2"),
        (["-", "--plus", "-"], "standard input can be one input, not two"),
        (["cat.png", "-o", "x", "--out", "."], "-o and --out contradict each other"),
        (["cat.png", "--minus", "cat.png"], "nothing is left of this embedding"),
        ([" "], "the prompt is only blanks"),
    ],
)
def test_what_cannot_be_embedded_is_refused(dalle: Dalle, words, what):
    result = dalle("embed", *words, stdin=Path("cat.png").read_bytes())
    assert (result.code, result.out) == (2, b"")
    assert result.err.splitlines()[0] == f"error: {what}"
    assert not list(Path().glob("*.safetensors"))


def test_weights_are_no_embedding(dalle: Dalle):
    from safetensors.numpy import save_file

    save_file({"weight": np.ones((2, 2), np.float32)}, "model.safetensors")
    assert dalle("vary", "model.safetensors").err.startswith("error: this safetensors file holds no embedding\n")


# rank


def _table(result: Result) -> list[list[str]]:
    return [line.split(maxsplit=3) for line in result.lines[1:]]


def test_for_each_picture_the_best_sentence_comes_first(dalle: Dalle):
    texts = ["a cat", "a dog", "a red car"]
    rows = _table(dalle("rank", "cat.png", "dog.png", *texts))
    assert [row[2] for row in rows] == ["cat.png"] * 3 + ["dog.png"] * 3
    for some in (rows[:3], rows[3:]):
        assert {row[3] for row in some} == set(texts)
        scores = [float(row[0]) for row in some]
        assert scores == sorted(scores, reverse=True)
        assert sum(float(row[1].rstrip("%")) for row in some) == pytest.approx(100, abs=0.2)


def test_of_one_sentence_the_best_picture_comes_first(dalle: Dalle):
    rows = _table(dalle("rank", "dog.png", "cat.png", "a cat"))
    assert float(rows[0][0]) >= float(rows[1][0])
    assert [row[1] for row in rows] == ["100.0%"] * 2


def test_scores_are_cosines_and_shares_their_softmax_at_clips_temperature(dalle: Dalle):
    found = dalle("rank", "--json", "cat.png", "a cat", "a dog").objects
    dalle("embed", "cat.png", "a cat", "a dog")
    (wanted,) = cosines([_read("cat.safetensors")], [_read("a-cat.safetensors"), _read("a-dog.safetensors")])
    scores = {record["text"]: record["score"] for record in found}
    assert (scores["a cat"], scores["a dog"]) == pytest.approx(tuple(wanted), abs=1e-12)
    share = 1 / (1 + np.exp(100 * (wanted[1] - wanted[0])))
    assert {record["text"]: record["share"] for record in found}["a cat"] == pytest.approx(share)
    assert {record["path"] for record in found} == {"cat.png"}


def test_embeddings_are_ranked_like_what_they_are_of(dalle: Dalle):
    dalle("embed", "cat.png", "a cat")
    (plain,) = dalle("rank", "--json", "cat.png", "a cat").objects
    (files,) = dalle("rank", "--json", "cat.safetensors", "a-cat.safetensors").objects
    assert plain["score"] == files["score"]


@pytest.mark.parametrize(
    ("words", "what"),
    [(["cat.png"], "sentence"), (["a cat", "a dog"], "picture"), (["cat.png", "dog.png"], "sentence")],
)
def test_there_must_be_something_to_compare(dalle: Dalle, words, what):
    result = dalle("rank", *words)
    assert (result.code, result.out) == (2, b"")
    assert result.err.splitlines()[0] == f"error: there is no {what} to compare with"


def test_names_in_a_table_cannot_speak_to_the_terminal(dalle: Dalle):
    Path("cat.png").rename("\x1b[31m.png")
    assert "\x1b" not in dalle("rank", "\x1b[31m.png", "a cat\x1b[0m").out.decode()


# best of


def test_the_best_of_many_are_kept_the_best_first(dalle: Dalle):
    everything = dalle("generate", "a fox", "-n", "9", "-s", "7", "--json").objects
    best = dalle("generate", "a fox", "-n", "3", "--best-of", "9", "-s", "7", "--json").objects
    wanted = sorted(everything, key=lambda record: -record["scores"]["clip"])[:3]
    assert [(record["seed"], record["scores"]) for record in best] == [(r["seed"], r["scores"]) for r in wanted]
    assert [record["tile"] for record in best] == [[0, 0], [1, 0], [2, 0]]


def test_scores_are_in_the_file_and_the_sheet_knows_its_seeds(dalle: Dalle):
    (record,) = dalle("generate", "a fox", "--best-of", "5", "-s", "7", "--json").objects
    assert read_recipe(Path(record["path"])).scores["clip"] == pytest.approx(record["scores"]["clip"], abs=1e-6)
    (path,) = dalle("generate", "a fox", "-n", "2", "--best-of", "5", "-s", "7", "-o", "x.png").lines
    settings = json.loads(dalle("show", "--json", path).out)["settings"]
    assert settings["best_of"] == 5
    assert settings["kept"][0] == record["seed"]
    shown = next(line for line in dalle("show", path).lines if line.startswith("seed"))
    assert shown.split(maxsplit=1)[1] == f"{settings['kept'][0]}, {settings['kept'][1]}: the best of 5 from 7 on"


def test_the_best_of_fewer_than_wanted_is_refused(dalle: Dalle):
    result = dalle("generate", "a fox", "-n", "3", "--best-of", "2")
    assert (result.code, result.err.splitlines()[0]) == (2, "error: --best-of is 2")
