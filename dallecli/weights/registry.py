"""The models that have a name (weights.toml), and any folder that somebody points at. No torch here.

A folder that nobody registered gets the dials of the published model of its layout, changed by the `dalle.json` that
may lie in it: `{"prior_candidates": 2, "stages": {"decoder": {"steps": 25, "guidance": 2.5}}}`.
"""

import difflib
import math
import os
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

from dallecli.errors import BadFile, BadFolder, NotDownloaded, UnknownModel
from dallecli.request import STAGES, StageSettings
from dallecli.weights.folder import LAYOUTS, Folder, read_object

SAMPLERS: Final = ("ancestral", "ddim", "dpm++")
"""The names in diffusion's table of samplers, which cannot be asked without torch."""

TASKS: Final = ("generate",)

PUBLISHED: Final[Mapping[str, str]] = {"karlo": "karlo"}
"""For each layout the registered model whose dials an unregistered folder of it gets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """An entry of weights.toml, or what stands in for one.

    source: "package:FOLDER", "hub:ORG/NAME" or "folder:PATH". sizes: pixels, ascending, of the decoder and each
    upsampler. stages: the model's own dials, keyed as in `request.STAGES`. parameters: numbers in all networks, None
    where only the files know.
    """

    name: str
    description: str
    layout: str
    source: str
    commit: str | None
    licence: str | None
    tasks: tuple[str, ...]
    sizes: tuple[int, ...]
    stages: Mapping[str, StageSettings]
    prior_candidates: int
    parameters: int | None

    def memory(self, bytes_each: int = 4) -> int | None:
        """Bytes that the weights take with `bytes_each` bytes a number; None where only the files know."""
        return None if self.parameters is None else self.parameters * bytes_each


def registry() -> dict[str, ModelSpec]:
    """All registered models by name, in the order of weights.toml."""
    return dict(_registered())


@cache
def _registered() -> Mapping[str, ModelSpec]:
    package = resources.files("dallecli")
    file = package / "weights.toml"
    if not file.is_file():  # in a checkout it lies beside the package
        file = Path(str(package)).parent / "weights.toml"
    return read_registry(file.read_text(encoding="utf-8"), str(file))


def read_registry(text: str, where: str) -> dict[str, ModelSpec]:
    """The models that a text in the form of weights.toml describes.

    Raises:
        BadFile: it is not TOML, or an entry has a field that is missing, unknown, or of the wrong kind.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        raise BadFile(f"the registry is not valid TOML: {problem}", where) from problem
    models = _Fields(tables, where)
    return {name: _spec(name, models.table(name)) for name in tables}


def find(name_or_folder: str) -> ModelSpec:
    """The model of this name, or the one in this folder. A name wins over a folder: write `./name` for the folder.

    Raises:
        UnknownModel: there is neither.
        BadFolder, BadFile: the folder is not a model, or does not describe itself well.
    """
    known = _registered()
    if name_or_folder in known:
        return known[name_or_folder]
    path = os.path.expanduser(name_or_folder)  # noqa: PTH111  # Path.expanduser raises for unknown users
    if os.path.lexists(path):
        return _unregistered(Folder(Path(path)))
    if os.sep in name_or_folder or name_or_folder.startswith((".", "~")):
        raise UnknownModel("there is no such model folder", name_or_folder)
    close = difflib.get_close_matches(name_or_folder, known, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]}?" if close else f"the models are {', '.join(known)}; a folder works, too"
    raise UnknownModel(f"no model is called {name_or_folder!r}", hint=hint)


def locate(spec: ModelSpec) -> Folder:
    """The folder that holds a model's files. Never uses the network.

    Raises:
        NotDownloaded: a Hub model is not in the Hugging Face cache, or the package came without its own.
        BadFolder, BadFile: the folder is there, but not whole.
    """
    kind, _, place = spec.source.partition(":")
    if kind == "package":
        path = Path(str(resources.files("dallecli") / place))
        if not (path / "model_index.json").is_file():
            raise NotDownloaded(
                f"{spec.name} is not part of this installation", str(path), "install dalle again, from a full package"
            )
        return Folder(path)
    if kind == "folder":
        return Folder(Path(place))
    return _cached_snapshot(place, spec)


def _cached_snapshot(repository: str, spec: ModelSpec) -> Folder:
    from huggingface_hub import try_to_load_from_cache

    index = try_to_load_from_cache(repository, "model_index.json", revision=spec.commit)
    what = f"{spec.name} is not on this machine"
    if isinstance(index, str):
        try:
            return Folder(Path(index).parent)
        except BadFolder as problem:  # a download that stopped half-way
            what = f"{spec.name} is on this machine only in part: {problem.what}"
    pinned = "" if spec.commit is None else f" --revision {spec.commit}"
    hint = f"hf download {repository}{pinned} --local-dir {spec.name}    then: --model ./{spec.name}"
    raise NotDownloaded(what, hint=hint)


def _unregistered(folder: Folder) -> ModelSpec:
    """What stands in for a folder's missing entry in the registry."""
    published = _registered()[PUBLISHED[folder.layout]]
    sizes = folder.sizes()
    last = list(published.stages)[-1]
    stages = {name: published.stages.get(name, published.stages[last]) for name in STAGES[: len(sizes) + 1]}
    spec = replace(
        published,
        name=folder.path.resolve().name,
        description="a folder on this machine",
        source=f"folder:{folder.path.resolve()}",
        commit=None,
        licence=None,
        sizes=sizes,
        stages=stages,
        parameters=None,
    )
    file = folder.path / "dalle.json"
    return _with_own_dials(spec, file) if file.is_file() else spec


def _with_own_dials(spec: ModelSpec, file: Path) -> ModelSpec:
    fields = _Fields({"prior_candidates": spec.prior_candidates, "stages": {}} | read_object(file), str(file))
    candidates = fields.whole("prior_candidates", 1)
    stated = fields.table("stages")
    stages = {
        name: _stage(stated.table(name, asdict(default))) if name in stated else default
        for name, default in spec.stages.items()
    }
    stated.finish()
    fields.finish()
    return replace(spec, stages=stages, prior_candidates=candidates)


def _spec(name: str, fields: "_Fields") -> ModelSpec:
    sizes = fields.sizes("sizes")
    stages = fields.table("stages")
    spec = ModelSpec(
        name=name,
        description=fields.text("description"),
        layout=fields.choice("layout", LAYOUTS),
        source=fields.source("source"),
        commit=fields.text("commit") if "commit" in fields else None,
        licence=fields.text("licence"),
        tasks=fields.choices("tasks", TASKS),
        sizes=sizes,
        stages={stage: _stage(stages.table(stage)) for stage in STAGES[: len(sizes) + 1]},
        prior_candidates=fields.whole("prior_candidates", 1),
        parameters=fields.whole("parameters", 1) if "parameters" in fields else None,
    )
    stages.finish()
    fields.finish()
    return spec


def _stage(fields: "_Fields") -> StageSettings:
    settings = StageSettings(
        sampler=fields.choice("sampler", SAMPLERS), steps=fields.whole("steps", 2), guidance=fields.number("guidance")
    )
    fields.finish()
    return settings


class _Fields:
    """Takes the known fields out of a table, each of one kind, and notices what is missing or left over."""

    def __init__(self, table: Mapping[str, Any], where: str, name: str = "") -> None:
        self.left = dict(table)
        self.where = where
        self.name = name

    def __contains__(self, key: str) -> bool:
        return key in self.left

    def text(self, key: str) -> str:
        value = self._take(key)
        if not isinstance(value, str) or not value:
            raise self._wrong(key, value, "a text")
        return value

    def source(self, key: str) -> str:
        value = self.text(key)
        if not re.fullmatch(r"package:[a-z_]+|hub:[\w.-]+/[\w.-]+", value, re.ASCII):
            raise self._wrong(key, value, "package:FOLDER or hub:ORG/NAME")
        return value

    def choice(self, key: str, known: Collection[str]) -> str:
        value = self._take(key)
        if not isinstance(value, str) or value not in known:
            raise self._wrong(key, value, f"one of {', '.join(known)}")
        return value

    def choices(self, key: str, known: Collection[str]) -> tuple[str, ...]:
        values = self._take(key)
        if not isinstance(values, list) or not all(isinstance(value, str) and value in known for value in values):
            raise self._wrong(key, values, f"some of {', '.join(known)}")
        return tuple(values)

    def whole(self, key: str, least: int) -> int:
        value = self._take(key)
        if type(value) is not int or value < least:
            raise self._wrong(key, value, f"a whole number from {least} on")
        return value

    def number(self, key: str) -> float:
        value = self._take(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise self._wrong(key, value, "a number from 0 on")
        return float(value)

    def sizes(self, key: str) -> tuple[int, ...]:
        values = self._take(key)
        whole = isinstance(values, list) and all(type(value) is int and value > 0 for value in values)
        if not whole or not values or values != sorted(set(values)) or len(values) >= len(STAGES):
            raise self._wrong(key, values, "one to three sides in pixels, ascending")
        return tuple(values)

    def table(self, key: str, defaults: Mapping[str, Any] | None = None) -> "_Fields":
        """The fields of a table in this one, on top of `defaults`."""
        value = self._take(key)
        if not isinstance(value, dict):
            raise self._wrong(key, value, "a table")
        return _Fields({**defaults, **value} if defaults is not None else value, self.where, self._full_name(key))

    def finish(self) -> None:
        if self.left:
            known = ", ".join(self._full_name(key) for key in self.left)
            raise BadFile(f"not a setting of a model: {known}", self.where)

    def _take(self, key: str) -> Any:
        if key not in self.left:
            raise BadFile(f"{self._full_name(key)} is missing", self.where)
        return self.left.pop(key)

    def _full_name(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name else key

    def _wrong(self, key: str, value: object, wanted: str) -> BadFile:
        return BadFile(f"{self._full_name(key)} is {value!r}, not {wanted}", self.where)
