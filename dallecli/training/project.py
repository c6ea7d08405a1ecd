"""Training on pictures of one's own: data in, a model folder out, with everything on the way inside of it.

OUT/                        the model, in the published layout; each part is there as soon as it is trained
OUT/training/settings.json  the preset, and the model that it began from
OUT/training/album/         the pictures, decoded (album.py); `left-out.jsonl` beside it names what was not used
OUT/training/STAGE/         a stage's run (loop.py): state, log, sheets of samples
OUT/training/tensorboard/   the same for TensorBoard

What is not trained is the model's that it began from (`--from`), or is missing yet. `OUT/training` can be removed when
nothing is to be trained any more.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeVar

import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from dallecli.diffusion.schedule import Schedule
from dallecli.errors import BadFile, BadFolder, BadInput, BadOutput, BadSetting, DiskFull, NotDownloaded
from dallecli.nets.clip import ClipTextConfig, CLIPTextModel, ClipVisionConfig, CLIPVisionModel
from dallecli.nets.prior import PriorConfig, PriorTransformer
from dallecli.nets.text_proj import TextProjConfig, UnCLIPTextProjModel
from dallecli.nets.unet import UNet, UNetConfig
from dallecli.pictures.picture import encode
from dallecli.pictures.sheets import grid
from dallecli.placement import free_memory
from dallecli.tokens import ClipTokenizer
from dallecli.training import clip
from dallecli.training.album import Album, Terms, is_current, make_album, open_album
from dallecli.training.clip import ClipData, ClipObjective, ClipTowers
from dallecli.training.data import Listing, summary
from dallecli.training.decoder import DecoderObjective, DecoderParts
from dallecli.training.loop import STATE, Objective, Report, Run, load_average, parts_of
from dallecli.training.model_folder import (
    INDEX,
    write_feature_extractor,
    write_file,
    write_json,
    write_network,
    write_scheduler,
)
from dallecli.training.networks import UPSAMPLERS, check, fresh, text_config
from dallecli.training.preset import NETWORKS, changed, load_own, preset_of, read_preset
from dallecli.training.prior import PriorObjective
from dallecli.training.states import Captions, ReadCaptions, UnreadCaptions, caption_states, picture_embeddings
from dallecli.training.team import Team
from dallecli.training.tokenizer import train_tokenizer
from dallecli.training.upsampler import UpsamplerObjective
from dallecli.weights.folder import Folder, read_object
from dallecli.weights.load import load_net
from dallecli.weights.registry import find, locate

N = TypeVar("N", bound=nn.Module)

DEFAULT_PRESET: Final = "small"
CROP: Final = 64
"""The side in pixels of an upsampler's crops, or a quarter of its pictures' where that is more (the paper's share)."""
LARGEST_TABLE: Final = 2**31
"""Bytes that the text states of all captions may take; more are computed when they are asked for."""
SHOWN: Final = 16
"""Held-out pictures on the sheet that samples are compared with."""
STAND_ON_CLIP: Final = ("prior", "decoder")
"""The stages that read CLIP's embeddings, and would misread those of another CLIP."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a project is trained with: the table of a preset, its name, and the model it began from, if any."""

    preset: str
    table: dict[str, Any]
    origin: str | None


def choose_settings(out: Path, preset: str | None, changes: Iterable[str], origin: str | None) -> Settings:
    """Return the settings of a new project, or those of the project in `out`, changed as asked.

    What is left open (None) is as it was, or the default.

    Raises:
        BadOutput: `out` holds something else, or a project of other networks or another origin.
        BadSetting: the preset or a change is wrong.
    """
    file = out / "training" / "settings.json"
    if not file.is_file():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            hint = "choose a new folder; to go on from a model, give it as --from"
            raise BadOutput("the output is there already, and dalle train did not make it", str(out), hint)
        name = DEFAULT_PRESET if preset is None else preset
        return Settings(preset=name, table=changed(load_own(name), changes), origin=origin)
    try:
        before = Settings(**read_object(file))
    except TypeError as problem:
        raise BadFile("these are not the settings of a training", where=str(file)) from problem
    if origin is not None and origin != before.origin:
        began = "nothing" if before.origin is None else before.origin
        raise BadOutput(f"the training in this folder began from {began}", str(out), "choose another folder with --out")
    name = before.preset if preset is None else preset
    after = changed(before.table if preset is None else load_own(name), changes)
    if before.origin is None and _networks(after) != _networks(before.table):
        hint = f"leave --preset out to go on with {before.preset}, or choose another folder with --out"
        raise BadOutput("the training in this folder has networks of other sizes", str(out), hint)
    return Settings(preset=name, table=after, origin=before.origin)


def _networks(table: dict[str, Any]) -> dict[str, Any]:
    return {key: table[key] for key in NETWORKS if key in table}


class Project:
    """A folder in which a model is trained.

    Nothing is written before `begin`: everything that can be wrong with the settings is found out here.

    Args:
        out: the folder.
        settings: from `choose_settings`.
        device: where to train.
        autocast: the half type of the arithmetic, or None for float32.
        team: the processes that train it together.

    Raises:
        BadSetting: the preset describes networks that cannot be.
        UnknownModel, NotDownloaded, BadFolder, BadFile: the model to begin from is missing or not whole.
    """

    def __init__(
        self, out: Path, settings: Settings, device: torch.device, autocast: torch.dtype | None, team: Team
    ) -> None:
        self.out = out
        self.settings = settings
        self.device = device
        self.autocast = autocast
        self.team = team
        self.state = out / "training"
        self.origin: Folder | None = None
        if settings.origin is None:
            self.preset = read_preset(settings.table, settings.preset)
        else:
            # The project's own folder is the origin as soon as it is a whole copy.
            self.origin = Folder(out) if (out / "model_index.json").is_file() else locate(find(settings.origin))
            self.preset = preset_of(self.origin, settings.table, settings.preset)
        check(self.preset)

    @property
    def stages(self) -> tuple[str, ...]:
        """All stages, in the order in which they are trained."""
        return ("clip", "prior", "decoder", *UPSAMPLERS[: len(self.preset.upsamplers)])

    def check_stages(self, stages: Sequence[str]) -> None:
        """Find out whether these stages can be trained, one after the other, before hours go into the first.

        Raises:
            BadSetting: the preset does not say how, or a batch cannot be shared out equally.
            NotDownloaded: one of them reads CLIP, which has not been trained.
            BadFolder: the model to begin from has no image tower.
        """
        for stage in stages:
            if stage not in self.preset.runs:
                raise BadSetting(
                    f"the preset says nothing of the training of {stage}",
                    where=self.preset.name,
                    hint=f"add runs.{stage} to it",
                )
            parts_of(self.preset.runs[stage].how, self.team.size, stage)  # or BadSetting
        reads = [stage for stage in stages if stage in ("clip", *STAND_ON_CLIP)]
        if reads and not self.preset.image_encoder:
            raise BadFolder(
                "the model has no image_encoder: its CLIP cannot see pictures",
                str(self.out if self.origin is None else self.origin.path),
                "only upsamplers can be trained from it; or put the image_encoder of the same CLIP into its folder",
            )
        if reads and "clip" not in stages and self.origin is None and not self.state_file("clip").exists():
            hint = "train it first: dalle train clip"
            raise NotDownloaded(f"the {reads[0]} needs a clip, and none has been trained yet", str(self.out), hint)

    def terms(self, listing: Listing, least: int | None, mirrored: bool) -> Terms:
        """What the album of a listing is made of; `least` of None is the side of what the decoder paints."""
        sizes = set(self.preset.sizes)
        if self.preset.image_encoder:
            sizes.add(self.preset.image_size)
        side = self.preset.sizes[0] if least is None else least
        return Terms(sizes=tuple(sorted(sizes)), data=listing.digest, least=side, mirrored=mirrored)

    def begin(self, listing: Listing, terms: Terms, *, strict: bool, watch: Callable[[int, int], None]) -> None:
        """Write down the settings, decode the pictures where that was not done yet, and train the tokenizer.

        Raises:
            BadInput: too little is left to train on, or, with `strict`, something is left out.
            DiskFull, BadOutput: there is no space, or no right, to write.
        """
        if self.team.first:
            if strict and listing.faults:
                raise _refused(summary(listing.faults))
            self._make_folder()
            if not is_current(self.album_folder, terms):
                make_album(self.album_folder, listing, terms, watch)
            album = open_album(self.album_folder)
            left_out = "".join(json.dumps(asdict(fault)) + "\n" for fault in album.faults)
            write_file(self.state / "left-out.jsonl", left_out.encode())
            if strict and album.faults:
                raise _refused(summary(album.faults))
            if not (self.out / "tokenizer").exists():
                self._train_tokenizer(album)
            self._show_held_out(album)
        self.team.wait()
        if self.origin is not None:
            self.origin = Folder(self.out)

    @cached_property
    def album(self) -> Album:
        """The pictures; `begin` has made it."""
        return open_album(self.album_folder)

    @property
    def album_folder(self) -> Path:
        """Where the decoded pictures are."""
        return self.state / "album"

    @cached_property
    def tokenizer(self) -> ClipTokenizer:
        """The model's tokenizer."""
        return ClipTokenizer.open(self.out / "tokenizer")

    @cached_property
    def cut(self) -> tuple[str, ...]:
        """The captions that are longer than the context, so that their ends are not read."""
        distinct = dict.fromkeys(self.album.captions)
        return tuple(caption for caption in distinct if self.tokenizer.encode(caption).dropped)

    def state_file(self, stage: str) -> Path:
        """Where a stage's run keeps its state."""
        return self.state / stage / STATE

    def train_stage(
        self,
        stage: str,
        *,
        seconds: float,
        steps: int | None,
        watch: Callable[[Report], None] | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> str | None:
        """Train a stage until `seconds` of training or `steps` steps are spent in all, and write its parts.

        If it is not trained, return why. CLIP is left as it is once other stages were trained on it.
        `check_stages` and `begin` come before.

        Raises:
            NonFinite, DiskFull: as `Run.train`.
        """
        above = [other for other in STAND_ON_CLIP if stage == "clip" and self.state_file(other).exists()]
        if above:
            folders = " and ".join(str(self.state / other) for other in above)
            return f"{' and '.join(above)} stand on it; remove {folders} to train it again"
        torch.manual_seed(1 + self.stages.index(stage))
        events = self.state / "tensorboard" / stage
        objective = self._objective(stage)
        run = Run(objective, self.preset.runs[stage].how, self.state / stage, self.device, self.autocast,
                  1 + self.stages.index(stage), self.team, events)  # fmt: skip
        if run.counters.seconds >= seconds or (steps is not None and run.counters.step >= steps):
            if not self._is_written(stage):
                self._finish(stage, run)
            return f"its {_budget(seconds, steps)} are spent; give more --hours or --train-steps to go on"
        run.train(seconds, watch, steps=steps, warn=warn)
        self._finish(stage, run)
        return None

    def _is_written(self, stage: str) -> bool:
        """Whether the parts of a stage are of its last state: a kill may have come between them."""
        last = self.out / _parts(stage)[0]
        return last.is_dir() and all(
            file.stat().st_mtime_ns >= self.state_file(stage).stat().st_mtime_ns for file in last.iterdir()
        )

    def missing(self) -> tuple[str, ...]:
        """The stages that still have no part in the model folder."""
        return tuple(stage for stage in self.stages if not (self.out / _parts(stage)[0]).is_dir())

    def stale(self) -> tuple[str, ...]:
        """The stages whose networks were made for another CLIP than the one that was trained here."""
        if self.origin is None or not self.state_file("clip").exists():
            return ()
        return tuple(stage for stage in STAND_ON_CLIP if not self.state_file(stage).exists())

    # What a stage is made of

    def _objective(self, stage: str) -> Objective:
        preset, album = self.preset, self.album
        module = fresh(stage, preset, self.tokenizer.end + 1).to(self.device)
        objective: Objective
        match module:
            case ClipTowers():
                last = album.held_out
                train = ClipData(self._clip_pictures[:-last], self._ids[:-last])
                held_out = ClipData(self._clip_pictures[-last:].to(self.device), self._ids[-last:])
                objective = ClipObjective(module, train, held_out, self.team.gather)
            case PriorTransformer():
                images, captions = self._conditions
                objective = PriorObjective(
                    module, self._schedule("prior"), images, captions, album.held_out, preset.recipes.prior
                )
            case DecoderParts():
                images, captions = self._conditions
                pictures = self._near(album.pictures[preset.sizes[0]])
                objective = DecoderObjective(
                    module, self._schedule("decoder"), pictures, images, captions, album.held_out,
                    preset.recipes.decoder,
                )  # fmt: skip
            case UNet():
                place = UPSAMPLERS.index(stage)
                low, size = preset.sizes[place : place + 2]
                recipe = preset.recipes.upsampler if place == 0 else preset.recipes.upsampler_2
                objective = UpsamplerObjective(
                    stage, module, self._schedule(_super_res(stage)), self._near(album.pictures[size]), low,
                    min(size, max(CROP, size // 4)), recipe, album.held_out,
                )  # fmt: skip
            case _:
                raise TypeError(f"no objective for {type(module).__name__}")
        # Behind the objective, which may have set weights by what it saw in the data.
        if self.origin is not None and not self.state_file(stage).exists():
            self._load_origin(stage, module)
        return objective

    def _load_origin(self, stage: str, module: nn.Module) -> None:
        """Give a fresh module the weights of the model that the project began from."""
        match module:
            case ClipTowers():
                module.text_encoder.load_state_dict(self._text_encoder().state_dict())
                module.image_encoder.load_state_dict(self._image_encoder().state_dict())
                _fit_reader(module, self._clip_pictures[: -self.album.held_out][:4096].to(self.device))
            case PriorTransformer():
                weights = self._origin_net("prior", lambda json: PriorTransformer(PriorConfig.from_config(json)))
                kept = weights.state_dict()
                if self.state_file("clip").exists():
                    # CLIP has moved: its mean and deviation are those of the data.
                    kept |= {name: module.state_dict()[name] for name in ("clip_mean", "clip_std")}
                module.load_state_dict(kept)
            case DecoderParts():
                project = self._origin_net(
                    "text_proj", lambda json: UnCLIPTextProjModel(TextProjConfig.from_config(json))
                )
                unet = self._origin_net("decoder", lambda json: UNet(UNetConfig.from_config(json)))
                module.text_proj.load_state_dict(project.state_dict())
                module.decoder.load_state_dict(unet.state_dict())
            case _:
                part = f"{_super_res(stage)}_first"
                unet = self._origin_net(part, lambda json: UNet(UNetConfig.from_config(json)))
                module.load_state_dict(unet.state_dict())

    def _text_encoder(self) -> CLIPTextModel:
        return self._origin_net("text_encoder", lambda json: CLIPTextModel(ClipTextConfig.from_config(json)))

    def _image_encoder(self) -> CLIPVisionModel:
        return self._origin_net("image_encoder", lambda json: CLIPVisionModel(ClipVisionConfig.from_config(json)))

    def _origin_net(self, part: str, build: Callable[[dict[str, Any]], N]) -> N:
        assert self.origin is not None  # `check_stages` has looked
        config = self.origin.config(part)
        return load_net(lambda: build(config), self.origin.weights_file(part), torch.float32, self.device)

    def _towers(self) -> tuple[CLIPTextModel, CLIPVisionModel, Path]:
        """CLIP's towers as the other stages see them, frozen, and the file that they are read from."""
        state = self.state_file("clip")
        if state.exists():
            towers = fresh("clip", self.preset, self.tokenizer.end + 1).to(self.device)
            assert isinstance(towers, ClipTowers)  # for the type checker
            load_average(towers, state)
            towers.eval().requires_grad_(False)
            return towers.text_encoder, towers.image_encoder, state
        assert self.origin is not None  # `check_stages` has looked
        return self._text_encoder(), self._image_encoder(), self.origin.weights_file("text_encoder")

    @cached_property
    def _conditions(self) -> tuple[Tensor, Captions]:
        """CLIP's image embeddings and text states of the album, computed once for the CLIP and the album."""
        text_encoder, image_encoder, source = self._towers()
        file = self.state / "conditions.safetensors"
        stamps = [path.stat() for path in (source, self.album_folder / "album.json")]
        stamp = " ".join(f"{status.st_size} {status.st_mtime_ns}" for status in stamps)
        if self.team.first and not _is_stamped(file, stamp):
            tensors = {"images": picture_embeddings(image_encoder, self._clip_pictures).cpu()}
            if self._table_bytes <= LARGEST_TABLE:
                read = caption_states(text_encoder, self._ids, self._empty)
                tensors |= {name: tensor.cpu() for name, tensor in read.tensors().items()}
            write_file(file, save(tensors, {"stamp": stamp}))
        self.team.wait()
        kept = {name: self._near(tensor) for name, tensor in load_file(file).items()}
        images = kept.pop("images")
        if kept:
            return images, ReadCaptions(**{name: tensor.to(self.device) for name, tensor in kept.items()})
        return images, UnreadCaptions(text_encoder, self._ids, self._empty)

    @property
    def _table_bytes(self) -> int:
        distinct = len(set(self.album.captions)) + 1
        return 2 * distinct * self.preset.context * ClipTextConfig.from_config(self.preset.text_encoder).hidden_size

    @cached_property
    def _clip_pictures(self) -> Tensor:
        return self._near(self.album.pictures[self.preset.image_size])

    @cached_property
    def _ids(self) -> Tensor:
        known = {caption: self.tokenizer.encode(caption).ids for caption in dict.fromkeys(self.album.captions)}
        return torch.tensor([known[caption] for caption in self.album.captions], device=self.device)

    @property
    def _empty(self) -> Tensor:
        return torch.tensor(self.tokenizer.encode("").ids, device=self.device)

    def _near(self, data: Tensor) -> Tensor:
        """Data on the device, if a quarter of its free memory holds them; else where they are."""
        free = free_memory(self.device)
        if self.device.type == "cpu" or (free is not None and data.nbytes > free // 4):
            return data
        return data.to(self.device)

    def _schedule(self, part: str) -> Schedule:
        table = self.preset.schedulers
        try:
            return Schedule.from_config(table[part] if part in table else table["super_res"])
        except ValueError as problem:
            raise BadFile(f"this schedule can't be trained: {problem}", str(self.out)) from problem

    # What is written

    def _make_folder(self) -> None:
        write_json(self.state / "settings.json", asdict(self.settings))
        if self.origin is not None and self.origin.path != self.out:
            _copy_model(self.origin, self.out)

    def _train_tokenizer(self, album: Album) -> None:
        partial = self.state / "tokenizer.partial"
        shutil.rmtree(partial, ignore_errors=True)
        train_tokenizer(dict.fromkeys(album.captions), partial, self.preset.context, self.preset.vocabulary)
        partial.rename(self.out / "tokenizer")

    def _show_held_out(self, album: Album) -> None:
        """The held-out pictures and captions that the sheets of samples show painted again."""
        largest = album.pictures[self.preset.sizes[-1]][-album.held_out :][:SHOWN]
        images = [Image.fromarray(one.permute(1, 2, 0).numpy()).resize((128, 128)) for one in largest]
        write_file(self.state / "held-out.png", encode(grid(images), "png", None))
        captions = album.captions[-album.held_out :][:SHOWN]
        write_file(self.state / "held-out.txt", "".join(f"{caption}\n" for caption in captions).encode())

    def _finish(self, stage: str, run: Run) -> None:
        """Write the parts of a trained stage, with its averaged weights, and what makes a whole model of them."""
        towers = run.objective.module
        if isinstance(run.objective, ClipObjective) and self.origin is None:
            # Networks that read embeddings get inputs of a known size.
            run.settle()
            clip.rescale(run.objective.towers, ClipData(self._clip_pictures[:1024].to(self.device), self._ids[:1024]))
            run.average = [weight.detach().clone() for weight in run.weights]
            run.save()
        if self.team.first:
            with run.averaged():
                self._write_parts(stage, towers)
            if not self.missing() and not (self.out / "model_index.json").exists():
                if self.preset.dials is not None:
                    write_json(self.out / "dalle.json", self.preset.dials)
                write_json(self.out / "model_index.json", INDEX)
        self.team.wait()

    def _write_parts(self, stage: str, module: nn.Module) -> None:
        out, preset = self.out, self.preset
        new = self.origin is None
        match module:
            case ClipTowers():
                config = text_config(preset, self.tokenizer.end + 1) if new else preset.text_encoder
                write_network(out, "text_encoder", config, module.text_encoder)
                write_network(out, "image_encoder", preset.image_encoder, module.image_encoder)
                if new:
                    write_feature_extractor(out, preset.image_size)
            case PriorTransformer():
                write_network(out, "prior", preset.prior, module)
                write_scheduler(out, "prior_scheduler", preset.schedulers["prior"])
            case DecoderParts():
                write_network(out, "text_proj", preset.text_proj, module.text_proj)
                write_network(out, "decoder", preset.decoder, module.decoder)
                write_scheduler(out, "decoder_scheduler", preset.schedulers["decoder"])
            case _:
                part, config = _super_res(stage), preset.upsamplers[UPSAMPLERS.index(stage)]
                # Karlo's layout has a network of its own for the last step; here it is the same one.
                for which in ("first", "last"):
                    write_network(out, f"{part}_{which}", config, module)
                table = preset.schedulers
                write_scheduler(out, f"{part}_scheduler", table[part] if part in table else table["super_res"])


def _super_res(stage: str) -> str:
    """How the part of an upsampler is called on disk."""
    return stage.replace("upsampler", "super_res")


def _parts(stage: str) -> tuple[str, ...]:
    """The parts of the model folder that a stage makes; the last ones are written last."""
    if stage == "clip":
        return ("image_encoder", "text_encoder")
    if stage == "decoder":
        return ("decoder_scheduler", "decoder", "text_proj")
    name = stage if stage == "prior" else _super_res(stage)
    return (f"{name}_scheduler",)


@torch.no_grad()
def _fit_reader(towers: ClipTowers, pictures: Tensor) -> None:
    """Set the reader to the ridge regression of small pictures on their embeddings.

    Towers that are trained already are not to be torn about by a reader that knows nothing.
    """
    images = picture_embeddings(towers.image_encoder, pictures)
    small = torch.nn.functional.adaptive_avg_pool2d(pictures.float(), clip.READ_SIZE).flatten(1) / 127.5 - 1
    mean, centre = images.mean(dim=0), small.mean(dim=0)
    images, small = images - mean, small - centre
    gram = images.T @ images
    gram += 0.01 * gram.diagonal().mean() * torch.eye(len(gram), device=gram.device)
    weight = torch.linalg.solve(gram, images.T @ small).T
    towers.reader.weight.copy_(weight)
    towers.reader.bias.copy_(centre - weight @ mean)


def _copy_model(origin: Folder, out: Path) -> None:
    """Copy the parts of a model, its dials and its index, the index last."""
    names = [*origin.parts, "feature_extractor", "dalle.json", "model_index.json"]
    sources = [origin.path / name for name in names if (origin.path / name).exists()]
    files = [file for source in sources for file in ([source] if source.is_file() else sorted(source.iterdir()))]
    needed, free = sum(file.stat().st_size for file in files), shutil.disk_usage(out).free
    if free < needed:
        raise DiskFull(f"a copy of the model takes {needed} bytes, {free} are free", str(out), "make room")
    for file in files:
        target = out / file.relative_to(origin.path)
        try:
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, target)
        except OSError as problem:
            raise BadOutput(f"the model cannot be copied: {problem.strerror}", str(target)) from problem


def _is_stamped(file: Path, stamp: str) -> bool:
    if not file.exists():
        return False
    with safe_open(file, framework="pt") as opened:
        kept: dict[str, str] = opened.metadata()
    return kept.get("stamp") == stamp


def _budget(seconds: float, steps: int | None) -> str:
    return f"{seconds:.0f} seconds" if steps is None else f"{steps} steps"


def _refused(lines: Sequence[str]) -> BadInput:
    return BadInput(f"not all data can be used: {'; '.join(lines)}", hint="repair them, or leave --strict out")
