"""Pickled weights become safetensors, in a process of their own.

A pickle is a program. It is opened here and nowhere else, never where a model is loaded, and behind three guards:
torch's `weights_only` reader, which knows tensors and nothing that could run; an audit hook, which ends the process
when it tries to use the network, start a program or write to a file; and the process itself, which holds no secrets.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from dallecli.errors import BadFile, BadFolder, BadOutput, BadSetting, OutOfMemory
from dallecli.installation import install_command
from dallecli.weights.folder import PICKLES, Folder
from dallecli.weights.header import read_header
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

HINT: Final = "use a .safetensors file of this model"


def convert(targets: Mapping[Path, Path]) -> None:
    """Write the tensors of pickled checkpoints as safetensors, with their names and dtypes; all files or none.

    targets: where to write each checkpoint.

    Raises:
        BadFile: a file is not a checkpoint, is damaged, or holds anything but tensors.
        BadSetting: torch is too old to open it safely.
        OutOfMemory: the tensors do not fit.
    """
    try:
        _run(targets)
        for target in targets.values():
            read_header(target)
    except BaseException:
        for target in targets.values():
            target.unlink(missing_ok=True)
        raise


def convert_file(source: Path, target: Path) -> None:
    """Convert one checkpoint; `target` appears when it is complete, and is replaced if it existed.

    Raises: as `convert`, and BadOutput if its folder cannot be written to.
    """
    draft = target.with_name(f"{target.name}.{os.getpid()}")
    if not os.access(target.absolute().parent, os.W_OK):
        raise BadOutput("nothing can be written here", str(target.absolute().parent))
    convert({source: draft})
    draft.replace(target)


def convert_folder(source: Path, target: Path) -> dict[Path, Path]:
    """Copy a model's folder, with safetensors where it has only pickles; `target` appears when it is complete.

    Returns where the tensors of each pickle are. Pickles beside safetensors are left out. Weights that the folder
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
        if shares is not None:
            unshare(shares, draft)
        draft.replace(target)
    except OSError as error:
        raise BadOutput(f"the folder cannot be written: {error}", str(target)) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return {path: target / place for path, place in lonely.items()}


def _sharing(source: Path) -> Folder | None:
    """The folder, if it is a whole one that stores weights of two parts once."""
    try:
        folder = Folder(source)
        return folder if folder.shared() else None
    except (BadFolder, BadFile):
        return None


def _run(targets: Mapping[Path, Path]) -> None:
    root = str(Path(__file__).parents[2])
    paths = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    # The environment of the other process holds no secrets of this one, such as tokens.
    kept = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-m", "dallecli.weights.convert", *(str(path) for pair in targets.items() for path in pair)],
        env={**kept, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode == 0:
        return
    said = done.stderr.decode("utf-8", "replace").strip().splitlines()
    if done.returncode != REFUSED or not said:
        reason = said[-1] if said else f"its process ended with {done.returncode}"
        raise BadFile(f"the checkpoint could not be converted: {reason}", str(next(iter(targets))), HINT)
    facts = json.loads(said[-1])
    if facts["kind"] == "memory":
        raise OutOfMemory("the checkpoint does not fit into memory", facts["where"])
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


def _convert_all(pairs: Sequence[tuple[str, str]]) -> None:
    """What the process does."""
    global _reading
    import pickle

    import torch

    version = tuple(int(number) for number in torch.__version__.split("+")[0].split(".")[:2])
    if version < NEEDED_TORCH:
        _refuse("torch", f"torch {torch.__version__} cannot open pickles safely; 2.10 and later can")
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
    first = str(error).partition("\n")[0]
    return f"the checkpoint cannot be read: {first if first else type(error).__name__}"


def _convert(source: str, target: str) -> None:
    import zipfile

    import torch
    from safetensors.torch import save_file

    # Mapped, a checkpoint larger than memory can be converted; files from before 2020 cannot be mapped.
    content = torch.load(source, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(source))
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not content:
        raise ValueError("it is not a table of tensors")
    tensors, seen = {}, set()
    for name, value in content.items():
        plain = type(value) in (torch.Tensor, torch.nn.Parameter) and value.layout == torch.strided
        if not isinstance(name, str) or not plain:
            raise ValueError(f"{name!r} is not a plain tensor")
        # Each tensor needs bytes of its own in safetensors.
        tensor = value.detach()
        place = tensor.untyped_storage().data_ptr()
        if place in seen or not tensor.is_contiguous() or tensor.untyped_storage().nbytes() != tensor.nbytes:
            tensor = tensor.clone(memory_format=torch.contiguous_format)
        seen.add(place)
        tensors[name] = tensor
    save_file(tensors, target, metadata={"format": "pt"})


if __name__ == "__main__":
    given = sys.argv[1:]
    _convert_all(list(zip(given[::2], given[1::2], strict=True)))
