"""Where a result goes: one file, standard output, or a file with a name of its own in a folder."""

import sys
from dataclasses import dataclass
from pathlib import Path

from dallecli.cli.display import Display
from dallecli.cli.options import FileOptions
from dallecli.errors import BadOutput
from dallecli.safe import safe

STDOUT = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """One file (`file`), standard output (`stdout`), or files with names of their own in `folder`."""

    file: Path | None
    stdout: bool
    folder: Path
    force: bool

    @property
    def certain(self) -> bool:
        """Whether there is exactly one place for one result."""
        return self.stdout or self.file is not None


def choose_destination(options: FileOptions, *, results: int, noun: str, as_json: bool, redirected: str) -> Destination:
    """Decide where `results` of something go. Raises BadOutput where the options contradict each other.

    `noun` says of what there is one result each, `redirected` is what standard output could be redirected to.
    """
    file, folder, force = options.output, options.out, options.force
    if file is None:
        return Destination(file=None, stdout=False, folder=folder if folder is not None else Path(), force=force)
    if folder is not None:
        raise BadOutput("-o and --out contradict each other", hint="-o names one file, --out the folder of many")
    if results > 1:
        raise BadOutput(f"-o names one file, but {results} {noun} make {results}", hint="use --out for a folder")
    if file != STDOUT:
        path = Path(file)
        return Destination(file=path, stdout=False, folder=path.parent, force=force)
    if as_json:
        raise BadOutput("-o - and --json both want standard output", hint="write to a file, or leave out --json")
    if sys.stdout is not None and sys.stdout.isatty():
        raise BadOutput("standard output is a terminal", hint=f"redirect it: > {redirected}, or into a pipe")
    return Destination(file=None, stdout=True, folder=Path(), force=force)


def probe_destination(destination: Destination, space: int, display: Display) -> None:
    """Find out, by trying, that `space` bytes can be written there. A folder of --out is made where it is missing.

    Raises: BadOutput, DiskFull.
    """
    from dallecli.publish import check_file, check_folder

    if destination.stdout:
        return
    if destination.file is not None:
        check_file(destination.file, force=destination.force)
    else:
        make_folder(destination.folder, display)
    check_folder(destination.folder, space)


def make_folder(folder: Path, display: Display) -> None:
    """Make a folder and those above it, and say so, unless it is there. Raises BadOutput, DiskFull."""
    from dallecli.publish import disk_errors

    if folder.exists():
        return
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    display.say(f"made the folder {safe(str(folder), 200)}")


def put(destination: Destination, name: str, data: bytes) -> Path | None:
    """Publish a result in its place, under `name` where that is free to choose; None is for standard output."""
    from dallecli.publish import publish, publish_new

    if destination.stdout:
        return None
    if destination.file is not None:
        return publish(destination.file, data, force=destination.force)
    if destination.force:
        return publish(destination.folder / name, data, force=True)
    return publish_new(destination.folder, name, data)
