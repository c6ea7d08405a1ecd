"""Writes tiny T5 text towers and tokenizers: with transformers' classes, and as SentencePiece's own message."""

import random
import struct
from pathlib import Path

import torch
from transformers import T5Config, T5EncoderModel, T5Tokenizer
from transformers.utils import sentencepiece_model_pb2_new as message

NORMAL = {
    "\N{FULLWIDTH LATIN CAPITAL LETTER A}": "A",
    "\N{FULLWIDTH DIGIT SEVEN}": "7",
    "\N{LATIN SMALL LIGATURE FI}": "fi",
    "\N{LATIN SMALL LIGATURE FFL}": "ffl",
    "\N{HORIZONTAL ELLIPSIS}": "...",
    "\N{NO-BREAK SPACE}": " ",
    "\N{IDEOGRAPHIC SPACE}": " ",
    "\N{ZERO WIDTH SPACE}": " ",
    "\t": " ",
    "\n": " ",
    "\x07": "",
    "\N{SUPERSCRIPT TWO}": "2",
    "e\N{COMBINING ACUTE ACCENT}": "é",
    "\N{VULGAR FRACTION ONE HALF}": "1⁄2",
    "\N{TRADE MARK SIGN}": "TM",
}
"""Some of the rules of SentencePiece's nmt_nfkc, which T5's tokenizer has."""

TEXT = (
    "a photo of the corgi riding a red bicycle in times square under an umbrella, oil painting by a famous artist. "
    "zwölf kühne boxkämpfer jagen viktor; les naïfs ægithales hâtifs; portez ce vieux whisky. 0123456789 "
    "!?-—'\"()%&TMA7"
)


def pieces(seed: int = 0) -> list[tuple[str, float]]:
    """A vocabulary: special tokens, all letters of `TEXT`, and many parts of its words, as likely as chance has it."""
    chance = random.Random(seed)
    found = {"▁": -2.5}
    for word in TEXT.split():
        spelled = f"▁{word}"
        for start in range(len(spelled)):
            for end in range(start + 1, len(spelled) + 1):
                if end - start == 1 or chance.random() < 0.4:
                    found.setdefault(spelled[start:end], -2.0 - 3 * chance.random() - (end - start == 1) * 3)
    # as in a file, scores are of four bytes
    rounded = [(text, struct.unpack("<f", struct.pack("<f", score))[0]) for text, score in found.items()]
    return [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *rounded]


def characters(rules: dict[str, str] | None = None) -> bytes:
    """Rules for characters as SentencePiece stores them: a double array, each node with 256 places of its own."""
    texts, values = b"", {}
    for source, target in (NORMAL if rules is None else rules).items():
        values[source.encode()] = len(texts)
        texts += target.encode() + b"\0"
    prefixes = sorted({key[:end] for key in values for end in range(len(key) + 1)})
    bases = {prefix: 256 * (index + 1) for index, prefix in enumerate(prefixes)}
    units = [0] * (256 * (len(prefixes) + 1))
    for prefix, base in bases.items():
        place = bases[prefix[:-1]] ^ prefix[-1] if prefix else 0
        label = prefix[-1] if prefix else 0
        units[place] = label | (prefix in values) << 8 | (place ^ base) << 10
        if prefix in values:
            units[base] = values[prefix] | 1 << 31
    trie = struct.pack(f"<{len(units)}I", *units)
    return struct.pack("<I", len(trie)) + trie + texts


def write_sentencepiece(file: Path, rules: bytes | None = None) -> None:
    """Write a `spiece.model` through the message's own class."""
    model = message.ModelProto()
    kinds = message.ModelProto.SentencePiece
    for text, score in pieces():
        kind = {"<pad>": kinds.CONTROL, "</s>": kinds.CONTROL, "<unk>": kinds.UNKNOWN}.get(text, kinds.NORMAL)
        model.pieces.add(piece=text, score=score, type=kind)
    model.trainer_spec.model_type = message.TrainerSpec.UNIGRAM
    model.trainer_spec.unk_id = 2
    model.normalizer_spec.name = "nmt_nfkc"
    model.normalizer_spec.precompiled_charsmap = characters() if rules is None else rules
    model.normalizer_spec.add_dummy_prefix = True
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(model.SerializeToString())


def tokenizer() -> T5Tokenizer:
    """transformers' tokenizer, with the same vocabulary and rules."""
    sentinels = [(f"<extra_id_{index}>", 0.0) for index in range(99, -1, -1)]
    return T5Tokenizer(vocab=[*pieces(), *sentinels], _spm_precompiled_charsmap=characters(), extra_ids=100)


def text_encoder(seed: int = 0) -> T5EncoderModel:
    """A tower that knows the vocabulary. The library's own initialisation is nearly nothing, and hides mistakes."""
    torch.manual_seed(seed)
    sizes = {"vocab_size": len(pieces()) + 100, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
    tower = T5EncoderModel(T5Config(**sizes, feed_forward_proj="gated-gelu", tie_word_embeddings=False)).eval()
    for weight in tower.parameters():
        weight.data = torch.randn_like(weight) * 0.3 + (weight.dim() == 1)
    return tower
