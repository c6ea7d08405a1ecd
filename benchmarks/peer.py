"""diffusers' side of the comparisons: its networks one by one, and its unCLIP pipeline, repaired where it does not run.

Nothing of this project's is imported here. As a process it paints one picture, cold, and ends:

    python benchmarks/peer.py FOLDER PROMPT OUTPUT [--device cpu] [--dtype bf16] [--options JSON]

where the options are those of the pipeline's call. With `--several N` PROMPT is a prompt file of JSON, whose sentences
are painted N at a time into the folder OUTPUT.
"""

import functools
import json
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import measuring
import torch
from torch import Tensor

Step = Callable[[], object]
Make = Callable[..., Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """One network of diffusers' or transformers': its class, its place in the folder, and one step of its stage.

    `prepare` takes the network, how many pictures, and who makes random numbers and ones of a shape.
    """

    library: Literal["diffusers", "transformers"]
    kind: str
    place: str
    prepare: Callable[[Any, int, Make, Make], Step]

    def open(self, folder: Path, device: torch.device, dtype: torch.dtype) -> Any:
        """The network with the weights of a model folder."""
        kind: Any = getattr(_library(self.library), self.kind)
        return kind.from_pretrained(folder / self.place, dtype=dtype).to(device).eval()

    def tflop(self, folder: Path, count: int) -> float:
        """The work of a step for `count` pictures, as torch counts it on the meta device, attention included."""
        config = json.loads((folder / self.place / "config.json").read_text(encoding="utf-8"))
        library = _library(self.library)
        kind: Any = getattr(library, self.kind)
        with torch.device("meta"), torch.no_grad():
            net = kind.from_config(config) if self.library == "diffusers" else kind(kind.config_class(**config))
            return measuring.flops_of(self.prepare(net.eval(), count, torch.empty, torch.ones)) / 1e12


def _text(net: Any, count: int, some: Make, ones: Make) -> Step:
    """The sentence and the empty one, one after the other, as its pipeline reads them; once for all pictures."""
    ids = ones(1, net.config.max_position_embeddings, dtype=torch.long)
    return lambda: (net(ids), net(ids))


def _prior(net: Any, count: int, some: Make, ones: Make) -> Step:
    b, n, width, t = 2 * count, net.config.num_embeddings, net.config.embedding_dim, ones((), dtype=torch.long)
    x, text, states = some(b, width), some(b, width), some(b, n, width)
    mask = ones(b, n, dtype=torch.bool)
    return lambda: net(x, t, proj_embedding=text, encoder_hidden_states=states, attention_mask=mask)


def _decoder(net: Any, count: int, some: Make, ones: Make) -> Step:
    b, side, t = 2 * count, net.config.sample_size, ones((), dtype=torch.long)
    x, context = some(b, 3, side, side), some(b, 81, net.config.cross_attention_dim)
    time, mask = some(b, 4 * net.config.block_out_channels[0]), ones(b, 81, dtype=torch.bool)
    return lambda: net(x, t, context, class_labels=time, attention_mask=mask)


def _glide(guided: int) -> Callable[[Any, int, Make, Make], Step]:
    """A UNet of GLIDE, which diffusers has no pipeline for; `guided` is 2 where guidance makes two of a picture."""

    def prepare(net: Any, count: int, some: Make, ones: Make) -> Step:
        b, side, t = guided * count, net.config.sample_size, ones((), dtype=torch.long)
        x, context = some(b, net.config.in_channels, side, side), some(b, 128, net.config.cross_attention_dim)
        time = some(b, 4 * net.config.block_out_channels[0])
        return lambda: net(x, t, context, class_labels=time)

    return prepare


def _upsampler(net: Any, count: int, some: Make, ones: Make) -> Step:
    side, t = net.config.sample_size, ones((), dtype=torch.long)
    x = some(count, 6, side, side)
    return lambda: net(x, t)


def _latents(net: Any, count: int, some: Make, ones: Make) -> Step:
    b, side, t = 2 * count, net.config.sample_size, ones((), dtype=torch.long)
    x, seen = some(b, 4, side, side), {"image_embeds": some(b, net.config.encoder_hid_dim)}
    return lambda: net(x, t, None, added_cond_kwargs=seen)


def _to_pixels(net: Any, count: int, some: Make, ones: Make) -> Step:
    latents = some(count, 4, 64, 64)  # of 512 pixels
    return lambda: net.decode(latents, force_not_quantize=True)


KANDINSKY = "kandinsky-2-2-decoder"
NETWORKS: dict[tuple[str, str], Network] = {
    ("karlo", "text"): Network(
        library="transformers", kind="CLIPTextModelWithProjection", place="text_encoder", prepare=_text
    ),
    ("karlo", "prior"): Network(library="diffusers", kind="PriorTransformer", place="prior", prepare=_prior),
    ("karlo", "decoder"): Network(library="diffusers", kind="UNet2DConditionModel", place="decoder", prepare=_decoder),
    ("karlo", "upsampler"): Network(
        library="diffusers", kind="UNet2DModel", place="super_res_first", prepare=_upsampler
    ),
    ("glide", "decoder"): Network(library="diffusers", kind="UNet2DConditionModel", place="decoder", prepare=_glide(2)),
    ("glide", "upsampler"): Network(
        library="diffusers", kind="UNet2DConditionModel", place="super_res", prepare=_glide(1)
    ),
    ("kandinsky", "decoder"): Network(
        library="diffusers", kind="UNet2DConditionModel", place=f"{KANDINSKY}/unet", prepare=_latents
    ),
    ("kandinsky", "autoencoder"): Network(
        library="diffusers", kind="VQModel", place=f"{KANDINSKY}/movq", prepare=_to_pixels
    ),
}


def open_unclip(folder: Path, device: torch.device, dtype: torch.dtype) -> Any:
    """diffusers' UnCLIPPipeline on a folder as it is published, with the two repairs that it needs to run at all."""
    import diffusers
    import transformers
    from diffusers.pipelines.deprecated import unclip
    from diffusers.pipelines.deprecated.unclip import pipeline_unclip

    for library in (diffusers, transformers):
        bars: Any = library.utils.logging
        bars.disable_progress_bar()
    pipelines: Any = diffusers.pipelines
    pipelines.unclip = unclip  # where published folders look for it
    functional = torch.nn.functional

    @functools.wraps(functional.interpolate)  # its parameters are looked at
    def in_single(x: Tensor, *args: Any, **options: Any) -> Tensor:
        return functional.interpolate(x.float(), *args, **options).to(x.dtype)

    repaired: Any = pipeline_unclip
    repaired.F = types.SimpleNamespace(**{**vars(functional), "interpolate": in_single})  # no bicubic in bf16
    opened: Any = diffusers.UnCLIPPipeline
    pipeline = opened.from_pretrained(str(folder), dtype=dtype)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def _library(name: str) -> Any:
    if name == "diffusers":
        import diffusers

        return diffusers
    import transformers

    return transformers


def main() -> None:
    """Open the folder, paint, and write the picture."""
    parser = measuring.parser(__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("prompt")
    parser.add_argument("output", type=Path)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--dtype", choices=measuring.DTYPES, default="bf16")
    parser.add_argument("--options", type=json.loads, default={})
    parser.add_argument("--several", type=int)
    options = parser.parse_args()
    pipeline = open_unclip(options.folder, options.device, measuring.DTYPES[options.dtype])
    if options.several is None:
        pipeline(options.prompt, **options.options).images[0].save(options.output)
        return
    options.output.mkdir()
    sentences = [json.loads(line)["prompt"] for line in Path(options.prompt).read_text(encoding="utf-8").splitlines()]
    for first in range(0, len(sentences), options.several):
        some = pipeline(sentences[first : first + options.several], **options.options).images
        for k, image in enumerate(some, first):
            image.save(options.output / f"{k}.png")


if __name__ == "__main__":
    main()
