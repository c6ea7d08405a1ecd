"""Prompts against the rule of openai/CLIP's tokenizer, written down here once more from what it publishes."""

import html
import html.entities
import json
from functools import cache
from itertools import pairwise
from pathlib import Path

import ftfy
import pytest
import regex
from test_tokens import CONTEXT, train, write_config

from dallecli.batch.journal import item_key
from dallecli.cleaning import clean, is_rewritten, typed_at
from dallecli.fake_engine import FakeEngine
from dallecli.tasks.generate import Generate
from dallecli.tokens import ClipTokenizer

FRAMES = ("{}", "a cat {} a dog", "it{}s a cat", "THE Café{} naïve", "{}{} 3 birds", "x{}")
TYPED = (
    *"’‘“”„«»‹›′″–—‐…•·¿¡©®™°№½²µ×÷ßſİıΣςΑΩЯжあア漢字한글عשกि🧸🛹🚀👩",  # what keyboards have
    *"ﬁﬂﬀﬃﬄĳǆＡｚ１！～　ｱﾊﾞｶﾞ﹏",  # ligatures and wide letters
    *"\x00\x07\x08\t\n\x0b\x0c\r\x1b\x1f\x7f\x85\xa0\xad\u1680\u180e\u2002\u200b\u200d\u2028\u2029\u202e\u2060\ufeff\ufffd",
    *("\r\n", "\x1b[31mred", "e\u0301", "A\u030a", "\u212b", "ΟΔΟΣ ΣΑΣ", "I'LL", "we’ve", "don‘t", "Æsir"),
    *("<b>&amp;</b>", "&amp;amp;", "&amp;lt;3", "&lt;e&#x301;&gt;", "&#39;", "&#x27;", "&#128512;", "&#xD800;", "&#0;"),
    *("&nbsp;", "&nosuch;", "& ", "&&", "<e&#x301;", "&amp;#39;", "&lt;|endoftext|&gt;", "AT&T", "&AMP;"),
)
WORDS = (
    "it’s",
    "Müller",
    "café",
    "déjà vu",
    "“so”",
    "…",
    "naïve",
    "日本語",
    "smörgåsbord",
    "–",
    "€5",
    "кот",
    "🧸",
    "½",
)


def odd_strings() -> list[str]:
    """What people paste: signs of phones, HTML escaped once and twice, text decoded as what it is not."""
    entities = sorted(name for name in html.entities.html5 if name.endswith(";"))
    escaped = [f"&{name}" for name in entities[::4]] + [f"a &amp;{name} b" for name in entities[2::4]]
    garbled = [
        frame.replace("{}", word.encode().decode(encoding, "replace"))
        for word in WORDS
        for encoding in ("latin-1", "cp1252", "cp1251", "cp437", "macroman")
        for frame in FRAMES
    ]
    twice = [word.encode().decode("latin-1").encode().decode("latin-1") for word in WORDS]
    framed = [frame.replace("{}", typed) for typed in TYPED for frame in FRAMES]
    return list(dict.fromkeys([*framed, *escaped, *garbled, *twice]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip") / "tokenizer"
    train(folder, vocab_size=900)
    write_config(folder, {"model_max_length": CONTEXT, "pad_token": "<|endoftext|>"})
    return folder


class PublishedRule:
    """openai/CLIP: clean, make white space single, lower, split, spell as bytes, and merge the lowest rank first."""

    SPLIT = regex.compile(
        r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", regex.IGNORECASE
    )

    def __init__(self, folder: Path) -> None:
        self.vocab = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
        lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")[1:-1]
        self.ranks = {tuple(line.split()): rank for rank, line in enumerate(lines)}
        printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
        hidden = (byte for byte in range(256) if byte not in printable)
        self.letters = {byte: chr(byte) for byte in printable} | {
            byte: chr(256 + place) for place, byte in enumerate(hidden)
        }
        self.pieces = cache(self._pieces)

    def ids(self, text: str) -> list[int]:
        text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
        text = regex.sub(r"\s+", " ", text).strip().lower()
        return [self.vocab[piece] for word in self.SPLIT.findall(text) for piece in self.pieces(word)]

    def _pieces(self, word: str) -> list[str]:
        if word in ("<|startoftext|>", "<|endoftext|>"):
            return [word]
        pieces = [self.letters[byte] for byte in word.encode()]
        pieces[-1] += "</w>"
        while len(pieces) > 1:
            first = min(pairwise(pieces), key=lambda pair: self.ranks.get(pair, 1 << 30))
            if first not in self.ranks:
                break
            merged, place = list[str](), 0
            while place < len(pieces):
                together = tuple(pieces[place : place + 2]) == first
                merged.append("".join(pieces[place : place + 1 + together]))
                place += 1 + together
            pieces = merged
        return pieces


def test_thousands_of_odd_strings_are_read_as_openais_clip_reads_them(folder: Path) -> None:
    tokenizer, published = ClipTokenizer.open(folder), PublishedRule(folder)
    texts = odd_strings()
    assert len(texts) >= 2000
    assert sum(map(is_rewritten, texts)) >= 1000
    wrong = {}
    for text in texts:
        read = tokenizer.encode(text)
        expected = [tokenizer.start, *published.ids(text)[: CONTEXT - 2], tokenizer.end]
        if read.ids[: sum(read.mask)] != expected:
            wrong[text] = (clean(text), read.ids[: sum(read.mask)], expected)
    assert wrong == {}


def test_the_quotes_of_a_phone_are_those_of_a_keyboard(folder: Path) -> None:
    tokenizer = ClipTokenizer.open(folder)
    assert tokenizer.encode("it’s “snowing”").ids == tokenizer.encode('it\'s "snowing"').ids
    assert tokenizer.encode("tom &amp;amp; jerry").ids == tokenizer.encode("tom & jerry").ids


@pytest.mark.parametrize("text", ["", "  a  Red\tfox\n", 'it\'s "3" <b> cats; (really?!) 100% ~ {a|b} \\ $', "A#B"])
def test_plain_ascii_is_left_alone(text: str) -> None:
    assert clean(text) is text
    assert html.unescape(html.unescape(ftfy.fix_text(text))) == text
    assert not is_rewritten(text)


def test_accents_capitals_and_other_scripts_are_not_rewritten() -> None:
    assert not any(map(is_rewritten, ["ein Kätzchen", "un CAFÉ", "cafe\u0301", "кошка", "日本語の絵", "🧸 on 🛹"]))
    assert all(map(is_rewritten, ["it’s", "tom &amp; jerry", "the ﬁsh", "cafÃ©"]))


@pytest.mark.parametrize(
    "tail",
    [
        "it’s  THE “last” Words",
        "tom &amp;amp; jerry’s   HOUSE",
        "the ﬁrst ﬁsh",
        "cafÃ© naÃ¯ve",
        "İstanbul’s bridge",
        "a\u200bb \x1b[31mred",
    ],
)
@pytest.mark.parametrize("head", ["a", "it’s", "&amp;", "cafÃ©", "a&nbsp;b"])
def test_dropped_quotes_what_was_typed_before_cleaning(folder: Path, head: str, tail: str) -> None:
    tokenizer = ClipTokenizer.open(folder)
    each = sum(tokenizer.encode(head).mask) - 2
    full, rest = divmod(CONTEXT - 2, each)
    prompt = "  ".join([head] * full + ["a"] * rest + [tail]) + "\n"
    assert tokenizer.encode(prompt).dropped == tail


def test_what_is_dropped_of_a_script_without_spaces_is_found_behind_an_entity(folder: Path) -> None:
    prompt = "“猫&hearts;" + "猫犬" * 100
    read = clean(prompt)
    place = read.index("犬", 20)
    assert prompt[typed_at(prompt, read, place) :] == prompt[-len(read[place:]) :]
    dropped = ClipTokenizer.open(folder).encode(prompt).dropped
    assert 150 < len(dropped) < 200
    assert prompt.endswith(dropped)


def test_only_pictures_of_rewritten_prompts_have_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    def key(prompt: str) -> str:
        return item_key(FakeEngine().resolve(Generate(prompt=prompt, model="starter", seed=1)), 0, "png")

    known = {prompt: key(prompt) for prompt in ("a red fox", "ein Kätzchen", "it’s a fox")}
    monkeypatch.setattr("dallecli.batch.journal.READING", 0)
    assert [prompt for prompt in known if key(prompt) != known[prompt]] == ["it’s a fox"]
