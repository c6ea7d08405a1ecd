"""Embeddings as small files: safetensors with the vector, and which CLIP it comes from in its metadata.

    z            float32 [d]        the embedding, not normalised
    x_T.<stage>  float32 [3, h, w]  with --invert: the noise from which each painting stage reproduces the picture
    metadata     format "dalle-embedding/1", space, kind (image or text), name, model

`space` names the CLIP: vectors of two CLIPs mean different things even where they have the same length. No torch here,
so that an unusable file is refused before any weights are loaded.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, cast, get_args

from dallecli.errors import BadEmbedding
from dallecli.limits import EMBEDDING_HEADER_BYTES, in_words
from dallecli.source import Source
from dallecli.unknown import Unknown

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[tuple[int, ...], np.dtype[np.float32]]

FORMAT: Final = "dalle-embedding/1"

EmbeddingKind = Literal["image", "text"]

_NOISE: Final = "x_T."


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Embedded:
    """The CLIP embedding of one picture or one sentence."""

    vector: "Array"
    """`[d]`, not normalised."""
    kind: EmbeddingKind
    space: str
    """The CLIP that it comes from."""
    name: str
    """The file or the words that were embedded."""
    model: str
    """The model whose CLIP was used."""
    noise: "Mapping[str, Array]" = field(default_factory=dict)
    """The x_T `[3 h w]` of each painting stage that inversion found; empty if nothing was inverted."""

    unknown: Unknown = field(default=Unknown())
    """What the model does not know of the words or the picture; no file has it."""

    def facts(self) -> dict[str, Any]:
        """Everything but the numbers, to be shown or written as JSON."""
        return {
            "name": self.name,
            "kind": self.kind,
            "space": self.space,
            "dimensions": len(self.vector),
            "noise": list(self.noise),
            "model": self.model,
            "unknown": self.unknown.to_dict(),
        }

    def encode(self) -> bytes:
        """The bytes of a file; the same each time."""
        from safetensors.numpy import save

        facts = {"format": FORMAT, "kind": self.kind, "space": self.space, "name": self.name, "model": self.model}
        tensors = {"z": self.vector, **{f"{_NOISE}{stage}": noise for stage, noise in self.noise.items()}}
        # A surrogate in the name, from a file name that is not UTF-8, cannot stand in metadata.
        plain = {key: value.encode("utf-8", "replace").decode() for key, value in facts.items()}
        return with_metadata(save(tensors), plain)


def with_metadata(data: bytes, facts: Mapping[str, str]) -> bytes:
    """A safetensors file with metadata in this order; the library's own order is another each time."""
    import json

    end = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps({"__metadata__": facts, **json.loads(data[8:end])}, ensure_ascii=False, separators=(",", ":"))
    aligned = header.encode()
    aligned += b" " * (-len(aligned) % 8)
    return len(aligned).to_bytes(8, "little") + aligned + data[end:]


def read_small(source: Source) -> "tuple[dict[str, np.ndarray[Any, Any]], dict[str, str]]":
    """The tensors and the metadata of a small safetensors file, from a source that has its bytes.

    Raises: ValueError, in words, where it is none, or is damaged.
    """
    import json

    from safetensors import SafetensorError
    from safetensors.numpy import load

    data = source.data
    if source.kind != "embedding" or data is None:
        raise ValueError("it is no safetensors file")
    size = int.from_bytes(data[:8], "little")
    if size > EMBEDDING_HEADER_BYTES:
        raise ValueError(f"its header has more than {in_words(EMBEDDING_HEADER_BYTES)}")
    try:
        tensors = load(data)
        facts = json.loads(data[8 : 8 + size]).get("__metadata__", {})
    except (SafetensorError, ValueError, KeyError, RecursionError) as error:
        raise ValueError(f"the file is damaged: {error}") from error
    return tensors, facts


def read_embedding(source: Source) -> Embedded:
    """The embedding in a source that has its bytes.

    Raises: BadEmbedding for weights, another format, or numbers that are not finite.
    """
    import numpy as np

    where = source.where
    try:
        tensors, facts = read_small(source)
    except ValueError as problem:
        raise BadEmbedding(f"this is not an embedding: {problem}", where=where) from problem
    if facts.get("format") != FORMAT:
        hint = "dalle embed writes embeddings; this file holds weights, or comes from another program"
        if str(facts.get("format")).startswith("dalle-codes/"):
            hint = "these are codes: dalle decode makes a picture of them"
        raise BadEmbedding("this safetensors file holds no embedding", where=where, hint=hint)
    vector = tensors.pop("z", None)
    noise = {name.removeprefix(_NOISE): tensors.pop(name) for name in sorted(tensors) if name.startswith(_NOISE)}
    missing = [key for key in ("kind", "space", "name", "model") if key not in facts]
    if missing or facts["kind"] not in get_args(EmbeddingKind) or tensors or vector is None or vector.ndim != 1:
        raise BadEmbedding("this is not an embedding file as dalle writes it", where=where)
    for array in (vector, *noise.values()):
        if array.dtype != np.float32 or not np.isfinite(array).all():
            raise BadEmbedding("the embedding holds NaN, infinity, or numbers that are not float32", where=where)
    if not vector.any():
        raise BadEmbedding("the embedding is all zeros", where=where)
    return Embedded(
        vector=vector,
        kind=cast(EmbeddingKind, facts["kind"]),
        space=facts["space"],
        name=facts["name"],
        model=facts["model"],
        noise=noise,
    )


def check_space(embedded: Embedded, space: str, where: str) -> None:
    """Refuse an embedding of another CLIP. Raises BadEmbedding."""
    if embedded.space != space:
        raise BadEmbedding(
            f"this embedding lives in the space of {embedded.space}, not of {space}",
            where=where,
            hint=f"it was made with --model {embedded.model}",
        )
