"""GLIDE: words straight to 64 pixels, guided by no classifier, and those to 256; for a hole it has networks of its own.

The chain is that of Nichol et al. 2022 (https://arxiv.org/abs/2112.10741) as OpenAI publishes it, "filtered". Each UNet
has a text tower of its own. In float32 pictures equal those of the published notebooks, random draws included.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from dallecli.diffusion.guidance import pair
from dallecli.diffusion.noise import Noise
from dallecli.diffusion.samplers import idle_draws
from dallecli.engine import Progress
from dallecli.errors import BadFile, BadFolder
from dallecli.nets.clip import ClipTextConfig
from dallecli.nets.conditions import Conditions, Context, Place
from dallecli.nets.glide_text import GlideTextEncoder
from dallecli.nets.unet import UNet, UNetConfig
from dallecli.pictures.picture import Picture
from dallecli.pipelines.chunks import chunks_of, one_of_each
from dallecli.pipelines.given import Beginning, Hole
from dallecli.pipelines.parts import Parts
from dallecli.pipelines.pipeline import Pipeline
from dallecli.pipelines.pixels import to_images, to_pixels
from dallecli.pipelines.settings import StageDials, diffusion_dials
from dallecli.pipelines.sources import middle_of
from dallecli.pipelines.squares import repaint
from dallecli.pipelines.stage import Diffusion, Nets, Run, precise, sample
from dallecli.pipelines.text import EncodedPrompts
from dallecli.pipelines.watch import Watch
from dallecli.recipe import Recipe
from dallecli.size import Size
from dallecli.sizing import in_proportion
from dallecli.tasks.generate import Generating
from dallecli.tasks.inpaint import Inpainting
from dallecli.tokens import GptTokenizer
from dallecli.weights.folder import Folder
from dallecli.weights.load import check_net

INPAINT: Final = "inpaint_"
"""The beginning of the names of the parts that inpaint."""

TEMPERATURE: Final = 0.997
"""The deviation of the noise from which the upsampler starts: 1 is sharper, and grainy (the published notebooks)."""

UNETS: Final = {"decoder": "decoder", "upsampler": "super_res"}
"""The UNet of each stage."""

TOWERS: Final = {"decoder": "text_encoder", "super_res": "super_res_text_encoder"}
"""The text tower of each UNet."""

CHANNELS: Final = {"decoder": 3, "super_res": 6, "inpaint_decoder": 7, "inpaint_super_res": 10}
"""What each UNet sees: the noised picture; what is known and where, with `INPAINT`; the smaller picture."""


def open_glide(parts: Parts) -> "Glide":
    """The model in a folder, opened. Networks are loaded when they are first needed.

    Raises BadFolder or BadFile if parts contradict each other.
    """
    tokenizer = GptTokenizer.open(parts.folder.path_of("tokenizer"))
    for unet in [unet for unet in CHANNELS if unet in parts.folder.parts]:
        _check(parts, unet, tokenizer)
    return Glide(parts, tokenizer)


def check_tensors(folder: Folder) -> None:
    """Compare the parts of a folder with each other, and its tensors with its networks; nothing is loaded.

    Raises BadFolder, BadFile, LayoutMismatch.
    """
    open_glide(Parts(folder, torch.device("cpu"), torch.float32))
    for part in folder.networks:
        build = _unet if part.removeprefix(INPAINT) in TOWERS else _text_encoder
        check_net(partial(build, folder.config(part)), folder.weights_file(part))


def _unet(json: dict[str, Any]) -> UNet:
    return UNet(UNetConfig.from_config(json))


def _text_encoder(json: dict[str, Any]) -> GlideTextEncoder:
    return GlideTextEncoder(ClipTextConfig.from_config(json))


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the chain paints: of one prompt for all pictures, or of one for each."""

    prompts: Sequence[str]
    negative: str
    dials: StageDials
    size: Size
    """Of the pictures."""
    beginning: Beginning | None = None
    hole: Hole | None = None
    known: Sequence[Image.Image] = ()
    """The pictures around the hole."""

    @property
    def which(self) -> str:
        """The beginning of the names of the parts that paint."""
        return INPAINT if self.hole is not None else ""

    @property
    def leads(self) -> bool:
        """Whether guidance leads anywhere: without a prompt both of its predictions are the same."""
        return any(prompt != self.negative for prompt in self.prompts)


class Glide(Pipeline):
    """An opened GLIDE."""

    def __init__(self, parts: Parts, tokenizer: GptTokenizer) -> None:
        super().__init__(parts.folder)
        self.parts = parts
        self.tokenizer = tokenizer

    def paint(self, recipe: Recipe, progress: Callable[[Progress], None], batch: int) -> Iterator[Picture]:
        """Yield the pictures of a recipe as they are done, `batch` at a time."""
        asked = _asked([recipe])
        chunks = chunks_of(recipe, progress, batch)
        if isinstance(recipe.settings, Inpainting):

            def paint(known: Sequence[Image.Image], hole: Hole, noise: Noise, watch: Watch) -> Tensor:
                return self._paint(replace(asked, hole=hole, known=known), noise, watch)

            yield from repaint(recipe, recipe.settings, chunks, progress, paint)
            return
        if recipe.inputs:
            asked = replace(asked, beginning=_beginning(recipe))
        for chunk in chunks:
            yield from chunk.pictures(to_images(self._paint(asked, Noise(chunk.seeds), chunk.watch)))

    def paint_together(self, recipes: Sequence[Recipe], progress: Callable[[Progress], None]) -> list[Picture]:
        """The one picture of each recipe, all painted at once."""
        chunk = one_of_each(recipes, progress)
        return list(chunk.pictures(to_images(self._paint(_asked(recipes), Noise(chunk.seeds), chunk.watch))))

    @torch.inference_mode()
    def _paint(self, asked: Asked, noise: Noise, watch: Watch) -> Tensor:
        """Paint words to pixels [b 3 h w] in [-1, 1], with the stages that have dials."""
        # Guidance needs two predictions, so the published decoder draws noise for two pictures and drops one half.
        decoder, pairs, dials = self.stage(asked, "decoder", len(noise)), noise.for_pairs(), asked.dials["decoder"]
        pixels = self._sample(asked, decoder, pairs, watch)
        if "upsampler" not in asked.dials:
            return pixels
        for _ in range(idle_draws(dials.sampler, dials.count)):
            pairs.draw(decoder.shape)
        upsampler = self.stage(asked, "upsampler", len(noise), pixels)
        return self._sample(
            asked, upsampler, noise, watch, TEMPERATURE * noise.draw(upsampler.shape, self.parts.device)
        )

    def _sample(
        self, asked: Asked, stage: Diffusion, noise: Noise, watch: Watch, start: Tensor | None = None
    ) -> Tensor:
        """Run a stage; with a hole, beyond the first pass over a step as with networks that were not made for it."""
        here = (stage.shape[-2:], self.parts.device)
        hole = asked.hole.at(*here) if asked.hole is not None and asked.hole.resample > 1 else None
        beginning = asked.beginning.at(*here) if asked.beginning is not None and start is None else None
        dials = asked.dials[stage.stage]
        return sample(self.parts, stage, dials, noise, watch, start, hole=hole, beginning=beginning).clamp(-1, 1)

    def stage(self, asked: Asked, name: str, count: int, low: Tensor | None = None) -> Diffusion:
        """The painter of words, or the one of the details of a larger picture, for `count` pictures."""
        unet = asked.which + UNETS[name]
        shape = self._size(asked, name).shape
        words = self._read(unet, asked)
        known = _Around.of(asked, shape, self.parts.device)
        beside = [*(known.seen if known is not None else ()), *(() if low is None else (_enlarged(low, shape),))]

        def nets(run: Run) -> Nets:
            dtype = run.dtype
            net = self.parts.net(unet, _unet, dtype)
            read = words.spread(count, run.paired)
            told = Conditions(net.times(run.ts, read.embedding.to(dtype)), Context(read.hidden.to(dtype)))
            seen = [(pair(part, part) if run.paired else part).to(dtype) for part in beside]

            def predict(x: Tensor, place: Place) -> Tensor:
                whole = torch.cat([x.to(dtype), *(part[-len(x) :] for part in seen)], dim=1)
                return net.denoise(whole, *told.at(place, len(x)), run.deep)

            return predict, None

        return Diffusion(
            stage=name,
            shape=(3, *shape),
            schedule=self.parts.schedule(f"{UNETS[name]}_scheduler"),
            guided=asked.leads,
            known=known.put_in if known is not None else None,
            nets=nets,
            show=to_images,
        )

    def _size(self, asked: Asked, name: str) -> Size:
        """The size of the picture after a stage."""
        sides = {
            stage: self.parts.config(asked.which + UNETS[stage], UNetConfig.from_config).side for stage in asked.dials
        }
        return in_proportion(sides, asked.size)[name]

    def _read(self, unet: str, asked: Asked) -> EncodedPrompts:
        """The prompts after the negative one, as the text tower of a UNet encodes them. Raises NonFinite."""
        tokens = [self.tokenizer.encode(prompt) for prompt in (asked.negative, *asked.prompts)]
        ids = torch.tensor([row.ids for row in tokens], device=self.parts.device)
        mask = torch.tensor([row.mask for row in tokens], device=self.parts.device)
        part = _tower(unet)

        def encode(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
            tower = self.parts.net(part, _text_encoder, dtype)
            embedding, hidden = tower(ids, mask)
            states = torch.cat([embedding, hidden.flatten(1)], dim=1).to(precise(dtype))
            return states, states.isfinite().all(dim=1)

        width = self.parts.config(part, ClipTextConfig.from_config).projection_dim
        states = self.parts.finite("text", None, encode)
        hidden = states[:, width:].view(len(states), self.tokenizer.context, -1)
        # Nothing is masked: what stands for padding is learned, and read.
        return EncodedPrompts(
            embedding=states[:, :width],
            hidden=hidden,
            mask=torch.ones_like(mask),
            padded=False,
            negative=asked.negative != "",
        )


def _asked(recipes: Sequence[Recipe]) -> Asked:
    """What recipes paint that differ in nothing but their words and seeds."""
    first = recipes[0]
    return Asked(
        prompts=[recipe.prompt for recipe in recipes],
        negative=first.settings.negative,
        dials=diffusion_dials(first.stages),
        size=first.size,
    )


def _tower(unet: str) -> str:
    """The text tower of a UNet."""
    which = INPAINT if unet.startswith(INPAINT) else ""
    return which + TOWERS[unet.removeprefix(INPAINT)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Around:
    """What is known around a hole, at the size of a stage. The networks that inpaint see it, and keep it themselves."""

    pixels: Tensor
    """[b 3 h w] in [-1, 1], scaled as in the published notebooks."""
    unknown: Tensor
    """[b 1 h w], boolean."""

    @classmethod
    def of(cls, asked: Asked, shape: tuple[int, int], device: torch.device) -> "_Around | None":
        """None if nothing is known."""
        if asked.hole is None:
            return None
        pixels = to_pixels([image.resize(shape[::-1], Image.Resampling.BICUBIC) for image in asked.known])
        return cls(pixels=pixels.to(device), unknown=asked.hole.at(shape, device).unknown)

    @property
    def seen(self) -> tuple[Tensor, Tensor]:
        """The known pixels [b 3 h w], elsewhere 0, and where they are [b 1 h w]."""
        keep = (~self.unknown).to(self.pixels.dtype)
        return self.pixels * keep, keep

    def put_in(self, x0: Tensor) -> Tensor:
        """Clean samples [b 3 h w] with what is known."""
        return torch.where(self.unknown, x0, self.pixels.to(x0.dtype))


def _beginning(recipe: Recipe) -> Beginning:
    """The picture that a recipe paints over. Raises TypeError for a recipe of another task."""
    if not isinstance(recipe.settings, Generating) or recipe.settings.strength is None:
        raise TypeError(f"{recipe.model} cannot {recipe.task}")
    pixels = to_pixels([middle_of(recipe.inputs[0], recipe.size)])
    return Beginning(pixels=pixels, strength=recipe.settings.strength)


def _enlarged(low: Tensor, shape: tuple[int, int]) -> Tensor:
    """Smaller pictures as the upsampler was trained with them: of 256 levels, and enlarged to [b 3 *shape]."""
    levels = ((low + 1) * 127.5).round() / 127.5 - 1
    return F.interpolate(levels, size=list(shape), mode="bilinear")


def _check(parts: Parts, unet: str, tokenizer: GptTokenizer) -> None:
    """Refuse a UNet, its text tower and a tokenizer that don't fit each other, before any of them is loaded."""
    tower = _tower(unet)
    config, text = parts.config(unet, UNetConfig.from_config), parts.config(tower, ClipTextConfig.from_config)
    parts.check_same("width of text states", tower, text.hidden_size, unet, config.cross_attention_dim)
    parts.check_same("width of time", tower, text.projection_dim, unet, config.time_dim)
    parts.check_same("number of tokens", "tokenizer", tokenizer.context, tower, text.max_position_embeddings)
    if tokenizer.encoder.get_vocab_size() > text.vocab_size:
        raise BadFolder(f"the tokenizer's vocabulary is larger than the {tower}'s", str(parts.folder.path))
    schedule = parts.schedule(f"{unet.removeprefix(INPAINT)}_scheduler")
    outputs = (6,) if schedule.variance_type == "learned_range" else (3, 6)
    if config.in_channels != CHANNELS[unet] or config.out_channels not in outputs:
        what = f"the {unet} has {config.in_channels} channels in and {config.out_channels} out"
        raise BadFolder(f"{what}, which don't fit what it sees and its schedule", str(parts.folder.path))
    if not config.attends or config.class_embed_type != "identity":
        raise BadFile(f"the {unet} reads no words", str(parts.folder.path_of(unet)))
