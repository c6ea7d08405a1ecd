"""Kandinsky 2.2: CLIP bigG, a diffusion prior, a decoder of latents that sees nothing but the image embedding, MOVQ.

The chain is that of ai-forever/Kandinsky-2 as kandinsky-community publishes it, in three repositories. With the
ancestral sampler, one candidate and float32 it equals diffusers' KandinskyV22 pipelines, their random draws included.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from dallecli.diffusion.guidance import pair
from dallecli.diffusion.noise import Noise
from dallecli.errors import BadFolder
from dallecli.nets.clip import ClipVisionConfig
from dallecli.nets.conditions import Conditions, Context, Place
from dallecli.nets.movq import Movq, MovqConfig
from dallecli.nets.unet import UNet, UNetConfig
from dallecli.pipelines.clip_embedder import ClipEmbedder
from dallecli.pipelines.embedding import Embedding, check_space
from dallecli.pipelines.frame import Frame
from dallecli.pipelines.given import Hole
from dallecli.pipelines.latents import Autoencoder
from dallecli.pipelines.parts import Parts
from dallecli.pipelines.pixels import size_of
from dallecli.pipelines.settings import PaintSettings, StageDials
from dallecli.pipelines.stage import Diffusion, Nets, Run, sample, unsample
from dallecli.pipelines.text import EncodedPrompts
from dallecli.pipelines.unclip import UnClip
from dallecli.pipelines.unclip_parts import UnClipParts
from dallecli.pipelines.vision import embed
from dallecli.pipelines.watch import Watch
from dallecli.size import Size
from dallecli.tasks.stages import INVERSION

INPAINT = "inpaint_"
"""The beginning of the names of the parts that inpaint."""


def open_kandinsky(parts: Parts, space: str) -> UnClip[EncodedPrompts]:
    """The model in a folder with Kandinsky's repositories, opened. Networks are loaded when they are first needed.

    `space` names the CLIP whose embeddings it works on. Raises BadFolder or BadFile if parts contradict each other.
    """
    embedder = ClipEmbedder(parts, space, also_negative=True)
    _check(parts, embedder)
    return UnClip(parts.folder, UnClipParts(embedder=embedder, painter=KandinskyPainter(parts, space)))


class KandinskyPainter:
    """Paints embeddings as latents and decodes these to pixels; for a hole it has a network of its own."""

    def __init__(self, parts: Parts, space: str) -> None:
        self.parts = parts
        self.space = space
        self._no_picture: Tensor | None = None

    @torch.inference_mode()
    def decode(
        self, embedding: Embedding, words: EncodedPrompts, noise: Noise, settings: PaintSettings, watch: Watch
    ) -> Tensor:
        """Paint embeddings as latents, and decode these to pixels. The words are not used: only the prior reads them.

        The painted picture is as large as the networks need, and its middle is returned. A hole is painted by the
        network that was trained for it. That network also sees the known part, so each step is taken once.

        Raises ValueError if the embedding is of another CLIP.
        """
        check_space(embedding, self.space)
        which = INPAINT if settings.given.hole is not None else ""
        dials, frame, autoencoder = settings.dials["decoder"], self._frame(settings.size), self._autoencoder(which)
        given = autoencoder.given(settings.given, frame, _with_neighbours)
        decoder = self._decoder(which, embedding, len(noise), frame, given.hole)
        hole, x_T = given.hole, given.noise("decoder")
        if hole is not None and given.beginning is None and x_T is None:
            x_T = noise.draw(decoder.shape, self.parts.device)
            hole = replace(hole, held=x_T)
        latents = sample(self.parts, decoder, dials, noise, watch, x_T, given.eta, hole, given.beginning)
        return autoencoder.pictures(latents, frame, settings.given.hole)

    @torch.inference_mode()
    def invert(
        self, embedding: Embedding, words: EncodedPrompts, pixels: Tensor, noise: Noise, dials: StageDials, watch: Watch
    ) -> dict[str, Tensor]:
        """Find the noise of the decoder, for the latents of pictures."""
        check_space(embedding, self.space)
        settings, frame = dials[INVERSION], self._frame(size_of(pixels))
        decoder = self._decoder("", embedding, len(noise), frame, None)
        latents = self._autoencoder("").encode(frame.widened(pixels))
        return {"decoder": unsample(self.parts, decoder, latents, settings, noise, watch)}

    def _decoder(self, which: str, embedding: Embedding, count: int, frame: Frame, known: Hole | None) -> Diffusion:
        """The decoder of embeddings to latents of `count` pictures, or of the rest of what is known."""

        def nets(run: Run) -> Nets:
            dtype = run.dtype
            image = embedding.vector.to(self.parts.device).expand(count, -1)
            if run.paired:
                image = pair(self._away(embedding).expand(count, -1), image)
            net = self._unet(which, dtype)
            condition = net.condition(image.to(dtype))
            told = Conditions(net.times(run.ts, condition.time), Context(condition.context))
            beside = None
            if known is not None:
                keep = (~known.unknown).to(dtype).expand(count, -1, -1, -1)
                beside = torch.cat([known.pixels.to(dtype) * keep, keep], dim=1)
                beside = pair(beside, beside) if run.paired else beside

            def predict(x: Tensor, place: Place) -> Tensor:
                seen = x.to(dtype) if beside is None else torch.cat([x.to(dtype), beside[-len(x) :]], dim=1)
                return net.denoise(seen, *told.at(place, len(x)), run.deep)

            return predict, None

        config = self.parts.config(f"{which}movq", MovqConfig.from_config)
        return Diffusion(
            stage="decoder",
            shape=(config.latent_channels, *frame.painted.scaled(1, config.factor).shape),
            schedule=self.parts.schedule(f"{which}decoder_scheduler"),
            nets=nets,
            show=self._autoencoder(which).show(frame, f"{which}decoder"),
        )

    def _away(self, embedding: Embedding) -> Tensor:
        """What guidance leads away from: the embedding of a negative prompt, or of a picture of nothing.

        That picture is all zeros after CLIP's normalisation: of CLIP's mean colour, not black.
        """
        if embedding.away is not None:
            return embedding.away.to(self.parts.device)
        if self._no_picture is None:
            side = self.parts.config("image_encoder", ClipVisionConfig.from_config).image_size
            self._no_picture = embed(self.parts, torch.zeros(1, 3, side, side))
        return self._no_picture

    def _frame(self, size: Size) -> Frame:
        return Frame(size, self.parts.folder.grid())

    def _unet(self, which: str, dtype: torch.dtype) -> UNet:
        return self.parts.net(f"{which}decoder", lambda json: UNet(UNetConfig.from_config(json)), dtype)

    def _autoencoder(self, which: str) -> Autoencoder:
        return Autoencoder(parts=self.parts, part=f"{which}movq", build=lambda json: Movq(MovqConfig.from_config(json)))


def _check(parts: Parts, embedder: ClipEmbedder) -> None:
    """Refuse parts that don't fit each other, before any of them is loaded."""
    width = ("image_encoder", parts.config("image_encoder", ClipVisionConfig.from_config).projection_dim)
    embedder.check(width)
    for which in [which for which in ("", INPAINT) if f"{which}decoder" in parts.folder.parts]:
        decoder = parts.config(f"{which}decoder", UNetConfig.from_config)
        latent = parts.config(f"{which}movq", MovqConfig.from_config).latent_channels
        parts.check_same("width of embeddings", *width, f"{which}decoder", decoder.encoder_hid_dim)
        wanted = 2 * latent + 1 if which == INPAINT else latent
        learned = parts.schedule(f"{which}decoder_scheduler").variance_type == "learned_range"
        outputs = (2 * latent,) if learned else (latent, 2 * latent)
        if decoder.in_channels != wanted or decoder.out_channels not in outputs:
            what = f"the {which}decoder has {decoder.in_channels} channels in and {decoder.out_channels} out"
            raise BadFolder(f"{what}, which don't fit the autoencoder and the schedule", str(parts.folder.path))


def _with_neighbours(cells: Tensor) -> Tensor:
    """Open cells [b 1 h w], boolean, and of the eight around each the six that are opened in diffusers, too.

    What an encoder says of a cell beside the hole has seen into the hole. Not opened are the upper right and the lower
    left: Kandinsky's inpainting network is always used so.
    """
    height, width = cells.shape[-2:]
    padded = F.pad(cells, (1, 1, 1, 1))
    shifts = ((0, 0), (0, 1), (1, 0), (1, 2), (2, 1), (2, 2))
    opened = cells
    for down, right in shifts:
        opened = opened | padded[..., down : down + height, right : right + width]
    return opened
