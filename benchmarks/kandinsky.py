"""What each network of Kandinsky 2.2 costs at its published size: `python benchmarks/kandinsky.py`.

Prints the table of docs/guides/kandinsky.md: numbers, processor seconds of one pass, and the memory that a pass takes
beside the weights, in float32 on one core (set OMP_NUM_THREADS for more). Weights are random: a pass costs the same.
Needs 10 GB of memory. `--size PX` sets the side of the picture (512).
"""

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from dallecli.nets.clip import ClipTextConfig, CLIPTextModel, ClipVisionConfig, CLIPVisionModel
from dallecli.nets.movq import Movq, MovqConfig
from dallecli.nets.prior import PriorConfig, PriorTransformer
from dallecli.nets.unet import UNet, UNetConfig

WIDTH = 1280
TEXT = ClipTextConfig(
    hidden_size=WIDTH,
    intermediate_size=5120,
    num_hidden_layers=32,
    num_attention_heads=20,
    hidden_act="gelu",
    projection_dim=WIDTH,
)
VISION = ClipVisionConfig(
    hidden_size=1664,
    intermediate_size=8192,
    num_hidden_layers=48,
    num_attention_heads=16,
    patch_size=14,
    hidden_act="gelu",
    projection_dim=WIDTH,
)
UNET = UNetConfig(
    sample_size=64,
    in_channels=4,
    out_channels=8,
    down_block_types=("ResnetDownsampleBlock2D", *["SimpleCrossAttnDownBlock2D"] * 3),
    mid_block_type="UNetMidBlock2DSimpleCrossAttn",
    up_block_types=(*["SimpleCrossAttnUpBlock2D"] * 3, "ResnetUpsampleBlock2D"),
    block_out_channels=(384, 768, 1152, 1536),
    layers_per_block=3,
    cross_attention_dim=768,
    attention_head_dim=64,
    resnet_time_scale_shift="scale_shift",
    addition_embed_type="image",
    encoder_hid_dim_type="image_proj",
    encoder_hid_dim=WIDTH,
)
MOVQ = MovqConfig(
    down_block_types=(*["DownEncoderBlock2D"] * 3, "AttnDownEncoderBlock2D"),
    up_block_types=("AttnUpDecoderBlock2D", *["UpDecoderBlock2D"] * 3),
    block_out_channels=(128, 256, 256, 512),
    layers_per_block=2,
    latent_channels=4,
    num_vq_embeddings=16384,
)


def materialised(build: Callable[[], nn.Module]) -> nn.Module:
    """A network with small random weights."""
    with torch.device("meta"):
        net = build()
    net = net.to_empty(device="cpu").requires_grad_(False).eval()
    for parameter in net.parameters():
        parameter.normal_(std=0.02)
    return net.to(memory_format=torch.channels_last)


def passes(size: int) -> dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module], Tensor]]]:
    """Each network, and one pass of it for one picture; guidance takes two passes at once in prior and decoder."""
    cells = size // MOVQ.factor
    t = torch.tensor(500)

    def decoded(net: UNet) -> Tensor:
        seen = net.condition(torch.randn(2, WIDTH))
        return net(torch.randn(2, 4, cells, cells), t, seen.context, seen.time)

    def imagined(net: PriorTransformer) -> Tensor:
        mask = torch.ones(2, 77, dtype=torch.bool)
        return net(torch.randn(2, WIDTH), t, torch.randn(2, WIDTH), torch.randn(2, 77, WIDTH), mask)

    return {
        "text tower": (lambda: CLIPTextModel(TEXT), lambda net: net(torch.ones(2, 77, dtype=torch.long))[0]),
        "image tower": (lambda: CLIPVisionModel(VISION), lambda net: net(torch.randn(1, 3, 224, 224))),
        "prior, a step": (lambda: PriorTransformer(PriorConfig(embedding_dim=WIDTH)), imagined),
        "decoder, a step": (lambda: UNet(UNET), decoded),
        "MOVQ, to pixels": (lambda: Movq(MOVQ), lambda net: net.decode(torch.randn(1, 4, cells, cells))),
        "MOVQ, to latents": (lambda: Movq(MOVQ), lambda net: net.encode(torch.randn(1, 3, size, size))),
    }


def measure(name: str, size: int) -> None:
    """Print the row of one network. Its own process, because memory is only ever seen to grow."""
    build, run = passes(size)[name]
    net = materialised(build)
    numbers = sum(parameter.numel() for parameter in net.parameters())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    with torch.inference_mode():
        run(net)
    seconds = time.process_time() - began
    working = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    print(f"| {name} | {numbers / 1e6:,.0f} M | {seconds:.1f} s | {working / 1e9:.1f} GB |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--only", choices=list(passes(512)))
    options = parser.parse_args()
    if options.only is not None:
        measure(options.only, options.size)
    else:
        print("| network | numbers | one pass | beside its weights |\n| --- | --- | --- | --- |", flush=True)
        for name in passes(options.size):
            subprocess.run([sys.executable, __file__, "--size", str(options.size), "--only", name], check=True)
