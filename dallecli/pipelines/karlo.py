"""Karlo and everything laid out like it: CLIP text, diffusion prior, pixel decoder, one or two upsamplers.

The chain is that of Ramesh et al. 2022 as kakaobrain/karlo-v1-alpha publishes it. With the ancestral sampler, one
candidate and float32 it equals diffusers' UnCLIPPipeline, its random draws included.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from dallecli.diffusion.guidance import OFF, pair
from dallecli.diffusion.noise import Noise
from dallecli.errors import BadFolder, BadSetting
from dallecli.nets.conditions import Conditions, Context, Place, Time, Times
from dallecli.nets.deep_features import DeepFeatures
from dallecli.nets.text_proj import Conditioning, TextProjConfig, UnCLIPTextProjModel
from dallecli.nets.unet import UNet, UNetConfig
from dallecli.pipelines.clip_embedder import ClipEmbedder
from dallecli.pipelines.embedding import Embedding, check_space
from dallecli.pipelines.given import at_size
from dallecli.pipelines.parts import Parts
from dallecli.pipelines.pixels import size_of, to_images
from dallecli.pipelines.settings import PaintSettings, StageDials
from dallecli.pipelines.stage import Diffusion, Nets, Run, sample, unsample
from dallecli.pipelines.text import EncodedPrompts
from dallecli.pipelines.unclip import UnClip
from dallecli.pipelines.unclip_parts import UnClipParts
from dallecli.pipelines.watch import Look, Watch
from dallecli.size import Size
from dallecli.sizing import in_proportion
from dallecli.tasks.stages import INVERSION

UPSAMPLING = {"upsampler": "super_res", "upsampler_2": "super_res_2"}
"""The stages after the decoder, and how their parts are called on disk."""

PAINTING = ("decoder", *UPSAMPLING)
"""The stages that paint, in the order of the chain."""


def open_karlo(parts: Parts, space: str) -> UnClip[EncodedPrompts]:
    """The model in a folder, opened. Networks are loaded when they are first needed.

    `space` names the CLIP whose embeddings it works on. Raises BadFolder or BadFile if parts contradict each other.
    """
    embedder = ClipEmbedder(parts, space)
    _check(parts, embedder)
    return UnClip(parts.folder, UnClipParts(embedder=embedder, painter=KarloPainter(parts, space)))


class KarloPainter:
    """Paints embeddings and words at 64 pixels, and then larger by one upsampler after the other."""

    def __init__(self, parts: Parts, space: str) -> None:
        self.parts = parts
        self.space = space

    @torch.inference_mode()
    def decode(
        self, embedding: Embedding, words: EncodedPrompts, noise: Noise, settings: PaintSettings, watch: Watch
    ) -> Tensor:
        """Paint embeddings with the decoder and then with each upsampler that has dials.

        All pictures of the chain have the proportions of the size.

        Raises ValueError if the embedding is another CLIP's.
        """
        check_space(embedding, self.space)
        given, pixels = settings.given, None
        for stage, size in self._sizes(settings.dials, settings.size).items():
            dials = settings.dials[stage]
            if stage in UPSAMPLING and dials.guidance != OFF:
                raise BadSetting(f"the {stage} guidance is {dials.guidance}", hint="it sees no prompt: leave it at 1")
            painter = self._painter(stage, size, embedding.vector.to(self.parts.device), words, pixels)
            here = (size.shape, self.parts.device)
            hole = given.hole.at(*here) if given.hole is not None else None
            beginning = given.beginning.at(*here) if given.beginning is not None and pixels is None else None
            x_T = given.noise(stage)
            pixels = sample(self.parts, painter, dials, noise, watch, x_T, given.eta, hole, beginning).clamp(-1, 1)
        assert pixels is not None  # every recipe has a decoder
        return pixels

    @torch.inference_mode()
    def invert(
        self, embedding: Embedding, words: EncodedPrompts, pixels: Tensor, noise: Noise, dials: StageDials, watch: Watch
    ) -> dict[str, Tensor]:
        """Find the noise of the decoder and of each upsampler.

        An upsampler's noise is found for the picture that is painted before it, not for the one that should have been:
        what the stages before it have missed is then made good.
        """
        check_space(embedding, self.space)
        settings, sizes = dials[INVERSION], self._sizes(dials, size_of(pixels))
        names = list(sizes)
        total = (2 * len(names) - 1) * settings.count
        found: dict[str, Tensor] = {}
        low: Tensor | None = None
        done = 0

        def counted(stage: str, step: int, steps: int, /, look: Look | None = None) -> None:
            watch(INVERSION, done + step, total)

        for stage in names:
            painter = self._painter(stage, sizes[stage], embedding.vector.to(self.parts.device), words, low)
            here = at_size(pixels, sizes[stage].shape)
            found[stage] = unsample(self.parts, painter, here, settings, noise, counted)
            done += settings.count
            if stage != names[-1]:
                low = sample(self.parts, painter, settings, noise, counted, found[stage], eta=0.0).clamp(-1, 1)
                done += settings.count
        return found

    def _sizes(self, dials: StageDials, size: Size) -> dict[str, Size]:
        """The sizes of the pictures after each stage that has dials; the last has `size`."""
        parts = {"decoder": "decoder"} | {stage: f"{part}_first" for stage, part in UPSAMPLING.items()}
        configs = {
            stage: self.parts.config(parts[stage], UNetConfig.from_config) for stage in PAINTING if stage in dials
        }
        return in_proportion({stage: config.side for stage, config in configs.items()}, size)

    def _painter(self, stage: str, size: Size, vector: Tensor, words: EncodedPrompts, low: Tensor | None) -> Diffusion:
        """A painting stage: the decoder of embeddings, or the upsampler of a smaller picture `low`."""
        return self._decoder(size, vector, words) if low is None else self._upsampler(stage, size, low)

    def _decoder(self, size: Size, vector: Tensor, words: EncodedPrompts) -> Diffusion:
        def nets(run: Run) -> Nets:
            dtype = run.dtype
            condition, mask = self._condition(vector, words, run)
            net = self._unet("decoder", dtype)
            told = Conditions(net.times(run.ts, condition.time), Context(condition.context, mask))
            return lambda x, place: net.denoise(x.to(dtype), *told.at(place, len(x)), run.deep), None

        config = self.parts.config("decoder", UNetConfig.from_config)
        return Diffusion(
            stage="decoder",
            shape=(config.in_channels, *size.shape),
            schedule=self.parts.schedule("decoder_scheduler"),
            nets=nets,
            show=to_images,
        )

    def _condition(self, vector: Tensor, words: EncodedPrompts, run: Run) -> tuple[Conditioning, Tensor | None]:
        """What the decoder is told, and the mask over its context, if any of it is hidden: no image token is."""
        dtype = run.dtype
        net = self._text_proj(dtype)
        spread = words.spread(len(vector), run.paired)
        image = vector.to(dtype)
        if run.paired:
            image = pair(net.learned_classifier_free_guidance_embeddings.expand_as(image), image)
        condition = net(image, spread.embedding.to(dtype), spread.hidden.to(dtype))
        if not words.padded:
            return condition, None  # for which there are faster kernels
        return condition, F.pad(spread.mask, (net.config.clip_extra_context_tokens, 0), value=True)

    def _upsampler(self, stage: str, size: Size, pixels: Tensor) -> Diffusion:
        """The painter of the details of a larger picture; it sees no words, and its last step has a net of its own."""
        part = UPSAMPLING[stage]

        def nets(run: Run) -> Nets:
            dtype = run.dtype
            # On the CPU, because not every device can do it, and because it is nothing there.
            low = F.interpolate(pixels.cpu(), size=list(size.shape), mode="bicubic", antialias=True)
            low = low.to(self.parts.device, dtype)

            times: dict[str, Times] = {}

            def predict(which: str, deep: DeepFeatures | None, x: Tensor, place: Place) -> Tensor:
                # Asked for at every step: the first net may have to leave before the last one comes.
                net = self._unet(f"{part}_{which}", dtype)
                if which not in times:
                    times[which] = net.times(run.ts)
                return net.denoise(torch.cat([x.to(dtype), low], dim=1), Time(times[which], place), None, deep)

            return partial(predict, "first", run.deep), partial(predict, "last", None)

        return Diffusion(
            stage=stage,
            shape=(pixels.shape[1], *size.shape),
            schedule=self.parts.schedule(f"{part}_scheduler"),
            guided=False,
            nets=nets,
            show=to_images,
        )

    def _text_proj(self, dtype: torch.dtype) -> UnCLIPTextProjModel:
        return self.parts.net("text_proj", lambda json: UnCLIPTextProjModel(TextProjConfig.from_config(json)), dtype)

    def _unet(self, part: str, dtype: torch.dtype) -> UNet:
        return self.parts.net(part, lambda json: UNet(UNetConfig.from_config(json)), dtype)


def _check(parts: Parts, embedder: ClipEmbedder) -> None:
    """Refuse parts that don't fit each other, before any of them is loaded."""
    text_proj = parts.config("text_proj", TextProjConfig.from_config)
    decoder = parts.config("decoder", UNetConfig.from_config)
    embedder.check(("text_proj", text_proj.clip_embeddings_dim))
    parts.check_same(
        "width of tokens", "text_proj", text_proj.cross_attention_dim, "decoder", decoder.cross_attention_dim
    )
    parts.check_same("width of time", "text_proj", text_proj.time_embed_dim, "decoder", decoder.time_dim)
    painters = {"decoder": (decoder, 3)}
    for part in UPSAMPLING.values():
        for name in (f"{part}_first", f"{part}_last"):
            if name in parts.folder.parts:
                painters[name] = (parts.config(name, UNetConfig.from_config), 6)
    for name, (config, channels) in painters.items():
        schedule = parts.schedule(f"{name.removesuffix('_first').removesuffix('_last')}_scheduler")
        outputs = (6,) if schedule.variance_type == "learned_range" else (3, 6)
        if config.in_channels != channels or config.out_channels not in outputs:
            what = f"the {name} has {config.in_channels} channels in and {config.out_channels} out"
            raise BadFolder(f"{what}, which don't fit a picture and its schedule", str(parts.folder.path))
