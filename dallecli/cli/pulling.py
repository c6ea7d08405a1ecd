"""A model on its way from the Hub, for whoever watches: what comes, under which licence, how fast, how long yet."""

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dallecli.cli.display import to_stderr
from dallecli.errors import NetworkError, NotDownloaded, RequestError
from dallecli.safe import safe

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from dallecli.weights.fetch.made import Pulled
    from dallecli.weights.fetch.plan import Plan
    from dallecli.weights.fetch.progress import Transfer
    from dallecli.weights.registry import ModelSpec

SPARSE_SECONDS = 10.0


def pull_model(name: str, *, tasks: Sequence[str] | None, half: bool | None, yes: bool, quiet: bool) -> "Pulled":
    """Pull a model and show it on standard error. With `yes` its licence is accepted, should it have to be.

    Raises: what `fetch.pull` raises, and RequestError if the licence is not accepted.
    """
    from dallecli.weights.fetch.pull import pull

    with PullDisplay(quiet=quiet) as watcher:

        def agree(plan: "Plan") -> None:
            watcher.announce(plan)
            if plan.terms is not None and not yes:
                name = plan.lock.model
                _accept(name, _licence(plan.lock.licence), plan.terms, "fetched", f"dalle models pull {name} --yes")

        return pull(name, tasks=tasks, half=half, agree=agree, report=watcher.show)


def accept(spec: "ModelSpec", done: str, command: str) -> None:
    """Ask whether the licence of a model is accepted, whose files are then `done` with: "converted".

    command: that accepts it. Raises RequestError if it is not accepted, or if nobody is here to ask.
    """
    if spec.terms is not None:
        _accept(spec.name, _licence(spec.licence), spec.terms, done, command)


def _accept(model: str, licence: str, terms: str, done: str, command: str) -> None:
    import typer

    name = safe(model, 100)
    if not (_is_terminal(sys.stdin) and _is_terminal(sys.stderr)):
        what = f"{name} is {done} only for those who accept its licence ({licence}), and nobody is here to ask"
        raise RequestError(what, terms, f"read it; {safe(command)} accepts it")
    if not typer.confirm(f"Do you accept the licence of {name} ({licence}: {terms})?", err=True):
        raise RequestError(f"the licence was not accepted, and nothing was {done}", terms)


class _Declined(Exception):
    """Somebody was asked, and does not want the model."""


def offer(error: NotDownloaded) -> bool:
    """Ask somebody at a terminal whether the model that is missing should be pulled now, and do it. Else False.

    The Hub is asked first what there is to fetch, so that the question has the true size and names every repository.
    """
    if error.model is None or not (_is_terminal(sys.stdin) and _is_terminal(sys.stderr)):
        return False
    from dallecli.weights.fetch.pull import pull

    to_stderr(f"{safe(error.what)}.")
    with PullDisplay(quiet=False) as watcher:
        try:
            pull(error.model, agree=_ask, report=watcher.show)
        except (_Declined, NetworkError):  # without a network the command that pulls is what remains to be said
            return False
    return True


def _ask(plan: "Plan") -> None:
    """Raises _Declined unless somebody wants what a pull is about to fetch."""
    import typer

    sizes = plan.repositories()
    for repository, (coming, files) in sizes.items():
        place = _address(repository) if repository in plan.lock.commits else f"https://{repository}"
        to_stderr(f"  {size(coming):>8}  {place} ({files} {'file' if files == 1 else 'files'})")
    licence = _licence(plan.lock.licence)
    if plan.terms is not None:
        to_stderr(f"{licence}; its words are at {plan.terms}, and whoever fetches it accepts them")
    places = "" if len(sizes) == 1 else f" from {len(sizes)} {'repositories' if plan.lock.commits else 'places'}"
    if not typer.confirm(f"Fetch {size(plan.bytes)}{places} now ({licence})?", err=True):
        raise _Declined


class PullDisplay:
    """A bar in a terminal, a line now and then elsewhere, nothing with `quiet`."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._animated = not quiet and _is_terminal(sys.stderr)
        self._bars: Bars | None = None
        self._task: TaskID | None = None
        self._shown = time.monotonic()

    def __enter__(self) -> "PullDisplay":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def announce(self, plan: "Plan") -> None:
        """Say what is about to be fetched; of a new model also under which licence."""
        if self._quiet or plan.bytes == 0:
            return
        lock = plan.lock
        to_stderr(f"{safe(lock.model, 100)}: {size(plan.bytes)} from {safe(', '.join(plan.places), 200)}")
        if plan.fresh:
            place = _address(next(iter(lock.commits))) if lock.commits else None
            words = plan.terms if plan.terms is not None else place
            licence = _licence(plan.lock.licence)
            to_stderr(licence if words is None else f"{licence}; its words are at {words}")

    def show(self, step: "Transfer") -> None:
        """Show how far the transfer is."""
        if self._animated:
            self._move(step)
        elif not self._quiet and time.monotonic() - self._shown >= SPARSE_SECONDS:
            self._shown = time.monotonic()
            to_stderr(f"{step.doing} {safe(step.path, 100)}: {size(step.done)} of {size(step.total)}")

    def _move(self, step: "Transfer") -> None:
        if self._bars is None or self._task is None:
            self._bars = _new_bars()
            self._bars.start()
            # What is here already is no part of the speed.
            self._task = self._bars.add_task("", total=step.total, completed=step.done)
        part = step.path.rpartition("/")[0]
        description = f"{step.doing} {safe(part if part else step.path, 40)}"
        self._bars.update(self._task, description=description, completed=step.done, total=step.total)


def _licence(licence: str | None) -> str:
    return "no licence is stated" if licence is None else f"licence: {safe(licence, 100)}"


def size(amount: int) -> str:
    """Bytes, as people say it."""
    if amount >= 10**8:
        return f"{amount / 1e9:.1f} GB"
    return f"{amount / 1e6:.1f} MB" if amount >= 10**5 else f"{amount / 1e3:.1f} KB"


def _address(repository: str) -> str:
    from dallecli.weights.hub import host

    return f"{host()}/{repository}"


def _is_terminal(stream: Any) -> bool:
    return stream is not None and bool(stream.isatty())


def _new_bars() -> "Bars":
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(compact=True),
        console=Console(stderr=True, markup=False, emoji=False, highlight=False),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
