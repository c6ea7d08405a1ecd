"""`dalle models`: what can be painted with, where it lies, and how it gets there."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from dallecli.cli import options
from dallecli.cli.help import SectionedCommand

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dallecli.classes import Classes
    from dallecli.weights.registry import ModelSpec

models = typer.Typer(rich_markup_mode=None, help="The models: which there are, where they are, and how to get them.")


@models.command("list", cls=SectionedCommand)
def list_models(json: options.Json = False, debug: options.Debug = False) -> None:
    """List the models that have a name, and those that were pulled.

    Whether they are on this machine, the sizes that they paint, and what they are; --json has everything else.

    \b
    Examples:
      dalle models list
      dalle models list --json | jq -r .licence
    """
    from dallecli.cli.display import emit_json, emit_table
    from dallecli.errors import WeightsError
    from dallecli.weights.lock import all_locks
    from dallecli.weights.registry import find, registry

    known = registry()
    specs, broken = list(known.values()), []
    for name in (lock.model for lock in all_locks() if lock.model not in known):
        try:
            specs.append(find(name))
        except WeightsError:
            broken.append(name)
    if json:
        for spec in specs:
            emit_json(_facts(spec))
        for name in broken:
            emit_json({"name": name, "here": "in part"})
        return
    rows = []
    for spec in specs:
        what = spec.description if spec.tasks else f"{spec.description} (planned: cannot be run yet)"
        sizes = [str(size) for size in spec.sizes] + ([f"any to {spec.largest}"] if spec.largest is not None else [])
        rows.append((spec.name, _presence(spec), _size(spec), ", ".join(sizes), what))
    rows += [(name, "in part", "", "", f"dalle models pull {name}") for name in broken]
    emit_table(("NAME", "HERE", "SIZE", "PIXELS", "WHAT"), rows)


@models.command("path", cls=SectionedCommand)
def path(name: options.ModelName, debug: options.Debug = False) -> None:
    """Print the folder of a model.

    It is printed once every part of the model was found there.

    \b
    Examples:
      dalle models path starter
      ls "$(dalle models path karlo)"
    """
    from dallecli.cli.display import emit_line
    from dallecli.weights.registry import find, locate

    emit_line(str(locate(find(name)).path))


@models.command("words", cls=SectionedCommand)
def words(name: options.KnowingModel = "starter", json: options.Json = False, debug: options.Debug = False) -> None:
    """Print the words that a model knows, by kind; or the classes that it paints, by number.

    Of a small model its makers know them all, and what else it is asked for it cannot paint: every painting command
    says so, and refuses with --strict. Published models that read words have no such list. With --json, one object a
    name: its kind, and how else it is said; of a class also its number.

    \b
    Examples:
      dalle models words
      dalle models words starter --json | jq -r 'select(.kind == "things").name'
      dalle models words adm-64 | grep -i retriever
    """
    from dallecli.cli.display import emit_json, emit_line, emit_rows
    from dallecli.weights.known import read_classes, read_words
    from dallecli.weights.registry import find, locate

    spec = find(name)
    folder = locate(spec).path
    known, classes = read_words(folder), read_classes(folder)
    if classes is not None:
        _print_classes(classes, as_json=json)
        return
    if known is None:
        if json:
            return
        emit_line(f"{spec.name} has no list of its words: what it knows, its makers did not write down")
        return
    if json:
        for kind, phrases in known.kinds.items():
            for first, others in phrases.items():
                emit_json({"kind": kind, "name": first, "also": list(others)})
        return
    emit_rows([(kind, _listed(phrases)) for kind, phrases in known.kinds.items()])


def _print_classes(classes: "Classes", *, as_json: bool) -> None:
    """Every class with its number and all of its names."""
    from dallecli.cli.display import emit_json, emit_line
    from dallecli.safe import safe

    for number, names in enumerate(classes.names):
        if as_json:
            emit_json({"kind": "class", "number": number, "name": names[0], "also": list(names[1:])})
        else:
            emit_line(f"{number}  {safe(', '.join(names), 300)}")


def _listed(phrases: "Mapping[str, tuple[str, ...]]") -> str:
    """Names, each with how else it is said: dog (dogs, puppy), ..."""
    return ", ".join(f"{name} ({', '.join(others)})" if others else name for name, others in phrases.items())


@models.command("pull", cls=SectionedCommand)
def pull(
    name: options.PullName,
    tasks: options.ForTasks = None,
    half: options.Half = False,
    yes: options.Yes = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Fetch a model from the Hugging Face Hub, or mend one.

    Every byte is checked against what the Hub says it is. A pull that was stopped goes on where it stopped; what is
    here and right is not fetched again. A licence that restricts what may be done with a model is shown first, and has
    to be accepted; --yes accepts it. Prints the model's folder.

    \b
    Examples:
      dalle models pull karlo
      dalle models pull karlo --for vary
      dalle models pull hf:kakaobrain/karlo-v1-alpha@main
    """
    from dallecli.cli.display import emit_json, emit_line
    from dallecli.cli.pulling import pull_model
    from dallecli.weights.registry import check_ready, registry

    known = registry()
    if name in known:
        check_ready(known[name])
    pulled = pull_model(name, tasks=tasks, half=True if half else None, yes=yes, quiet=quiet)
    if json:
        lock = pulled.lock
        size = sum(file.size for file in lock.files)
        path = str(pulled.folder)
        emit_json({"name": name, "path": path, "commits": dict(lock.commits), "bytes": size, "fetched": pulled.fetched})
    else:
        emit_line(str(pulled.folder))


@models.command("verify", cls=SectionedCommand)
def verify(
    names: options.PulledNames = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Read every byte of pulled models again, and compare with what was pulled.

    A file that is wrong is put aside, so that nothing uses it; the next pull fetches it again. The starter, and any
    folder that has a SHA256SUMS, are compared with the hashes in it. Of other folders the headers are checked: nobody
    wrote down what their bytes were.

    \b
    Examples:
      dalle models verify
      dalle models verify starter
      dalle models verify karlo || dalle models pull karlo
    """
    from dallecli.cli.display import Display, emit_json, emit_line
    from dallecli.cli.many import Many
    from dallecli.cli.pulling import PullDisplay
    from dallecli.errors import BadFile, RequestError, WeightsError
    from dallecli.weights.fetch.verify import verify as verify_bytes
    from dallecli.weights.lock import all_locks, folder_path, read_lock
    from dallecli.weights.registry import find

    bad = []
    chosen = names if names is not None else [lock.model for lock in all_locks()]
    many = Many(len(chosen), Display(quiet=quiet), as_json=json, errors=(RequestError, WeightsError))
    for name in chosen:
        lock = read_lock(name)
        hint = f"dalle models pull {name}"
        path = None
        with many.passing_over(name):
            if lock is None:
                path, wrong, compared = _verified(name)
                packaged = find(name).source.startswith("package:")
                hint = "install dalle again, from a full package" if packaged else "copy this folder again"
            else:
                path, compared = folder_path(name), True
                with PullDisplay(quiet=quiet) as watcher:
                    wrong = [file.path for file in verify_bytes(lock, watcher.show)]
        if path is None:
            continue
        bad += [(name, path / file, hint) for file in wrong]
        if json:
            emit_json({"name": name, "path": str(path), "locked": compared, "wrong": wrong})
        elif not wrong:
            emit_line(f"{name}: good" if compared else f"{name}: good, by its headers")
    if bad:
        name, file, hint = bad[0]
        others = "" if len(bad) == 1 else f", and {len(bad) - 1} more are"
        raise BadFile(f"a file of {name} is missing or wrong{others}", str(file), hint)
    many.finish()


def _verified(name: str) -> tuple[Path, list[str], bool]:
    """The folder of a model that was not pulled, its wrong files, and whether there were hashes to compare with."""
    from dallecli.weights.recorded import recorded, wrong_files
    from dallecli.weights.registry import find, locate

    folder = locate(find(name))
    sums = recorded(folder.path)
    if sums is not None:
        return folder.path, wrong_files(folder.path, sums), True
    folder.parameters()
    return folder.path, [], False


@models.command("remove", cls=SectionedCommand)
def remove(
    name: options.PullName,
    yes: options.Yes = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Remove a pulled model from this machine.

    Files that another model uses stay, and so do those that were in the Hugging Face cache before the pull.

    \b
    Examples:
      dalle models remove karlo
    """
    import sys

    from dallecli.cli.display import emit_json, to_stderr
    from dallecli.cli.pulling import size
    from dallecli.errors import NotDownloaded, RequestError
    from dallecli.safe import safe
    from dallecli.weights.fetch.remove import remove as remove_files
    from dallecli.weights.lock import read_lock
    from dallecli.weights.registry import find

    lock = read_lock(name)
    if lock is None:
        find(name)  # says what was perhaps meant
        raise NotDownloaded(f"{name} was not pulled: there is nothing to remove")
    if not yes:
        if sys.stdin is None or not sys.stdin.isatty():
            raise RequestError("nobody is here to ask", hint=f"dalle models remove {name} --yes")
        if not typer.confirm(f"Remove {safe(name, 100)}?", err=True):
            return
    freed = remove_files(lock)
    if json:
        emit_json({"name": name, "freed": freed})
    elif not quiet:
        to_stderr(f"{safe(name, 100)} is removed: {size(freed)} are free again")


@models.command("convert", cls=SectionedCommand)
def convert(
    source: options.Checkpoint,
    target: options.Converted,
    yes: options.Yes = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Turn pickled weights into safetensors.

    A pickle is a program. It is opened in a process of its own that knows tensors only, and is ended when it tries
    anything else. Of a folder everything else is copied. A pull does this by itself where it has to. Networks that a
    folder stores once under two names, as the starter's does, are there twice in the copy: diffusers needs them so.
    Of a folder with the published files of GLIDE, guided-diffusion, DALL-E Mini, minDALL-E or an autoencoder of codes
    a model folder is made. A licence that restricts what may be done with the model has to be accepted first; --yes
    accepts it.

    \b
    Examples:
      dalle models convert "$(dalle models path starter)" starter-for-diffusers
      dalle models convert karlo-from-a-friend karlo-safe
      dalle models convert pytorch_model.bin model.safetensors
      dalle models convert glide-files glide
    """
    from dallecli.cli.display import emit_json, emit_line
    from dallecli.cli.pulling import accept
    from dallecli.errors import BadOutput
    from dallecli.filling import quoted
    from dallecli.weights.convert import convert_file, convert_folder
    from dallecli.weights.digest import file_digest
    from dallecli.weights.layouts import imported, published_in
    from dallecli.weights.registry import restricted

    if os.path.lexists(target):  # a link that leads nowhere is there, too
        raise BadOutput("this is already there", str(target), "choose another name")
    family = published_in(source)
    licensed = restricted(family) if family is not None else None
    if licensed is not None and not yes:
        accept(licensed, "converted", f"dalle models convert {quoted(str(source))} {quoted(str(target))} --yes")
    if not source.is_dir():
        before = file_digest(source)
        convert_file(source, target)
        pairs = [(source, before, target)]
    else:
        published = family.published if family is not None else None
        made = imported(published.convert) if published is not None else convert_folder
        pairs = [(pickle, file_digest(pickle), written) for pickle, written in made(source, target)]
    for pickle, before, written in pairs:
        if json:
            after = file_digest(written)
            emit_json({"source": str(pickle), "source_sha256": before, "path": str(written), "sha256": after})
    if not json:
        emit_line(str(target))


def _facts(spec: "ModelSpec") -> dict[str, Any]:
    from dallecli.tasks.stages import written

    memory = {kind: spec.memory(width) for kind, width in (("fp32", 4), ("bf16", 2), ("fp16", 2))}
    return {
        "name": spec.name,
        "description": spec.description,
        "here": _presence(spec),
        "layout": spec.layout,
        "source": spec.source,
        "commit": spec.commit,
        "bytes": _bytes(spec),
        "repositories": {part.repository: part.commit for part in spec.parts},
        "licence": spec.licence,
        "terms": spec.terms,
        "tasks": list(spec.tasks),
        "sizes": list(spec.sizes),
        "largest": spec.largest,
        "oblong": spec.oblong,
        "parameters": spec.parameters,
        "memory": memory if spec.parameters is not None else None,
        "clip": spec.clip,
        "prior_candidates": spec.prior_candidates,
        "stages": {name: written(stage) for name, stage in spec.stages.items()},
    }


def _bytes(spec: "ModelSpec") -> int | None:
    """Bytes of all files of a pulled model, as the Hub has them; None for one that was not pulled."""
    from dallecli.weights.lock import read_lock

    lock = read_lock(spec.name)
    return None if lock is None else sum(file.size for file in lock.files)


def _size(spec: "ModelSpec") -> str:
    """How much a model is on the disk, or about how much a pull fetches: its weights, in the published number type."""
    from dallecli.cli.pulling import size

    known, weights = _bytes(spec), spec.memory()
    if known is not None:
        return size(known)
    repositories = len({part.repository for part in spec.parts})
    places = f" from {repositories} repositories" if repositories > 1 else ""
    stated = sum(file.bytes for file in spec.files if file.bytes is not None)
    weights = stated if stated else weights
    return f"about {size(weights)}{places}" if weights is not None and (spec.parts or spec.files) else ""


def _presence(spec: "ModelSpec") -> str:
    """Where a model is, at a glance: nothing is read but its lock and the lengths of its files."""
    kind, _, place = spec.source.partition(":")
    if kind == "package":
        return "included"
    if kind == "own":
        return "own files"
    from dallecli.weights.lock import folder_path, read_lock, repository_cache

    lock = read_lock(spec.name)
    if lock is not None:
        return "in part" if lock.missing() or not folder_path(spec.name).is_dir() else "pulled"
    snapshots = repository_cache(place) / "snapshots"
    return "cached" if snapshots.is_dir() and any(snapshots.iterdir()) else "no"
