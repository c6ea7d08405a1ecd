"""`encode` and `decode`: pictures to the codes of a discrete autoencoder, and back. No randomness, so no seeds."""

from dataclasses import dataclass
from typing import Final, Self

from dallecli.errors import BadInput, BadPicture
from dallecli.source import Source
from dallecli.tasks.task import ModelRequest
from dallecli.tasks.values import Values, dtype_of

CODING: Final = ("encode", "decode")


@dataclass(frozen=True, slots=True, kw_only=True)
class Coding(ModelRequest):
    """Turn pictures into codes, or codes into pictures.

    Raises: BadInput, BadPicture, and as `ModelRequest`.
    """

    task: str
    """One of `CODING`."""
    inputs: tuple[Source, ...]
    """Pictures to be encoded, or files of codes."""

    def __post_init__(self) -> None:
        ModelRequest.__post_init__(self)
        if not self.inputs:
            raise BadInput(f"there is nothing to {self.task}", hint="name a file")
        for source in self.inputs:
            if self.task == "encode" and source.kind != "picture":
                raise BadPicture(
                    "a picture is needed here",
                    source.where,
                    "dalle decode makes pictures of codes, dalle vary of embeddings",
                )
            if self.task == "decode" and source.kind != "embedding":
                raise BadInput("codes are needed here", source.where, "dalle encode makes codes of pictures")

    @classmethod
    def build(cls, task: str, values: Values) -> Self:
        """The request that values by name make. Raises RequestError."""
        return cls(
            task=task,
            model=values.needed("model"),
            inputs=values.read(values.files("inputs")),
            size=values.size("size"),
            device=values.text("device"),
            dtype=dtype_of(values.text("dtype")),
        )

    def to_values(self) -> dict[str, object]:
        values = {
            "model": self.model,
            "inputs": list(self.inputs),
            "size": self.size,
            "device": self.device,
            "dtype": self.dtype,
        }
        return {name: value for name, value in values.items() if value is not None}

    @property
    def sources(self) -> tuple[Source, ...]:
        return self.inputs
