"""What a project is trained with: chosen when it begins, kept in its folder, and changed only as far as it can be."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dallecli.errors import BadFile, BadOutput, BadSetting
from dallecli.training.kinds import UNCLIP, ModelKind, kind_of
from dallecli.training.preset_file import changed, load_own
from dallecli.weights.folder import read_object

LEFT_OUT: Final = "left-out.jsonl"
"""The file in a project's `training` folder that names what was not used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectSettings:
    """What a project is trained with: the table of a preset, its name, and the model it began from, if any."""

    preset: str
    table: dict[str, Any]
    origin: str | None


def choose_settings(
    out: Path, preset: str | None, changes: Iterable[str], origin: str | None, kind: ModelKind = UNCLIP
) -> ProjectSettings:
    """Return the settings of a new project for a kind of model, or those of the project in `out`, changed as asked.

    What is left open (None) is as it was, or the default.

    Raises:
        BadOutput: `out` holds something else, or a project of other networks, another kind or another origin.
        BadSetting: the preset or a change is wrong.
    """
    file = out / "training" / "settings.json"
    if not file.is_file():
        if out.exists() and not _is_free(out):
            hint = "choose a new folder; to start from a model, give it as --from"
            raise BadOutput("the output exists already, and dalle train did not make it", str(out), hint)
        name = kind.default if preset is None else preset
        table = changed(load_own(name, kind.presets), changes)
        return ProjectSettings(preset=name, table=_of_kind(kind, table, name), origin=origin)
    try:
        before = ProjectSettings(**read_object(file))
    except TypeError as problem:
        raise BadFile("this file does not hold the settings of a training", where=str(file)) from problem
    if kind_of(before.table) is not kind:
        hint = f"it goes on with dalle train {kind_of(before.table).command}; or choose another folder with --out"
        raise BadOutput("the training in this folder is of another kind of model", str(out), hint)
    if origin is not None and origin != before.origin:
        began = "nothing" if before.origin is None else before.origin
        raise BadOutput(f"the training in this folder began from {began}", str(out), "choose another folder with --out")
    name = before.preset if preset is None else preset
    after = _of_kind(kind, changed(before.table if preset is None else load_own(name, kind.presets), changes), name)
    if before.origin is None and _networks(kind, after) != _networks(kind, before.table):
        hint = f"leave --preset out to continue with {before.preset}, or choose another folder with --out"
        raise BadOutput("the training in this folder has networks of other sizes", str(out), hint)
    return ProjectSettings(preset=name, table=after, origin=before.origin)


def _is_free(out: Path) -> bool:
    """Whether nothing is in a folder but the list of what a training that was refused would have left out."""
    if not out.is_dir():
        return False
    names = [path.name for path in out.iterdir()]
    inside = out / "training"
    return not names or (names == ["training"] and inside.is_dir() and [*inside.iterdir()] == [inside / LEFT_OUT])


def _of_kind(kind: ModelKind, table: dict[str, Any], name: str) -> dict[str, Any]:
    """The table of a preset, if it describes a model of this kind. Raises BadSetting."""
    if kind_of(table) is not kind:
        hint = f"it is for dalle train {kind_of(table).command}"
        raise BadSetting("this preset is for another kind of model", where=name, hint=hint)
    return table


def _networks(kind: ModelKind, table: dict[str, Any]) -> dict[str, Any]:
    return {key: table[key] for key in kind.networks if key in table}
