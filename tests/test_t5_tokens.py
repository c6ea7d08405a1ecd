"""T5's tokenizer against transformers' own and against a plain search, its two files, and files that lie."""

import base64
import json
import math
import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import t5_oracle
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.utils import sentencepiece_model_pb2_new as message

from dallecli.errors import BadFile, BadFolder
from dallecli.limits import NORMAL_BYTES, TOKENS
from dallecli.sentencepiece_file import read_pieces
from dallecli.tokens import T5Tokenizer

ODD = [
    "",
    " ",
    "   \t\n ",
    "a photo of the corgi",
    "  a  photo\tof\nthe   corgi  ",
    "Ａ ７ ﬁﬂ ﬄ … ²½™",
    "cafe\u0301 café",
    "\u00a0a\u3000photo\u200b\x07of",
    "日本語の絵 кошка عربى 🧸👨‍👩‍👧",
    "▁ ▁▁a▁photo",
    "<pad> </s> <unk> <extra_id_0> a<extra_id_99>photo <extra_id_100>",
    "</s></s>a",
    "<unk",
    "ß" * 40,
    "a" * 300,
    "\0\x01\x7f\ud7ff\ufffd\U0010ffff",
    "umbrella!!!???...,,,---",
    "e\u0301\u0301\u0301",
    "'\"()%&",
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same tokenizer as SentencePiece's file, and as transformers 5 saves it."""
    place = tmp_path_factory.mktemp("t5")
    t5_oracle.write_sentencepiece(place / "spiece" / "spiece.model")
    t5_oracle.tokenizer().save_pretrained(place / "json")
    assert not (place / "json" / "spiece.model").exists()
    return {name: place / name for name in ("spiece", "json")}


@pytest.fixture(scope="module")
def ours(folders: dict[str, Path]) -> dict[str, T5Tokenizer]:
    return {name: T5Tokenizer.open(folder) for name, folder in folders.items()}


def odd_strings(count: int) -> list[str]:
    """Strings of words, parts of words, special tokens, and characters that are normalised, unknown, or nothing."""
    chance = random.Random(7)
    words = [*t5_oracle.TEXT.split(), *t5_oracle.NORMAL, "<extra_id_3>", "</s>", "▁", "猫", "🧸", "\u0301", " ", "  "]
    return ["".join(chance.choice(words) for _ in range(chance.randrange(60))) for _ in range(count)]


@pytest.mark.parametrize("name", ["spiece", "json"])
def test_ids_are_those_of_transformers(ours, name):
    theirs = t5_oracle.tokenizer()
    for text in [*ODD, *odd_strings(600)]:
        wanted = theirs(text, padding="max_length", max_length=77, truncation=True)
        tokens = ours[name].encode(text)
        assert tokens.ids == wanted["input_ids"], text
        assert tokens.mask == [bool(one) for one in wanted["attention_mask"]], text


def likeliest(word: str, scores: dict[str, float], unknown: float) -> list[str]:
    """The pieces of a word whose probabilities have the largest product (Kudo 2018, section 3.2)."""
    best: list[tuple[float, list[str]]] = [(0.0, [])]
    for end in range(1, len(word) + 1):
        ways = []
        for start in range(end):
            piece = word[start:end]
            if piece in scores:
                ways.append((best[start][0] + scores[piece], [*best[start][1], piece]))
            elif end - start == 1:
                ways.append((best[start][0] + unknown, [*best[start][1], piece]))
        best.append(max(ways, key=lambda way: way[0]))
    return best[-1][1]


def test_ids_are_the_likeliest_pieces_of_each_word(ours):
    vocabulary = t5_oracle.pieces()
    scores, ids = dict(vocabulary[3:]), {text: index for index, (text, _) in enumerate(vocabulary)}
    unknown = min(scores.values()) - 10  # as in SentencePiece
    chance = random.Random(3)
    letters = sorted({letter for letter in t5_oracle.TEXT if letter != " "})
    for _ in range(500):
        words = ["".join(chance.choice(letters) for _ in range(chance.randrange(1, 9))) for _ in range(4)]
        wanted = [ids[piece] for word in words for piece in likeliest(f"▁{word}", scores, unknown)]
        assert [token for token in ours["spiece"].encode(" ".join(words)).ids if token > 1] == wanted[:76]


def test_the_empty_prompt_is_the_end_token_and_padding(ours):
    tokens = ours["spiece"].encode("")
    assert tokens.ids == [1] + [0] * 76
    assert tokens.mask == [True] + [False] * 76
    assert tokens.dropped == ""


def test_what_is_dropped_begins_with_the_first_word_that_is_not_read_whole(ours):
    words = ["umbrella"] * 200
    whole = ours["spiece"].encode(" ".join(words))
    assert whole.ids[-1] == 1 and whole.dropped.split() == words[: len(whole.dropped.split())]
    read = 200 - len(whole.dropped.split())
    fits = ours["spiece"].encode(" ".join(words[:read]))
    assert fits.dropped == "" and ours["spiece"].encode(" ".join(words[: read + 1])).dropped == "umbrella"


@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=200))
def test_any_text_has_as_many_ids_as_are_read(ours, text):
    tokens = ours["spiece"].encode(text)
    assert (len(tokens.ids), len(tokens.mask)) == (77, 77)
    assert tokens.mask == sorted(tokens.mask, reverse=True)
    assert tokens.ids[sum(tokens.mask) - 1] == 1
    assert tokens.dropped in text


def test_a_folder_without_a_vocabulary_is_named(tmp_path):
    with pytest.raises(BadFolder, match=r"spiece\.model is missing"):
        T5Tokenizer.open(tmp_path)


def change(file: Path, changed: Callable[[message.ModelProto], object]) -> None:
    model = message.ModelProto.FromString(file.read_bytes())
    changed(model)
    file.write_bytes(model.SerializeToString())


def byte_pairs(model: message.ModelProto) -> None:
    model.trainer_spec.model_type = message.TrainerSpec.BPE


def nothing_unknown(model: message.ModelProto) -> None:
    model.pieces[2].type = message.ModelProto.SentencePiece.NORMAL


def not_finite(model: message.ModelProto) -> None:
    model.pieces[9].score = math.nan


def twice(model: message.ModelProto) -> None:
    model.pieces[9].piece = model.pieces[8].piece


def empty(model: message.ModelProto) -> None:
    model.pieces[9].piece = ""


def endless(model: message.ModelProto) -> None:
    del model.pieces[1]


def sentinel(model: message.ModelProto) -> None:
    model.pieces[9].piece = "<extra_id_7>"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (byte_pairs, "of another kind"),
        (nothing_unknown, "0 pieces for what is unknown"),
        (not_finite, "not finite"),
        (twice, "twice"),
        (empty, "empty one"),
        (endless, "</s> is not in the vocabulary"),
        (sentinel, "twice"),
    ],
)
def test_a_model_that_is_none_of_t5_is_refused(folders, tmp_path, changed, said):
    file = tmp_path / "spiece.model"
    file.write_bytes((folders["spiece"] / "spiece.model").read_bytes())
    change(file, changed)
    with pytest.raises(BadFile, match=said):
        T5Tokenizer.open(tmp_path)


def test_a_model_with_too_many_pieces_is_refused(tmp_path):
    (tmp_path / "spiece.model").write_bytes(b"\x0a\x00" * (TOKENS + 1))
    with pytest.raises(BadFile, match="more than 262144 pieces"):
        T5Tokenizer.open(tmp_path)


def test_every_damaged_file_is_refused_or_read_and_nothing_panics(folders, tmp_path):
    whole = (folders["spiece"] / "spiece.model").read_bytes()
    file, chance, refused = tmp_path / "spiece.model", random.Random(5), 0
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(chance.randrange(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        file.write_bytes(damaged[: chance.choice([len(damaged), chance.randrange(len(damaged))])])
        try:
            tokenizer = T5Tokenizer.open(tmp_path)
        except BadFile:
            refused += 1
            continue
        for text in ODD:
            assert len(tokenizer.encode(text).ids) == 77
    assert refused > 100


def rules(units: list[int], texts: bytes = b"a\0", size: int | None = None) -> bytes:
    return struct.pack(f"<I{len(units)}I", 4 * len(units) if size is None else size, *units) + texts


BLOCK = [0] * 256


@pytest.mark.parametrize(
    ("characters", "said"),
    [
        (b"\x04", "another length"),
        (rules([0, 0], size=400), "another length"),
        (rules([0, 0], size=7), "another length"),
        (rules([0x7FFFFF00]), "out of itself"),
        (rules([0, *BLOCK[1:97], 0x7FFFFC61, *BLOCK[98:]]), "out of itself"),
        (rules(BLOCK, texts=b"\xff\xff"), "not UTF-8"),
        (rules([1 << 8 | 256 << 10, *BLOCK[1:], 9 | 1 << 31, *BLOCK[1:]]), "no text"),
        (rules([1 << 8 | 256 << 10, *BLOCK[1:], 1 | 1 << 31, *BLOCK[1:]], texts="é\0".encode()), "no text"),
        (
            rules([1 << 8 | 256 << 10, *BLOCK[1:], 1 << 31, *BLOCK[1:]], texts=b"a" * (NORMAL_BYTES + 1)),
            "more than 256",
        ),
    ],
)
@pytest.mark.parametrize("form", ["spiece", "json"])
def test_rules_for_characters_that_lead_nowhere_are_refused(folders, tmp_path, characters, said, form):
    if form == "spiece":
        t5_oracle.write_sentencepiece(tmp_path / "spiece.model", characters)
    else:
        saved = json.loads((folders["json"] / "tokenizer.json").read_text())
        saved["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(characters).decode()}
        (tmp_path / "tokenizer.json").write_text(json.dumps(saved))
    with pytest.raises(BadFile, match=said):
        T5Tokenizer.open(tmp_path)


def test_rules_for_characters_need_not_be_there(folders, tmp_path):
    (tmp_path / "spiece.model").write_bytes((folders["spiece"] / "spiece.model").read_bytes())
    change(tmp_path / "spiece.model", lambda model: model.normalizer_spec.ClearField("precompiled_charsmap"))
    assert read_pieces(tmp_path / "spiece.model").characters == b""
    assert T5Tokenizer.open(tmp_path).encode("a photo").dropped == ""


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (["model", "type"], "BPE"),
        (["model", "vocab"], {"a": 1}),
        (["model", "vocab", 7], ["a"]),
        (["model", "vocab", 7], ["a", "b"]),
        (["model", "vocab", 7], ["a", 1e300]),
        (["model", "unk_id"], 10**6),
        (["model", "unk_id"], -1),
        (["normalizer", "precompiled_charsmap"], "no base64"),
    ],
)
def test_a_saved_tokenizer_that_is_no_unigram_model_is_refused(folders, tmp_path, place, value):
    saved = json.loads((folders["json"] / "tokenizer.json").read_text())
    there = saved
    for step in place[:-1]:
        there = there[step]
    there[place[-1]] = value
    (tmp_path / "tokenizer.json").write_text(json.dumps(saved))
    with pytest.raises(BadFile):
        T5Tokenizer.open(tmp_path)
