"""Training the starter from nothing: a pool of scenes, a tokenizer, then every network in turn, then a model folder.

Everything lives under one state folder: pools that are drawn once, the tokenizer, and a run a stage. Each stage needs
only what `NEEDS` says, so stages may also be trained side by side by several processes.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save
from torch import Tensor, nn

from dallecli.diffusion.schedule import Schedule
from dallecli.errors import BadSetting, NotDownloaded
from dallecli.nets.prior import PriorTransformer
from dallecli.nets.unet import UNet
from dallecli.tokens import ClipTokenizer
from dallecli.training import clip
from dallecli.training.batch import Emphasis
from dallecli.training.clip import ClipData, ClipObjective, ClipTowers
from dallecli.training.decoder import DecoderObjective, DecoderParts, DecoderRecipe
from dallecli.training.loop import STATE, Objective, Report, Run, load_average
from dallecli.training.model_folder import (
    INDEX,
    write_feature_extractor,
    write_file,
    write_json,
    write_network,
    write_scheduler,
    write_tokenizer,
)
from dallecli.training.networks import UPSAMPLERS, fresh, text_config
from dallecli.training.preset import SCHEDULERS, Preset
from dallecli.training.prior import PriorObjective
from dallecli.training.states import ReadCaptions, caption_states, picture_embeddings
from dallecli.training.tokenizer import train_tokenizer
from dallecli.training.upsampler import UpsamplerObjective, UpsamplerRecipe
from dallecli.training.world.captions import STYLES, caption_words
from dallecli.training.world.judge import Judge, JudgeData, JudgeObjective
from dallecli.training.world.pool import Pool, open_pool, render_pool
from dallecli.training.world.scenes import HELD_OUT_SEEDS, Mix
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
DECODER = DecoderRecipe(
    caption_dropout=0.18, embedding_dropout=0.12, both_dropout=0.08, embedding_noise=0.25, lean=0.65
)
CORRUPTION = {
    "upsampler": UpsamplerRecipe(corruption="noise", noise=0.08),
    "upsampler_2": UpsamplerRecipe(corruption="noise", noise=0.06),
}
"""How much noise the low-resolution pictures get: as wrong as the stage before is."""
HARD, GREY = 0.5, 0.3
"""The shares of samples that are drawn from what is hardest for the decoder, and for the upsampler to 64 px."""
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
        load_average(module, self.state_file(stage))
        return module.eval().requires_grad_(False)

    def bare(self, stage: str) -> nn.Module:
        """Return a stage's module with fresh weights, on the device."""
        if stage == "judge":
            module: nn.Module = Judge(self.train_pool.labels.objects.shape[1], *self.label_classes)
        else:
            module = fresh(stage, self.preset, self.vocab_size if stage == "clip" else 0)
        return module.to(self.device)

    @property
    def label_classes(self) -> tuple[int, int]:
        """How many backgrounds and styles the judge tells apart."""
        from dallecli.training.world.backdrops import NAMES

        return len(NAMES), len(STYLES)

    @property
    def vocab_size(self) -> int:
        """The number of tokens, of which the last is the end token."""
        return self.tokenizer.end + 1

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
                    module, schedule("decoder"), pictures, *self.conditions, self.held_out, DECODER, self.hard
                )
            case Judge():
                return JudgeObjective(module, self._judge_data(self.train_pool), self._judge_data(self.held_out_pool))
            case UNet():
                return self._upsampler(stage, module)
            case _:
                raise TypeError(f"no objective for {type(module).__name__}")

    @property
    def hard(self) -> Emphasis:
        """The scenes that a decoder learns last: in a style, or of several things."""
        labels = self.train_pool.labels
        return self._emphasis((labels.style > 0) | (labels.objects.sum(axis=1) > 1), HARD)

    @property
    def grey(self) -> Emphasis:
        """The scenes without colour: sketch or photo, which 64 pixels show and 16 only hint at.

        Pixel art is not among them: what sees more of it finds it in pictures that are none.
        """
        styles = [STYLES.index(name) for name in ("pencil sketch", "black and white")]
        return self._emphasis(np.isin(self.train_pool.labels.style, styles), GREY)

    def _emphasis(self, chosen: NDArray[np.bool_], share: float) -> Emphasis:
        return Emphasis(rows=torch.from_numpy(chosen.nonzero()[0]).to(self.device), share=share)

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
        place = UPSAMPLERS.index(stage)
        sizes = [self.preset.decoder["sample_size"], *(one["sample_size"] for one in self.preset.upsamplers)]
        low, size = sizes[place], sizes[place + 1]
        if size <= 64:
            pictures, held_out = self.with_held_out(lambda pool: self.pictures(pool, size)), self.held_out
            emphasis = self.grey
        else:
            pictures, held_out = self.pictures(self.large_pool, size), self.preset.large_pool // 50 + 1
            emphasis = None
        corruption = CORRUPTION[stage]
        return UpsamplerObjective(
            stage, net, schedule("super_res"), pictures, low, min(size, CROP), corruption, held_out, emphasis
        )

    @property
    def conditions(self) -> tuple[Tensor, ReadCaptions]:
        """CLIP's image embeddings and text states of the training pool with the held-out pool behind it.

        Computed once for the CLIP that is there, and kept beside it.
        """
        file = self.folder / "clip" / "conditions.safetensors"
        state = self.state_file("clip")
        if not file.exists() or file.stat().st_mtime_ns < state.stat().st_mtime_ns:
            write_file(file, save(self._conditions()))
        kept = {name: tensor.to(self.device) for name, tensor in load_file(file).items()}
        return kept.pop("images"), ReadCaptions(**kept)

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
        write_network(target, "text_encoder", text_config(preset, self.vocab_size), towers.text_encoder)
        write_network(target, "image_encoder", preset.image_encoder, towers.image_encoder)
        write_network(target, "prior", preset.prior, self.trained("prior"))
        write_network(target, "text_proj", preset.text_proj, parts.text_proj)
        write_network(target, "decoder", preset.decoder, parts.decoder)
        write_scheduler(target, "prior_scheduler", SCHEDULERS["prior"])
        write_scheduler(target, "decoder_scheduler", SCHEDULERS["decoder"])
        for stage, config in zip(UPSAMPLERS, preset.upsamplers, strict=False):
            part, net = stage.replace("upsampler", "super_res"), self.trained(stage)
            # Karlo's layout has a network of its own for the last step; here it is the same one.
            for which in ("first", "last"):
                write_network(target, f"{part}_{which}", config, net)
            write_scheduler(target, f"{part}_scheduler", SCHEDULERS["super_res"])
        write_tokenizer(target, self.tokenizer_folder)
        write_feature_extractor(target, preset.image_encoder["image_size"])
        write_json(target / "model_index.json", INDEX)
        write_json(target / "dalle.json", self._dials())

    def _dials(self) -> dict[str, Any]:
        """The registry's settings for the starter, so that a starter trained anew is run as the embedded one is."""
        spec = registry()["starter"]
        stages = ["prior", "decoder", "upsampler", "upsampler_2"][: 2 + len(self.preset.upsamplers)]
        return {
            "prior_candidates": spec.prior_candidates,
            "stages": {name: asdict(spec.stages[name]) for name in stages},
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
