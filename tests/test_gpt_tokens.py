"""GPT-2's encoding against transformers' own, on a small byte-level vocabulary, and what of a prompt is not read."""

import json
from pathlib import Path

import glide_oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2Tokenizer

from dallecli.errors import BadFile, BadFolder
from dallecli.tokens import GptTokenizer

PROMPTS = [
    "",
    "a cat",
    "A  CAT\tand a\n dog ",
    "it's they're 14 dogs & 2026 birds!!!",
    "café cafe\u0301 İstanbul ΟΔΟΣ straße",
    "日本語の絵 \u3000 кошка عربى 🧸",
    "a <|endoftext|> b",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokens") / "tokenizer"
    glide_oracle.write_vocabulary(folder, "vocab.json", "merges.txt")
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 200}))
    return folder


@pytest.mark.parametrize("prompt", PROMPTS)
def test_ids_are_those_of_gpt2_in_small_letters(folder: Path, prompt: str) -> None:
    theirs = GPT2Tokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    tokens = GptTokenizer.open(folder).encode(prompt)
    # A special token that is spelled out is none here, as in GLIDE's own encoder; transformers is told so.
    wanted = theirs.encode(prompt.lower(), split_special_tokens=True)
    assert tokens.ids == wanted + [263] * (200 - len(wanted))
    assert sum(tokens.mask) == len(wanted)
    assert tokens.dropped == ""


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=60))
def test_any_prompt_has_as_many_ids_as_the_context(folder: Path, prompt: str) -> None:
    tokens = GptTokenizer.open(folder).encode(prompt)
    assert (len(tokens.ids), len(tokens.mask)) == (200, 200)
    assert tokens.mask == sorted(tokens.mask, reverse=True)
    assert prompt.endswith(tokens.dropped) or tokens.dropped in prompt


def test_what_is_dropped_begins_with_the_first_word_that_is_not_read_whole(folder: Path, tmp_path: Path) -> None:
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 4}))
    tokenizer = GptTokenizer.open(tmp_path)
    assert tokenizer.encode("a cat dog").dropped == ""
    assert tokenizer.encode("a cat dog cat CAT").dropped == "CAT"
    assert tokenizer.encode("İ İ red").dropped == "İ red"  # a small İ is two characters


def test_a_folder_that_is_not_gpt2s_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadFolder, match="are missing"):
        GptTokenizer.open(tmp_path)
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(BadFile, match="model_max_length is missing"):
        GptTokenizer.open(tmp_path)
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    (tmp_path / "vocab.json").write_text('{"<|endoftext|>": 0}')
    with pytest.raises(BadFile, match="does not have all bytes"):
        GptTokenizer.open(tmp_path)
