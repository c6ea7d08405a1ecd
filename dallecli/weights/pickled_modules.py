"""Networks that were pickled whole, as OpenAI published DALL·E 1's autoencoder: their tensors, and none of their code.

Such a pickle names classes. torch's `weights_only` reader is told to take `Stub` for each: an object that only keeps
what it is given. No class of the file is ever imported or run. Used by the process of convert.py alone.
"""

from collections.abc import Iterator
from typing import Any, Final

from dallecli.limits import MODEL_DEPTH, TENSORS


class Stub:
    """What stands for a pickled module: its attributes, as plain data."""

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, dict):
            raise TypeError("the state of a module is no table")
        self.__dict__.update(state)


STUBS: Final = tuple(
    (Stub, name)
    for name in (
        "dall_e.encoder.Encoder",
        "dall_e.encoder.EncoderBlock",
        "dall_e.decoder.Decoder",
        "dall_e.decoder.DecoderBlock",
        "dall_e.utils.Conv2d",
        "torch.nn.modules.container.Sequential",
        "torch.nn.modules.activation.ReLU",
        "torch.nn.modules.pooling.MaxPool2d",
        "torch.nn.modules.upsampling.Upsample",
        "torch.nn.modules.linear.Identity",
        "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    )
)
"""The classes in the published files: those of the autoencoder, and torch's that it is made of; and the one that
Lightning names beside the tensors of a checkpoint, as taming-transformers' are."""


def tensors_of(module: Stub) -> dict[str, Any]:
    """The parameters of a pickled module by their names in a state dict.

    Raises: ValueError for more modules, deeper ones, or other things than a network has.
    """
    left, found = TENSORS, {}
    for name, value in _walk(module, "", 0):
        left -= 1
        if left < 0:
            raise ValueError(f"it has more than {TENSORS} modules and tensors")
        if not isinstance(value, Stub):
            found[name] = value
    return found


def _walk(module: Stub, prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    """A module, its parameters, and those of the modules within."""
    if depth > MODEL_DEPTH:
        raise ValueError(f"its modules lie more than {MODEL_DEPTH} deep in each other")
    yield prefix, module
    for kind in ("_parameters", "_buffers", "_modules"):
        table = module.__dict__.get(kind, {})
        if not isinstance(table, dict) or not all(isinstance(name, str) for name in table):
            raise ValueError(f"{kind} of a module is no table of names")
        for name, value in table.items():
            if value is None:
                continue
            if isinstance(value, Stub) and kind == "_modules":
                yield from _walk(value, f"{prefix}{name}.", depth + 1)
            elif isinstance(value, Stub) or kind == "_modules":
                raise ValueError(f"{prefix}{name} is no {kind[1:].removesuffix('s')}")
            else:
                yield f"{prefix}{name}", value
