"""Karlo and everything laid out like it: CLIP text, diffusion prior, pixel decoder, one or two upsamplers.

The chain is that of Ramesh et al. 2022 as kakaobrain/karlo-v1-alpha publishes it. With the ancestral sampler, one
candidate and float32 it equals diffusers' UnCLIPPipeline, its random draws included.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dallecli.diffusion.denoiser import Denoiser, Guess, make_denoiser
from dallecli.diffusion.guidance import OFF, Predict, pair
from dallecli.diffusion.noise import Noise
from dallecli.diffusion.samplers import SAMPLERS
from dallecli.diffusion.schedule import Schedule, Step
from dallecli.errors import BadFile, BadFolder, BadSetting, BadSteps, NonFinite
from dallecli.nets.clip import ClipTextConfig, CLIPTextModel
from dallecli.nets.prior import PriorConfig, PriorTransformer
from dallecli.nets.text_proj import Conditioning, TextProjConfig, UnCLIPTextProjModel
from dallecli.nets.unet import UNet, UNetConfig
from dallecli.pipelines.embedding import Embedding, cosine
from dallecli.pipelines.verbs import Watch
from dallecli.request import StageSettings
from dallecli.tokens import ClipTokenizer
from dallecli.weights.folder import Folder
from dallecli.weights.load import load_net

N = TypeVar("N", bound=nn.Module)
C = TypeVar("C")

log = logging.getLogger(__name__)

UPSAMPLERS = {"upsampler": "super_res", "upsampler_2": "super_res_2"}
"""The stages after the decoder, and how their parts are called on disk."""

WIDER = {torch.float16: torch.float32, torch.bfloat16: torch.float32}
"""The type in which a stage is done again when it overflows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """A prompt as the text tower sees it. Row 0 is the empty prompt, row 1 the real one.

    `embedding` [2, d] and `hidden` [2, n, d] are at least float32; `mask` [2, n] is True where a token is the prompt's.
    """

    embedding: Tensor
    hidden: Tensor
    mask: Tensor

    def spread(self, count: int, guidance: float) -> "Words":
        """The rows for `count` pictures: all of the real prompt, behind as many of the empty one when guided."""

        def rows(of: Tensor) -> Tensor:
            empty, real = (row.expand(count, *row.shape) for row in of)
            return real if guidance == OFF else pair(empty, real)

        return Words(embedding=rows(self.embedding), hidden=rows(self.hidden), mask=rows(self.mask))


class KarloPipeline:
    """A model folder, opened on a device in a floating-point type. Networks are loaded when they are first needed.

    `space` names the CLIP whose embeddings the model works on; by default that is the folder's name.

    Raises BadFolder or BadFile if the configs of the parts contradict each other.
    """

    def __init__(self, folder: Folder, device: torch.device, dtype: torch.dtype, space: str | None = None) -> None:
        self.folder = folder
        self.device = device
        self.dtype = dtype
        self.space = space if space is not None else folder.path.name
        self.tokenizer = ClipTokenizer.open(folder.path / "tokenizer")
        self._nets: dict[str, nn.Module] = {}
        self._check()

    @torch.inference_mode()
    def read(self, prompt: str) -> Words:
        """Encode a prompt and, for guidance, the empty one."""
        tokens = [self.tokenizer.encode(""), self.tokenizer.encode(prompt)]
        ids = torch.tensor([row.ids for row in tokens], device=self.device)
        mask = torch.tensor([row.mask for row in tokens], device=self.device)

        def encode(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
            embedding, hidden = self._text_encoder(dtype)(ids)
            states = torch.cat([embedding[:, None], hidden], dim=1).to(_precise(dtype))
            return states, states.isfinite().flatten(1).all(dim=1)

        states = self._finite("text", None, encode)
        return Words(embedding=states[:, 0], hidden=states[:, 1:], mask=mask)

    @torch.inference_mode()
    def imagine(
        self, words: Words, noise: Noise, settings: StageSettings, candidates: int, watch: Watch
    ) -> tuple[Embedding, Tensor]:
        """Draw `candidates` image embeddings a picture from the prior; keep the one that points most like the text.

        The paper's rule is the dot product of unit vectors (section 2.2); CLIP's own vectors differ in length.
        """
        schedule = self._schedule("prior_scheduler")
        rivals = noise.rivals(candidates)

        def sample(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
            net = self._prior(dtype)
            spread = words.spread(len(rivals), settings.guidance)
            text, hidden = spread.embedding.to(dtype), spread.hidden.to(dtype)

            def predict(x: Tensor, t: Tensor) -> Tensor:
                output: Tensor = net(x.to(dtype), t, text, hidden, spread.mask)
                return output

            x = rivals.draw((net.config.embedding_dim,), self.device).to(_precise(dtype))
            sample, healthy = _sample("prior", predict, schedule, settings, x, rivals, watch)
            # The prior works on embeddings of mean 0 and deviation 1.
            return sample * net.clip_std + net.clip_mean, healthy

        drawn = Embedding(vector=self._finite("prior", rivals, sample), space=self.space)
        fit = cosine(drawn, Embedding(vector=words.embedding[1:], space=self.space)).view(len(noise), candidates)
        best = fit.argmax(dim=1)
        pictures = torch.arange(len(noise), device=self.device)
        vector = drawn.vector.view(len(noise), candidates, -1)[pictures, best]
        return Embedding(vector=vector, space=self.space), fit[pictures, best]

    @torch.inference_mode()
    def decode(
        self, embedding: Embedding, words: Words, noise: Noise, stages: Mapping[str, StageSettings], watch: Watch
    ) -> Tensor:
        """Paint embeddings with the decoder and then with each upsampler that `stages` names.

        Raises ValueError if the embedding is another CLIP's.
        """
        if embedding.space != self.space:
            raise ValueError(f"this model decodes embeddings of {self.space}, not of {embedding.space}")
        pixels = self._paint(embedding.vector, words, noise, stages["decoder"], watch)
        for stage, part in UPSAMPLERS.items():
            if stage in stages:
                pixels = self._upsample(stage, part, pixels, noise, stages[stage], watch)
        return pixels

    def _paint(self, vector: Tensor, words: Words, noise: Noise, settings: StageSettings, watch: Watch) -> Tensor:
        schedule = self._schedule("decoder_scheduler")

        def sample(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
            net = self._unet("decoder", dtype)
            condition, mask = self._condition(vector, words, settings.guidance, dtype)

            def predict(x: Tensor, t: Tensor) -> Tensor:
                output: Tensor = net(x.to(dtype), t, condition.context, condition.time, mask)
                return output

            size = net.config.sample_size
            x = noise.draw((net.config.in_channels, size, size), self.device).to(_precise(dtype))
            return _sample("decoder", predict, schedule, settings, x, noise, watch)

        return self._finite("decoder", noise, sample).clamp(-1, 1)

    def _condition(
        self, vector: Tensor, words: Words, guidance: float, dtype: torch.dtype
    ) -> tuple[Conditioning, Tensor]:
        """What the decoder is told, and the mask over its context: the image tokens are always seen."""
        net = self._text_proj(dtype)
        spread = words.spread(len(vector), guidance)
        image = vector.to(dtype)
        if guidance != OFF:
            image = pair(net.learned_classifier_free_guidance_embeddings.expand_as(image), image)
        condition = net(image, spread.embedding.to(dtype), spread.hidden.to(dtype))
        return condition, F.pad(spread.mask, (net.config.clip_extra_context_tokens, 0), value=True)

    def _upsample(
        self, stage: str, part: str, pixels: Tensor, noise: Noise, settings: StageSettings, watch: Watch
    ) -> Tensor:
        """Paint the details of a larger picture; the last step has a net of its own."""
        if settings.guidance != OFF:
            raise BadSetting(
                f"the {stage} guidance is {settings.guidance}", hint="upsamplers see no prompt: leave it at 1"
            )
        schedule = self._schedule(f"{part}_scheduler")

        def sample(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
            first, last = (self._unet(f"{part}_{which}", dtype) for which in ("first", "last"))
            size = first.config.sample_size
            # On the CPU, because not every device can do it, and because it is nothing there.
            low = F.interpolate(pixels.cpu(), size=[size, size], mode="bicubic", antialias=True)
            low = low.to(self.device, dtype)

            def predict(net: UNet, x: Tensor, t: Tensor) -> Tensor:
                output: Tensor = net(torch.cat([x.to(dtype), low], dim=1), t)
                return output

            x = noise.draw((*pixels.shape[1:2], size, size), self.device).to(_precise(dtype))
            return _sample(stage, partial(predict, first), schedule, settings, x, noise, watch, partial(predict, last))

        return self._finite(stage, noise, sample).clamp(-1, 1)

    def _finite(self, stage: str, noise: Noise | None, run: Callable[[torch.dtype], tuple[Tensor, Tensor]]) -> Tensor:
        """Return the result of `run`, which also says whether each picture [b] stayed finite on the way.

        Pictures that did not are replaced by those of a second run in a wider type with the same noise; the others
        stay as they are, so that a picture does not depend on its neighbours. Raises NonFinite if that doesn't help.
        """
        state = noise.state() if noise is not None else []
        result, healthy = run(self.dtype)
        if bool(healthy.all()):
            return result
        wider = WIDER.get(self.dtype)
        if wider is not None:
            log.warning("the %s overflowed in %s and is done again in %s", stage, self.dtype, wider)
            if noise is not None:
                noise.rewind(state)
            again, healthy_again = run(wider)
            result = torch.where(healthy.view(-1, *[1] * (result.ndim - 1)), result, again)
            healthy = healthy | healthy_again
        if not bool(healthy.all()):
            raise NonFinite(
                f"the {stage} gave numbers that are not finite", str(self.folder.path), "try a lower guidance"
            )
        return result

    def _schedule(self, part: str) -> Schedule:
        try:
            return Schedule.from_config(self.folder.config(part))
        except ValueError as problem:
            raise BadFile(f"this schedule can't be run: {problem}", str(self.folder.path / part)) from problem

    def _text_encoder(self, dtype: torch.dtype) -> CLIPTextModel:
        return self._net("text_encoder", lambda json: CLIPTextModel(ClipTextConfig.from_config(json)), dtype)

    def _prior(self, dtype: torch.dtype) -> PriorTransformer:
        return self._net("prior", lambda json: PriorTransformer(PriorConfig.from_config(json)), dtype)

    def _text_proj(self, dtype: torch.dtype) -> UnCLIPTextProjModel:
        return self._net("text_proj", lambda json: UnCLIPTextProjModel(TextProjConfig.from_config(json)), dtype)

    def _unet(self, part: str, dtype: torch.dtype) -> UNet:
        return self._net(part, lambda json: UNet(UNetConfig.from_config(json)), dtype)

    def _net(self, part: str, build: Callable[[dict[str, Any]], N], dtype: torch.dtype) -> N:
        """Load a network, and keep it if it is in the pipeline's own type: wider ones are for emergencies."""
        if dtype == self.dtype and part in self._nets:
            return cast(N, self._nets[part])
        config = self.folder.config(part)
        net = load_net(lambda: build(config), self.folder.weights_file(part), dtype, self.device)
        # Convolutions are faster on pixels than on planes: measured 1.2 to 1.6 times, on CPUs with and without AMX.
        net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
        if dtype == self.dtype:
            self._nets[part] = net
        return net

    def _check(self) -> None:
        """Refuse parts that don't fit each other, before any of them is loaded."""
        text = self._config("text_encoder", ClipTextConfig.from_config)
        prior = self._config("prior", PriorConfig.from_config)
        text_proj = self._config("text_proj", TextProjConfig.from_config)
        decoder = self._config("decoder", UNetConfig.from_config)
        self._same("width of embeddings", "text_encoder", text.projection_dim, "prior", prior.embedding_dim)
        self._same("width of text states", "text_encoder", text.hidden_size, "prior", prior.embedding_dim)
        self._same("width of embeddings", "prior", prior.embedding_dim, "text_proj", text_proj.clip_embeddings_dim)
        self._same("number of tokens", "tokenizer", self.tokenizer.context, "prior", prior.num_embeddings)
        self._same(
            "width of tokens", "text_proj", text_proj.cross_attention_dim, "decoder", decoder.cross_attention_dim
        )
        self._same("width of time", "text_proj", text_proj.time_embed_dim, "decoder", decoder.time_dim)
        if self.tokenizer.end >= text.vocab_size or self.tokenizer.context > text.max_position_embeddings:
            raise BadFolder(
                "the tokenizer's vocabulary or context is larger than the text_encoder's", str(self.folder.path)
            )
        painters = {"decoder": (decoder, 3)}
        for part in UPSAMPLERS.values():
            for name in (f"{part}_first", f"{part}_last"):
                if name in self.folder.parts:
                    painters[name] = (self._config(name, UNetConfig.from_config), 6)
        for name, (config, channels) in painters.items():
            schedule = self._schedule(f"{name.removesuffix('_first').removesuffix('_last')}_scheduler")
            outputs = (6,) if schedule.variance_type == "learned_range" else (3, 6)
            if config.in_channels != channels or config.out_channels not in outputs:
                what = f"the {name} has {config.in_channels} channels in and {config.out_channels} out"
                raise BadFolder(f"{what}, which don't fit a picture and its schedule", str(self.folder.path))

    def _config(self, part: str, read: Callable[[dict[str, Any]], C]) -> C:
        try:
            return read(self.folder.config(part))
        except ValueError as problem:
            raise BadFile(f"this network can't be built: {problem}", str(self.folder.path / part)) from problem

    def _same(self, what: str, part: str, size: int, other: str, other_size: int | None) -> None:
        if size != other_size:
            raise BadFolder(
                f"the {what} is {size} in the {part} and {other_size} in the {other}",
                str(self.folder.path),
                "these parts are of different models",
            )


def _precise(dtype: torch.dtype) -> torch.dtype:
    """The type of what samplers compute, while the nets compute in `dtype`: 1 / sqrt(alpha_bar) goes up to 20000."""
    return torch.promote_types(dtype, torch.float32)


def _sample(
    stage: str,
    predict: Predict,
    schedule: Schedule,
    settings: StageSettings,
    x: Tensor,
    noise: Noise,
    watch: Watch,
    predict_last: Predict | None = None,
) -> tuple[Tensor, Tensor]:
    """Run a stage from the noise `x`; return the sample and whether each picture [b] stayed finite in every step.

    `predict_last` takes the last step, where given. Raises BadSteps if the schedule can't be walked in so many steps.
    """
    try:
        steps = schedule.steps(settings.steps)
    except ValueError as problem:
        raise BadSteps(str(problem), where=stage) from problem
    healthy = torch.ones(len(x), dtype=torch.bool, device=x.device)

    def checked(predict: Predict) -> Predict:
        def run(x: Tensor, t: Tensor) -> Tensor:
            output = predict(x, t)
            # A sum is finite only if all its terms are. Looked at here, because clipping would hide an infinity, and
            # kept on the device: the only wait is at the end of the stage.
            total = output.flatten(1).sum(dim=1, dtype=torch.float32)
            healthy.logical_and_(total.isfinite().view(-1, len(healthy)).all(dim=0))
            return output

        return run

    denoise = make_denoiser(checked(predict), schedule, settings.guidance)
    if predict_last is not None:
        denoise = _switched(denoise, make_denoiser(checked(predict_last), schedule, settings.guidance))
    sampler = SAMPLERS[settings.sampler]
    return sampler(denoise, x, steps, noise, lambda done: watch(stage, done, len(steps))), healthy


def _switched(denoise: Denoiser, last: Denoiser) -> Denoiser:
    def switched(x: Tensor, step: Step) -> Guess:
        return last(x, step) if step.t_prev < 0 else denoise(x, step)

    return switched
