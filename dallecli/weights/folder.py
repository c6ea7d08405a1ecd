"""A model on disk, in the layout that diffusers publishes: one folder a part, JSON beside the weights. No torch here.

model_index.json                      which pipeline this is
tokenizer/                            vocab.json, merges.txt, tokenizer_config.json
prior/, decoder/, …                   config.json and one .safetensors file, or several with an index (see shards.py)
prior_scheduler/, …                   scheduler_config.json
feature_extractor/                    preprocessor_config.json, for the image_encoder
dalle.json                            optional: the dials that suit this model (see registry.py)
words.json, familiar.json             optional: the words and pictures that it knows (see known.py)

CLIP alone is one folder: config.json, one .safetensors file for both towers, and the tokenizer's files.

Where a family is laid out in another way, its parts have these names all the same: see layouts.py.
"""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from dallecli.errors import BadFile, BadFolder, reason
from dallecli.limits import (
    LATENT_CHANNELS,
    MODEL_DEPTH,
    MODEL_JSON_BYTES,
    MODEL_LEVELS,
    MODEL_NUMBER,
    MODEL_SIDE,
    PAINTED_SIDE,
    read_file,
)
from dallecli.size import Size
from dallecli.tasks.stages import Stage
from dallecli.weights.digest import combined_digest, file_digest
from dallecli.weights.layouts import INDEX, LAYOUTS, Layout, published_in
from dallecli.weights.shards import files_of, headers_of, index_names

PICKLES: Final = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".th")
REPAIR: Final = "correct it, or pull or copy the model again"

ROOMS: Final = 4
"""What a network that writes codes remembers of each: keys and values, with the words and without them."""

NUMBERED: Final = r".*-\d+-of-\d+[\w.]*\.safetensors"
"""The names that libraries give to the files of split weights, as a regular expression."""

DIALS: Final = "dalle.json"
PREPROCESSING: Final = "feature_extractor"
"""The part that says how pictures are prepared for the image tower; no model must have it."""

SHARED: Final = "shared"
"""The key there of the parts that are stored once, with their twin's (see twins.py)."""

TOKENIZER_FILES: Final = frozenset(
    {
        *("vocab.json", "merges.txt", "tokenizer.json", "added_tokens.json"),
        *("tokenizer_config.json", "special_tokens_map.json"),
    }
)
"""The files of a tokenizer where it has no folder of its own."""

PROJECTION: Final = 512
"""How many numbers an embedding of CLIP has where its config does not say so: transformers' default."""

DEPTHS: Final = frozenset(
    {"num_layers", "num_hidden_layers", "layers_per_block", "encoder_layers", "decoder_layers", "n_layers"}
)


class Folder:
    """A folder that has all parts of a known layout. Their contents are checked when they are asked for.

    path: the folder. layout: the key of its kind in `LAYOUTS`. family: the entry there. parts: all parts that are here
    and that the layout knows. networks: those of them that hold weights, in the order of the chain, optional ones last.
    stages: those that its networks run, in the order in which they do. tasks: what can be done with these parts, by the
    names in `tasks.table.ABILITIES`.

    Raises:
        BadFolder: it is not a folder, it is empty, not a model, of a kind that is not known, or a part is missing.
        BadFile: `model_index.json` is not JSON.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.layout = _layout_of(path)
        self.family: Layout = LAYOUTS[self.layout]
        family = self.family
        groups = (group for group in family.optional if any(self.path_of(part).is_dir() for part in group))
        optional = [part for group in groups for part in group]
        self.parts = (*family.networks, *family.schedules, *family.others, *optional)
        self.networks = (*family.networks, *(part for part in optional if not part.endswith("_scheduler")))
        self.tasks = tuple(task for task, part in family.tasks.items() if part in self.parts)
        for part in self.parts:
            if not self.path_of(part).is_dir():
                missing = self.path_of(part).relative_to(path)
                raise BadFolder(f"the part {missing} is missing from this model", str(path), REPAIR)
        if not self.tasks:
            needed = " or ".join(family.folders.get(part, part) for part in dict.fromkeys(family.tasks.values()))
            raise BadFolder(f"this model paints nothing without {needed}", str(path), REPAIR)
        self.stages: tuple[Stage, ...] = tuple(
            runs.stage for runs in family.stages if self.instead(runs.network) in self.parts
        )

    def path_of(self, part: str) -> Path:
        """The folder of a part."""
        return self.path / self.family.folders.get(part, part)

    def instead(self, part: str) -> str:
        """The part itself, or the one that stands in for it where it is not here."""
        return part if part in self.parts else self.family.fallbacks.get(part, part)

    def config(self, part: str) -> dict[str, Any]:
        """The JSON object that describes a network or a scheduler.

        Raises:
            BadFolder: the file is missing.
            BadFile: it is not a JSON object, or holds a number that no network has.
        """
        path = self._config_file(part)
        config = read_object(path)
        section = self.family.sections.get(part)
        if section is not None:
            config = _section(config, section, path)
        for name, value in config.items():
            _check_size(name, value, path)
        return config

    def preprocessing(self) -> dict[str, Any] | None:
        """The JSON object that says how pictures are prepared for the image tower; None where there is none.

        Raises:
            BadFile: it is not a JSON object.
        """
        path = self._preprocessing_file()
        return read_object(path) if path.is_file() else None

    def weights_file(self, part: str) -> Path:
        """The .safetensors file of a network: the plain one, or else the half-precision one, or that of its twin.

        Of weights that are split into several files it is the index: see shards.py.

        Raises:
            BadFolder: there are no weights.
            BadFile: there are, but pickled, or without the index of their files.
        """
        folder = self.path_of(part)
        for precision in ("", ".fp16"):
            for stem in ("diffusion_pytorch_model", "model"):
                for name in (f"{stem}{precision}.safetensors", *index_names(stem, precision)):
                    if (folder / name).is_file():
                        return folder / name
        if part in self.shared():
            return self.weights_file(self.family.twins[part])
        others = [path.name for path in _listing(folder)]
        shards = [name for name in others if re.fullmatch(NUMBERED, name)]
        if shards:
            what = f"the weights of {part} are split into files, such as {shards[0]}, but their index is missing"
            raise BadFile(what, str(folder), REPAIR)
        for name in others:
            if name.endswith(PICKLES):
                hint = "use the .safetensors files of this model, or convert it: dalle models convert FOLDER NEW-FOLDER"
                raise BadFile(f"{part} has only pickled weights, {name}, which could run code", str(folder), hint)
        raise BadFolder(f"the weights of {part} are missing", str(folder), REPAIR)

    def shared(self) -> tuple[str, ...]:
        """The parts whose weights are stored once, with their twin's, as `dalle.json` says.

        Raises:
            BadFile: `dalle.json` is no JSON, or names parts that this layout has no twin of.
        """
        file = self.path / DIALS
        stated = read_object(file).get(SHARED, []) if self.family.twins and file.is_file() else []
        if not isinstance(stated, list) or not all(part in self.family.twins for part in stated):
            raise BadFile(f"{SHARED} is {stated!r}, not some of {', '.join(self.family.twins)}", str(file), REPAIR)
        return tuple(stated)

    def sizes(self) -> tuple[int, ...]:
        """The sides in pixels of the pictures that are there after each stage that makes one, ascending.

        Raises:
            BadFile: a size is missing, not whole, or not larger than the one before.
        """
        sizes: list[int] = []
        for part in self._sized():
            size = self._sample_size(part)
            smaller = sizes[-1] if sizes else 0
            if type(size) is not int or not smaller < size * self.cell() <= MODEL_SIDE:
                raise BadFile(f"the sample_size of {part} cannot be {size!r}", str(self._config_file(part)), REPAIR)
            sizes.append(size * self.cell())
        if not self.family.stages and self.family.sample_size is not None:
            return (self.family.sample_size,)
        return tuple(sizes)

    def _sample_size(self, part: str) -> object:
        """What the config of a part states, or its family where that is null: from outside, so it may be anything."""
        size = self.config(part).get("sample_size")
        return self.family.sample_size if size is None else size

    def cell(self) -> int:
        """The side in pixels of what one cell of a sample becomes: 1 unless latents are painted.

        Raises:
            BadFile: the autoencoder does not say how many levels it has, or its patches have no size.
        """
        part = self._autoencoder()
        if part is None:
            return 1
        levels = self._levels(part)
        patch = self.config(part).get("patch_size", 1)
        if type(patch) is not int or not 1 <= patch <= MODEL_SIDE:
            raise BadFile(f"patch_size of {part} cannot be {patch!r}", str(self._config_file(part)), REPAIR)
        return int(2 ** (levels - 1)) * patch

    def grid(self) -> int:
        """The pixels that a side of what is painted is a multiple of, where latents are painted.

        Raises:
            BadFile: as `cell`, and where the network does not say how many levels it has.
        """
        return self.cell() << (self._levels(self._sized()[0]) - 1)

    def grids(self) -> tuple[int, ...]:
        """For each of the `sizes`, the pixels that the sides of a picture which is no square are multiples of.

        Every stage halves its picture as often as it has levels, less one, and all stages keep the proportions. Empty
        for families that paint nothing but squares, and for those of latents, which have a `grid`.

        Raises:
            BadFile: as `grid` and `sizes`.
        """
        if not self.family.oblong or self.family.autoencoder is not None:
            return ()
        stages = [(side, 1 << (self._levels(part) - 1)) for side, part in zip(self.sizes(), self._sized(), strict=True)]
        return tuple(
            math.lcm(*(last * cell // math.gcd(last * cell, side) for side, cell in stages[:count]))
            for count, (last, _) in enumerate(stages, 1)
        )

    def _levels(self, part: str) -> int:
        """How many levels a network has."""
        channels = self.config(part).get("block_out_channels")
        if not isinstance(channels, list) or not 1 <= len(channels) <= MODEL_LEVELS:
            raise BadFile(f"block_out_channels of {part} cannot be {channels!r}", str(self._config_file(part)), REPAIR)
        return len(channels)

    def largest(self) -> int | None:
        """The largest side in pixels, where any size is painted; None where there are only `sizes`.

        A picture has as many codes as the network that writes them has places.
        """
        return None if self.family.autoencoder is None or self.family.caches else PAINTED_SIDE

    def noise_shape(self, size: Size) -> tuple[int, int, int]:
        """The channels, height and width of the noise that a picture of `size` is painted from, by the stage for that.

        Raises:
            BadFile: as `grid`, and where the autoencoder does not say how many channels its latents have.
        """
        part = self._autoencoder()
        if part is None:
            return 3, *size.shape
        channels = self.config(part).get("latent_channels")
        if type(channels) is not int or not 1 <= channels <= LATENT_CHANNELS:
            raise BadFile(f"latent_channels cannot be {channels!r}", str(self._config_file(part)), REPAIR)
        return channels, *size.rounded_up(self.grid()).scaled(1, self.cell()).shape

    def width(self) -> int:
        """How many numbers an embedding has, of a model that paints from embeddings.

        Raises:
            BadFile: no number is stated.
            TypeError: the family has no CLIP.
        """
        if self.family.clip is None:
            raise TypeError(f"{self.layout} paints no embeddings")
        part, name = self.family.clip.width
        width = self.config(part).get(name)
        if type(width) is not int:
            raise BadFile(f"{name} of {part} cannot be {width!r}", str(self._config_file(part)), REPAIR)
        return width

    def trained_steps(self, stage: str) -> int:
        """How many timesteps the network of a stage was trained on: the most that it can be asked for.

        Raises:
            BadFolder, BadFile: as `config`, and for a number that is none.
            TypeError: it is a stage without a schedule.
        """
        schedule = next(runs.schedule for runs in self.family.stages if runs.stage.name == stage)
        if schedule is None:
            raise TypeError(f"the {stage} has no schedule")
        part = self.instead(schedule)
        config = self.config(part)
        steps, offset = config.get("num_train_timesteps", 1000), config.get("steps_offset", 0)
        if type(steps) is not int or steps < 2:
            raise BadFile(f"num_train_timesteps of {part} cannot be {steps!r}", str(self._config_file(part)), REPAIR)
        if offset not in (0, 1):
            raise BadFile(f"steps_offset of {part} cannot be {offset!r}", str(self._config_file(part)), REPAIR)
        return steps - int(offset)

    def parameters(self) -> int:
        """How many numbers all networks have together, from the headers of their files.

        Reading them finds everything that is cut short or is not weights at all, long before it is needed.

        Raises:
            BadFolder, BadFile: as `weights_file` and `shards.headers_of`.
        """
        return sum(self.parameters_of(part) for part in self.networks)

    def parameters_of(self, part: str) -> int:
        """How many numbers one network has. Raises as `parameters`."""
        foreign = self.family.foreign.get(part, ())
        header = headers_of(self.weights_file(part))
        return sum(math.prod(entry.shape) for name, entry in header.items() if not name.startswith(foreign))

    def widest_sum(self, part: str) -> int:
        """The most numbers that a linear layer of one network adds up, or more. Raises as `parameters`."""
        shapes = (entry.shape for entry in headers_of(self.weights_file(part)).values())
        return max((shape[1] for shape in shapes if len(shape) == 2), default=0)

    def single_numbers(self, part: str) -> int:
        """How many of them stay in float32 where the network is in float16. Raises as `parameters`."""
        ending = self.family.single.get(part)
        if ending is None:
            return 0
        header = headers_of(self.weights_file(part))
        return sum(math.prod(entry.shape) for name, entry in header.items() if name.endswith(ending))

    def working_numbers(self, part: str) -> int:
        """How many numbers a network has in memory beside its own, at its fullest moment, for one picture.

        Raises:
            BadFolder, BadFile: as `config`, and for sizes that are none.
        """
        if part in self.family.caches:
            sides = [self.config(part).get(name) for name in self.family.caches[part]]
            if not all(type(side) is int for side in sides):
                what = f"{', '.join(self.family.caches[part])} of {part} cannot be {sides}"
                raise BadFile(what, str(self._config_file(part)), REPAIR)
            return ROOMS * math.prod(side for side in sides if isinstance(side, int))
        planes = self.family.planes.get(part, 0)
        if planes == 0:
            return 0
        config = self.config(part)
        channels, side = config.get("block_out_channels"), self._sample_size(part)
        autoencoder = self.family.autoencoder
        if autoencoder is not None and part in (autoencoder, self.family.fallbacks.get(autoencoder)):
            # its own sample_size is that of its training
            side = self.sizes()[-1]
        if not isinstance(channels, list) or not channels or type(channels[0]) is not int or type(side) is not int:
            what = f"block_out_channels and sample_size of {part} cannot be {channels!r} and {side!r}"
            raise BadFile(what, str(self._config_file(part)), REPAIR)
        return planes * channels[0] * side**2

    def digest(self) -> str:
        """The sha256, in hex, of all that decides what this model paints: weights, configs and the tokenizer.

        It does not depend on where the folder lies, nor on `dalle.json`, whose dials a recipe states by itself.
        """
        return combined_digest((name, sha256) for _, name, sha256 in self.file_digests())

    def file_digests(self) -> Iterator[tuple[str, str, str]]:
        """Of every file that the `digest` covers its part, its name in the folder and its sha256.

        How pictures are prepared is the part `PREPROCESSING`, if it is stated.
        """
        for part, file in self._decisive_files():
            # What is stored once counts under both names: it is the same model.
            name = file.relative_to(self.path) if part not in self.networks else self._own_name(part, file)
            yield part, name.as_posix(), file_digest(file)

    def weights_digest(self, part: str) -> str:
        """The sha256, in hex, of the weights of a network. Raises as `weights_file`."""
        files = files_of(self.weights_file(part))
        if len(files) == 1:
            return file_digest(files[0])
        return combined_digest((file.name, file_digest(file)) for file in files)

    def _own_name(self, part: str, file: Path) -> Path:
        return (self.path_of(part) / file.name).relative_to(self.path)

    def _decisive_files(self) -> Iterator[tuple[str, Path]]:
        for part in self.networks:
            yield from ((part, file) for file in files_of(self.weights_file(part)))
            yield part, self._config_file(part)
        yield from ((part, self._config_file(part)) for part in self.parts if part.endswith("_scheduler"))
        for part in self.family.others:
            if not part.endswith("_scheduler"):
                files = [file for file in _listing(self.path_of(part)) if file.is_file()]
                shared = self.path_of(part) == self.path  # with all that lies in a model of one folder
                yield from ((part, file) for file in files if not shared or file.name in TOKENIZER_FILES)
        if self._preprocessing_file().is_file():
            yield PREPROCESSING, self._preprocessing_file()

    def _sized(self) -> list[str]:
        """The parts with the sizes of pictures, in the order of the stages."""
        parts = [self.instead(runs.sized) for runs in self.family.stages if runs.sized is not None]
        return [part for part in parts if part in self.parts]

    def _autoencoder(self) -> str | None:
        return None if self.family.autoencoder is None else self.instead(self.family.autoencoder)

    def _preprocessing_file(self) -> Path:
        return self.path_of(PREPROCESSING) / "preprocessor_config.json"

    def _config_file(self, part: str) -> Path:
        path = self.path_of(part) / ("scheduler_config.json" if part.endswith("_scheduler") else "config.json")
        if not path.is_file():
            raise BadFolder(f"{path.name} of {part} is missing", str(path.parent), REPAIR)
        return path


def _layout_of(path: Path) -> str:
    names = [entry.name for entry in _listing(path)]
    places = dict.fromkeys((layout.index, layout.marker) for layout in LAYOUTS.values())
    place = next((place for place in places if path.joinpath(*place).is_file()), None)
    if place is None:
        what = "model_index.json is missing: this is no model" if names else "the model folder is empty"
        if published_in(path) is not None:
            what = "these are a model's published files, and no model folder yet"
            raise BadFolder(what, str(path), "make one: dalle models convert FOLDER NEW-FOLDER")
        raise BadFolder(what, str(path), "give the folder that holds model_index.json, prior/, decoder/ …")
    stated = stated_kind(path.joinpath(*place))
    for name, layout in LAYOUTS.items():
        if (layout.index, layout.marker, layout.pipeline) == (*place, stated):
            return name
    what = f"this model is of the kind {stated!r}, which is not run here"
    known = " or ".join(layout.pipeline for layout in LAYOUTS.values())
    hint = f"it should be {known}"
    halves = {name.partition("/")[0] for layout in LAYOUTS.values() if layout.index for name in layout.folders.values()}
    if path.resolve().name in halves:
        what, hint = "this is one of several folders of a model", "give the folder that holds them all"
    raise BadFolder(what, str(path.joinpath(*place)), hint)


def stated_kind(file: Path) -> object:
    """The kind of model that a `model_index.json` states, or the `config.json` of one in a single folder.

    It is from outside, so it may be anything. Raises BadFile.
    """
    content = read_object(file)
    several = content.get("architectures")
    if file.name == INDEX or not isinstance(several, list) or not several:
        return content.get("_class_name")
    return several[0]


def _section(config: dict[str, Any], section: str, path: Path) -> dict[str, Any]:
    """The part of a config that is one tower's; how wide embeddings are is stated for both. Raises BadFile."""
    found: dict[str, Any] = {}
    # Files of the first years have changes of a section under a second key.
    for stated in (config.get(section), config.get(f"{section}_dict") or {}):
        if not isinstance(stated, dict):
            raise BadFile(f"{section} is missing: there is no such tower", str(path), REPAIR)
        found |= stated
    return found | {"projection_dim": config.get("projection_dim", PROJECTION)}


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Of a doubled key the last one counts, as in the published configs that have some.

    Raises:
        BadFile: the file cannot be read, is too large for what it should be, or holds something else.
    """
    try:
        content = json.loads(read_file(path, MODEL_JSON_BYTES).decode("utf-8"), parse_constant=_refuse_constant)
    except OSError as problem:
        raise BadFile(f"this file cannot be read: {reason(problem)}", str(path), REPAIR) from problem
    except (ValueError, RecursionError) as problem:
        raise BadFile(f"this file is not valid JSON: {problem}", str(path), REPAIR) from problem
    if not isinstance(content, dict):
        raise BadFile("this file is not a JSON object", str(path), REPAIR)
    return content


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number in JSON")


def _check_size(name: str, value: object, path: Path) -> None:
    """Refuse numbers that would make the building of the network run for ever; the rest is for the network to judge."""
    if isinstance(value, list):
        for item in value:
            _check_size(name, item, path)
    elif isinstance(value, int | float):
        limit = MODEL_DEPTH if name in DEPTHS else MODEL_NUMBER
        if abs(value) > limit:
            raise BadFile(f"{name} is {value}, which no network here has", str(path), REPAIR)


def _listing(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except NotADirectoryError as problem:
        raise BadFolder("this is a file, not a model folder", str(folder), REPAIR) from problem
    except OSError as problem:
        raise BadFolder(f"the model folder cannot be read: {problem.strerror}", str(folder), REPAIR) from problem
