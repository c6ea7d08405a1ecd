"""The codes of a picture as a small file: safetensors with the codes, and whose they are in its metadata.

    codes     int32 [h w]   each below the vocabulary
    metadata  format "dalle-codes/1", model, codebook, vocabulary, name

`codebook` is the sha256 of the model's files: codes of two autoencoders mean different things even where there are as
many. No torch here, so that an unusable file is refused before any weights are loaded.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from dallecli.embedding_file import read_small, with_metadata
from dallecli.errors import BadCodes
from dallecli.limits import CODES_SIDE
from dallecli.source import Source

if TYPE_CHECKING:
    import numpy as np

    Codes = np.ndarray[tuple[int, ...], np.dtype[np.int32]]

FORMAT: Final = "dalle-codes/1"

_SHOWN: Final = 12
"""So many digits of a codebook tell it from others."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Coded:
    """The codes of one picture."""

    codes: "Codes"
    """`[h w]`."""
    vocabulary: int
    """How many codes there are."""
    codebook: str
    """The sha256 of the model whose codes these are, in hex."""
    model: str
    """Its name."""
    name: str
    """The file that was encoded."""

    def facts(self) -> dict[str, Any]:
        """Everything but the numbers, to be shown or written as JSON."""
        height, width = self.codes.shape
        return {
            "name": self.name,
            "height": height,
            "width": width,
            "vocabulary": self.vocabulary,
            "codebook": self.codebook,
            "model": self.model,
        }

    def encode(self) -> bytes:
        """The bytes of a file; the same each time."""
        from safetensors.numpy import save

        facts = {
            "format": FORMAT,
            "model": self.model,
            "codebook": self.codebook,
            "vocabulary": str(self.vocabulary),
            "name": self.name,
        }
        # A surrogate in the name, from a file name that is not UTF-8, cannot stand in metadata.
        plain = {key: value.encode("utf-8", "replace").decode() for key, value in facts.items()}
        return with_metadata(save({"codes": self.codes}), plain)


def read_codes(source: Source) -> Coded:
    """The codes in a source that has its bytes.

    Raises: BadCodes for another kind of file, a damaged one, and codes that no vocabulary has.
    """
    import numpy as np

    where = source.where
    try:
        tensors, facts = read_small(source)
    except ValueError as problem:
        raise BadCodes(f"this is no file of codes: {problem}", where, "dalle encode writes them") from problem
    if facts.get("format") != FORMAT:
        hint = "dalle encode writes codes; this file holds weights, or comes from another program"
        if str(facts.get("format")).startswith("dalle-embedding/"):
            hint = "this is an embedding: dalle vary paints pictures of it"
        raise BadCodes("this safetensors file holds no codes", where, hint)
    codes = tensors.pop("codes", None)
    stated = [facts.get(key) for key in ("model", "codebook", "vocabulary", "name")]
    if codes is None or codes.ndim != 2 or codes.dtype != np.int32 or tensors or not all(map(_is_text, stated)):
        raise BadCodes("this is not a file of codes as dalle writes it", where)
    if not all(1 <= side <= CODES_SIDE for side in codes.shape):
        height, width = codes.shape
        raise BadCodes(f"it holds {width} x {height} codes", where, f"a side has from 1 to {CODES_SIDE}")
    vocabulary = int(facts["vocabulary"]) if facts["vocabulary"].isdecimal() else 0
    if codes.min() < 0 or codes.max() >= vocabulary:
        what = f"it holds the codes {codes.min()} to {codes.max()}, of a vocabulary of {facts['vocabulary']}"
        raise BadCodes(what, where)
    return Coded(
        codes=codes, vocabulary=vocabulary, codebook=facts["codebook"], model=facts["model"], name=facts["name"]
    )


def is_codes(source: Source) -> bool:
    """Whether a file says that it holds codes."""
    try:
        return read_small(source)[1].get("format") == FORMAT
    except ValueError:
        return False


def check_codebook(coded: Coded, codebook: str, model: str, where: str) -> None:
    """Refuse codes of another codebook than a model's. Raises BadCodes."""
    if coded.codebook != codebook:
        what = f"these are codes of {coded.model} ({coded.codebook[:_SHOWN]}), not of {model} ({codebook[:_SHOWN]})"
        raise BadCodes(what, where, f"decode them with the model that encoded them: -m {coded.model}")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""
