"""Pickled weights become safetensors, in a process of their own.

A pickle is a program. It is opened here and nowhere else, never where a model is loaded, and behind three guards:
torch's `weights_only` reader, which knows tensors and nothing that could run; an audit hook, which ends the process
when it tries to use the network, start a program or write to a file; and the process itself, which holds no secrets.
"""

import json
import os
import re
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, NoReturn

from dallecli.errors import BadFile, BadFolder, BadOutput, BadSetting, OutOfMemory, reason
from dallecli.installation import install_command
from dallecli.limits import (
    CHECKPOINT_RATE,
    CHECKPOINT_SECONDS,
    CHECKPOINT_SPARE,
    CHECKPOINT_TIMES,
    DIRECTORY_BYTES,
    TENSORS,
    in_words,
    open_file,
)
from dallecli.source import is_picture, is_safetensors_head, stranger_name
from dallecli.weights.folder import PICKLES, Folder, read_object
from dallecli.weights.header import read_header
from dallecli.weights.pickled_modules import STUBS, Stub, tensors_of
from dallecli.weights.selection import safetensors_name
from dallecli.weights.twins import unshare

NEEDED_TORCH: Final = (2, 10)
"""Files are known that get past `weights_only` of older versions (CVE-2025-32434, CVE-2026-24747)."""

FORBIDDEN: Final = (
    "socket.",
    "subprocess.",
    "os.",
    "shutil.",
    "pickle.find_class",
    "ctypes.dlopen",
    "urllib.",
    "ftplib.",
)
"""The events of sys.audit that reading tensors does not need."""

HARMLESS: Final = frozenset({"os.listdir", "os.scandir", "os.putenv", "os.unsetenv", "os.walk", "os.fspath"})

REFUSED: Final = 3
"""The exit code of the process when it has said why it refused."""

ENVIRONMENT: Final = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "SYSTEMROOT")

_HEAD: Final = 64
_CHECKPOINTS: Final = ("a ZIP archive", "a pickle")
"""What checkpoints are, in the words of `source.stranger`."""

HINT: Final = "use a .safetensors file of this model"


def convert(targets: Mapping[Path, Path]) -> None:
    """Write the tensors of pickled checkpoints as safetensors, with their names and dtypes; all files or none.

    targets: where to write each checkpoint.

    Raises:
        BadFile: a file is not a checkpoint, is damaged, or holds anything but tensors.
        BadSetting: torch is too old to open it safely.
        OutOfMemory: the tensors do not fit.
    """
    for source in targets:
        check_checkpoint(source)
    allowances = [_allowance(path) for path in targets]
    try:
        _run(targets, sum(path.stat().st_size for path in targets), max(allowances, default=0))
        for target in targets.values():
            read_header(target)
    except BaseException:
        for target in targets.values():
            target.unlink(missing_ok=True)
        raise


def check_checkpoint(path: Path) -> None:
    """Refuse what is plainly another kind of file, by its first bytes. Raises BadFile."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise BadFile(f"the file cannot be read: {reason(error)}", str(path)) from error
    if path.stat().st_size == 0:
        raise BadFile("the file is empty", str(path), HINT)
    if path.suffix == ".msgpack":
        hint = "convert the folder that holds it: dalle models convert FOLDER NEW-FOLDER"
        raise BadFile("this is a file of flax, which makes a model only with those beside it", str(path), hint)
    kind, hint = stranger_name(head), HINT
    if is_safetensors_head(head, path.stat().st_size):
        kind, hint = "a safetensors file already", "there is nothing to convert: use it as it is"
    elif is_picture(head):
        kind = "a picture"
    elif kind is not None and kind.startswith("a Git LFS"):
        hint = "git lfs pull fetches the file itself"
    elif kind in ("a web page", "an XML file"):
        hint = "download the file itself, not the page that is about it"
    if kind is not None and not kind.startswith(_CHECKPOINTS):
        raise BadFile(f"this is {kind.partition(',')[0]}, not a checkpoint", str(path), hint)


def convert_file(source: Path, target: Path) -> None:
    """Convert one checkpoint; `target` appears when it is complete, and is replaced if it existed.

    Raises: as `convert`, and BadOutput if its folder cannot be written to.
    """
    draft = target.with_name(f"{target.name}.{os.getpid()}")
    if not os.access(target.absolute().parent, os.W_OK):
        raise BadOutput("nothing can be written here", str(target.absolute().parent))
    convert({source: draft})
    draft.replace(target)


def convert_folder(source: Path, target: Path) -> list[tuple[Path, Path]]:
    """Copy a model's folder, with safetensors where it has only pickles; `target` appears when it is complete.

    Returns each pickle, and where its tensors are. Pickles beside safetensors are left out. Weights that the folder
    stores once for two parts are there for both in the copy, as other programs need them.

    Raises: as `convert`, BadFolder if there is nothing to convert, and BadOutput if `target` cannot be written.
    """
    pickles = [path for path in sorted(source.rglob("*.bin")) if path.is_file()]
    written = {path: path.relative_to(source).parent / safetensors_name(path.name) for path in pickles}
    lonely = {path: place for path, place in written.items() if not (source / place).exists()}
    shares = _sharing(source)
    if not lonely and shares is None:
        raise BadFolder("there are no pickled weights in this folder that have no safetensors beside them", str(source))
    draft = target.with_name(f"{target.name}.{os.getpid()}")
    try:
        shutil.copytree(source, draft, ignore=shutil.ignore_patterns(*(f"*{suffix}" for suffix in PICKLES)))
        if lonely:
            convert({path: draft / place for path, place in lonely.items()})
            _convert_indexes(draft)
        if shares is not None:
            unshare(shares, draft)
        draft.replace(target)
    except OSError as error:
        raise BadOutput(f"the folder cannot be written: {error}", str(target)) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return [(path, target / place) for path, place in lonely.items()]


def _convert_indexes(folder: Path) -> None:
    """Give the indexes of split pickles the names of what the pickles became. Raises BadFile, OSError."""
    for index in sorted(folder.rglob("*.bin.index*.json")):
        content = read_object(index)
        places = content.get("weight_map")
        if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
            raise BadFile("the index of the weights has no weight_map", str(index), HINT)
        content["weight_map"] = {tensor: safetensors_name(name) for tensor, name in places.items()}
        name = re.sub("^pytorch_model", "model", index.name).replace(".bin.", ".safetensors.")
        if not index.with_name(name).exists():
            index.with_name(name).write_text(json.dumps(content, indent=1), encoding="utf-8")
        index.unlink()


def _sharing(source: Path) -> Folder | None:
    """The folder, if it is a whole one that stores weights of two parts once."""
    try:
        folder = Folder(source)
        return folder if folder.shared() else None
    except (BadFolder, BadFile):
        return None


def _allowance(path: Path) -> int:
    """The bytes of memory in which a checkpoint can be converted: itself, its tensors, and their file.

    Raises: BadFile for what is no file, or an archive whose members are not what torch writes.
    """
    try:
        with open_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            _check_archive(file, size, path)
    except OSError as problem:
        raise BadFile(f"the checkpoint cannot be read: {reason(problem)}", str(path), HINT) from problem
    return (2 * CHECKPOINT_TIMES + 1) * size + CHECKPOINT_SPARE


def _check_archive(file: BinaryIO, size: int, path: Path) -> None:
    """Refuse a zip archive that holds more than it has, or more members than any network has tensors."""
    file.seek(0)
    if file.read(4) != b"PK\x03\x04":
        return  # torch's form from before 2020
    count, directory = _end_of_directory(file, size)
    if count > 2 * TENSORS or directory > DIRECTORY_BYTES:
        raise BadFile(f"the checkpoint has {count} members, the limit is {2 * TENSORS}", str(path), HINT)
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as problem:
        raise BadFile(f"the checkpoint is damaged: {problem}", str(path), HINT) from problem
    packed = next((member.filename for member in members if member.compress_type != zipfile.ZIP_STORED), None)
    if packed is not None:
        raise BadFile(f"{packed[:80]} in this checkpoint is compressed, which torch never does", str(path), HINT)
    if sum(member.file_size for member in members) > size:
        raise BadFile("the checkpoint claims to hold more bytes than it has", str(path), HINT)


def _end_of_directory(file: BinaryIO, size: int) -> tuple[int, int]:
    """How many members an archive says that it has, and in how many bytes it lists them; 0 where it does not say."""
    start = max(0, size - 2**16 - 22)
    file.seek(start)
    tail = file.read()
    place = tail.rfind(b"PK\x05\x06")
    if place < 0 or place + 22 > len(tail):
        return 0, 0
    count, directory = struct.unpack("<HI", tail[place + 10 : place + 16])
    wide = tail.rfind(b"PK\x06\x06")  # where two bytes do not suffice
    if wide >= 0 and wide + 48 <= len(tail):
        count, directory = struct.unpack("<QQ", tail[wide + 32 : wide + 48])
    return count, directory


def _run(targets: Mapping[Path, Path], size: int, allowance: int) -> None:
    root = str(Path(__file__).parents[2])
    paths = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    # The environment of the other process holds no secrets of this one, such as tokens.
    kept = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    pairs = [str(path) for pair in targets.items() for path in pair]
    seconds = CHECKPOINT_SECONDS + size / CHECKPOINT_RATE
    try:
        done = subprocess.run(
            [sys.executable, "-m", "dallecli.weights.convert", str(allowance), *pairs],
            env={**kept, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired as problem:
        what = f"the checkpoint was not converted in {seconds:.0f} seconds"
        raise BadFile(what, str(next(iter(targets))), HINT) from problem
    if done.returncode == 0:
        return
    said = done.stderr.decode("utf-8", "replace").strip().splitlines()
    if done.returncode != REFUSED or not said:
        reason = said[-1] if said else f"its process ended with {done.returncode}"
        raise BadFile(f"the checkpoint could not be converted: {reason}", str(next(iter(targets))), HINT)
    facts = json.loads(said[-1])
    if facts["kind"] == "memory":
        if sys.platform != "linux" or os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") < allowance:
            raise OutOfMemory("the checkpoint does not fit into memory", facts["where"])
        what = f"the checkpoint takes more than {in_words(allowance)} of memory: it unpacks to more than is stored"
        raise BadFile(what, facts["where"], HINT)
    if facts["kind"] == "torch":
        raise BadSetting(facts["what"], hint=install_command("torch", upgrade=True))
    raise BadFile(facts["what"], facts["where"], HINT)


def _guard(event: str, arguments: tuple[Any, ...]) -> None:
    writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    if writes or (event.startswith(FORBIDDEN) and event not in HARMLESS):
        _refuse("checkpoint", f"this checkpoint tried to do something that no weights need: {event}")


_reading = ""
"""The checkpoint that the process is reading, for its error."""


def _refuse(kind: str, what: str) -> NoReturn:
    sys.stderr.write("\n" + json.dumps({"kind": kind, "what": what, "where": _reading}) + "\n")
    sys.stderr.flush()
    os._exit(REFUSED)


def _limit_memory(allowance: int) -> None:
    """Let the process have so many bytes more than it has now, where the system can see to that: on Linux."""
    if sys.platform == "linux":
        import resource

        taken = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        most = taken + allowance
        resource.setrlimit(resource.RLIMIT_AS, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _convert_all(allowance: int, pairs: Sequence[tuple[str, str]]) -> None:
    """What the process does."""
    global _reading
    import pickle

    import torch

    version = tuple(int(number) for number in torch.__version__.split("+")[0].split(".")[:2])
    if version < NEEDED_TORCH:
        _refuse("torch", f"torch {torch.__version__} cannot open pickles safely; 2.10 and later can")
    import safetensors.torch  # noqa: F401  # before the memory is limited: it is not the checkpoint's

    _limit_memory(allowance)
    sys.addaudithook(_guard)
    for source, target in pairs:
        _reading = source
        try:
            _convert(source, target)
        except MemoryError:
            _refuse("memory", "")
        except (pickle.UnpicklingError, ArithmeticError, AttributeError, EOFError, LookupError, OSError) as error:
            _refuse("checkpoint", _in_words(error))
        except (RuntimeError, TypeError, ValueError) as error:
            _refuse("memory" if "can't allocate memory" in str(error) else "checkpoint", _in_words(error))


def _in_words(error: Exception) -> str:
    """Why a file cannot be read. torch's own words would advise to open it without any guard."""
    said = str(error)
    names = re.search(r"(?:GLOBAL|Unsupported class) ([\w.]+)", said)
    if names is not None:
        return f"the checkpoint cannot be read: besides tensors it holds {names[1]}, which could be a program"
    first = said.partition("\n")[0]
    if "weights_only" in said or not first.strip() or first.strip().isdigit():
        return "the checkpoint cannot be read: it is not a pickle of tensors, or it is damaged"
    return f"the checkpoint cannot be read: {first}"


def _convert(source: str, target: str) -> None:
    import torch
    from safetensors.torch import save_file

    # Mapped, a checkpoint larger than memory can be converted; files from before 2020 cannot be mapped.
    with torch.serialization.safe_globals(list(STUBS)):
        content = torch.load(source, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(source))
    if isinstance(content, Stub):
        content = tensors_of(content)
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not content:
        raise ValueError("it is not a table of tensors")
    tensors, seen, left = {}, set(), CHECKPOINT_TIMES * Path(source).stat().st_size
    for name, value in content.items():
        plain = type(value) in (torch.Tensor, torch.nn.Parameter) and value.layout == torch.strided
        if not isinstance(name, str) or not plain:
            raise ValueError(f"{name!r} is not a plain tensor")
        left -= value.nbytes
        if left < 0 or value.nbytes > value.untyped_storage().nbytes():
            raise ValueError(f"{name!r} unpacks to more than is stored: {value.nbytes} bytes")
        # Each tensor needs bytes of its own in safetensors.
        tensor = value.detach()
        place = tensor.untyped_storage().data_ptr()
        if place in seen or not tensor.is_contiguous() or tensor.untyped_storage().nbytes() != tensor.nbytes:
            tensor = tensor.clone(memory_format=torch.contiguous_format)
        seen.add(place)
        tensors[name] = tensor
    save_file(tensors, target, metadata={"format": "pt"})


if __name__ == "__main__":
    given = sys.argv[2:]
    _convert_all(int(sys.argv[1]), list(zip(given[::2], given[1::2], strict=True)))
