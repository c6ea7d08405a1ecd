"""What 8-bit integers in convolutions would save and cost: `python benchmarks/int8.py`.

The seconds of a guided step of a large network of random weights, in the processor's own type and with its large
convolutions of 8-bit integers, in turns, and the error of both: how far the result is from float32's, as a share of it
(root mean squares). Of the starter's networks, whose weights are trained, the error only: they are too small to gain.
`--rounds N` is how often each step is measured (3), `--only NAME` measures one network, and `--json FILE` keeps the
figures. Needs 12 GB of memory and a processor that multiplies 8-bit integers (VNNI, AMX).

Weights have a scale for each output channel. What a convolution reads has a scale and a zero point for each picture,
taken from its smallest and its largest number in every call. Sums are exact, and what comes out is of the type that
comes in. The operations are oneDNN's, which torch's compiler uses for quantised networks. Why they are not used to
paint is in docs/decisions/speed.md.
"""

import math
import statistics
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import measuring
import torch
from figures import ratio
from saving import CPU, NETWORKS, Measured, config_of, step
from torch import Tensor, nn

from dallecli.devices import native_bf16
from dallecli.nets.layers import channels_last
from dallecli.nets.prepacked import can_prepack, prepack
from dallecli.nets.unet import UNet, UNetConfig
from dallecli.pipelines.allocator import keep_freed
from dallecli.weights.load import load_net
from dallecli.weights.registry import find, locate

TRAINED = {
    "the starter's decoder": ("decoder", Measured(model="starter", stage="decoder", keys=None, tokens=28)),
    "the starter's upsampler to 64 px": (
        "super_res_first",
        Measured(model="starter", stage="upsampler", keys=None, tokens=0),
    ),
}
"""Networks of the starter, by the names of their parts."""

LEAST_CHANNELS = 64
"""Of a large convolution, that go in and that come out. The first and the last of a network have fewer."""
LARGEST_WEIGHT = 127
STEPS = 253
"""Between the smallest and the largest number that a convolution reads. The zero point is at least 1, because 0 is
another kind of convolution to oneDNN, and it is rounded: with both, no number leaves its byte."""
HALF = 128
"""The difference between a byte with a sign and one without."""

Make = Callable[[torch.dtype], UNet]


def quantize(net: nn.Module) -> None:
    """Let the large convolutions of a network multiply 8-bit integers."""
    for layer in net.modules():
        if type(layer) is nn.Conv2d and min(layer.in_channels, layer.out_channels) >= LEAST_CHANNELS:
            layer.__class__ = Int8Conv2d


class Int8Conv2d(nn.Conv2d):
    """A convolution that multiplies 8-bit integers. Its weights are rounded at its first call."""

    _packed: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of pictures [b c h w], each with a scale of its own."""
        x = x.contiguous(memory_format=torch.channels_last)
        if self._packed is None:
            self._pack(x)
        made = [self._convolved(x[k : k + 1]) for k in range(len(x))]
        return made[0] if len(made) == 1 else torch.cat(made)

    def _pack(self, x: Tensor) -> None:
        weight = self.weight.detach().float()
        scales = weight.abs().amax((1, 2, 3)).div_(LARGEST_WEIGHT).clamp_min_(torch.finfo(torch.float32).tiny)
        whole = weight.div_(scales[:, None, None, None]).round_().to(torch.int8)
        shape = (1, *x.shape[1:])
        geometry = (self.stride, self.padding, self.dilation, self.groups)
        self._scales, self._zeros = scales, torch.zeros(len(scales), dtype=torch.int32)
        # The input's scale and zero point are given in each call; here they only say that it has a zero point.
        self._packed = torch.ops.onednn.qconv_prepack(whole, scales, 1.0, HALF, *geometry, shape)
        if self.bias is not None:
            self.bias = nn.Parameter(self.bias.float(), requires_grad=False)
        del self.weight

    def _convolved(self, x: Tensor) -> Tensor:
        """The convolution of one picture [1 c h w]."""
        whole, scale, zero = in_bytes(x)
        geometry = (self.stride, self.padding, self.dilation, self.groups)
        y: Tensor = torch.ops.onednn.qconv_pointwise(
            *(whole, scale, zero, self._packed, self._scales, self._zeros, self.bias, *geometry),
            *(1.0, 0, x.dtype, "none", [], ""),
        )
        return y


def in_bytes(x: Tensor) -> tuple[Tensor, float, int]:
    """One picture [1 c h w] in bytes, how much one step of a byte is, and the byte that means 0."""
    low, high = (end.item() for end in torch.aminmax(x.permute(0, 2, 3, 1).reshape(-1)))
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max((high - low) / STEPS, torch.finfo(torch.float32).tiny)
    zero = round(-low / scale) + 1
    whole = x.to(torch.float32, copy=True).mul_(1 / scale).add_(zero - HALF).round_().to(torch.int8)
    return whole.view(torch.uint8).bitwise_xor_(HALF), scale, zero


def random_network(of: Measured, dtype: torch.dtype) -> UNet:
    """A network of weights that are normally distributed, as trained ones nearly are, and the same in every type."""
    torch.manual_seed(0)
    net = UNet(UNetConfig.from_config(config_of(of))).requires_grad_(False).eval()
    for weight in net.parameters():
        if weight.ndim > 1:
            weight.normal_(std=math.prod(weight.shape[1:]) ** -0.5)
    return net.to(dtype)


def trained_network(part: str, dtype: torch.dtype) -> UNet:
    """A network of the starter."""
    folder = locate(find("starter"))
    return load_net(lambda: UNet(UNetConfig.from_config(folder.config(part))), folder.weights_file(part), dtype, CPU)


def prepared(net: UNet, *, in_int8: bool) -> UNet:
    """A network as it runs."""
    if in_int8:
        quantize(net)
    channels_last(net)
    if can_prepack():
        prepack(net)
    return net


def multiplies_bytes() -> bool:
    """Whether this processor has arithmetic for 8-bit integers. Older ones would round their sums, too."""
    return torch.cpu._is_vnni_supported() or torch.cpu._is_amx_tile_supported()


def error(found: Tensor, exact: Tensor) -> float:
    """How far a result is from the exact one, as a share of it."""
    return float(((found.float() - exact).pow(2).mean() / exact.pow(2).mean()).sqrt())


def measure(make: Make, of: Measured, own: torch.dtype, rounds: int) -> dict[str, Any]:
    """The errors of a network in its own type and with integers, and the seconds of its steps in so many rounds."""

    def run(dtype: torch.dtype, *, in_int8: bool = False) -> Callable[[], Any]:
        net = prepared(make(dtype), in_int8=in_int8)
        torch.manual_seed(1)
        return step(net, of, dtype, (of.stage == "decoder", True))

    exact = run(torch.float32)()
    runs = {"own": run(own), "int8": run(own, in_int8=True)}
    found: dict[str, Any] = {"error": {kind: error(go(), exact) for kind, go in runs.items()}}
    keep_freed()
    taken: dict[str, list[float]] = {kind: [] for kind in runs}
    for round_ in range(rounds):
        for kind in list(runs)[:: 1 if round_ % 2 == 0 else -1]:
            taken[kind].append(measuring.seconds_of(runs[kind]))
    return {**found, "seconds": taken} if rounds else found


def main() -> None:
    """Measure and print."""
    large: Mapping[str, Measured] = {name: of for name, of in NETWORKS.items() if of.keys is not None}
    parser = measuring.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=(*large, *TRAINED))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if not multiplies_bytes():
        parser.error("this processor has no arithmetic for 8-bit integers")
    own = torch.float32 if native_bf16() is None else torch.bfloat16
    todo: dict[str, tuple[Make, Measured, int]] = {
        name: (partial(random_network, of), of, options.rounds) for name, of in large.items()
    }
    todo |= {name: (partial(trained_network, part), of, 0) for name, (part, of) in TRAINED.items()}
    found: dict[str, Any] = {
        "table": "int8",
        "machine": measuring.machine(CPU),
        "command": measuring.command_line("json"),
        "dtype": str(own).removeprefix("torch."),
        "least_channels": LEAST_CHANNELS,
        "rounds": options.rounds,
        "networks": {},
    }
    for name, (make, of, rounds) in todo.items():
        if options.only not in (None, name):
            continue
        with torch.inference_mode():
            row = measure(make, of, own, rounds)
        found["networks"][name] = row
        errors = ", ".join(f"{kind} {value:.4f}" for kind, value in row["error"].items())
        print(f"{name}: errors {errors}", flush=True)
        if rounds:
            medians = ", ".join(f"{kind} {statistics.median(taken):.3g} s" for kind, taken in row["seconds"].items())
            print(f"{name}: {medians}, {ratio(row['seconds'], 'own', 'int8'):.2f} times as fast", flush=True)
    measuring.write(options.json, "int8", found)


if __name__ == "__main__":
    main()
