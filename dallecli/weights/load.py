"""Bytes on disk become a network, strictly.

The network is built on the meta device, where it costs no memory; its tensors are then read one at a time straight
into their final type and place. What is compared first is the file's header with the network's own list: a file with a
tensor too few, too many or of another shape is refused before its bytes are read.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dallecli.errors import BadFile, BadSetting, LayoutMismatch
from dallecli.weights.header import FETCH_AGAIN, Entry, read_header

N = TypeVar("N", bound=nn.Module)

FLOATS: Final = frozenset({"F64", "F32", "F16", "BF16"})

# Attention layers of checkpoints from before 2023 name their projections differently.
OLD_NAMES: Final[Mapping[str, str]] = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}

# What the names in a text tower without a projection begin with, unless transformers 5 has written them.
LEFT_OUT: Final = "text_model."

LISTED: Final = 5  # names of each kind in a report of differences
REPORT: Final = 360  # characters; an error's line is cut soon after


def load_net(build: Callable[[], N], file: Path, dtype: torch.dtype, device: torch.device) -> N:
    """The network that `build` makes, with the tensors of `file`, in `dtype` on `device`, ready for inference.

    The file is read, not mapped: one that is cut short meanwhile is an error here, and never a crash later.

    Raises:
        BadFile: the network cannot be built from its config, or the file is damaged or changes while it is read.
        LayoutMismatch: tensors are missing, unexpected, misshaped, not floating point, or not finite.
        BadSetting: the weights hold numbers that `dtype` cannot.
    """
    header = read_header(file)
    net = _build(build, file)
    names = _match(net, header, file)
    tensors: dict[str, Tensor] = {}
    largest = 0.0
    try:
        with safe_open(file, framework="pt", backend="pread") as stored:
            for name, there in sorted(names.items(), key=lambda pair: header[pair[1]].start):
                tensor = stored.get_tensor(there)
                largest = max(largest, _largest(tensor, there, file))
                if largest > torch.finfo(dtype).max:
                    kind = str(dtype).removeprefix("torch.")
                    raise BadSetting(
                        f"{there} holds {largest:.3g}, which is too large for {kind}", str(file), "use fp32"
                    )
                tensors[name] = tensor.to(device, dtype)
    except (SafetensorError, OSError) as problem:
        raise BadFile(f"the weights cannot be read: {problem}", str(file), FETCH_AGAIN) from problem
    if largest == 0:
        raise LayoutMismatch("every number in this file is zero", str(file), FETCH_AGAIN)
    net.load_state_dict(tensors, strict=True, assign=True)
    return net.requires_grad_(False).eval()


class _Uninitialised(TorchFunctionMode):
    """Leaves out the initialisation of weights.

    On the meta device it does nothing but import the half of torch that can compute without data: a second and more.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs if kwargs is not None else {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return named["tensor"] if "tensor" in named else args[0]
        return func(*args, **named)


def _build(build: Callable[[], N], file: Path) -> N:
    try:
        with torch.device("meta"), _Uninitialised():
            return build()
    # what a constructor may answer to numbers that make no network: zero heads, a negative width, too large a product
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as problem:
        config = file.parent / "config.json"
        raise BadFile(f"no network can be built from this config: {problem}", str(config)) from problem


def _match(net: nn.Module, header: Mapping[str, Entry], file: Path) -> dict[str, str]:
    """The stored name of each of the network's tensors; LayoutMismatch where the two sets are not the same."""
    wanted = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    names: dict[str, str] = {}
    unexpected, misshaped, wrong_kind = [], [], []
    for there, entry in header.items():
        name = _modern_name(there, wanted)
        if name not in wanted or name in names:
            if there.rpartition(".")[2] != "position_ids":  # 0, 1, 2 …: stored by older versions of transformers
                unexpected.append(there)
            continue
        names[name] = there
        if entry.shape != wanted[name]:
            misshaped.append(f"{there} is {list(entry.shape)}, not {list(wanted[name])}")
        elif entry.dtype not in FLOATS:
            wrong_kind.append(f"{there} is {entry.dtype}")
    missing = [name for name in wanted if name not in names]
    differences = {
        "missing": missing,
        "unexpected": unexpected,
        "misshaped": misshaped,
        "not floating point": wrong_kind,
    }
    if any(differences.values()):
        raise LayoutMismatch(
            _report(differences), str(file), "the weights and the config.json beside them must be a pair"
        )
    return names


def _modern_name(name: str, wanted: Mapping[str, object]) -> str:
    if name in wanted:
        return name
    if LEFT_OUT + name in wanted:
        return LEFT_OUT + name
    return ".".join(OLD_NAMES.get(part, part) for part in name.split("."))


def _report(differences: Mapping[str, list[str]]) -> str:
    """All kinds of differences with their counts, and as many names (at most `LISTED` of a kind) as fit on a line."""
    for listed in range(LISTED, -1, -1):
        parts = [f"{len(names)} {kind}{_some(names, listed)}" for kind, names in differences.items() if names]
        report = "these are not the network's tensors: " + "; ".join(parts)
        if len(report) <= REPORT:
            break
    return report


def _some(names: Sequence[str], listed: int) -> str:
    if listed == 0:
        return ""
    return f" ({', '.join(names[:listed])}{', …' if len(names) > listed else ''})"


def _largest(tensor: Tensor, name: str, file: Path) -> float:
    """The largest magnitude in a tensor. Smallest and largest are NaN or infinite if any number is: one fast pass."""
    if tensor.numel() == 0:
        return 0.0
    low, high = (end.item() for end in torch.aminmax(tensor))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise LayoutMismatch(f"the weights are not finite: {name} holds NaN or infinity", str(file), FETCH_AGAIN)
    return max(abs(low), abs(high))
