"""Training the starter from nothing: a pool of scenes, a tokenizer, then every network in turn, then a model folder.

Everything lives under one state folder: pools that are drawn once, the tokenizer, and a run a stage. Each stage needs
only what `NEEDS` says, so stages may also be trained side by side by several processes.
"""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from dallecli.diffusion.schedule import Schedule
from dallecli.errors import BadSetting, NotDownloaded
from dallecli.nets.clip import ClipTextConfig, ClipVisionConfig
from dallecli.nets.prior import PriorConfig, PriorTransformer
from dallecli.nets.text_proj import TextProjConfig
from dallecli.nets.unet import UNet, UNetConfig
from dallecli.picture import publish
from dallecli.tokens import ClipTokenizer
from dallecli.training import clip
from dallecli.training.captions import caption_words
from dallecli.training.clip import ClipData, ClipObjective, ClipTowers
from dallecli.training.decoder import DecoderObjective, DecoderParts
from dallecli.training.judge import Judge, JudgeData, JudgeObjective
from dallecli.training.loop import STATE, Objective, Report, Run
from dallecli.training.pool import Pool, open_pool, render_pool
from dallecli.training.preset import SCHEDULERS, Preset
from dallecli.training.prior import PriorObjective
from dallecli.training.scenes import HELD_OUT_SEEDS, Mix
from dallecli.training.states import Captions, caption_states, picture_embeddings
from dallecli.training.tokenizer import train_tokenizer
from dallecli.training.upsampler import UpsamplerObjective
from dallecli.weights.registry import registry

NEEDS: dict[str, tuple[str, ...]] = {
    "clip": (),
    "prior": ("clip",),
    "decoder": ("clip",),
    "upsampler": (),
    "upsampler_2": (),
    "judge": (),
}
"""The stages in the order they are trained, and the trained stages each of them reads."""

HELD_OUT = 1000
"""Held-out scenes, for validation while training; evaluation draws its own, further on."""
CROP = 64
"""The side in pixels of the crops on which an upsampler to more than 64 px is trained."""
CORRUPTION = {"upsampler": 0.12, "upsampler_2": 0.06}
"""How much noise the low-resolution pictures get: as wrong as the stage before is."""
LARGE_MIX = replace(Mix(), style=0.1)


def seed_of(stage: str) -> int:
    """Return the seed of a stage's weights and draws."""
    return 1 + list(NEEDS).index(stage)


@dataclass(slots=True, eq=False)
class Workshop:
    """The state folder of one starter, with the data that stages share, made when first asked for.

    Args:
        preset: what is trained.
        folder: the state folder.
        device: where to train.
        autocast: the half type of the arithmetic, or None for float32.
    """

    preset: Preset
    folder: Path
    device: torch.device
    autocast: torch.dtype | None = None

    def pool(self, name: str, count: int, seed: int, sizes: Sequence[int], mix: Mix) -> Pool:
        """Open a pool of scenes, drawing it first where it is not there whole."""
        path = self.folder / "pools" / name
        if not path.exists():
            # Of this process alone: others may train beside it and draw the same pool.
            partial = path.with_name(f"{name}.partial-{os.getpid()}")
            render_pool(partial, count, seed, sizes, mix)
            try:
                partial.rename(path)
            except OSError:
                if not path.exists():
                    raise
                shutil.rmtree(partial)
        return open_pool(path)

    def state_file(self, stage: str) -> Path:
        """Where a stage's run keeps its state."""
        return self.folder / stage / STATE

    @property
    def train_pool(self) -> Pool:
        """The scenes that everything but the last upsampler learns from."""
        return self.pool("train", self.preset.pool, 0, (64,), Mix())

    @property
    def held_out_pool(self) -> Pool:
        """Scenes of held-out seeds and held-out pairs."""
        return self.pool(
            "held-out", min(HELD_OUT, self.preset.pool), HELD_OUT_SEEDS, (64,), replace(Mix(), split="any")
        )

    @property
    def large_pool(self) -> Pool:
        """The scenes that the last upsampler learns from."""
        return self.pool("large", self.preset.large_pool, 2**30, (256,), LARGE_MIX)

    @property
    def tokenizer_folder(self) -> Path:
        """The tokenizer's folder; trained when first asked for."""
        path = self.folder / "tokenizer"
        if not (path / "vocab.json").exists():
            train_tokenizer(caption_words(), path, self.preset.context)
        return path

    @property
    def tokenizer(self) -> ClipTokenizer:
        """The starter's own tokenizer."""
        return ClipTokenizer.open(self.tokenizer_folder)

    def pictures(self, pool: Pool, size: int) -> Tensor:
        """Return the pool's pictures as uint8 [n 3 size size], box-averaged from the smallest size that is there."""
        have = min(one for one in pool.pictures if one >= size)
        factor = have // size
        parts = []
        for start in range(0, len(pool.captions), 1024):
            part = torch.from_numpy(pool.pictures[have][start : start + 1024].copy()).permute(0, 3, 1, 2)
            if factor > 1:
                part = nn.functional.avg_pool2d(part.float(), factor).add_(0.5).byte()
            parts.append(part.contiguous())
        return torch.cat(parts).to(self.device)

    def ids(self, pool: Pool) -> Tensor:
        """Return the token ids [n context] of the pool's captions."""
        tokenizer = self.tokenizer
        known = {caption: tokenizer.encode(caption).ids for caption in dict.fromkeys(pool.captions)}
        return torch.tensor([known[caption] for caption in pool.captions], device=self.device)

    def with_held_out(self, of: Callable[[Pool], Tensor]) -> Tensor:
        """Return `of` the training pool and, behind it, of the held-out pool."""
        return torch.cat([of(self.train_pool), of(self.held_out_pool)])

    @property
    def held_out(self) -> int:
        """How many samples at the end of `with_held_out` are held out."""
        return len(self.held_out_pool.captions)

    def run(self, stage: str) -> Run:
        """Open a stage's run where it stands.

        Raises:
            NotDownloaded: a stage that it reads has not been trained in this folder.
        """
        torch.manual_seed(seed_of(stage))
        objective = self.objective(stage)
        how = self.preset.runs[stage].how
        return Run(objective, how, self.folder / stage, self.device, self.autocast, seed_of(stage))

    def trained(self, stage: str) -> nn.Module:
        """Return a stage's module with its averaged weights, frozen.

        Raises:
            NotDownloaded: the stage has not been trained in this folder.
        """
        if not self.state_file(stage).exists():
            raise NotDownloaded(
                f"the {stage} has not been trained yet",
                where=str(self.folder / stage),
                hint=f"train it first: dalle train starter --stage {stage}",
            )
        module = self.bare(stage)
        run = Run(_Bare(stage, module), self.preset.runs[stage].how, self.folder / stage, self.device)
        with torch.no_grad():
            torch._foreach_copy_([weight.data for weight in run.weights], run.average)
        return module.eval().requires_grad_(False)

    def bare(self, stage: str) -> nn.Module:
        """Return a stage's module with fresh weights, on the device."""
        preset = self.preset
        module: nn.Module
        if stage == "clip":
            text = ClipTextConfig.from_config({**preset.text_encoder, "vocab_size": self.vocab_size})
            module = ClipTowers(text, ClipVisionConfig.from_config(preset.image_encoder))
        elif stage == "prior":
            module = PriorTransformer(PriorConfig.from_config(preset.prior))
            nn.init.normal_(module.positional_embedding, std=0.02)
            nn.init.normal_(module.prd_embedding, std=0.02)
        elif stage == "decoder":
            text_proj = TextProjConfig.from_config(preset.text_proj)
            module = DecoderParts(text_proj, UNetConfig.from_config(preset.decoder))
        elif stage == "judge":
            labels = self.train_pool.labels
            module = Judge(labels.objects.shape[1], *self.label_classes)
        else:
            module = UNet(UNetConfig.from_config(preset.upsamplers[self._place(stage)]))
        return module.to(self.device)

    @property
    def label_classes(self) -> tuple[int, int]:
        """How many backgrounds and styles the judge tells apart."""
        from dallecli.training.backdrops import NAMES
        from dallecli.training.captions import STYLES

        return len(NAMES), len(STYLES)

    @property
    def vocab_size(self) -> int:
        """The number of tokens, of which the last is the end token."""
        return self.tokenizer.end + 1

    @staticmethod
    def _place(stage: str) -> int:
        return 0 if stage == "upsampler" else 1

    def objective(self, stage: str) -> Objective:
        """Return what a stage minimises, with its data."""
        if stage not in self.preset.runs:
            raise BadSetting(
                f"the preset {self.preset.name!r} has no stage {stage!r}",
                hint=f"choose from {', '.join(self.preset.runs)}",
            )
        module = self.bare(stage)
        match module:
            case ClipTowers():
                return ClipObjective(module, self._clip_data(self.train_pool), self._clip_data(self.held_out_pool))
            case PriorTransformer():
                return PriorObjective(module, schedule("prior"), *self.conditions, self.held_out)
            case DecoderParts():
                size = self.preset.decoder["sample_size"]
                pictures = self.with_held_out(lambda pool: self.pictures(pool, size))
                return DecoderObjective(
                    module, schedule("decoder"), pictures, *self.conditions, self.held_out, self.core
                )
            case Judge():
                return JudgeObjective(module, self._judge_data(self.train_pool), self._judge_data(self.held_out_pool))
            case UNet():
                return self._upsampler(stage, module)
            case _:
                raise TypeError(f"no objective for {type(module).__name__}")

    @property
    def core(self) -> Tensor:
        """The training scenes of one thing in no special style: what a newcomer asks for first."""
        labels = self.train_pool.labels
        alone = (labels.objects.sum(axis=1) == 1) & (labels.style == 0)
        return torch.from_numpy(alone.nonzero()[0]).to(self.device)

    def _clip_data(self, pool: Pool) -> ClipData:
        return ClipData(self.pictures(pool, self.preset.image_encoder["image_size"]), self.ids(pool))

    def _judge_data(self, pool: Pool) -> JudgeData:
        labels = pool.labels
        return JudgeData(
            self.pictures(pool, 32),
            torch.from_numpy(labels.objects > 0).float().to(self.device),
            torch.from_numpy(labels.background).to(self.device),
            torch.from_numpy(labels.style).to(self.device),
        )

    def _upsampler(self, stage: str, net: UNet) -> UpsamplerObjective:
        place = self._place(stage)
        sizes = [self.preset.decoder["sample_size"], *(one["sample_size"] for one in self.preset.upsamplers)]
        low, size = sizes[place], sizes[place + 1]
        if size <= 64:
            pictures, held_out = self.with_held_out(lambda pool: self.pictures(pool, size)), self.held_out
        else:
            pictures, held_out = self.pictures(self.large_pool, size), self.preset.large_pool // 50 + 1
        return UpsamplerObjective(
            stage, net, schedule("super_res"), pictures, low, min(size, CROP), CORRUPTION[stage], held_out
        )

    @property
    def conditions(self) -> tuple[Tensor, Captions]:
        """CLIP's image embeddings and text states of the training pool with the held-out pool behind it.

        Computed once for the CLIP that is there, and kept beside it.
        """
        file = self.folder / "clip" / "conditions.safetensors"
        state = self.state_file("clip")
        if not file.exists() or file.stat().st_mtime_ns < state.stat().st_mtime_ns:
            _write(file, save(self._conditions()))
        kept = {name: tensor.to(self.device) for name, tensor in load_file(file).items()}
        return kept.pop("images"), Captions(**kept)

    def _conditions(self) -> dict[str, Tensor]:
        towers = self.trained("clip")
        assert isinstance(towers, ClipTowers)  # for the type checker: that is what `bare` makes
        size = self.preset.image_encoder["image_size"]
        images = self.with_held_out(lambda pool: picture_embeddings(towers.image_encoder, self.pictures(pool, size)))
        empty = torch.tensor(self.tokenizer.encode("").ids, device=self.device)
        captions = caption_states(towers.text_encoder, self.with_held_out(self.ids), empty)
        return {"images": images.cpu(), **{name: tensor.cpu() for name, tensor in captions.tensors().items()}}

    def export(self, target: Path) -> None:
        """Write what is trained as a model folder in Karlo's layout, weights in float16.

        diffusers' UnCLIPPipeline loads it, up to the first upsampler.

        Raises:
            NotDownloaded: a stage has not been trained.
        """
        preset = self.preset
        towers, parts = self.trained("clip"), self.trained("decoder")
        assert isinstance(towers, ClipTowers)  # for the type checker: that is what `bare` makes
        assert isinstance(parts, DecoderParts)  # for the type checker: that is what `bare` makes
        end = self.tokenizer.end
        text_config = {**preset.text_encoder, "vocab_size": end + 1, "bos_token_id": end - 1, "eos_token_id": end,
                       "pad_token_id": end}  # fmt: skip
        nets: dict[str, tuple[dict[str, Any], nn.Module]] = {
            "text_encoder": (text_config, towers.text_encoder),
            "image_encoder": (preset.image_encoder, towers.image_encoder),
            "prior": (preset.prior, self.trained("prior")),
            "text_proj": (preset.text_proj, parts.text_proj),
            "decoder": (preset.decoder, parts.decoder),
        }
        schedulers = {"prior_scheduler": "prior", "decoder_scheduler": "decoder"}
        for place, config in enumerate(preset.upsamplers):
            number = "" if place == 0 else f"_{place + 1}"
            net = self.trained(f"upsampler{number}")
            # Karlo's layout has a network of its own for the last step; here it is the same one.
            nets[f"super_res{number}_first"] = nets[f"super_res{number}_last"] = (config, net)
            schedulers[f"super_res{number}_scheduler"] = "super_res"
        for part, (config, net) in nets.items():
            name = "model" if part.endswith("encoder") else "diffusion_pytorch_model"
            half = {key: value.half().cpu().contiguous() for key, value in net.state_dict().items()}
            _write(target / part / "config.json", _json(config))
            _write(target / part / f"{name}.safetensors", save(half, {"format": "pt"}))
        for part, stage in schedulers.items():
            _write(target / part / "scheduler_config.json", _json(SCHEDULERS[stage]))
        for file in self.tokenizer_folder.iterdir():
            _write(target / "tokenizer" / file.name, file.read_bytes())
        _write(target / "feature_extractor" / "preprocessor_config.json", _json(self._feature_extractor()))
        _write(target / "model_index.json", _json(_INDEX))
        _write(target / "dalle.json", _json(self._dials()))

    def _dials(self) -> dict[str, Any]:
        """The registry's settings for the starter, so that a starter trained anew is run as the embedded one is."""
        spec = registry()["starter"]
        stages = ["prior", "decoder", "upsampler", "upsampler_2"][: 2 + len(self.preset.upsamplers)]
        return {
            "prior_candidates": spec.prior_candidates,
            "stages": {name: asdict(spec.stages[name]) for name in stages},
        }

    def _feature_extractor(self) -> dict[str, Any]:
        size = self.preset.image_encoder["image_size"]
        return {
            "image_processor_type": "CLIPImageProcessor",
            "do_resize": True,
            "size": {"shortest_edge": size},
            "resample": 3,
            "do_center_crop": True,
            "crop_size": {"height": size, "width": size},
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(clip.MEAN),
            "image_std": list(clip.STD),
            "do_convert_rgb": True,
        }


@dataclass(slots=True)
class _Bare:
    """A module without an objective, to read its run's state by."""

    name: str
    module: nn.Module

    def loss(self, batch: int, generator: torch.Generator) -> Tensor:
        raise TypeError(f"{self.name} was opened for reading")

    def validate(self) -> dict[str, float]:
        return {}

    def samples(self) -> None:
        return None


_INDEX: dict[str, Any] = {
    "_class_name": "UnCLIPPipeline",
    "decoder": ["diffusers", "UNet2DConditionModel"],
    "decoder_scheduler": ["diffusers", "UnCLIPScheduler"],
    "prior": ["diffusers", "PriorTransformer"],
    "prior_scheduler": ["diffusers", "UnCLIPScheduler"],
    "super_res_first": ["diffusers", "UNet2DModel"],
    "super_res_last": ["diffusers", "UNet2DModel"],
    "super_res_scheduler": ["diffusers", "UnCLIPScheduler"],
    "text_encoder": ["transformers", "CLIPTextModelWithProjection"],
    "text_proj": ["unclip", "UnCLIPTextProjModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
}


def schedule(stage: str) -> Schedule:
    """Return the schedule that a stage is trained and sampled with."""
    return Schedule.from_config(SCHEDULERS[stage])


def train_stage(
    workshop: Workshop, stage: str, seconds: float | None = None, watch: Callable[[Report], None] | None = None
) -> str | None:
    """Train a stage until its budget, or `seconds` where given, is spent in all; if it is not trained, return why.

    A stage that another one was already trained on is left as it is: moving CLIP's space would take the ground
    from under the prior and the decoder.

    Raises:
        NotDownloaded: a stage that it reads has not been trained.
        BadSetting: the preset has no such stage.
    """
    above = [other for other, needs in NEEDS.items() if stage in needs and workshop.state_file(other).exists()]
    if above:
        return f"{' and '.join(above)} stand on it; remove their folders to train it again"
    run = workshop.run(stage)
    budget = workshop.preset.runs[stage].seconds if seconds is None else seconds
    if run.counters.seconds >= budget:
        return f"its {budget:.0f} seconds are spent; give more --hours to go on"
    run.train(budget, watch)
    if isinstance(run.objective, ClipObjective):
        # The averaged weights are the ones that are used from here on.
        with torch.no_grad():
            torch._foreach_copy_([weight.data for weight in run.weights], run.average)
        clip.rescale(run.objective.towers, run.objective.train)
        run.average = [weight.detach().clone() for weight in run.weights]
        run.save()
    return None


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    publish(path, data, force=True)
