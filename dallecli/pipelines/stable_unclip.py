"""Stable unCLIP 2.1: Stable Diffusion 2.1 that also reads a CLIP image embedding with a little noise.

The chain is that of Stability-AI/stablediffusion, as its diffusers folders have it: for pictures, or with Karlo's prior
for words. With the sampler of its scheduler and float32 it equals diffusers' StableUnCLIPImg2ImgPipeline and
StableUnCLIPPipeline, their random draws included.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from dallecli.diffusion.guidance import pair
from dallecli.diffusion.noise import Noise
from dallecli.nets.clip import ClipTextConfig, CLIPTextStates
from dallecli.nets.conditions import Conditions, Context
from dallecli.nets.normalizer import ImageNormalizer, NormalizerConfig
from dallecli.nets.resnet import sinusoid
from dallecli.nets.transformer_unet import TransformerUNet, TransformerUNetConfig
from dallecli.nets.vae import Vae, VaeConfig
from dallecli.pipelines.clip_embedder import ClipEmbedder
from dallecli.pipelines.embedding import Embedding, check_space
from dallecli.pipelines.frame import Frame
from dallecli.pipelines.latents import Autoencoder
from dallecli.pipelines.parts import Parts
from dallecli.pipelines.pixels import size_of
from dallecli.pipelines.settings import PaintSettings, PriorSettings, StageDials
from dallecli.pipelines.stage import Diffusion, Nets, Run, precise, sample, unsample
from dallecli.pipelines.text import EncodedPrompts, check_tokens
from dallecli.pipelines.unclip import UnClip
from dallecli.pipelines.unclip_parts import UnClipParts
from dallecli.pipelines.vision import check_image_tower, see
from dallecli.pipelines.watch import Watch
from dallecli.size import Size
from dallecli.tasks.stages import INVERSION
from dallecli.tokens import ClipTokenizer

NOISE_LEVEL = 0
"""The timestep up to which the embedding is noised: the lowest one, as published."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TwiceEncoded:
    """Prompts as the two text towers encode them."""

    hidden: Tensor
    """[1+p n d], the states that the decoder reads, at least float32. Row 0 is what guidance leads away from, the
    others are the p prompts."""
    prior: EncodedPrompts | None
    """What the prior reads; None if there is no prior."""

    def spread(self, count: int, paired: bool) -> Tensor:
        """The states for `count` pictures, equally many of each prompt; paired, as many of row 0 come first."""
        real = self.hidden[1:].repeat_interleave(count // (len(self.hidden) - 1), dim=0)
        return pair(self.hidden[:1].expand_as(real), real) if paired else real


def open_stable_unclip(parts: Parts, space: str) -> UnClip[TwiceEncoded]:
    """The model in a folder, opened. Networks are loaded when they are first needed.

    `space` names the CLIP whose embeddings it works on. Raises BadFolder or BadFile if parts contradict each other.
    """
    embedder = StableEmbedder(parts, space)
    _check(parts, embedder)
    return UnClip(parts.folder, UnClipParts(embedder=embedder, painter=StablePainter(parts, space)))


class StableEmbedder:
    """Gets embeddings, of words by Karlo's prior if there is one, and encodes words for the decoder."""

    def __init__(self, parts: Parts, space: str) -> None:
        self.parts = parts
        self.space = space
        self.tokenizer = ClipTokenizer.open(parts.folder.path_of("tokenizer"))
        has_prior = "prior" in parts.folder.parts
        self.clip = ClipEmbedder(parts, space, prefix="prior_") if has_prior else None

    @torch.inference_mode()
    def read(self, prompts: Sequence[str], negative: str = "") -> TwiceEncoded:
        """Encode prompts, and the negative prompt of the decoder's guidance; the prior's guidance has none."""
        rows = [self.tokenizer.encode(prompt).ids for prompt in (negative, *prompts)]
        ids = torch.tensor(rows, device=self.parts.device)

        def encode(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
            tower = self.parts.net("text_encoder", lambda json: CLIPTextStates(ClipTextConfig.from_config(json)), dtype)
            states = tower(ids).to(precise(dtype))
            return states, states.isfinite().flatten(1).all(dim=1)

        hidden = self.parts.finite("text", None, encode)
        return TwiceEncoded(hidden=hidden, prior=None if self.clip is None else self.clip.read(prompts))

    def meaning(self, words: TwiceEncoded) -> Embedding:
        """The embeddings [p d] of the prompts by the prior's text tower.

        Raises ValueError without a prior: the decoder's own tower is of another CLIP, and has no projection.
        """
        clip, read = self._for_prior(words)
        return clip.meaning(read)

    @torch.inference_mode()
    def see(self, images: Sequence[Image.Image]) -> Embedding:
        """Let the image tower look at pictures, prepared as the folder's feature_extractor says."""
        return Embedding(vector=see(self.parts, images), space=self.space)

    def imagine(
        self, words: TwiceEncoded, noise: Noise, settings: PriorSettings, watch: Watch
    ) -> tuple[Embedding, Tensor]:
        """Let the prior make embeddings. Raises ValueError without a prior."""
        clip, read = self._for_prior(words)
        return clip.imagine(read, noise, settings, watch)

    def _for_prior(self, words: TwiceEncoded) -> tuple[ClipEmbedder, EncodedPrompts]:
        if self.clip is None or words.prior is None:
            raise ValueError("this model has no prior")
        return self.clip, words.prior


class StablePainter:
    """Paints embeddings and words as latents, and decodes these to pixels."""

    def __init__(self, parts: Parts, space: str) -> None:
        self.parts = parts
        self.space = space

    @torch.inference_mode()
    def decode(
        self, embedding: Embedding, words: TwiceEncoded, noise: Noise, settings: PaintSettings, watch: Watch
    ) -> Tensor:
        """Paint embeddings and words as latents, and decode these to pixels. A hole is a hole in the latents.

        Raises ValueError if the embedding is of another CLIP.
        """
        check_space(embedding, self.space)
        dials, frame, autoencoder = settings.dials["decoder"], self._frame(settings.size), self._autoencoder()
        x_T = settings.given.noise("decoder")
        fresh = noise if x_T is None else None
        decoder = self._decoder(embedding, words, len(noise), fresh, frame)
        given = autoencoder.given(settings.given, frame, _with_neighbours)
        latents = sample(self.parts, decoder, dials, noise, watch, x_T, given.eta, given.hole, given.beginning)
        return autoencoder.pictures(latents, frame, settings.given.hole)

    @torch.inference_mode()
    def invert(
        self, embedding: Embedding, words: TwiceEncoded, pixels: Tensor, noise: Noise, dials: StageDials, watch: Watch
    ) -> dict[str, Tensor]:
        """Find the noise of the decoder, for the latents of pictures."""
        check_space(embedding, self.space)
        settings, frame = dials[INVERSION], self._frame(size_of(pixels))
        decoder = self._decoder(embedding, words, len(noise), None, frame)
        latents = self._autoencoder().encode(frame.widened(pixels))
        return {"decoder": unsample(self.parts, decoder, latents, settings, noise, watch)}

    def _decoder(
        self, embedding: Embedding, words: TwiceEncoded, count: int, noise: Noise | None, frame: Frame
    ) -> Diffusion:
        """The decoder of embeddings and words for `count` pictures.

        The noise of the embeddings is drawn here, before that of the latents. Without `noise` there is none, as when a
        picture is painted from its own noise: what inversion drew would not be drawn again.
        """
        picture = self._noised(embedding.vector.to(self.parts.device).expand(count, -1), noise)

        def nets(run: Run) -> Nets:
            dtype = run.dtype
            # Without a picture there is neither an embedding nor a noise level: not even the cosine of 0, which is 1.
            seen = pair(torch.zeros_like(picture), picture) if run.paired else picture
            states = words.spread(count, run.paired)
            net = self.parts.net(
                "decoder", lambda json: TransformerUNet(TransformerUNetConfig.from_config(json)), dtype
            )
            told = Conditions(net.times(run.ts, seen.to(dtype)), Context(states.to(dtype)))
            return lambda x, place: net.denoise(x.to(dtype), *told.at(place, len(x)), run.deep), None

        config = self.parts.config("vae", VaeConfig.from_config)
        return Diffusion(
            stage="decoder",
            shape=(config.latent_channels, *frame.painted.scaled(1, config.factor).shape),
            schedule=self.parts.schedule("decoder_scheduler"),
            nets=nets,
            show=self._autoencoder().show(frame, "decoder"),
        )

    def _noised(self, vector: Tensor, noise: Noise | None) -> Tensor:
        """Embeddings [b d] with noise, followed by the features of its level: [b 2d]."""
        net = self.parts.net(
            "image_normalizer", lambda json: ImageNormalizer(NormalizerConfig.from_config(json)), self.parts.dtype
        )
        alpha_bar = self.parts.schedule("image_noising_scheduler").alpha_bars[NOISE_LEVEL].item()
        standard = math.sqrt(alpha_bar) * net.scale(vector)
        if noise is not None:
            standard = standard + math.sqrt(1 - alpha_bar) * noise.draw(vector.shape[1:], self.parts.device)
        noised = net.unscale(standard)
        level = torch.full((len(vector),), NOISE_LEVEL, device=self.parts.device)
        return torch.cat([noised, sinusoid(level, vector.shape[1]).to(noised)], dim=1)

    def _autoencoder(self) -> Autoencoder:
        return Autoencoder(parts=self.parts, part="vae", build=lambda json: Vae(VaeConfig.from_config(json)))

    def _frame(self, size: Size) -> Frame:
        return Frame(size, self.parts.folder.grid())


def _check(parts: Parts, embedder: StableEmbedder) -> None:
    """Refuse parts that don't fit each other, before any of them is loaded."""
    reader = parts.config("text_encoder", ClipTextConfig.from_config)
    decoder = parts.config("decoder", TransformerUNetConfig.from_config)
    latent = parts.config("vae", VaeConfig.from_config).latent_channels
    width = ("image_normalizer", parts.config("image_normalizer", NormalizerConfig.from_config).embedding_dim)
    parts.check_variance("decoder_scheduler", "decoder")
    parts.schedule("image_noising_scheduler")
    parts.check_same("width of text states", "text_encoder", reader.hidden_size, "decoder", decoder.cross_attention_dim)
    parts.check_same("width of embeddings", *width, "decoder", decoder.class_dim // 2)
    parts.check_same("number of channels", "decoder", decoder.in_channels, "vae", latent)
    parts.check_same("number of channels", "decoder", decoder.out_channels, "vae", latent)
    check_tokens(parts, embedder.tokenizer)
    if "image_encoder" in parts.folder.parts:
        check_image_tower(parts, width)
    if embedder.clip is not None:
        embedder.clip.check(width)


def _with_neighbours(cells: Tensor) -> Tensor:
    """Add to open cells [b 1 h w], boolean, the eight around each: their latents depend on pixels in the hole."""
    return F.max_pool2d(cells.float(), 3, stride=1, padding=1) > 0
