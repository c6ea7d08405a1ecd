"""Train a tokenizer: CLIP's byte-level BPE on the words of the captions, each of which becomes one token if it fits."""

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from dallecli.cleaning import clean

START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"

# CLIP's split into words, single digits and runs of punctuation.
WORDS = r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""


def byte_characters() -> list[str]:
    """The printable characters that stand for bytes in GPT-2's and CLIP's vocabularies, in the published order.

    Printable Latin-1 bytes stand for themselves; the others are numbered upwards from U+0100.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in printable]
    return [*map(chr, printable), *(chr(256 + place) for place in range(len(hidden)))]


def _learn_merges(texts: Iterable[str], most: int | None) -> list[tuple[str, str]]:
    """Byte-pair merges learnt until every word of the texts is whole, or there are `most` tokens."""
    learner = Tokenizer(models.BPE(end_of_word_suffix=WORD_END))
    learner.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    learner.decoder = decoders.BPEDecoder(suffix=WORD_END)
    trainer = trainers.BpeTrainer(
        vocab_size=1 << 20 if most is None else most,  # learning ends at the latest when nothing is left to merge
        min_frequency=1,
        initial_alphabet=byte_characters(),
        # Ties between equally frequent pairs go by number. Characters that end a word would get theirs in the random
        # order of a hash map; as special tokens they are numbered beforehand, and learning is deterministic.
        special_tokens=[character + WORD_END for character in byte_characters()],
        end_of_word_suffix=WORD_END,
        show_progress=False,
    )
    learner.train_from_iterator(map(clean, texts), trainer)
    return [(left, right) for left, right in json.loads(learner.to_str())["model"]["merges"]]


def train_tokenizer(captions: Iterable[str], folder: Path, context: int, most: int | None = None) -> int:
    """Write ``vocab.json``, ``merges.txt``, ``special_tokens_map.json`` and ``tokenizer_config.json`` into ``folder``.

    captions: texts whose words become one token each (``captions.caption_words()`` is the whole closed list); any other
    word falls to pieces, at worst to bytes. context: the longest prompt in tokens, start and end included. most: the
    largest vocabulary; where the words do not fit, the rarest fall to pieces. Returns the vocabulary's size. Layout as
    published with CLIP: 256 bytes, 256 bytes that end a word, the merges, start, end; so the end token has the highest
    id (CLIP pools there), and it also pads. Deterministic.
    """
    merges = _learn_merges(captions, None if most is None else most - len((START, END)))
    alphabet = byte_characters()
    tokens = [
        *alphabet,
        *(character + WORD_END for character in alphabet),
        *("".join(pair) for pair in merges),
        START,
        END,
    ]
    # Two merge orders may spell the same piece; it keeps its first id.
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": context,
        "do_lower_case": True,
        "add_prefix_space": False,
        "errors": "replace",
        **special,
    }
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name, content in (("vocab", vocabulary), ("special_tokens_map", special), ("tokenizer_config", config)):
        (folder / f"{name}.json").write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")
    return len(vocabulary)
