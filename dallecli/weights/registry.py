"""The models that have a name (weights.toml), and any folder or Hub repository that somebody points at. No torch here.

`find` says what a model is, `locate` where it lies. Neither ever uses the network: what is not on this machine is an
error that names the command which fetches it (see fetch.py).

A folder that nobody registered gets the dials of the published model of its layout, changed by the `dalle.json` that
may lie in it: `{"prior_candidates": 2, "stages": {"decoder": {"steps": 25, "guidance": 2.5}}}`. `init` and `inpaint`
beside `stages` have the dials for those ways to paint, as they do in weights.toml.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Final

from dallecli.classes import Classes
from dallecli.errors import BadFile, BadFolder, DalleError, NotDownloaded, TaskNotSupported, UnknownModel
from dallecli.fields import Fields, Wording
from dallecli.size import Size
from dallecli.sizing import own_side
from dallecli.tasks.embed import COMPARING
from dallecli.tasks.stages import RESPACINGS, DiffusionSettings, Stage, StageSettings, TokenSettings, read_saving
from dallecli.tasks.table import ABILITIES
from dallecli.tasks.task import HABITS, INIT_STRENGTH, RESAMPLE, WAYS, Habits
from dallecli.weights.folder import DIALS, SHARED, Folder, read_object
from dallecli.weights.hub import PATH, REPOSITORY
from dallecli.weights.hub_constants import hub_constants
from dallecli.weights.known import read_classes
from dallecli.weights.layouts import LAYOUTS, Layout
from dallecli.weights.lock import folder_path, read_lock

SAMPLERS: Final = ("ancestral", "ddim", "dpm++", "plms")
"""The names in diffusion's table of samplers, which cannot be asked without torch."""

HUB: Final = "hf:"
"""What the name of a model starts with that is a repository of the Hugging Face Hub."""

OWN: Final = "own:"
"""What the source of a model starts with whose files no pull fetches."""

HOST: Final = r"[\w.-]+(:\d+)?"
"""The host of an address, as a regular expression."""

LONGEST_NAME: Final = 200

FILLED: Final = ".+"
"""The pattern of a text that is not empty."""

WORDING: Final = Wording(unknown="not a setting of a model: {path}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedParts:
    """Some parts of a model, and where on the Hub they are.

    repository: ORG/NAME. commit: in full where it is known, else None: it is taken when the model is pulled. folder:
    where the parts lie in the model's folder, "" for the folder itself. names: of the parts. tasks: what they are
    needed for, None for everything.
    """

    repository: str
    commit: str | None
    folder: str
    names: tuple[str, ...]
    tasks: tuple[str, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedFile:
    """A file that is published by itself, and not in a repository of the Hub.

    url: where. sha256: of its bytes, None where its publisher states none. bytes: how many, where that is known. tasks:
    what it is needed for, None for everything.
    """

    url: str
    sha256: str | None
    bytes: int | None
    tasks: tuple[str, ...] | None

    @property
    def name(self) -> str:
        """Its name without the folders before it."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """An entry of weights.toml, or what stands in for one.

    source: "package:FOLDER", "hub:ORG/NAME", "files:HOST", "own:PUBLISHER" or "folder:PATH". tasks: what it can do,
    nothing for a model that is only planned. sizes: pixels, ascending, of the pictures that there are after its stages.
    declared: its stages, in the order in which they run. stages: their own dials, by name. prior_candidates: embeddings
    that its prior draws for a picture, None where it has no prior. parameters: numbers in all networks, None where only
    the files know. clip: the public CLIP whose space its embeddings are in, None where it is the model's own. parts,
    files: what a pull of it fetches. terms: the address of its licence, where somebody has to accept it before a pull.
    largest: the largest side, where any is painted and `sizes` only has the best one; None where there are no others.
    oblong: whether it paints pictures that are no squares as such, or cuts them out of squares. grids: for each of its
    sizes, what the sides of such pictures are multiples of; empty for models that cut, or paint any size, or are not
    here. habits: what it does by itself in single tasks. dials_of: of the `WAYS` to paint that have some of their own,
    by stage. classes: the names of those that it paints, None where it paints words or is not here.
    """

    name: str
    description: str
    layout: str
    source: str
    commit: str | None
    licence: str | None
    tasks: tuple[str, ...]
    sizes: tuple[int, ...]
    declared: tuple[Stage, ...]
    stages: Mapping[str, StageSettings]
    prior_candidates: int | None
    parameters: int | None
    clip: str | None = None
    terms: str | None = None
    parts: tuple[PublishedParts, ...] = ()
    files: tuple[PublishedFile, ...] = ()
    largest: int | None = None
    oblong: bool = False
    grids: tuple[int, ...] = ()
    habits: Habits = HABITS
    dials_of: Mapping[str, Mapping[str, StageSettings]] = field(default_factory=dict)
    classes: Classes | None = None

    @property
    def prompts(self) -> bool:
        """Whether it paints what it is told in words."""
        return self.layout not in LAYOUTS or LAYOUTS[self.layout].prompts

    def dials(self, way: str) -> Mapping[str, StageSettings]:
        """Its own dials by stage for one of the `WAYS` to paint, or for any other."""
        return {**self.stages, **self.dials_of.get(way, {})}

    def running(self, size: Size) -> tuple[str, ...]:
        """The names of the stages that paint a picture of `size`, in the order in which they run."""
        painting = [stage.name for stage in self.declared if not stage.imagines]
        if self.largest is not None or not painting:
            return tuple(painting)
        sized = [runs.stage.name for runs in LAYOUTS[self.layout].stages if runs.sized is not None]
        last = [name for name in painting if name in sized][self.sizes.index(own_side(size, self.sizes))]
        return tuple(painting[: painting.index(last) + 1])

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
    models = Fields(tables, BadFile, where=where, wording=WORDING)
    return {name: _spec(name, models.table(name)) for name in tables}


def restricted(family: Layout) -> ModelSpec | None:
    """The model of a family that is made of own files, if somebody has to accept its licence for that; else None."""
    spec = _registered()[family.dials] if isinstance(family.dials, str) else None
    return spec if spec is not None and spec.source.startswith(OWN) and spec.terms is not None else None


def terms_of(name: str) -> str | None:
    """The address of the licence that has to be accepted before this model or repository is pulled; None if none."""
    if not name.startswith(HUB):
        return _registered()[name].terms if name in _registered() else None
    repository, _ = parse_hub_name(name)
    of = (spec.terms for spec in _registered().values() if repository in {part.repository for part in spec.parts})
    return next((terms for terms in of if terms is not None), None)


def find(name_or_folder: str) -> ModelSpec:
    """The model of this name, in this folder, or, for hf:ORG/NAME@REVISION, in this repository of the Hub.

    A name wins over a folder: write `./name` for the folder.

    Raises:
        UnknownModel: there is no such name or folder.
        NotDownloaded: the repository was not pulled.
        BadFolder, BadFile: the folder is not a model, or does not describe itself well.
    """
    known = _registered()
    if name_or_folder in known:
        return known[name_or_folder]
    if name_or_folder.startswith(HUB):
        return _of_the_hub(name_or_folder)
    path = os.path.expanduser(name_or_folder)  # noqa: PTH111  # Path.expanduser raises for unknown users
    if os.path.lexists(path):
        return _unregistered(Folder(Path(path)))
    if "/" in name_or_folder or os.sep in name_or_folder or name_or_folder.startswith((".", "~")):
        meant = on_the_hub(name_or_folder)
        hint = f"from the Hugging Face Hub it is {meant}" if meant is not None else None
        raise UnknownModel("there is no such model folder", name_or_folder, hint)
    raise unknown_model(name_or_folder, "a folder or hf:ORG/NAME works, too")


def unknown_model(name: str, else_: str) -> UnknownModel:
    """The error about a name that no registered model has, with what would work besides one that has."""
    known = _registered()
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]}?" if close else f"the models are {', '.join(known)}; {else_}"
    return UnknownModel(f"no model is called {name!r}", hint=hint)


def judges() -> list[str]:
    """The registered models that score the pictures of others: first those that do nothing else."""
    able = [name for name, spec in _registered().items() if spec.tasks and LAYOUTS[spec.layout].clip is not None]
    return sorted(able, key=lambda name: set(_registered()[name].tasks) != set(COMPARING))


def check_recorded(name: str) -> None:
    """Refuse a name in a recipe that is not that of a registered model or a repository of the Hub.

    Pictures come from strangers: a folder that lies beside one must not be opened because it is named there.

    Raises: UnknownModel.
    """
    if name not in _registered() and not name.startswith(HUB):
        raise UnknownModel(f"no model is called {name!r}", hint="if it is a folder that you trust: -m FOLDER")


def locate(spec: ModelSpec) -> Folder:
    """The folder that holds a model's files. Never uses the network.

    Raises:
        TaskNotSupported: the model is planned, but cannot be run yet.
        NotDownloaded: a Hub model was not pulled, or the package came without its own.
        BadFolder, BadFile: the folder is there, but not whole.
    """
    check_ready(spec)
    kind, _, where = spec.source.partition(":")
    if kind == "package":
        path = Path(str(resources.files("dallecli") / where))
        if not (path / "model_index.json").is_file():
            raise NotDownloaded(
                f"{spec.name} is not part of this installation", str(path), "install dalle again, from a full package"
            )
        return Folder(path)
    if kind == "folder":
        return Folder(Path(where))
    if kind == "files":
        return _made(spec.name)
    if kind == "own":
        raise NotDownloaded(
            f"{spec.name} is not fetched by dalle, and its name stands for no files", hint=own_files(spec)
        )
    return _pulled(spec.name, where, parse_hub_name(spec.name)[1] if spec.name.startswith(HUB) else spec.commit)


def own_files(spec: ModelSpec) -> str:
    """How a model is used that no pull fetches."""
    return f"dalle models convert FILES {spec.name}, then -m ./{spec.name}; see docs/guides/{spec.name}.md"


def reads_prompts(name: str) -> bool:
    """Whether a model paints what it is told in words; True for one that is not known, or not whole."""
    try:
        return find(name).prompts
    except DalleError:
        return True


def check_ready(spec: ModelSpec) -> None:
    """Raises: TaskNotSupported, for a model that is planned, but cannot be run yet."""
    if not spec.tasks:
        ready = ", ".join(name for name, other in _registered().items() if other.tasks)
        raise TaskNotSupported(f"{spec.name} is planned; this version cannot run it yet", hint=f"use {ready}")


def parse_hub_name(name: str) -> tuple[str, str]:
    """Repository and revision in hf:ORG/NAME or hf:ORG/NAME@REVISION; without one it is main.

    Raises:
        UnknownModel: the name is not of this form.
    """
    match = re.fullmatch(rf"{HUB}({REPOSITORY})(?:@([\w][\w./-]*))?", name, re.ASCII)
    if match is None or ".." in name or len(name) > LONGEST_NAME:
        raise UnknownModel(
            f"{name!r} is not the name of a repository", hint="write hf:ORG/NAME or hf:ORG/NAME@REVISION"
        )
    return match[1], match[2] if match[2] is not None else "main"


def on_the_hub(name: str) -> str | None:
    """What ORG/NAME, or the address of a page of the Hub, is called here; None for what is neither."""
    address = re.fullmatch(
        rf"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/({REPOSITORY})(?:/.*)?", name, re.ASCII
    )
    if address is not None:
        revision = re.search(r"/(?:tree|blob|resolve)/([\w][\w.-]*)", name)
        at = f"@{revision[1]}" if revision is not None and revision[1] != "main" else ""
        return f"{HUB}{address[1]}{at}"
    return f"{HUB}{name}" if re.fullmatch(REPOSITORY, name, re.ASCII) and not name.startswith((".", "~")) else None


def _of_the_hub(name: str) -> ModelSpec:
    """What stands in for a registry entry of a repository that was pulled, or lies in the Hugging Face cache."""
    repository, revision = parse_hub_name(name)
    folder = _pulled(name, repository, revision)
    lock = read_lock(name)
    return replace(
        _unregistered(folder),
        name=name,
        description="a repository of the Hugging Face Hub",
        source=f"hub:{repository}",
        commit=lock.commits.get(repository) if lock is not None else None,
        licence=lock.licence if lock is not None else None,
    )


def _pulled(name: str, repository: str, revision: str | None) -> Folder:
    """The folder of a model that was pulled, or a whole snapshot that another program put into the cache."""
    hub_constants()  # or BadConfig
    from huggingface_hub import try_to_load_from_cache

    what = f"{name} is not on this machine"
    lock = read_lock(name)
    if lock is None:
        markers = dict.fromkeys(layout.marker for layout in LAYOUTS.values())
        found = (try_to_load_from_cache(repository, marker, revision=revision) for marker in markers)
        path = next((Path(file).parent for file in found if isinstance(file, str)), None)
    else:
        path = folder_path(name)
        missing = lock.missing()
        if missing:
            what = f"{name} is on this machine only in part: {missing[0].path} is missing"
    try:
        if path is not None and path.is_dir() and (lock is None or not missing):
            return Folder(path)
    except BadFolder as problem:  # a download that stopped half-way
        what = f"{name} is on this machine only in part: {problem.what}"
    raise NotDownloaded(what, hint=f"dalle models pull {name}", model=name)


def _made(name: str) -> Folder:
    """The folder that a pull made of published files."""
    lock, what = read_lock(name), f"{name} is not on this machine"
    if lock is not None:
        missing = lock.missing()
        if not missing and folder_path(name).is_dir():
            return Folder(folder_path(name))
        what = f"{name} is on this machine only in part"
    raise NotDownloaded(what, hint=f"dalle models pull {name}", model=name)


def with_parts(spec: ModelSpec, folder: Folder) -> ModelSpec:
    """A model as the parts in its folder make it: its sizes, its tasks, and its stages with their dials.

    Raises: BadFolder, BadFile.
    """
    return replace(
        spec,
        layout=folder.layout,
        tasks=folder.tasks,
        sizes=folder.sizes(),
        largest=folder.largest(),
        grids=folder.grids() if spec.oblong else (),
        declared=folder.stages,
        classes=read_classes(folder.path),
        stages={stage.name: spec.stages.get(stage.name, _own_dials(stage, spec)) for stage in folder.stages},
        prior_candidates=spec.prior_candidates if _imagine(folder.stages) else None,
    )


def _own_dials(stage: Stage, spec: ModelSpec) -> StageSettings:
    """The dials of a stage that no registry states: a second upsampler is set as the first, tokens are drawn freely."""
    if stage.settings is TokenSettings:
        return TokenSettings(temperature=1.0, top_k=0, top_p=1.0, guidance=1.0)
    return list(spec.stages.values())[-1]


def _unregistered(folder: Folder) -> ModelSpec:
    """What stands in for a folder's missing entry in the registry."""
    dials = folder.family.dials
    if isinstance(dials, str):
        published = _registered()[dials]
        stages, candidates = published.stages, published.prior_candidates
        habits, dials_of = published.habits, published.dials_of
    else:
        stages, candidates, habits, dials_of = dials, 1, HABITS, {}
    spec = ModelSpec(
        name=folder.path.resolve().name,
        description="a folder on this machine",
        layout=folder.layout,
        source=f"folder:{folder.path.resolve()}",
        commit=None,
        licence=None,
        tasks=folder.tasks,
        sizes=folder.sizes(),
        oblong=folder.family.oblong,
        declared=folder.stages,
        stages=stages,
        prior_candidates=candidates,
        parameters=None,
        habits=habits,
        dials_of=dials_of,
    )
    spec = with_parts(spec, folder)
    file = folder.path / DIALS
    return _with_own_dials(spec, file) if file.is_file() else spec


def _with_own_dials(spec: ModelSpec, file: Path) -> ModelSpec:
    own = {} if spec.prior_candidates is None else {"prior_candidates": spec.prior_candidates}
    stated_by_none = {**own, "oblong": spec.oblong, "stages": {}, **{way: {} for way in WAYS}}
    fields = Fields(stated_by_none | read_object(file), BadFile, where=str(file), wording=WORDING)
    if LAYOUTS[spec.layout].twins and SHARED in fields:
        fields.texts(SHARED)  # of the folder's, not a dial
    candidates = None if spec.prior_candidates is None else fields.whole("prior_candidates", least=1)
    stages = _changed(spec.stages, fields.table("stages"))
    dials_of = {}
    for way in WAYS:
        # What the folder says of its stages is for every way to paint of which it says nothing else.
        published = {name: own for name, own in spec.dials_of.get(way, {}).items() if stages[name] == spec.stages[name]}
        whole = _changed({**stages, **published}, fields.table(way))
        dials_of[way] = {name: own for name, own in whole.items() if own != stages[name]}
    oblong = _oblong(fields, LAYOUTS[spec.layout])
    fields.finish()
    grids = spec.grids if oblong else ()
    return replace(spec, stages=stages, dials_of=dials_of, prior_candidates=candidates, oblong=oblong, grids=grids)


def _changed(own: Mapping[str, StageSettings], stated: Fields) -> dict[str, StageSettings]:
    """The dials of stages, where some are stated anew."""
    changed = {
        name: _stage(stated.table(name, defaults=asdict(dials)), type(dials)) if name in stated else dials
        for name, dials in own.items()
    }
    stated.finish()
    return changed


def _oblong(fields: Fields, family: Layout | None) -> bool:
    """Whether a model paints other pictures than squares as such: as it says, if its family can."""
    can = family is not None and family.oblong
    if "oblong" not in fields:
        return can
    stated = fields.flag("oblong")
    if stated and not can:
        raise fields.wrong("oblong", stated, "false: the networks of this layout know places")
    return stated


def _spec(name: str, fields: Fields) -> ModelSpec:
    tasks = fields.choices("tasks", ABILITIES)
    # A model that is only planned may have a layout that is not known yet.
    layout = fields.choice("layout", LAYOUTS) if tasks else fields.match("layout", FILLED)
    family = LAYOUTS.get(layout)
    sizes = _sizes(fields, family)
    stages = fields.table("stages")
    declared = _declared(family, sizes, set(stages)) if family is not None else ()
    source = fields.match(
        "source",
        rf"package:[a-z0-9_]+|hub:{REPOSITORY}|files:[\w.-]+|own:{REPOSITORY}",
        "package:FOLDER, hub:ORG/NAME, files:HOST or own:PUBLISHER",
    )
    parts = tuple(_parts(table) for table in fields.tables("parts", least=1)) if "parts" in fields else ()
    files = tuple(_file(table) for table in fields.tables("files", least=1)) if "files" in fields else ()
    commits = {part.repository: part.commit for part in parts}
    spec = ModelSpec(
        name=name,
        description=fields.match("description", FILLED),
        layout=layout,
        source=source,
        commit=commits.get(source.partition(":")[2]),
        licence=fields.match("licence", FILLED),
        terms=fields.match("terms", "https://[!-~]+", "an address") if "terms" in fields else None,
        tasks=tasks,
        sizes=sizes,
        largest=fields.whole("largest", least=1) if "largest" in fields else None,
        oblong=_oblong(fields, family),
        habits=_habits(fields),
        dials_of={way: _dials_of(fields.table(way), declared) for way in WAYS if way in fields},
        declared=declared,
        stages={
            stage.name: _stage(stages.table(stage.name), stage.settings)
            for stage in declared
            if stage.name in stages or tasks
        },
        prior_candidates=fields.whole("prior_candidates", least=1) if _imagine(declared) else None,
        parameters=fields.whole("parameters", least=1) if "parameters" in fields else None,
        clip=fields.match("clip", FILLED) if "clip" in fields else None,
        parts=parts,
        files=files,
    )
    stages.finish()
    fields.finish()
    return spec


def _habits(fields: Fields) -> Habits:
    strength = fields.number("strength", least=0) if "strength" in fields else INIT_STRENGTH
    if not 0 < strength <= 1:
        raise fields.wrong("strength", strength, "a number above 0 and up to 1")
    return Habits(
        resample=fields.whole("resample", least=1) if "resample" in fields else RESAMPLE,
        strength=strength,
    )


def _dials_of(fields: Fields, declared: Collection[Stage]) -> dict[str, StageSettings]:
    """The dials that a way to paint has of its own."""
    found = {stage.name: _stage(fields.table(stage.name), stage.settings) for stage in declared if stage.name in fields}
    fields.finish()
    return found


def _sizes(fields: Fields, family: Layout | None) -> tuple[int, ...]:
    sizes = fields.wholes("sizes", least=1)
    most = len(sizes) if family is None else len([runs for runs in family.stages if runs.sized is not None])
    if family is not None and not family.stages:
        most = 1  # the one that it was trained with
    if not 0 < len(sizes) <= most or list(sizes) != sorted(set(sizes)):
        raise fields.wrong("sizes", list(sizes), "a side in pixels after each stage that makes a picture, ascending")
    return sizes


def _declared(family: Layout, sizes: tuple[int, ...], stated: Collection[str]) -> tuple[Stage, ...]:
    """The stages of a model that paints these sizes.

    All of its family, but for those that make larger pictures, and priors that it need not have and does not state.
    """
    left = [runs for runs in family.stages if runs.sized is not None][len(sizes) :]
    left += [runs for runs in family.stages if runs.stage.imagines and runs.network not in family.networks]
    return tuple(runs.stage for runs in family.stages if runs not in left or runs.stage.name in stated)


def _imagine(stages: Collection[Stage]) -> bool:
    """Whether one of these is a prior."""
    return any(stage.imagines for stage in stages)


def _parts(fields: Fields) -> PublishedParts:
    parts = PublishedParts(
        repository=fields.match("hub", REPOSITORY, "ORG/NAME"),
        commit=fields.match("commit", "[0-9a-f]{40}", "a commit in full") if "commit" in fields else None,
        folder=fields.match("folder", r"[a-z][\w-]*(\.\d[\w-]*)*", "the name of a folder")
        if "folder" in fields
        else "",
        names=fields.texts("names", r"[a-z][a-z0-9_]*|\.", "a list of names", least=1),
        tasks=fields.choices("tasks", ABILITIES) if "tasks" in fields else None,
    )
    fields.finish()
    return parts


def _file(fields: Fields) -> PublishedFile:
    file = PublishedFile(
        url=fields.match("url", rf"https?://{HOST}/{PATH}", "the address of a file"),
        sha256=fields.match("sha256", "[0-9a-f]{64}", "a sha256") if "sha256" in fields else None,
        bytes=fields.whole("bytes", least=1) if "bytes" in fields else None,
        tasks=fields.choices("tasks", ABILITIES) if "tasks" in fields else None,
    )
    fields.finish()
    return file


def _stage(fields: Fields, kind: type[DiffusionSettings] | type[TokenSettings]) -> StageSettings:
    settings: StageSettings
    if kind is DiffusionSettings:
        settings = DiffusionSettings(
            sampler=fields.choice("sampler", SAMPLERS),
            steps=fields.whole_or_choice("steps", RESPACINGS, least=2),
            guidance=fields.number("guidance", least=0),
            **read_saving(fields),
        )
    else:
        settings = TokenSettings(
            temperature=fields.number("temperature", least=0),
            top_k=fields.whole("top_k", least=0),
            top_p=fields.number("top_p", least=0),
            guidance=fields.number("guidance", least=0),
        )
    fields.finish()
    return settings
