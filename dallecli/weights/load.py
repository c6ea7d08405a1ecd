"""Bytes on disk become a network, strictly, from one file or from several (see shards.py).

The network is built on the meta device, where it costs no memory; its numbers are then read, a few megabytes at a time,
straight into their final type and place. What is compared first is the file's header with the network's own list: a
file with a tensor too few, too many or of another shape is refused before its bytes are read.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dallecli.errors import BadFile, LayoutMismatch
from dallecli.limits import NETWORK_TIMES
from dallecli.weights.header import FETCH_AGAIN, Entry
from dallecli.weights.numbers import check_numbers, reading
from dallecli.weights.shards import Shard, headers_of, open_weights
from dallecli.weights.stream import DTYPES, stream
from dallecli.weights.unread import Place, Unread

N = TypeVar("N", bound=nn.Module)

# Attention layers of checkpoints from before 2023 name their projections differently.
OLD_NAMES: Final[Mapping[str, str]] = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}

# What the names in a text tower without a projection begin with, unless transformers 5 has written them.
LEFT_OUT: Final = "text_model."

# Tensors that pickles store again under a second name, which other files may have instead of the first.
COPIES: Final[Mapping[str, str]] = {"encoder.embed_tokens.weight": "shared.weight"}

SPARE_TENSORS: Final = 100
SPARE_NUMBERS: Final = 2**20
"""What a small network may have beside its weights."""

LISTED: Final = 5  # names of each kind in a report of differences
REPORT: Final = 360  # characters; an error's line is cut soon after


def load_net(
    build: Callable[[], N],
    file: Path,
    dtype: torch.dtype,
    device: torch.device,
    single: str | None = None,
) -> N:
    """The network that `build` makes, with the tensors of `file`, in `dtype` on `device`, ready for inference.

    The file, or the index of several, and they may change or go afterwards: nothing is read again. Where `dtype` is
    float16, tensors whose names end with `single` are in float32.

    Raises:
        BadFile: the network cannot be built from its config, or the file is damaged or changes while it is read.
        LayoutMismatch: tensors are missing, unexpected, misshaped, not floating point, or not finite.
        BadSetting: the weights hold numbers that `dtype` cannot.
    """
    return open_net(build, file, dtype, device, single)[0]


def open_net(
    build: Callable[[], N],
    file: Path,
    dtype: torch.dtype,
    device: torch.device,
    single: str | None = None,
    foreign: tuple[str, ...] = (),
    later: Callable[[nn.Module], Collection[str]] | None = None,
) -> tuple[N, Unread]:
    """As `load_net`, but for the tensors that `later` names: they are on the meta device, and are read by need.

    Of a file that holds other networks, too, the tensors whose names begin with one of `foreign` are passed over.

    Raises: as `load_net`.
    """
    with ExitStack() as files:
        shards = files.enter_context(open_weights(file))
        everything = ((name, entry) for shard in shards for name, entry in shard.header.items())
        header = {name: entry for name, entry in everything if not name.startswith(foreign)}
        net = _build(build, file, header)
        names = _match(net, header, file)
        kinds = {there: _kind(there, dtype, single) for there in names.values()}
        put_off = {names[name]: name for name in later(net)} if later is not None else {}
        places: dict[str, Place] = {}
        tensors: dict[str, Tensor] = {}
        largest = 0.0
        for shard in shards:
            for there in shard.header.keys() & put_off.keys():
                places[put_off[there]] = Place(shard, there, kinds[there])
                tensors[there] = torch.empty(shard.header[there].shape, dtype=kinds[there], device="meta")
            entries = {there: entry for there, entry in shard.header.items() if there in kinds.keys() - put_off.keys()}
            tensors |= {
                there: torch.empty(entries[there].shape, dtype=kinds[there], device=device) for there in entries
            }
            largest = max(largest, _read(shard, entries, tensors, device))
        if largest == 0 and put_off:  # a network may be without any small number; then all are looked at
            return open_net(build, file, dtype, device, single, foreign)
        if largest == 0:
            raise LayoutMismatch("every number in this file is zero", str(file), FETCH_AGAIN)
        net.load_state_dict({name: tensors[there] for name, there in names.items()}, strict=True, assign=True)
        return net.requires_grad_(False).eval(), Unread(places, files.pop_all())


def check_net(build: Callable[[], nn.Module], file: Path) -> None:
    """Compare the header of `file` with the tensors of the network that `build` makes.

    Raises: BadFile, LayoutMismatch, as `load_net`.
    """
    header = headers_of(file)
    _match(_build(build, file, header), header, file)


def _kind(name: str, dtype: torch.dtype, single: str | None) -> torch.dtype:
    """The type in which a tensor is kept."""
    return torch.float32 if dtype == torch.float16 and single is not None and name.endswith(single) else dtype


def _read(shard: Shard, entries: Mapping[str, Entry], tensors: Mapping[str, Tensor], device: torch.device) -> float:
    """Fill tensors from a file, and return the largest magnitude; their numbers are looked over as they pass."""
    largest = 0.0
    with reading(shard.path):
        for name, first, numbers in stream(shard.file, entries, device):
            largest = max(largest, check_numbers(numbers, name, shard.path, tensors[name].dtype))
            tensors[name].view(-1)[first : first + len(numbers)] = numbers
    return largest


class _TooLarge(ValueError):
    """The config asks for a larger network than the weights are of."""


class _Uninitialised(TorchFunctionMode):
    """Leaves out the initialisation of weights, and stops where there would be too many for the file.

    On the meta device it does nothing but import the half of torch that can compute without data: a second and more.
    A network costs no memory there, but a million layers cost a million objects.
    """

    def __init__(self, header: Mapping[str, Entry]) -> None:
        super().__init__()
        # Some are made and replaced, or are no weights: positions, tables of angles.
        self._tensors = NETWORK_TIMES * len(header) + SPARE_TENSORS
        self._numbers = NETWORK_TIMES * sum(math.prod(entry.shape) for entry in header.values()) + SPARE_NUMBERS

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs if kwargs is not None else {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return named["tensor"] if "tensor" in named else args[0]
        made = func(*args, **named)
        if func in _FACTORIES:
            self._tensors -= 1
            self._numbers -= made.numel()
            if self._tensors < 0 or self._numbers < 0:
                what = "tensors" if self._tensors < 0 else "numbers"
                raise _TooLarge(f"it asks for more than {NETWORK_TIMES} times as many {what} as the weights have")
        return made


_FACTORIES: Final = frozenset({torch.empty, torch.zeros, torch.ones, torch.full, torch.arange, torch.linspace})
"""What the constructors of networks make tensors with."""


def _build(build: Callable[[], N], file: Path, header: Mapping[str, Entry]) -> N:
    try:
        with torch.device("meta"), _Uninitialised(header):
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
        if name not in wanted or name in names or (there in COPIES and name in header):
            if not _spare(there, entry, header):
                unexpected.append(there)
            continue
        names[name] = there
        if entry.shape != wanted[name]:
            misshaped.append(f"{there} is {list(entry.shape)}, not {list(wanted[name])}")
        elif entry.dtype not in DTYPES:
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


def _spare(name: str, entry: Entry, header: Mapping[str, Entry]) -> bool:
    """Whether nothing is lost without a tensor: a copy, or positions 0, 1, 2 …, which older transformers store."""
    original = header.get(COPIES.get(name, ""))
    return name.rpartition(".")[2] == "position_ids" or (original is not None and original.shape == entry.shape)


def _modern_name(name: str, wanted: Mapping[str, object]) -> str:
    if name in wanted:
        return name
    if COPIES.get(name) in wanted:
        return COPIES[name]
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
