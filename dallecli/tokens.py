"""Turns a prompt into the token ids that a model reads: CLIP's, GLIDE's, that is GPT-2's, T5's, BART's, or minDALL-E's.

CLIP's byte-pair encoding (Radford et al. 2021, section 2.4), run by the `tokenizers` library from the `vocab.json` and
`merges.txt` of the published folders, after the cleaning of CLIP's training (cleaning.py). The ids equal those of
openai/CLIP. Special tokens are those of `transformers.CLIPTokenizer` 5.23, its oddities included: with Karlo's padding
token "!" an exclamation mark in a prompt is the padding id too, and a special token that is spelled out in a prompt is
that token. GPT-2's encoding (Radford et al. 2019, section 2.2) has no cleaning and no special tokens. T5's is a unigram
model (Kudo 2018, https://arxiv.org/abs/1804.10959), with the ids of `transformers.T5Tokenizer` 5.23. BART's, with
which DALL·E Mini reads, is GPT-2's with a vocabulary of its own and special tokens around. minDALL-E's is a byte-pair
encoding of letters (Sennrich et al. 2016, https://arxiv.org/abs/1508.07909) of BERT's words.
"""

import base64
import itertools
import json
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

from dallecli.cleaning import clean, typed_at
from dallecli.errors import BadFile, BadFolder, reason
from dallecli.limits import TOKENIZER_BYTES, TOKENS, read_file
from dallecli.sentencepiece_file import Pieces, checked, read_pieces

REPAIR: Final = "correct it, or pull or copy the model again"
CONTEXT: Final = 77  # tokens that CLIP's published text towers read; used when a folder does not say
LONGEST_CONTEXT: Final = 4096  # "no limit" is stored as 1e30, and no CLIP reads more than this

# Words, contractions, single digits, runs of anything else: the expression of OpenAI's CLIP.
WORDS: Final = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"

SPECIAL: Final = {
    "bos_token": "<|startoftext|>",
    "eos_token": "<|endoftext|>",
    "unk_token": "<|endoftext|>",
    "pad_token": "<|endoftext|>",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """One prompt as the text tower reads it."""

    ids: list[int]
    """As many as the context has tokens."""
    mask: list[bool]
    """As long as `ids`; True for what belongs to the prompt: with CLIP from the start token to the end token."""
    dropped: str
    """The end of the prompt that did not fit, from the first word that is not read whole; "" if all of it fits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipTokenizer:
    """CLIP's byte-pair encoding with the special tokens and the context length of one model folder."""

    encoder: Tokenizer
    context: int
    """How many tokens the text tower reads, the start and the end token included."""
    start: int
    """The id of the start token."""
    end: int
    """The id of the end token."""
    pad: int
    """The id of the padding token."""

    @classmethod
    def open(cls, folder: Path) -> "ClipTokenizer":
        """Read `vocab.json` and `merges.txt` (or `tokenizer.json`, if only that was saved), and the special tokens.

        Raises:
            BadFolder: the vocabulary is missing.
            BadFile: a file is not what its name says, or a special token is missing from the vocabulary.
        """
        vocab, merges, rules = _vocabulary(folder)
        config = _object(folder / "tokenizer_config.json", missing={})
        # The order of transformers: the older map wins over the newer config, and both over CLIP's own tokens.
        stated = SPECIAL | config | _object(folder / "special_tokens_map.json", missing={})
        special = {role: _added_token(stated[role], rules, role, folder) for role in SPECIAL}
        for role, token in special.items():
            if token.content not in vocab:
                raise BadFile(f"the {role} {token.content!r} is not in the vocabulary", str(folder), REPAIR)
        return cls(
            encoder=_encoder(vocab, merges, special["unk_token"].content, list(special.values())),
            context=_context(config, folder),
            start=vocab[special["bos_token"].content],
            end=vocab[special["eos_token"].content],
            pad=vocab[special["pad_token"].content],
        )

    @property
    def size(self) -> int:
        """How many tokens there are."""
        return int(self.encoder.get_vocab_size())

    def encode(self, prompt: str) -> Tokens:
        """The ids of `prompt`, cleaned, between the start and the end token, cut or padded to the context.

        A prompt that is too long is cut at its end; the last id is then the end token.
        """
        text = clean(prompt)
        encoding = self.encoder.encode(text, add_special_tokens=False)
        room = self.context - 2
        cut = encoding.offsets[room:]
        read = [self.start, *encoding.ids[:room], self.end]
        padding = self.context - len(read)
        return Tokens(
            ids=read + [self.pad] * padding,
            mask=[True] * len(read) + [False] * padding,
            dropped=prompt[_word_start(prompt, typed_at(prompt, text, cut[0][0])) :].strip() if cut else "",
        )


END_OF_TEXT: Final = "<|endoftext|>"
"""The last token of GPT-2's vocabulary. A prompt that spells it out is read letter by letter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GptTokenizer:
    """GPT-2's byte-pair encoding of prompts in small letters, as GLIDE reads them: ids, then padding."""

    encoder: Tokenizer
    context: int
    """How many tokens the text tower reads."""
    pad: int
    """The id that stands where the tower puts its padding."""

    @classmethod
    def open(cls, folder: Path) -> "GptTokenizer":
        """Read `vocab.json` and `merges.txt` (or `tokenizer.json`), and the context in `tokenizer_config.json`.

        Raises:
            BadFolder: the vocabulary is missing.
            BadFile: a file is not what its name says, or lacks one of the 256 bytes.
        """
        vocab, merges, _ = _vocabulary(folder)
        if END_OF_TEXT not in vocab:
            raise BadFile(f"{END_OF_TEXT} is not in the vocabulary", str(folder), REPAIR)
        if not vocab.keys() >= set(pre_tokenizers.ByteLevel.alphabet()):
            raise BadFile("the vocabulary does not have all bytes: it is not that of GPT-2", str(folder), REPAIR)
        config = _object(folder / "tokenizer_config.json")
        if "model_max_length" not in config:
            where = str(folder / "tokenizer_config.json")
            raise BadFile("model_max_length is missing: the tokens that the text tower reads", where, REPAIR)
        encoder = Tokenizer(models.BPE(vocab=vocab, merges=merges))
        encoder.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        return cls(encoder=encoder, context=_context(config, folder), pad=vocab[END_OF_TEXT])

    def encode(self, prompt: str) -> Tokens:
        """The ids of `prompt` in small letters, cut or padded to the context; of "" there are none."""
        encoding = self.encoder.encode(prompt.lower(), add_special_tokens=False)
        ids, cut = encoding.ids[: self.context], encoding.offsets[self.context :]
        padding = self.context - len(ids)
        return Tokens(
            ids=ids + [self.pad] * padding,
            mask=[True] * len(ids) + [False] * padding,
            dropped=prompt[_word_start(prompt, _before_lowering(prompt, cut[0][0])) :].strip() if cut else "",
        )


BART: Final = ("<s>", "<pad>", "</s>", "<unk>")
"""The special tokens of BART: start, padding, end, and what is not in the vocabulary."""
ASCII: Final = r"[^\x00-\x7f]"


@dataclass(frozen=True, slots=True, kw_only=True)
class BartTokenizer:
    """BART's byte-pair encoding of prompts in small ASCII letters, as DALL·E Mini reads them.

    Letters with accents lose these, and other letters are left out. DALL·E Mini was trained with captions that were
    cleaned with lists of words of its own; what that does to a plain sentence is no more than this.
    """

    encoder: Tokenizer
    context: int
    """How many tokens the text tower reads, the start and the end token included."""
    start: int
    pad: int
    end: int

    @classmethod
    def open(cls, folder: Path) -> "BartTokenizer":
        """Read `vocab.json` and `merges.txt` (or `tokenizer.json`), and the context in `tokenizer_config.json`.

        Raises:
            BadFolder: the vocabulary is missing.
            BadFile: a file is not what its name says, or a special token is missing.
        """
        vocab, merges = _vocabulary_with(BART, folder)
        start, pad, end, unknown = BART
        encoder = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token=unknown))
        encoder.normalizer = normalizers.Sequence(
            [
                normalizers.NFKD(),
                normalizers.Replace(Regex(ASCII), ""),
                normalizers.Lowercase(),
                normalizers.Replace(Regex(r"\s+"), " "),
                normalizers.Strip(),
            ]
        )
        encoder.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        context = _context(_object(folder / "tokenizer_config.json"), folder)
        return cls(encoder=encoder, context=context, start=vocab[start], pad=vocab[pad], end=vocab[end])

    def encode(self, prompt: str) -> Tokens:
        """The ids of `prompt` between the start and the end token, cut or padded to the context.

        A prompt that is too long is cut at its end; the last id is then the end token. Of "" there are those two.
        """
        encoding = self.encoder.encode(prompt, add_special_tokens=False)
        room = self.context - 2
        cut = encoding.offsets[room:]
        read = [self.start, *encoding.ids[:room], self.end]
        padding = self.context - len(read)
        return Tokens(
            ids=read + [self.pad] * padding,
            mask=[True] * len(read) + [False] * padding,
            dropped=prompt[_word_start(prompt, _after_space(prompt, cut[0][0])) :].strip() if cut else "",
        )

    def unreadable(self, prompt: str) -> list[str]:
        """The words of which nothing is left: those without a Latin letter, a digit, or a sign of ASCII."""
        return [word for word in prompt.split() if not self.encoder.encode(word, add_special_tokens=False).ids]


UNKNOWN: Final = "[UNK]"
PADDING: Final = "[PAD]"
"""The special tokens of minDALL-E's vocabulary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CharTokenizer:
    """A byte-pair encoding of letters, not of bytes (`tokenizers.CharBPETokenizer`), as minDALL-E reads prompts.

    BERT's normaliser and words, in small letters; no start and no end token. Padding is read like any other token.
    """

    encoder: Tokenizer
    context: int
    """How many tokens are read."""
    pad: int
    unknown: int

    @classmethod
    def open(cls, folder: Path) -> "CharTokenizer":
        """Read `vocab.json` and `merges.txt` (or `tokenizer.json`), and the context in `tokenizer_config.json`.

        Raises:
            BadFolder: the vocabulary is missing.
            BadFile: a file is not what its name says, or a special token is missing.
        """
        vocab, merges = _vocabulary_with((UNKNOWN, PADDING), folder)
        encoder = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token=UNKNOWN, end_of_word_suffix="</w>"))
        encoder.normalizer = normalizers.Sequence(
            [normalizers.BertNormalizer(lowercase=False), normalizers.Lowercase()]
        )
        encoder.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        encoder.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in (UNKNOWN, PADDING)])
        context = _context(_object(folder / "tokenizer_config.json"), folder)
        return cls(encoder=encoder, context=context, pad=vocab[PADDING], unknown=vocab[UNKNOWN])

    @property
    def size(self) -> int:
        """How many tokens there are."""
        return int(self.encoder.get_vocab_size())

    def encode(self, prompt: str) -> Tokens:
        """The ids of `prompt`, cut or padded to the context; a special token that is spelled out is that token."""
        encoding = self.encoder.encode(prompt, add_special_tokens=False)
        ids, cut = encoding.ids[: self.context], encoding.offsets[self.context :]
        padding = self.context - len(ids)
        return Tokens(
            ids=ids + [self.pad] * padding,
            mask=[True] * len(ids) + [False] * padding,
            dropped=prompt[_word_start(prompt, cut[0][0]) :].strip() if cut else "",
        )

    def unreadable(self, prompt: str) -> list[str]:
        """The words with letters that are in no token."""
        words = prompt.split()
        return [word for word in words if self.unknown in self.encoder.encode(word, add_special_tokens=False).ids]


SENTINELS: Final = 100
"""How many tokens `<extra_id_0>` … stand behind the pieces of a `spiece.model`, the last one first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class T5Tokenizer:
    """T5's unigram model: ids, the end token, then padding, as many as DeepFloyd IF reads whatever T5 could."""

    encoder: Tokenizer
    end: int
    """The id of the end token."""
    pad: int
    """The id of the padding token."""
    context: int = CONTEXT
    """How many tokens are read, the end token included."""

    @classmethod
    def open(cls, folder: Path) -> "T5Tokenizer":
        """Read `spiece.model` (or `tokenizer.json`, if only that was saved).

        Raises:
            BadFolder: both are missing.
            BadFile: a file is not what its name says, or lacks a special token.
        """
        source, pieces, special = _unigram(folder)
        ids = {text: index for index, (text, _) in enumerate(pieces.scores)}
        for token in (PAD, END):
            if token not in ids:
                raise BadFile(f"{token} is not in the vocabulary", str(source), REPAIR)
        encoder = Tokenizer(models.Unigram(list(pieces.scores), unk_id=pieces.unknown, byte_fallback=False))
        if pieces.characters:
            encoder.normalizer = normalizers.Precompiled(pieces.characters)
        encoder.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.WhitespaceSplit(),
                pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always", split=True),
            ]
        )
        spelled = list(dict.fromkeys((PAD, END, pieces.scores[pieces.unknown][0], *special)))
        encoder.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in spelled])
        return cls(encoder=encoder, end=ids[END], pad=ids[PAD])

    def encode(self, text: str) -> Tokens:
        """The ids of `text`, which was cleaned before (captions.py), and of the end token, cut or padded.

        A special token that is spelled out is that token, as in transformers. What is too long is cut at its end; the
        last id is then the end token.
        """
        encoding = self.encoder.encode(text, add_special_tokens=False)
        room = self.context - 1
        cut = encoding.offsets[room:]
        read = [*encoding.ids[:room], self.end]
        padding = self.context - len(read)
        return Tokens(
            ids=read + [self.pad] * padding,
            mask=[True] * len(read) + [False] * padding,
            dropped=text[_word_start(text, _after_space(text, cut[0][0])) :].strip() if cut else "",
        )


PAD: Final = "<pad>"
END: Final = "</s>"
SPACE: Final = "▁"


def _after_space(text: str, at: int) -> int:
    """The first character from `at` on that is no space: that before a word is a part of its first token."""
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _unigram(folder: Path) -> tuple[Path, Pieces, list[str]]:
    """The file with a unigram model, the model, and the special tokens besides padding, end and unknown."""
    source = folder / "spiece.model"
    if source.is_file():
        found = read_pieces(source)
        sentinels = [f"<extra_id_{index}>" for index in range(SENTINELS - 1, -1, -1)]
        scores = (*found.scores, *((sentinel, 0.0) for sentinel in sentinels))
        pieces = Pieces(scores=scores, unknown=found.unknown, characters=found.characters)
        return source, checked(pieces, source), sentinels
    source = folder / "tokenizer.json"
    if not source.is_file():
        raise BadFolder("the tokenizer's spiece.model is missing", str(folder), REPAIR)
    saved = _object(source)  # all that transformers 5 saves
    match saved.get("model"):
        case {"type": "Unigram", "unk_id": int(unknown), "vocab": [*entries]} if len(entries) <= TOKENS:
            scores = tuple(_scored(entry, source) for entry in entries)
        case _:
            raise BadFile("this is not a saved unigram tokenizer", str(source), REPAIR)
    pieces = Pieces(scores=scores, unknown=unknown, characters=_saved_characters(saved.get("normalizer"), source))
    added = saved.get("added_tokens")
    tokens = [token.get("content") for token in added if isinstance(token, dict)] if isinstance(added, list) else []
    known = {text for text, _ in scores}
    return source, checked(pieces, source), [token for token in tokens if isinstance(token, str) and token in known]


def _scored(entry: object, source: Path) -> tuple[str, float]:
    match entry:
        case [str(text), float() | int() as score] if abs(score) < 1e30:
            return text, float(score)
        case _:
            raise BadFile("the vocabulary has an entry that is no token and its score", str(source), REPAIR)


def _saved_characters(normalizer: object, source: Path) -> bytes:
    """The rules for characters that a `tokenizer.json` states; of several normalizers those of the first with any."""
    match normalizer:
        case {"type": "Precompiled", "precompiled_charsmap": str(rules)}:
            try:
                return base64.b64decode(rules, validate=True)
            except ValueError as problem:
                raise BadFile(f"the rules for characters are damaged: {problem}", str(source), REPAIR) from problem
        case {"type": "Sequence", "normalizers": [*several]}:
            return next(filter(None, (_saved_characters(one, source) for one in several)), b"")
        case _:
            return b""


def _before_lowering(prompt: str, at: int) -> int:
    """The character of `prompt` that is at `at` in small letters, of which some are two."""
    ends = itertools.accumulate(len(char.lower()) for char in prompt)
    return sum(end <= at for end in ends)


def _word_start(prompt: str, at: int) -> int:
    """Where the word around character `at` begins; `at` itself in a script that is written without spaces."""
    start = at
    while start > 0 and _joins_words(prompt[start - 1]) and _joins_words(prompt[start]):
        start -= 1
    return start


def _joins_words(char: str) -> bool:
    # Lo, letters without case, are the scripts that may go without spaces: there, every character is a word
    return char in "'-" or unicodedata.category(char) in {"Lu", "Ll", "Lt", "Lm", "Mn", "Mc", "Nd"}


def _encoder(
    vocab: dict[str, int], merges: list[tuple[str, str]], unknown: str, special: list[AddedToken]
) -> Tokenizer:
    encoder = Tokenizer(
        models.BPE(
            vocab=vocab, merges=merges, continuing_subword_prefix="", end_of_word_suffix="</w>", unk_token=unknown
        )
    )
    # Without NFC: what is cleaned is composed, but for accents that were escaped beside a "<", and CLIP read those so.
    encoder.normalizer = normalizers.Sequence([normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    encoder.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    encoder.add_special_tokens(special)
    return encoder


def _vocabulary_with(tokens: Iterable[str], folder: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The same without the rules, of a vocabulary that has these tokens. Raises BadFile if it lacks one."""
    vocab, merges, _ = _vocabulary(folder)
    for token in tokens:
        if token not in vocab:
            raise BadFile(f"{token} is not in the vocabulary", str(folder), REPAIR)
    return vocab, merges


def _vocabulary(folder: Path) -> tuple[dict[str, int], list[tuple[str, str]], dict[str, object]]:
    """The ids of all tokens and the merges by rank, both checked, and the rules for special tokens, if any."""
    rules: dict[str, object] = {}
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        source = folder / "merges.txt"
        vocab: object = _object(folder / "vocab.json")
        merges: object = [
            line.split() for line in _text(source).split("\n") if line and not line.startswith("#version")
        ]
    elif (folder / "tokenizer.json").is_file():  # all that transformers 5 saves
        source = folder / "tokenizer.json"
        saved = _object(source)
        model, added = saved.get("model"), saved.get("added_tokens")
        if not isinstance(model, dict):
            raise BadFile("this is not a saved byte-pair tokenizer", str(source), REPAIR)
        vocab, merges = model.get("vocab"), model.get("merges")
        if isinstance(added, list):
            rules = {str(token.get("content")): token for token in added if isinstance(token, dict)}
        if isinstance(merges, list):  # older files write "a b" where newer ones write ["a", "b"]
            merges = [pair.split(" ") if isinstance(pair, str) else pair for pair in merges]
    else:
        raise BadFolder("the tokenizer's vocab.json and merges.txt are missing", str(folder), REPAIR)
    ids = _token_ids(vocab, source)
    return ids, _merges(merges, ids, source), rules


def _token_ids(vocab: object, source: Path) -> dict[str, int]:
    if not isinstance(vocab, dict) or not vocab:
        raise BadFile("the vocabulary is empty or not a table of tokens", str(source), REPAIR)
    if len(vocab) > TOKENS:
        raise BadFile(f"the vocabulary has {len(vocab)} tokens, the limit is {TOKENS}", str(source), REPAIR)
    if not all(type(index) is int and 0 <= index < 2**31 for index in vocab.values()):
        raise BadFile("the vocabulary has an id that is not a whole number from 0 on", str(source), REPAIR)
    if len(set(vocab.values())) != len(vocab):
        raise BadFile("the vocabulary gives one id to two tokens", str(source), REPAIR)
    return vocab


def _merges(merges: object, vocab: dict[str, int], source: Path) -> list[tuple[str, str]]:
    """The merges as pairs. Each must be of known tokens that join to a known token: the library panics on any other."""
    if not isinstance(merges, list):
        raise BadFile("the merges are missing", str(source), REPAIR)
    if len(merges) > TOKENS:
        raise BadFile(f"there are {len(merges)} merges, the limit is {TOKENS}", str(source), REPAIR)
    pairs = []
    for rank, pair in enumerate(merges, start=1):
        match pair:
            case [str(first), str(second)] if first in vocab and second in vocab and first + second in vocab:
                pairs.append((first, second))
            case _:
                raise BadFile(f"merge {rank} does not fit the vocabulary", str(source), REPAIR)
    return pairs


def _added_token(stated: object, known: dict[str, object], role: str, folder: Path) -> AddedToken:
    """A special token as JSON files state it: a string, or an object with rules for finding it in a text."""
    rules = known.get(stated, {"content": stated}) if isinstance(stated, str) else stated
    if not isinstance(rules, dict) or not isinstance(rules.get("content"), str) or not rules["content"]:
        raise BadFile(f"the {role} is not a token", str(folder), REPAIR)
    flags = {name: rules.get(name) is True for name in ("single_word", "lstrip", "rstrip", "normalized")}
    return AddedToken(rules["content"], special=True, **flags)


def _context(config: dict[str, Any], folder: Path) -> int:
    stated = config.get("model_max_length", CONTEXT)
    if not isinstance(stated, int | float) or isinstance(stated, bool) or stated < 3 or stated % 1:
        raise BadFile(
            f"model_max_length is {stated!r}, not a number of tokens", str(folder / "tokenizer_config.json"), REPAIR
        )
    return int(stated) if stated <= LONGEST_CONTEXT else CONTEXT


def _object(path: Path, missing: dict[str, Any] | None = None) -> dict[str, Any]:
    """The JSON object in `path`; `missing`, if given, where there is no such file."""
    if missing is not None and not path.is_file():
        return missing
    try:
        content = json.loads(_text(path))
    except (ValueError, RecursionError) as problem:
        raise BadFile(f"this file is not valid JSON: {problem}", str(path), REPAIR) from problem
    if not isinstance(content, dict):
        raise BadFile("this file is not a JSON object", str(path), REPAIR)
    return content


def _text(path: Path) -> str:
    try:
        return read_file(path, TOKENIZER_BYTES).decode("utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise BadFile(f"this file cannot be read: {reason(problem)}", str(path), REPAIR) from problem
