"""The tokenizer against transformers' own, on byte-level vocabularies trained here in the published shape.

transformers 5 does not clean prompts, so it gets them cleaned; that cleaning is as in CLIP's training is tested in
test_cleaning.py.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from dallecli.cleaning import clean
from dallecli.errors import BadFile, BadFolder
from dallecli.tokens import WORDS, ClipTokenizer

CONTEXT = 32
CORPUS = [
    "a teddy bear riding a skateboard in times square",
    "two red cats on a blue background, it's snowing!",
    "an astronaut's dog; they're painting 3 pictures, he'd said",
    "eine grüne Tür, un café crème, 日本語の絵, 🧸 on 🛹",
] * 4

PROMPTS = [
    "a red fox",
    "A  Teddy\tBear\n riding   a SKATEBOARD",
    "it's they're we've I'm he'll she'd don't",
    "3 cats, 14 dogs & 2026 birds!!! (really?!)",
    "hello!",
    "tom &amp; jerry &lt;3",
    "café cafe\u0301 Å \u212b straße İstanbul",
    "日本語の絵 \u3000 кошка на луне عربى",
    "🧸🧸 riding a 🛹 👩\u200d🚀",
    "a <|endoftext|> b <|startoftext|> c",
    "a <|EndOfText|> b",
    "zero\u200bwidth \u00a0 no-break",
    "   ",
    "",
    "\u202eabc\x1b[31m",
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen",
]


def train(folder: Path, vocab_size: int) -> None:
    """Write a byte-level vocabulary in CLIP's order: bytes, bytes ending a word, merges, the two special tokens."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())  # "!" is the first of them, as in CLIP
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, end_of_word_suffix="</w>", initial_alphabet=letters)
    trained.train_from_iterator(CORPUS, trainer)
    merges = [tuple(pair) for pair in json.loads(trained.to_str())["model"]["merges"]]
    tokens = dict.fromkeys(
        [*letters, *(f"{x}</w>" for x in letters), *(a + b for a, b in merges), "<|startoftext|>", "<|endoftext|>"]
    )
    vocab = {token: index for index, token in enumerate(tokens)}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in merges), ""]
    (folder / "merges.txt").write_text("\n".join(lines), encoding="utf-8")


def write_config(folder: Path, config: dict[str, Any], special: dict[str, Any] | None = None) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer", **config}))
    if special is not None:
        (folder / "special_tokens_map.json").write_text(json.dumps(special))


@pytest.fixture(scope="module", params=["starter", "karlo"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param) / "tokenizer"
    train(folder, vocab_size=900)
    if request.param == "starter":
        write_config(folder, {"model_max_length": CONTEXT, "pad_token": "<|endoftext|>"})
    else:  # as published: the padding token only in the older map, the other two with rules for finding them
        found = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
        start = {"content": "<|startoftext|>", **found}
        end = {"content": "<|endoftext|>", **found}
        write_config(
            folder,
            {"model_max_length": CONTEXT, "bos_token": start | {"__type": "AddedToken"}, "pad_token": "<|endoftext|>"},
            {"bos_token": start, "eos_token": end, "unk_token": end, "pad_token": "!"},
        )
    return folder


def oracle(folder: Path, prompt: str) -> tuple[list[int], list[bool]]:
    read = CLIPTokenizer.from_pretrained(folder)(
        clean(prompt), padding="max_length", max_length=CONTEXT, truncation=True, return_attention_mask=True
    )
    return read["input_ids"], [bool(bit) for bit in read["attention_mask"]]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_ids_and_mask_equal_those_of_transformers(folder: Path, prompt: str) -> None:
    tokens = ClipTokenizer.open(folder).encode(prompt)
    assert (tokens.ids, tokens.mask) == oracle(folder, prompt)


def test_ids_equal_those_of_transformers_for_any_text(folder: Path) -> None:
    ours = ClipTokenizer.open(folder)
    theirs = CLIPTokenizer.from_pretrained(folder)

    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(st.text(max_size=60))
    def agree(text: str) -> None:
        expected = theirs(clean(text), padding="max_length", max_length=CONTEXT, truncation=True)["input_ids"]
        assert ours.encode(text).ids == expected

    agree()


def test_the_padding_token_is_the_one_that_the_folder_names(folder: Path) -> None:
    tokenizer = ClipTokenizer.open(folder)
    assert tokenizer.pad == (0 if (folder / "special_tokens_map.json").exists() else tokenizer.end)


def test_a_prompt_that_fits_drops_nothing(folder: Path) -> None:
    assert ClipTokenizer.open(folder).encode("a red fox").dropped == ""


def test_a_prompt_that_just_fits_drops_nothing_and_one_more_word_drops_that_word(folder: Path) -> None:
    tokenizer = ClipTokenizer.open(folder)
    full = " ".join(["a"] * (CONTEXT - 2))
    assert tokenizer.encode(full).dropped == ""
    assert all(tokenizer.encode(full).mask)
    assert tokenizer.encode(f"{full} cat").dropped == "cat"


def test_a_cut_prompt_keeps_the_end_token_last(folder: Path) -> None:
    tokenizer = ClipTokenizer.open(folder)
    tokens = tokenizer.encode("a red cat " * 50)
    assert tokens.ids[-1] == tokenizer.end
    assert tokens.mask == [True] * CONTEXT


def test_dropped_quotes_the_words_as_they_were_typed(folder: Path) -> None:
    tail = "Überraschung:  THE\tLAST Words!"
    prompt = " ".join(["a"] * (CONTEXT - 2)) + "  " + tail + "  "
    assert ClipTokenizer.open(folder).encode(prompt).dropped == tail


def test_a_word_that_is_read_only_in_part_counts_as_dropped(folder: Path) -> None:
    prompt = " ".join(["a"] * (CONTEXT - 3)) + " xqzvkw end"  # six tokens, one of them fits
    assert ClipTokenizer.open(folder).encode(prompt).dropped == "xqzvkw end"


def test_a_script_without_spaces_is_cut_where_reading_stops(folder: Path) -> None:
    prompt = "猫" * 200
    dropped = ClipTokenizer.open(folder).encode(prompt).dropped
    assert 150 < len(dropped) < 200
    assert set(dropped) == {"猫"}


def test_the_context_is_77_where_the_folder_does_not_say(folder: Path, tmp_path: Path) -> None:
    train(tmp_path, vocab_size=700)
    assert ClipTokenizer.open(tmp_path).context == 77
    write_config(tmp_path, {"model_max_length": 1000000000000000019884624838656})
    assert ClipTokenizer.open(tmp_path).context == 77


def test_a_folder_saved_by_transformers_5_has_only_tokenizer_json_and_reads_the_same(
    folder: Path, tmp_path: Path
) -> None:
    CLIPTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    assert not (tmp_path / "vocab.json").exists()
    saved = ClipTokenizer.open(tmp_path)
    for prompt in PROMPTS:
        tokens = saved.encode(prompt)
        assert (tokens.ids, tokens.mask) == oracle(tmp_path, prompt)


def break_vocabulary(folder: Path, **changes: str) -> None:
    train(folder, vocab_size=700)
    for name, text in changes.items():
        (folder / {"vocab": "vocab.json", "merges": "merges.txt", "config": "tokenizer_config.json"}[name]).write_text(
            text
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab": "{"}, "not valid JSON"),
        ({"vocab": "[]"}, "not a JSON object"),
        ({"vocab": "{}"}, "empty"),
        ({"vocab": '{"a": "b"}'}, "not a whole number"),
        ({"vocab": '{"a": 1, "b": 1}'}, "one id to two tokens"),
        ({"vocab": '{"a": 0}'}, "does not fit the vocabulary"),
        ({"vocab": '{"a": 0}', "merges": ""}, "is not in the vocabulary"),
        ({"merges": "a\n"}, "merge 1 does not fit"),
        ({"merges": "t h e\n"}, "merge 1 does not fit"),
        ({"config": "<html>"}, "not valid JSON"),
        ({"config": '{"model_max_length": "long"}'}, "not a number of tokens"),
        ({"config": '{"model_max_length": 2}'}, "not a number of tokens"),
        ({"config": '{"pad_token": "[PAD]"}'}, "the pad_token '[PAD]' is not in the vocabulary"),
        ({"config": '{"eos_token": 7}'}, "the eos_token is not a token"),
    ],
)
def test_a_broken_tokenizer_says_what_is_wrong(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    break_vocabulary(tmp_path, **changes)
    with pytest.raises(BadFile, match=message.replace("[", r"\[").replace("]", r"\]")) as raised:
        ClipTokenizer.open(tmp_path)
    assert str(tmp_path) in str(raised.value.where)
    assert len(raised.value.lines()) <= 3


def test_bytes_that_are_not_text_are_refused(tmp_path: Path) -> None:
    train(tmp_path, vocab_size=700)
    (tmp_path / "merges.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadFile, match="cannot be read"):
        ClipTokenizer.open(tmp_path)


def test_a_folder_without_a_vocabulary_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadFolder, match=r"vocab\.json"):
        ClipTokenizer.open(tmp_path)
