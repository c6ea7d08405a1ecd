"""Karlo and everything laid out like it: CLIP text, diffusion prior, pixel decoder, one or two upsamplers.

The chain is that of Ramesh et al. 2022 as kakaobrain/karlo-v1-alpha publishes it. With the ancestral sampler, one
candidate and float32 it equals diffusers' UnCLIPPipeline, its random draws included.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from dallecli.diffusion.guidance import OFF, pair
from dallecli.diffusion.noise import Noise
from dallecli.errors import BadFolder, BadSetting
from dallecli.nets.clip import ClipTextConfig, ClipVisionConfig
from dallecli.nets.conditions import Context, Place, Time, Times
from dallecli.nets.prior import PriorConfig
from dallecli.nets.text_proj import Conditioning, TextProjConfig, UnCLIPTextProjModel
from dallecli.nets.unet import UNet, UNetConfig
from dallecli.pipelines.embedding import Embedding, check_space
from dallecli.pipelines.model import Beginning, Hole, Watch, at_size
from dallecli.pipelines.parts import Parts
from dallecli.pipelines.prior import imagine
from dallecli.pipelines.stage import Diffusion, Nets, sample, unsample
from dallecli.pipelines.text import Words, check_tokens, read
from dallecli.pipelines.vision import check_image_size, see
from dallecli.tasks.stages import INVERSION, DiffusionSettings
from dallecli.tokens import ClipTokenizer

UPSAMPLERS = {"upsampler": "super_res", "upsampler_2": "super_res_2"}
"""The stages after the decoder, and how their parts are called on disk."""

PAINTERS = ("decoder", *UPSAMPLERS)
"""The stages that paint, in the order of the chain."""


class KarloPipeline:
    """The parts of a model folder put together. Networks are loaded when they are first needed.

    `space` names the CLIP whose embeddings the model works on; by default that is the folder's name.

    Raises BadFolder or BadFile if the configs of the parts contradict each other.
    """

    def __init__(self, parts: Parts, space: str | None = None) -> None:
        self.parts = parts
        self.folder = parts.folder
        self.device = parts.device
        self.dtype = parts.dtype
        self.space = space if space is not None else self.folder.path.name
        self.tokenizer = ClipTokenizer.open(self.folder.place("tokenizer"))
        self._check()

    @torch.inference_mode()
    def read(self, prompts: Sequence[str], negative: str = "") -> Words:
        """Encode prompts and, for guidance, the negative one."""
        return read(self.parts, self.tokenizer, prompts, negative)

    @torch.inference_mode()
    def meaning(self, words: Words) -> Embedding:
        """The text embeddings [p, d] of the real prompts."""
        return Embedding(vector=words.embedding[1:], space=self.space)

    @torch.inference_mode()
    def see(self, images: Sequence[Image.Image]) -> Embedding:
        """Let the image tower look at pictures, prepared as the folder's feature_extractor says."""
        return Embedding(vector=see(self.parts, images), space=self.space)

    @torch.inference_mode()
    def imagine(
        self,
        words: Words,
        noise: Noise,
        settings: DiffusionSettings,
        candidates: int,
        watch: Watch,
        *,
        like: Embedding | None = None,
    ) -> tuple[Embedding, Tensor]:
        """Let the prior make embeddings, and keep the one that points most like the text."""
        return imagine(self.parts, words, noise, settings, candidates, watch, self.space, like)

    @torch.inference_mode()
    def decode(
        self,
        embedding: Embedding,
        words: Words,
        noise: Noise,
        stages: Mapping[str, DiffusionSettings],
        watch: Watch,
        *,
        size: int,
        start: Mapping[str, Tensor] | None = None,
        eta: float | None = None,
        hole: Hole | None = None,
        beginning: Beginning | None = None,
    ) -> Tensor:
        """Paint embeddings with the decoder and then with each upsampler that `stages` names; they decide on the size.

        Raises ValueError if the embedding is another CLIP's.
        """
        check_space(embedding, self.space)
        pixels: Tensor | None = None
        for stage in [stage for stage in PAINTERS if stage in stages]:
            settings = stages[stage]
            painter = self._painter(stage, embedding.vector.to(self.device), words, settings.guidance, pixels)
            x_T = start[stage] if start is not None else None
            here = (painter.shape[-1], self.device)
            known = hole.at(*here) if hole is not None else None
            begun = beginning.at(*here) if beginning is not None and stage == "decoder" else None
            pixels = sample(self.parts, painter, settings, noise, watch, x_T, eta, known, begun).clamp(-1, 1)
        assert pixels is not None  # every recipe has a decoder
        return pixels

    @torch.inference_mode()
    def invert(
        self,
        embedding: Embedding,
        words: Words,
        pixels: Tensor,
        noise: Noise,
        settings: DiffusionSettings,
        stages: Sequence[str],
        watch: Watch,
    ) -> dict[str, Tensor]:
        """Find the noise of the decoder and of each upsampler.

        An upsampler's noise is found for the picture that is painted before it, not for the one that should have been:
        what the stages before it have missed is then made good.
        """
        check_space(embedding, self.space)
        names = [stage for stage in PAINTERS if stage in stages]
        total = (2 * len(names) - 1) * settings.steps
        found: dict[str, Tensor] = {}
        low: Tensor | None = None
        done = 0

        def counted(stage: str, step: int, steps: int) -> None:
            watch(INVERSION, done + step, total)

        for stage in names:
            guidance = settings.guidance if stage == "decoder" else OFF
            painter = self._painter(stage, embedding.vector.to(self.device), words, guidance, low)
            here = at_size(pixels, painter.shape[-1])
            found[stage] = unsample(self.parts, painter, here, settings, noise, counted)
            done += settings.steps
            if stage != names[-1]:
                low = sample(self.parts, painter, settings, noise, counted, found[stage], eta=0.0).clamp(-1, 1)
                done += settings.steps
        return found

    def _painter(self, stage: str, vector: Tensor, words: Words, guidance: float, low: Tensor | None) -> Diffusion:
        """A painting stage: the decoder of embeddings, or the upsampler of a smaller picture `low`."""
        if low is None:
            return self._decoder(vector, words, guidance)
        return self._upsampler(stage, low, guidance)

    def _decoder(self, vector: Tensor, words: Words, guidance: float) -> Diffusion:
        def nets(dtype: torch.dtype, ts: Sequence[int]) -> Nets:
            condition, mask = self._condition(vector, words, guidance, dtype)
            net = self._unet("decoder", dtype)
            times, context = net.times(ts, condition.time), Context(condition.context, mask)
            return lambda x, place: net.denoise(x.to(dtype), Time(times, place), context), None

        config = self.parts.config("decoder", UNetConfig.from_config)
        return Diffusion(
            stage="decoder",
            shape=(config.in_channels, config.sample_size, config.sample_size),
            schedule=self.parts.schedule("decoder_scheduler"),
            guidance=guidance,
            nets=nets,
        )

    def _condition(
        self, vector: Tensor, words: Words, guidance: float, dtype: torch.dtype
    ) -> tuple[Conditioning, Tensor | None]:
        """What the decoder is told, and the mask over its context, if any of it is hidden: no image token is."""
        net = self._text_proj(dtype)
        spread = words.spread(len(vector), guidance)
        image = vector.to(dtype)
        if guidance != OFF:
            image = pair(net.learned_classifier_free_guidance_embeddings.expand_as(image), image)
        condition = net(image, spread.embedding.to(dtype), spread.hidden.to(dtype))
        if not words.padded:
            return condition, None  # for which there are faster kernels
        return condition, F.pad(spread.mask, (net.config.clip_extra_context_tokens, 0), value=True)

    def _upsampler(self, stage: str, pixels: Tensor, guidance: float) -> Diffusion:
        """The painter of the details of a larger picture; its last step has a net of its own."""
        if guidance != OFF:
            raise BadSetting(f"the {stage} guidance is {guidance}", hint="upsamplers see no prompt: leave it at 1")
        part = UPSAMPLERS[stage]
        size = self.parts.config(f"{part}_first", UNetConfig.from_config).sample_size

        def nets(dtype: torch.dtype, ts: Sequence[int]) -> Nets:
            # On the CPU, because not every device can do it, and because it is nothing there.
            low = F.interpolate(pixels.cpu(), size=[size, size], mode="bicubic", antialias=True)
            low = low.to(self.device, dtype)

            times: dict[str, Times] = {}

            def predict(which: str, x: Tensor, place: Place) -> Tensor:
                # Asked for at every step: the first net may have to leave before the last one comes.
                net = self._unet(f"{part}_{which}", dtype)
                if which not in times:
                    times[which] = net.times(ts)
                return net.denoise(torch.cat([x.to(dtype), low], dim=1), Time(times[which], place))

            return partial(predict, "first"), partial(predict, "last")

        return Diffusion(
            stage=stage,
            shape=(pixels.shape[1], size, size),
            schedule=self.parts.schedule(f"{part}_scheduler"),
            guidance=guidance,
            nets=nets,
        )

    def _text_proj(self, dtype: torch.dtype) -> UnCLIPTextProjModel:
        return self.parts.net("text_proj", lambda json: UnCLIPTextProjModel(TextProjConfig.from_config(json)), dtype)

    def _unet(self, part: str, dtype: torch.dtype) -> UNet:
        return self.parts.net(part, lambda json: UNet(UNetConfig.from_config(json)), dtype)

    def _check(self) -> None:
        """Refuse parts that don't fit each other, before any of them is loaded."""
        text = self.parts.config("text_encoder", ClipTextConfig.from_config)
        text_proj = self.parts.config("text_proj", TextProjConfig.from_config)
        decoder = self.parts.config("decoder", UNetConfig.from_config)
        width = ("text_proj", text_proj.clip_embeddings_dim)
        self.parts.check_same("width of embeddings", "text_encoder", text.projection_dim, *width)
        self.parts.check_same("width of text states", "text_encoder", text.hidden_size, *width)
        self.parts.check_same(
            "width of tokens", "text_proj", text_proj.cross_attention_dim, "decoder", decoder.cross_attention_dim
        )
        self.parts.check_same("width of time", "text_proj", text_proj.time_embed_dim, "decoder", decoder.time_dim)
        if "prior" in self.folder.parts:
            prior = self.parts.config("prior", PriorConfig.from_config)
            self.parts.check_same("width of embeddings", "prior", prior.embedding_dim, *width)
            self.parts.check_same(
                "number of tokens", "tokenizer", self.tokenizer.context, "prior", prior.num_embeddings
            )
        if "image_encoder" in self.folder.parts:
            vision = self.parts.config("image_encoder", ClipVisionConfig.from_config)
            self.parts.check_same("width of embeddings", "image_encoder", vision.projection_dim, *width)
            check_image_size(self.parts)
        check_tokens(self.parts, self.tokenizer)
        painters = {"decoder": (decoder, 3)}
        for part in UPSAMPLERS.values():
            for name in (f"{part}_first", f"{part}_last"):
                if name in self.folder.parts:
                    painters[name] = (self.parts.config(name, UNetConfig.from_config), 6)
        for name, (config, channels) in painters.items():
            schedule = self.parts.schedule(f"{name.removesuffix('_first').removesuffix('_last')}_scheduler")
            outputs = (6,) if schedule.variance_type == "learned_range" else (3, 6)
            if config.in_channels != channels or config.out_channels not in outputs:
                what = f"the {name} has {config.in_channels} channels in and {config.out_channels} out"
                raise BadFolder(f"{what}, which don't fit a picture and its schedule", str(self.folder.path))
