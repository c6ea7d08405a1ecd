"""The weights of a network, in one file or split into several, which an index lists. No torch here.

Where a part says where its weights are, it names the file, or the index: `model.safetensors.index.json`, in half
precision `model.safetensors.index.fp16.json`. An index is a table of all tensors with the name of the file that each is
in. What it says is compared with the headers of the files before anything else is read.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Final

from dallecli.errors import BadFile, reason
from dallecli.limits import SHARD_INDEX_BYTES, SHARDS, TENSOR_NAME, TENSORS, open_file, read_file
from dallecli.weights.header import FETCH_AGAIN, Entry, header_of

SHARD: Final = r"[\w-][\w.-]*\.safetensors"
"""The name of a shard, as a regular expression for ASCII: a file beside the index, and no path."""

REPAIR: Final = "correct it, or pull or copy the model again"

_SHOWN: Final = 80  # characters of a name in an error


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """An open file with weights, or with some of them, and its header."""

    path: Path
    file: FileIO
    header: Mapping[str, Entry]


def index_names(stem: str, precision: str) -> tuple[str, ...]:
    """What an index is called, of weights of such a name: in ways of several libraries. precision: "" or ".fp16"."""
    names = (f"{stem}.safetensors.index{precision}.json", f"{stem}{precision}.safetensors.index.json")
    return tuple(dict.fromkeys(names))


def is_index(path: Path) -> bool:
    """Whether the weights at `path` are split into several files, and this is their index."""
    return path.suffix == ".json"


def files_of(path: Path) -> tuple[Path, ...]:
    """All files that the weights at `path` consist of: the index first, if there is one. Raises BadFile."""
    return (path, *dict.fromkeys(_shards(path).values())) if is_index(path) else (path,)


def file_with(path: Path, tensor: str) -> Path:
    """The one of those files that holds a tensor. Raises BadFile if none does."""
    if not is_index(path):
        return path
    shards = _shards(path)
    if tensor not in shards:
        raise BadFile(f"the index of the weights has no {tensor}", str(path), REPAIR)
    return shards[tensor]


def headers_of(path: Path) -> dict[str, Entry]:
    """All tensors of the weights at `path`, by name.

    Raises:
        BadFile: as `header.read_header`, and for an index that is none, or does not say what its files hold.
    """
    with open_weights(path) as shards:
        return {name: entry for shard in shards for name, entry in shard.header.items()}


@contextmanager
def open_weights(path: Path) -> Iterator[tuple[Shard, ...]]:
    """The files of the weights at `path`, all open, so that what is read later is what was looked at now.

    Raises: as `headers_of`.
    """
    index = _shards(path) if is_index(path) else None
    with ExitStack() as stack:
        shards = []
        for file in (path,) if index is None else dict.fromkeys(index.values()):
            try:
                opened = open_file(file).detach()
                assert isinstance(opened, FileIO)
                stack.enter_context(opened)
                shards.append(Shard(path=file, file=opened, header=header_of(opened, file)))
            except FileNotFoundError as problem:
                if index is None:
                    raise _unreadable(file, problem) from problem
                what = f"a file of these weights is missing: {file.name}"
                raise BadFile(what, str(path), REPAIR) from problem
            except OSError as problem:
                raise _unreadable(file, problem) from problem
        if index is not None:
            _compare(index, shards, path)
        yield tuple(shards)


def _unreadable(file: Path, problem: OSError) -> BadFile:
    return BadFile(f"the weights cannot be read: {reason(problem)}", str(file), FETCH_AGAIN)


def _shards(path: Path) -> dict[str, Path]:
    """The file of each tensor, as an index has it. Raises BadFile."""
    try:
        content = json.loads(read_file(path, SHARD_INDEX_BYTES).decode("utf-8"))
    except OSError as problem:
        raise BadFile(f"the index of the weights cannot be read: {reason(problem)}", str(path), REPAIR) from problem
    except (ValueError, RecursionError) as problem:
        raise BadFile(f"the index of the weights is not valid JSON: {problem}", str(path), REPAIR) from problem
    stated = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(stated, dict) or not stated:
        raise BadFile("the index of the weights has no weight_map", str(path), REPAIR)
    if len(stated) > TENSORS:
        what = f"the index of the weights has {len(stated)} tensors, the limit is {TENSORS}"
        raise BadFile(what, str(path), REPAIR)
    for tensor, name in stated.items():
        if len(tensor) > TENSOR_NAME or not tensor.isprintable():
            raise BadFile(f"a tensor has a name that no network uses: {tensor[:_SHOWN]}", str(path), REPAIR)
        if not isinstance(name, str) or not re.fullmatch(SHARD, name, re.ASCII):
            what = f"the index names a file that is none beside it: {str(name)[:_SHOWN]}"
            raise BadFile(what, str(path), REPAIR)
    count = len(set(stated.values()))
    if count > SHARDS:
        raise BadFile(f"the weights are split into {count} files, the limit is {SHARDS}", str(path), REPAIR)
    return {tensor: path.parent / name for tensor, name in stated.items()}


def _compare(index: Mapping[str, Path], shards: list[Shard], path: Path) -> None:
    """Raise BadFile unless each file holds what the index says of it, and nothing else."""
    for shard in shards:
        named = {tensor for tensor, file in index.items() if file == shard.path}
        for tensor in sorted(named ^ shard.header.keys()):
            problem = "which does not hold it" if tensor in named else "which the index does not say"
            where = "is said to be in" if tensor in named else "is in"
            what = f"the index is wrong: {tensor[:_SHOWN]} {where} {shard.path.name}, {problem}"
            raise BadFile(what, str(path), REPAIR)
