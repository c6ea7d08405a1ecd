"""Reading presets from TOML, strictly.

`presets.toml` holds those of the starter; `presets/` those for pictures of your own, each in a file that can be copied
and changed. A preset gives what differs; here the rest of each part's config is added.
"""

import math
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, TypeVar

from dallecli.errors import BadSetting, reason
from dallecli.limits import SETTINGS_BYTES, read_file
from dallecli.nets.autoregressive_prior import AutoregressivePriorConfig
from dallecli.nets.clip import ClipTextConfig, ClipVisionConfig
from dallecli.nets.config import read_config
from dallecli.nets.prior import PriorConfig
from dallecli.nets.unet import UNetConfig
from dallecli.training.loop import Optimisation
from dallecli.training.preset import Lessons, Preset, RunSettings
from dallecli.weights.folder import Folder

C = TypeVar("C")

NETWORKS: Final = (
    "context", "vocabulary", "text_encoder", "image_encoder", "prior", "autoregressive_prior", "text_proj", "decoder",
    "upsamplers",
)  # fmt: skip
"""What a preset says about the networks; the rest is about their training, and may change on the way."""

LARGEST: Final = 1e30
"""No number in a preset is larger; a larger one is a mistake, and an infinite one cannot be written to JSON."""

OWN: Final = ("tiny", "small", "karlo")
"""The presets for pictures of one's own."""


def load_preset(name: str) -> Preset:
    """Read a preset of the starter.

    Raises:
        BadSetting: there is no preset of that name.
    """
    return read_preset(starter_table("presets.toml", name), name)


def starter_table(file: str, name: str) -> dict[str, Any]:
    """The table of a preset in one of the files with those of starters.

    Raises:
        BadSetting: there is no preset of that name.
    """
    tables = tomllib.loads((files("dallecli.training") / file).read_text(encoding="utf-8"))
    if name not in tables:
        raise BadSetting(f"there is no training preset {name!r}", hint=f"choose one of {', '.join(tables)}")
    table: dict[str, Any] = tables[name]
    return table


def load_own(name_or_file: str, names: Collection[str] = OWN) -> dict[str, Any]:
    """Read the TOML of a preset for pictures of one's own: one of `names`, or a file.

    Raises:
        BadSetting: there is no such preset, or the file is not TOML.
    """
    if name_or_file in names:
        text = (files("dallecli.training") / "presets" / f"{name_or_file}.toml").read_text(encoding="utf-8")
    else:
        path = Path(name_or_file)
        if path.suffix != ".toml":
            hint = f"choose one of {', '.join(names)}, or give a .toml file"
            raise BadSetting(f"there is no training preset {name_or_file!r}", hint=hint)
        try:
            text = read_file(path, SETTINGS_BYTES).decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as problem:
            raise BadSetting(f"the preset cannot be read: {reason(problem)}", where=name_or_file) from problem
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        raise BadSetting(f"the preset is not TOML: {problem}", where=name_or_file) from problem


def changed(raw: Mapping[str, Any], changes: Iterable[str]) -> dict[str, Any]:
    """Return the table of a preset with changes such as "runs.decoder.batch=64"; values are TOML.

    Raises:
        BadSetting: a change is not of this form, or leads nowhere.
    """
    table: dict[str, Any] = {**raw}
    for change in changes:
        path, equals, text = change.partition("=")
        *way, last = path.strip().split(".")
        if not equals or not last:
            raise BadSetting(f"this is not a change of a setting: {change!r}", hint="write --set runs.decoder.batch=64")
        inner = table
        for step in way:
            value = inner.get(step, {})
            if not isinstance(value, dict):
                raise BadSetting(f"{path.strip()} is not a setting of a preset", hint="see docs/guides/train.md")
            inner[step] = {**value}
            inner = inner[step]
        inner[last] = _toml_value(text.strip())
    return table


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def read_preset(raw: Mapping[str, Any], name: str) -> Preset:
    """Read a preset's table.

    Raises:
        BadSetting: a setting is missing, unknown, or of the wrong kind.
    """
    needed = [key for key in NETWORKS if key not in ("vocabulary", "autoregressive_prior", "text_proj", *raw)]
    if needed:
        raise BadSetting(f"the preset has no {', no '.join(needed)}", where=name)
    text = {"_class_name": "CLIPTextModelWithProjection", "model_type": "clip_text_model",
            "architectures": ["CLIPTextModelWithProjection"], "max_position_embeddings": raw["context"],
            "layer_norm_eps": 1e-5, **_network(ClipTextConfig, raw, "text_encoder", name)}  # fmt: skip
    vision = {"_class_name": "CLIPVisionModelWithProjection", "model_type": "clip_vision_model",
              "architectures": ["CLIPVisionModelWithProjection"], "layer_norm_eps": 1e-5,
              **_network(ClipVisionConfig, raw, "image_encoder", name)}  # fmt: skip
    decoder = _decoder(_network(UNetConfig, raw, "decoder", name, "attention"))
    text_proj = {
        "_class_name": "UnCLIPTextProjModel",
        "clip_extra_context_tokens": _image_tokens(raw, name),
        "clip_embeddings_dim": text.get("projection_dim"),
        "time_embed_dim": _read(UNetConfig, decoder, "decoder", name, strict=False).time_dim,
        "cross_attention_dim": decoder.get("cross_attention_dim"),
    }
    upsamplers = raw["upsamplers"]
    if not isinstance(upsamplers, list) or not all(isinstance(one, dict) for one in upsamplers):
        raise BadSetting("upsamplers is not a list of tables", where=name)
    for painter in (raw["decoder"], *upsamplers):
        whole(painter, "sample_size", name)
    return Preset(
        name=name,
        world=raw.get("world", "first"),
        context=whole(raw, "context", name),
        pool=raw.get("pool", 0),
        large_pool=raw.get("large_pool", 0),
        text_encoder=text,
        image_encoder=vision,
        prior={"_class_name": "PriorTransformer", **_network(PriorConfig, raw, "prior", name)},
        autoregressive_prior=_autoregressive(raw, name),
        text_proj=text_proj,
        decoder=decoder,
        upsamplers=tuple(_upsampler(known(UNetConfig, one, "upsamplers", name)) for one in upsamplers),
        **teaching(raw, name, NETWORKS, Lessons),
    )


def preset_of(folder: Folder, raw: Mapping[str, Any], name: str) -> Preset:
    """Return a preset with the networks of a model folder, and the training of a preset's table.

    Raises:
        BadFolder, BadFile: as `Folder.config`.
        BadSetting: as `read_preset`.
    """
    if folder.family.clip is None or "prior" not in folder.parts:
        hint = "start from the starter, Karlo, or what dalle train all made"
        raise BadSetting("this model is not of the kind that is trained here: it has no prior", str(folder.path), hint)
    numbers = ("", "_2")[: len(folder.sizes()) - 1]
    text = folder.config("text_encoder")
    image = folder.config("image_encoder") if "image_encoder" in folder.parts else {}
    return Preset(
        name=name,
        context=int(folder.config("prior").get("num_embeddings", 77)),
        text_encoder=text,
        image_encoder=image,
        prior=folder.config("prior"),
        autoregressive_prior=_autoregressive_of(folder, raw, name),
        text_proj=folder.config("text_proj"),
        decoder=folder.config("decoder"),
        upsamplers=tuple(folder.config(f"super_res{number}_first") for number in numbers),
        schedulers={
            "prior": folder.config("prior_scheduler"),
            "decoder": folder.config("decoder_scheduler"),
            **{f"super_res{number}": folder.config(f"super_res{number}_scheduler") for number in numbers},
        },
        **teaching(raw, name, NETWORKS, Lessons),
    )


def _autoregressive(raw: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    if "autoregressive_prior" not in raw:
        return None
    own = _network(AutoregressivePriorConfig, raw, "autoregressive_prior", name)
    return {"_class_name": "AutoregressivePrior", **own}


def _autoregressive_of(folder: Folder, raw: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """A folder's own, or else that of a preset, made to fit the folder's embeddings and captions."""
    if "autoregressive_prior" in folder.parts:
        return folder.config("autoregressive_prior")
    preset, prior = _autoregressive(raw, name), PriorConfig.from_config(folder.config("prior"))
    if preset is None:
        return None
    width = prior.embedding_dim
    codes = min(preset.get("num_codes", width), width)
    return preset | {"embedding_dim": width, "num_embeddings": prior.num_embeddings, "num_codes": codes}


def teaching(raw: Mapping[str, Any], name: str, networks: tuple[str, ...], lessons: type[Any]) -> dict[str, Any]:
    """The part of a preset that is about training. `networks` are its other keys, `lessons` its recipes."""
    _check_finite(raw, "", name)
    left = set(raw) - {*networks, "world", "pool", "large_pool", "runs", "recipes", "dials"}
    if left:
        raise BadSetting(f"a preset has no setting {', '.join(sorted(left))}", where=name)
    runs = {stage: _run_settings(run, f"runs.{stage}", name) for stage, run in section(raw, "runs", name).items()}
    stated = section(raw, "recipes", name)
    taught = {}
    for one in fields(lessons):
        kind = type(getattr(lessons(), one.name))
        taught[one.name] = _read(kind, section(stated, one.name, name), f"recipes.{one.name}", name)
    unknown = set(stated) - set(taught)
    if unknown:
        raise BadSetting(f"there is no recipe for {', '.join(sorted(unknown))}", where=name)
    return {
        "vocabulary": whole(raw, "vocabulary", name) if "vocabulary" in raw else None,
        "runs": runs,
        "lessons": lessons(**taught),
        "dials": raw.get("dials"),
    }


def _check_finite(value: object, path: str, name: str) -> None:
    """Refuse infinities and NaN anywhere in a preset, and whole numbers that no float holds; all are TOML."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _check_finite(inner, f"{path}.{key}" if path else str(key), name)
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            _check_finite(inner, f"{path}[{place}]", name)
    elif isinstance(value, int | float) and not -LARGEST <= value <= LARGEST:
        shown = str(value) if isinstance(value, float) else "too large"
        raise BadSetting(f"{path} is {shown}, expected a finite number", where=name)


def _run_settings(run: object, path: str, name: str) -> RunSettings:
    if not isinstance(run, dict):
        raise BadSetting(f"{path} is not a table", where=name)
    how = {key: value for key, value in run.items() if key not in ("seconds", "steps")}
    seconds, steps = run.get("seconds", math.inf), run.get("steps")
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not seconds > 0:
        raise BadSetting(f"{path}.seconds is {seconds!r}, expected a number above 0", where=name)
    if steps is not None and (type(steps) is not int or steps < 1):
        raise BadSetting(f"{path}.steps is {steps!r}, expected a whole number above 0", where=name)
    if steps is None and math.isinf(seconds):
        raise BadSetting(f"{path} says neither seconds nor steps", where=name)
    return RunSettings(seconds=float(seconds), steps=steps, how=_read(Optimisation, how, path, name))


def _network(kind: type, raw: Mapping[str, Any], part: str, name: str, *more: str) -> dict[str, Any]:
    table = raw[part]
    if not isinstance(table, dict):
        raise BadSetting(f"{part} is not a table", where=name)
    return known(kind, table, part, name, *more)


def known(kind: type, table: dict[str, Any], path: str, name: str, *more: str) -> dict[str, Any]:
    """`table`, if all its keys are fields of the dataclass `kind`, or among `more`. Raises BadSetting."""
    unknown = set(table) - {one.name for one in fields(kind)} - set(more)
    if unknown:
        raise BadSetting(f"{path} has no setting {', '.join(sorted(unknown))}", where=name)
    return table


def _read(kind: type[C], table: dict[str, Any], path: str, name: str, strict: bool = True) -> C:
    try:
        return read_config(kind, known(kind, table, path, name) if strict else table)
    except ValueError as problem:
        raise BadSetting(f"{path}: {problem}", where=name) from problem


def section(raw: Mapping[str, Any], key: str, name: str) -> dict[str, Any]:
    """The table under a key, empty where there is none. Raises BadSetting if it is something else."""
    table = raw.get(key, {})
    if not isinstance(table, dict):
        raise BadSetting(f"{key} is not a table", where=name)
    return table


def whole(raw: Mapping[str, Any], key: str, name: str) -> int:
    """The whole number above 0 under a key. Raises BadSetting."""
    value = raw.get(key)
    if type(value) is not int or value < 1:
        raise BadSetting(f"{key} is {value!r}, expected a whole number above 0", where=name)
    return value


def _image_tokens(raw: Mapping[str, Any], name: str) -> int:
    """How many image tokens the decoder is told; all else in `text_proj` follows from the other networks."""
    table = section(raw, "text_proj", name)
    unknown = set(table) - {"clip_extra_context_tokens"}
    if unknown:
        raise BadSetting(f"text_proj has no setting {', '.join(sorted(unknown))}", where=name)
    return whole(table, "clip_extra_context_tokens", name) if table else 4


def _decoder(raw: dict[str, Any]) -> dict[str, Any]:
    attends = raw.get("attention", [])
    config = {key: value for key, value in raw.items() if key != "attention"}
    down = ["SimpleCrossAttnDownBlock2D" if a else "ResnetDownsampleBlock2D" for a in attends]
    up = ["SimpleCrossAttnUpBlock2D" if a else "ResnetUpsampleBlock2D" for a in reversed(attends)]
    return {
        "_class_name": "UNet2DConditionModel",
        "in_channels": 3,
        "out_channels": 6,
        "down_block_types": down,
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        "up_block_types": up,
        "class_embed_type": "identity",
        "resnet_time_scale_shift": "scale_shift",
        **config,
    }


def _upsampler(raw: dict[str, Any]) -> dict[str, Any]:
    levels = len(raw.get("block_out_channels", []))
    return {
        "_class_name": "UNet2DModel",
        "in_channels": 6,
        "out_channels": 3,
        "down_block_types": ["ResnetDownsampleBlock2D"] * levels,
        "up_block_types": ["ResnetUpsampleBlock2D"] * levels,
        "add_attention": False,
        **raw,
    }
