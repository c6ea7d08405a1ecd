"""The trained tokenizer reads every caption word whole and is the CLIP tokenizer that other tools read."""

import json
from pathlib import Path

import pytest
from transformers import CLIPTokenizer

from dallecli.tokens import ClipTokenizer
from dallecli.training.tokenizer import byte_characters, train_tokenizer
from dallecli.training.world import pool
from dallecli.training.world.captions import caption_words
from dallecli.training.world.scenes import Mix
from dallecli.weights.registry import find, locate

PROMPTS = [
    "a teddy bear riding a skateboard in times square",
    "A  Photo of An ASTRONAUT, pixel art.",
    "two zebras surfing! 42 (déjà vu) 日本 \U0001f642 don't",
    "",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(caption_words(), path, 32)
    return path


def vocabulary(folder: Path) -> dict[str, int]:
    return json.loads((folder / "vocab.json").read_text(encoding="utf-8"))


def test_every_caption_word_is_one_token(folder: Path) -> None:
    assert all(f"{word}</w>" in vocabulary(folder) for word in caption_words())
    tokenizer = ClipTokenizer.open(folder)
    assert all(sum(tokenizer.encode(word).mask) == 3 for word in caption_words())


def test_no_sampled_caption_has_a_word_outside_the_list_or_more_than_24_tokens(folder: Path) -> None:
    tokenizer = ClipTokenizer.open(folder)
    numbers = vocabulary(folder)
    whole = {numbers[f"{word}</w>"] for word in caption_words()}
    for scene in pool.scenes(0, 3000, Mix(split="any", style=0.5, place=0.4)):
        tokens = tokenizer.encode(scene.caption)
        length = sum(tokens.mask)
        assert length <= 24, scene.caption
        assert set(tokens.ids[1 : length - 1]) <= whole, scene.caption


def test_bytes_come_first_and_start_and_end_last(folder: Path) -> None:
    by_id = sorted(vocabulary(folder).items(), key=lambda item: item[1])
    tokens = [token for token, _ in by_id]
    assert [number for _, number in by_id] == list(range(len(by_id)))
    assert tokens[:256] == byte_characters()
    assert tokens[256:512] == [character + "</w>" for character in byte_characters()]
    assert tokens[-2:] == ["<|startoftext|>", "<|endoftext|>"]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_transformers_gives_the_same_ids(folder: Path, prompt: str) -> None:
    theirs = CLIPTokenizer.from_pretrained(str(folder))
    assert theirs.model_max_length == 32
    assert (
        theirs(prompt, padding="max_length", truncation=True)["input_ids"]
        == ClipTokenizer.open(folder).encode(prompt).ids
    )


def test_words_nobody_taught_fall_to_pieces_but_not_to_unknown(folder: Path) -> None:
    tokens = ClipTokenizer.open(folder).encode("zebra")
    end = vocabulary(folder)["<|endoftext|>"]
    pieces = tokens.ids[1 : sum(tokens.mask) - 1]
    assert len(pieces) > 1 and end not in pieces


def test_the_padding_is_the_end_token(folder: Path) -> None:
    tokens = ClipTokenizer.open(folder).encode("a dog")
    end = vocabulary(folder)["<|endoftext|>"]
    assert len(tokens.ids) == 32
    assert tokens.ids[3:] == [end] * 29
    assert tokens.mask == [True] * 4 + [False] * 28


def test_training_twice_writes_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    train_tokenizer(reversed(caption_words()), tmp_path, 32)
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_the_captions_still_train_the_tokenizer_that_the_starter_was_trained_with(folder: Path) -> None:
    for name in ("vocab.json", "merges.txt"):
        assert (folder / name).read_bytes() == (locate(find("starter")).path / "tokenizer" / name).read_bytes()
