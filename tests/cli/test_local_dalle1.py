"""A DALL·E 1 on the command line: pictures, guidance, codes, the upper rows of a picture, and what it refuses."""

import json
from pathlib import Path

import dalle1_model
import pytest

from .conftest import Dalle

pytestmark = pytest.mark.usefixtures("local")

PLACED = ("--device", "cpu", "--dtype", "fp32", "-q")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(dalle1_model.make(tmp_path_factory.mktemp("models") / "tiny"))


def test_a_prompt_becomes_a_picture_that_is_replayed_to_the_byte(dalle: Dalle, model: str) -> None:
    made = dalle(
        "generate",
        "the cat",
        "-m",
        model,
        "--seed",
        "5",
        "--guidance",
        "3",
        "--temperature",
        "0.9",
        "-o",
        "x.png",
        *PLACED,
    )
    assert (made.code, made.lines, made.err) == (0, ["x.png"], "")
    again = dalle("replay", "x.png", "-m", model, "-o", "y.png", "--device", "cpu", "-q")
    assert (again.code, again.err) == (0, "")
    assert Path("x.png").read_bytes() == Path("y.png").read_bytes()
    shown = json.loads(dalle("show", "x.png", "--json").out)
    assert shown["stages"]["codes"] == {"temperature": 0.9, "top_k": 0, "top_p": 1.0, "guidance": 3.0}


def test_pictures_go_to_codes_and_back_without_the_transformer(dalle: Dalle, model: str) -> None:
    assert dalle("encode", "cat.png", "-m", model, "-o", "x.safetensors", *PLACED).code == 0
    back = dalle("decode", "x.safetensors", "-m", model, "-o", "back.png", *PLACED)
    assert (back.code, back.err) == (0, "")
    wrong = dalle("encode", "cat.png", "-m", model, "--size", "18", "-o", "y.safetensors", *PLACED)
    assert (wrong.code, "no multiple of 4 pixels" in wrong.err) == (2, True)


def test_it_goes_on_from_the_upper_rows_of_a_picture_and_paints_over_none(dalle: Dalle, model: str) -> None:
    made = dalle("generate", "a dog", "-m", model, "--continue", "cat.png", "--rows", "3", "-o", "x.png", *PLACED)
    assert (made.code, made.err) == (0, "")
    refused = dalle("generate", "a dog", "-m", model, "--init", "cat.png", "-o", "y.png", *PLACED)
    assert (refused.code, "paints over no other" in refused.err) == (2, True)


def test_what_does_not_fit_into_the_context_is_said(dalle: Dalle, model: str) -> None:
    made = dalle("generate", "cat " * 8 + "dog", "-m", model, "-o", "x.png", "--device", "cpu")
    assert made.code == 0
    assert "dog" in made.err
    strict = dalle("generate", "cat " * 8 + "dog", "-m", model, "-o", "y.png", "--strict", "--device", "cpu")
    assert (strict.code, Path("y.png").exists()) == (2, False)


@pytest.mark.parametrize(
    ("part", "field", "value", "said"),
    [
        ("decoder", "vocab_size_img", 15, "number of codes"),
        ("decoder", "ctx_len_img", 15, "codes of a picture"),
        ("decoder", "ctx_len_txt", 9, "number of tokens"),
        ("dvae_encoder", "vocab_size", 15, "number of codes"),
    ],
)
def test_parts_of_different_models_are_found_out_at_opening(
    dalle: Dalle, tmp_path: Path, part: str, field: str, value: int, said: str
) -> None:
    folder = dalle1_model.make(tmp_path / "other")
    config = folder / part / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {field: value}))
    refused = dalle("generate", "a dog", "-m", str(folder), "-o", "x.png", *PLACED)
    assert (refused.code, said in refused.err) == (3, True), refused.err
