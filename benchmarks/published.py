"""What each network of a model costs at its published size: `python benchmarks/published.py MODEL`.

Prints the table of the model's guide: numbers, processor seconds of one pass for one picture, and the memory that it
takes beside the weights, in float32 on one core (set OMP_NUM_THREADS for more); of T5, which would need 19 GB, in
bfloat16 with products in float32, as dalle computes without bf16 arithmetic. Weights are random: a pass costs the same.
Configs are those in tests/nets/published_keys. Needs Linux and 12 GB of memory; `--only NAME` runs one row, and
`--diffusers` a UNet in the class that diffusers has for it. `--min-dalle FOLDER`, a checkout of kuprel/min-dalle, runs
one row of DALL-E Mini in that program's class.
"""

import argparse
import json
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dallecli.diffusion.noise import Noise
from dallecli.nets.clip import ClipTextConfig, CLIPTextModel, CLIPTextStates, ClipVisionConfig, CLIPVisionModel
from dallecli.nets.conditions import KeysValues, Time
from dallecli.nets.dalle_bart import DalleBartConfig, DalleBartDecoder, DalleBartEncoder, Writing
from dallecli.nets.dvae import DvaeConfig, DvaeDecoder, DvaeEncoder
from dallecli.nets.glide_text import GlideTextEncoder
from dallecli.nets.guided_unet import GuidedUNet, GuidedUNetConfig
from dallecli.nets.if_unet import IfUNet, IfUNetConfig
from dallecli.nets.movq import Movq, MovqConfig
from dallecli.nets.noised_classifier import NoisedClassifier, NoisedClassifierConfig
from dallecli.nets.prior import PriorConfig, PriorTransformer, ReadText
from dallecli.nets.single import multiply_in_single
from dallecli.nets.t5 import T5Config, T5Encoder
from dallecli.nets.transformer_unet import TransformerUNet, TransformerUNetConfig
from dallecli.nets.unet import UNet, UNetConfig
from dallecli.nets.vae import Vae, VaeConfig
from dallecli.nets.vqgan import VqganConfig, VqganDecoder
from dallecli.pipelines.token_sampling import write_codes
from dallecli.tasks.stages import TokenSettings
from dallecli.weights.adm import CHECKPOINTS as ADM
from dallecli.weights.adm import network_of
from dallecli.weights.dvae import config_of
from dallecli.weights.glide import CHECKPOINTS, parts_of
from dallecli.weights.vqgan import LEVELS, read_vqgan

KEYS = Path(__file__).parents[1] / "tests" / "nets" / "published_keys"
T = torch.tensor(500)
Row = tuple[str, Any, Any, Callable[[Any], object]]
"""The name of the key list, the class of the network and of its config, and one pass of it."""


def ids() -> Tensor:
    return torch.ones(2, 77, dtype=torch.long)


def seen(net: CLIPVisionModel) -> object:
    return net(torch.randn(1, 3, 224, 224))


def read(net: PriorTransformer) -> ReadText:
    d, mask = net.config.embedding_dim, torch.ones(2, 77, dtype=torch.bool)
    return net.read(torch.randn(2, d), torch.randn(2, 77, d), mask)


def answered(net: PriorTransformer) -> object:
    # What is read is as large as this, whatever is in it.
    heads, width = net.config.num_attention_heads, net.config.attention_head_dim
    known = KeysValues(torch.zeros(2, heads, 78, width), torch.zeros(2, heads, 78, width))
    text = ReadText([known] * net.config.num_layers, torch.zeros(2, 1, 1, 78))
    return net.answer(torch.randn(2, net.config.embedding_dim), T, text, torch.arange(2))


def decoded(net: UNet) -> object:
    return net(torch.randn(2, 3, 64, 64), T, torch.randn(2, 81, 1536), torch.randn(2, 1280))


def denoised(net: TransformerUNet) -> object:
    return net(torch.randn(2, 4, 96, 96), T, torch.randn(2, 77, 1024), torch.randn(2, 2048))


def told(net: GlideTextEncoder) -> object:
    return net(torch.ones(2, 128, dtype=torch.long), torch.ones(2, 128, dtype=torch.bool))


def from_words(net: UNet) -> object:
    return net(torch.randn(2, 3, 64, 64), T, torch.randn(2, 128, 512), torch.randn(2, 768))


def enlarged(net: UNet) -> object:
    return net(torch.randn(1, 6, 256, 256), T, torch.randn(1, 128, 512), torch.randn(1, 768))


def encoded(net: T5Encoder) -> object:
    return net(torch.ones(2, 77, dtype=torch.long), torch.ones(2, 77, dtype=torch.bool))


def from_states(net: IfUNet) -> object:
    config = net.config
    level = 250 if config.enlarges else None
    return net(torch.randn(2, config.in_channels, config.side, config.side), T, torch.randn(2, 77, 4096), level)


def from_states_there(net: Any) -> object:
    """The same as `from_states` with diffusers' class."""
    config = net.config
    level = torch.full((2,), 250) if config.class_embed_type is not None else None
    x = torch.randn(2, config.in_channels, config.sample_size, config.sample_size)
    return net(x, T, torch.randn(2, 77, 4096), class_labels=level)


def from_words_there(net: Any) -> object:
    """The same as `from_words`, and as `enlarged`, with diffusers' class."""
    config = net.config
    b = 2 if config.in_channels == 3 else 1  # guided, or not
    x = torch.randn(b, config.in_channels, config.sample_size, config.sample_size)
    return net(x, T, torch.randn(b, 128, 512), class_labels=torch.randn(b, 768))


def painted(net: UNet) -> object:
    condition = net.condition(torch.randn(2, 1280))
    return net(torch.randn(2, 4, 64, 64), T, condition.context, condition.time)


def of_a_class(net: GuidedUNet) -> object:
    config = net.config
    x = torch.randn(1, config.in_channels, config.sample_size, config.sample_size)
    return net.denoise(x, Time(net.times([500], torch.tensor([207])), 0))


def of_a_class_there(net: Any) -> object:
    """The same as `of_a_class` with diffusers' class."""
    config = net.config
    x = torch.randn(1, config.in_channels, config.sample_size, config.sample_size)
    return net(x, T, class_labels=torch.tensor([207]))


PAINTED = TokenSettings(temperature=1.0, top_k=256, top_p=1.0, guidance=16.0)
"""How DALL-E Mini draws codes by default."""
WORDS = torch.ones(2, 64, dtype=torch.bool)


def written(net: DalleBartDecoder) -> object:
    """The 256 codes of a picture, guided, with their draws."""
    config, places = net_config(net), [0]
    writing = Writing.begin(net, torch.randn(2, 64, config[0]), WORDS, [0, 1])

    def write(codes: Tensor) -> Tensor:
        place = places[0]
        tokens = codes if place else torch.full((2, 1), 16384)
        places[0] += tokens.shape[1]
        return net.write(tokens, place, writing)[:, :16384]

    return write_codes(write, Noise([0]), PAINTED, config[1], lambda *_, look=None: None)


def net_config(net: DalleBartDecoder) -> tuple[int, int]:
    """How wide a decoder is, and how many codes it writes."""
    return net.embed_tokens.embedding_dim, net.embed_positions.num_embeddings


def written_there(net: Any) -> object:
    """The same as `written` with min-dalle's class, whose places are made after its weights are."""
    length, width = net.embed_positions.weight.shape
    for module in (net, *net.layers):
        module.token_indices = torch.arange(length)
    remembered = torch.zeros(net.layer_count, 4, length, width)
    codes, states = torch.full((1, length + 1), 16383), torch.randn(2, 64, width)
    for place in range(length):
        codes[:, place + 1], remembered = net.sample_tokens(
            settings=torch.tensor([PAINTED.temperature, PAINTED.top_k, PAINTED.guidance]),
            attention_mask=WORDS[:, None, None],
            encoder_state=states,
            attention_state=remembered,
            prev_tokens=codes[:, [place]],
            token_index=torch.tensor([place]),
        )
    return codes


def min_dalle(folder: Path, config: dict[str, Any]) -> Any:
    """min-dalle's decoder, without weights; its package is not imported as a whole, which would ask the network."""
    package = types.ModuleType("min_dalle")
    package.__path__ = [str(folder / "min_dalle")]
    sys.modules["min_dalle"] = package
    from min_dalle.models.dalle_bart_decoder import DalleBartDecoder as Theirs  # type: ignore[import-not-found]

    return Theirs(
        image_vocab_count=config["image_vocab_size"],
        embed_count=config["d_model"],
        attention_head_count=config["decoder_attention_heads"],
        glu_embed_count=config["decoder_ffn_dim"],
        layer_count=config["decoder_layers"],
        device="cpu",
    )


def led(net: NoisedClassifier) -> object:
    x = torch.randn(1, 3, net.config.sample_size, net.config.sample_size)
    return net.gradient(x, Time(net.times([500]), 0), torch.tensor([207]))


SAID = torch.ones(2, 64, dtype=torch.long)
CODES = "decoder, 256 codes"

ROWS: dict[str, dict[str, Row]] = {
    "karlo": {
        "text tower": ("text_encoder", CLIPTextModel, ClipTextConfig, lambda net: net(ids())[0]),
        "image tower": (
            "image_encoder",
            CLIPVisionModel,
            ClipVisionConfig,
            lambda net: net(torch.randn(1, 3, 224, 224)),
        ),
        "prior, its text": ("prior", PriorTransformer, PriorConfig, read),
        "prior, a step": ("prior", PriorTransformer, PriorConfig, answered),
        "decoder, a step": ("decoder", UNet, UNetConfig, decoded),
        "upsampler, a step": ("super_res_first", UNet, UNetConfig, lambda net: net(torch.randn(1, 6, 256, 256), T)),
    },
    "kandinsky": {
        "text tower": ("kandinsky_text_encoder", CLIPTextModel, ClipTextConfig, lambda net: net(ids())[0]),
        "image tower": ("kandinsky_image_encoder", CLIPVisionModel, ClipVisionConfig, seen),
        "prior, its text": ("kandinsky_prior", PriorTransformer, PriorConfig, read),
        "prior, a step": ("kandinsky_prior", PriorTransformer, PriorConfig, answered),
        "decoder, a step": ("kandinsky_unet", UNet, UNetConfig, painted),
        "autoencoder, to pixels": (
            "kandinsky_movq",
            Movq,
            MovqConfig,
            lambda net: net.decode(torch.randn(1, 4, 64, 64)),
        ),
        "autoencoder, to latents": (
            "kandinsky_movq",
            Movq,
            MovqConfig,
            lambda net: net.encode(torch.randn(1, 3, 512, 512)),
        ),
    },
    "stable-unclip": {
        "text tower": ("stable_text_encoder", CLIPTextStates, ClipTextConfig, lambda net: net(ids())),
        "image tower": (
            "stable_image_encoder",
            CLIPVisionModel,
            ClipVisionConfig,
            seen,
        ),
        "decoder, a step": ("stable_unet", TransformerUNet, TransformerUNetConfig, denoised),
        "autoencoder, to pixels": ("stable_vae", Vae, VaeConfig, lambda net: net.decode(torch.randn(1, 4, 96, 96))),
        "autoencoder, to latents": ("stable_vae", Vae, VaeConfig, lambda net: net.encode(torch.randn(1, 3, 768, 768))),
    },
    "dvae": {
        "encoder": ("dvae_encoder", DvaeEncoder, DvaeConfig, lambda net: net(torch.rand(1, 3, 256, 256))),
        "decoder": ("dvae_decoder", DvaeDecoder, DvaeConfig, lambda net: net(torch.ones(1, 32, 32, dtype=torch.long))),
    },
    **{
        f"dalle-{size}": {
            "text encoder": (f"dalle_{size}_encoder", DalleBartEncoder, DalleBartConfig, lambda net: net(SAID, WORDS)),
            CODES: (f"dalle_{size}_decoder", DalleBartDecoder, DalleBartConfig, written),
            "VQGAN, to pixels": (
                "vqgan_detoker",
                VqganDecoder,
                VqganConfig,
                lambda net: net(torch.ones(1, 16, 16, dtype=torch.long)),
            ),
        }
        for size in ("mini", "mega")
    },
    "glide": {
        "text tower": ("glide_base", GlideTextEncoder, ClipTextConfig, told),
        "decoder, a step": ("glide_base", UNet, UNetConfig, from_words),
        "upsampler, a step": ("glide_upsample", UNet, UNetConfig, enlarged),
    },
    "adm-64": {
        "decoder, a step": ("64x64_diffusion.pt", GuidedUNet, GuidedUNetConfig, of_a_class),
        "classifier, a step": ("64x64_classifier.pt", NoisedClassifier, NoisedClassifierConfig, led),
        "upsampler, a step": ("64_256_upsampler.pt", GuidedUNet, GuidedUNetConfig, of_a_class),
    },
    "adm-256": {
        "decoder, a step": ("256x256_diffusion.pt", GuidedUNet, GuidedUNetConfig, of_a_class),
        "classifier, a step": ("256x256_classifier.pt", NoisedClassifier, NoisedClassifierConfig, led),
    },
    "if-m": {
        "text tower": ("if_text_encoder", T5Encoder, T5Config, encoded),
        "decoder, a step": ("if_I_M", IfUNet, IfUNetConfig, from_states),
        "upsampler, a step": ("if_II_M", IfUNet, IfUNetConfig, from_states),
    },
    "if-l": {
        "decoder, a step": ("if_I_L", IfUNet, IfUNetConfig, from_states),
        "upsampler, a step": ("if_II_L", IfUNet, IfUNetConfig, from_states),
    },
}


THERE: dict[Callable[[Any], object], tuple[str, Callable[[Any], object]]] = {
    from_states: ("UNet2DConditionModel", from_states_there),
    from_words: ("UNet2DConditionModel", from_words_there),
    enlarged: ("UNet2DConditionModel", from_words_there),
    of_a_class: ("UNet2DModel", of_a_class_there),
}
"""The passes that diffusers has a network for: its class, and the same pass of it."""


def memory(name: str) -> int:
    """Bytes of this process: "VmRSS" now, "VmHWM" at most."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def published_of(part: str, kind: Any) -> dict[str, Any]:
    """The config of a network, as it is published, or as a conversion writes it."""
    if part in ADM:
        published = json.loads((KEYS / "adm.json").read_text(encoding="utf-8"))[part]
        return {**network_of(published["state_dict"], part).config, "sample_size": ADM[part].side}
    published = json.loads((KEYS / f"{part}.json").read_text(encoding="utf-8"))
    if part.startswith("glide_"):  # one list for two networks
        parts = parts_of(published["state_dict"], CHECKPOINTS[f"{part.removeprefix('glide_')}.pt"])
        return parts[0 if kind is GlideTextEncoder else 1][1]
    if part.startswith("dvae_"):
        return config_of(published["state_dict"], part.removeprefix("dvae_"))
    if part == "vqgan_detoker":
        return read_vqgan(published["state_dict"], LEVELS)["decoder"].config
    config: dict[str, Any] = published["config"]
    return config


def build(model: str, name: str, diffusers: bool, folder: Path | None) -> tuple[Any, Callable[[Any], object]]:
    """A network without weights, of this project's, of diffusers' or of min-dalle's, and one pass of it."""
    part, kind, config, run = ROWS[model][name]
    published = published_of(part, kind)
    with torch.device("meta"):
        if folder is not None:
            return min_dalle(folder, published), written_there
        if not diffusers:
            return kind(config.from_config(published)), run
        import diffusers as library

        theirs: Any = getattr(library, THERE[run][0])
        return theirs.from_config(published), THERE[run][1]


def measure(model: str, name: str, diffusers: bool, folder: Path | None) -> None:
    """Print the row of one network. Its own process, because memory is only ever seen to grow."""
    kind = ROWS[model][name][1]
    net, run = build(model, name, diffusers, folder)
    net = net.to(torch.bfloat16 if kind is T5Encoder else torch.float32)
    net = net.to_empty(device="cpu").requires_grad_(False).eval()
    for parameter in net.parameters():
        parameter.normal_(std=0.02)
    net = net.to(memory_format=torch.channels_last)
    if kind is T5Encoder:
        multiply_in_single(net)
    Path("/proc/self/clear_refs").write_text("5")  # what was needed to build it is not what is needed to run it
    before = memory("VmRSS")
    began = time.process_time()
    with torch.no_grad():
        run(net)
    seconds = time.process_time() - began
    working = memory("VmHWM") - before
    numbers = sum(tensor.numel() for tensor in net.state_dict().values())
    print(f"| {name} | {numbers / 1e6:,.0f} M | {seconds:.1f} s | {working / 1e9:.1f} GB |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("model", choices=list(ROWS))
    parser.add_argument("--only")
    parser.add_argument("--diffusers", action="store_true")
    parser.add_argument("--min-dalle", type=Path)
    options = parser.parse_args()
    if options.diffusers and (options.only is None or ROWS[options.model][options.only][3] not in THERE):
        parser.error("--diffusers is for one network that diffusers has: --only 'decoder, a step'")
    if options.min_dalle is not None and options.only != CODES:
        parser.error(f"--min-dalle is for DALL-E Mini's or Mega's decoder: --only '{CODES}'")
    if options.only is not None:
        measure(options.model, options.only, options.diffusers, options.min_dalle)
    else:
        print("| network | numbers | one pass | beside its weights |\n| --- | --- | --- | --- |", flush=True)
        for name in ROWS[options.model]:
            command = [sys.executable, __file__, options.model, "--only", name]
            subprocess.run(command, check=True)
