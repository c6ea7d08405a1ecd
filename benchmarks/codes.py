"""What DALL·E 1's autoencoder takes for a picture of 256 px and back, beside the published way to compute it.

    python benchmarks/codes.py

Both networks have the published size and random weights, in float32 on one core (set OMP_NUM_THREADS for more); they
run in turns. The published way, written from its formulas: plain convolutions, a ReLU before each, and codes as 8192
channels of zeros and ones. Ours is as a model is opened. Prints the table of docs/guides/codes.md, in processor
seconds.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dallecli.nets.dvae import DvaeConfig, DvaeDecoder, DvaeEncoder
from dallecli.nets.prepacked import can_prepack, prepack
from dallecli.weights.dvae import config_of

KEYS = Path(__file__).parents[1] / "tests" / "nets" / "published_keys"
NETS = {"encoder": DvaeEncoder, "decoder": DvaeDecoder}
GROUPS, BLOCKS = 4, 2
Table = dict[str, Tensor]


def built(part: str) -> tuple[nn.Module, Table]:
    """A network of the published size, ready as a model opens it, and its tensors before that."""
    shapes = json.loads((KEYS / f"dvae_{part}.json").read_text(encoding="utf-8"))["state_dict"]
    with torch.device("meta"):
        net: nn.Module = NETS[part](DvaeConfig.from_config(config_of(shapes, part)))
    net = net.to_empty(device="cpu").requires_grad_(False).eval()
    for parameter in net.parameters():
        parameter.normal_(std=0.03)
    table = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    if can_prepack():
        prepack(net)
    return net, table


def convolved(table: Table, name: str, x: Tensor) -> Tensor:
    weight = table[f"{name}.w"]
    return F.conv2d(x, weight, table[f"{name}.b"], padding=(weight.shape[-1] - 1) // 2)


def published(table: Table, x: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """The published network by its formulas; `change` is what it does to the size after a group."""
    x = convolved(table, "blocks.input", x)
    for group in range(1, GROUPS + 1):
        for block in range(1, BLOCKS + 1):
            name, inner = f"blocks.group_{group}.block_{block}", x
            for number in (1, 2, 3, 4):
                inner = convolved(table, f"{name}.res_path.conv_{number}", F.relu(inner))
            straight = convolved(table, f"{name}.id_path", x) if f"{name}.id_path.w" in table else x
            x = straight + inner / (GROUPS * BLOCKS) ** 2
        x = change(x) if group < GROUPS else x
    return convolved(table, "blocks.output.conv", F.relu(x))


def seconds(run: Callable[[], Tensor]) -> tuple[float, Tensor]:
    began = time.process_time()
    made = run()
    return time.process_time() - began, made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    torch.manual_seed(0)
    pixels, codes = torch.rand(1, 3, 256, 256), torch.randint(8192, (1, 32, 32))
    (encoder, of_encoder), (decoder, of_decoder) = (built(part) for part in NETS)

    def one_hot() -> Tensor:
        table = F.one_hot(codes, 8192).permute(0, 3, 1, 2).float()
        return published(of_decoder, table, lambda x: F.interpolate(x, scale_factor=2.0, mode="nearest"))

    pairs: dict[str, tuple[Callable[[], Tensor], Callable[[], Tensor]]] = {
        "encoder": (
            lambda: published(of_encoder, pixels, lambda x: F.max_pool2d(x, 2)),
            lambda: encoder(pixels),
        ),
        "decoder": (one_hot, lambda: decoder(codes)),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in pairs}
    with torch.inference_mode():
        for number in range(rounds + 1):
            for name, (theirs, ours) in pairs.items():
                (before, wanted), (now, made) = seconds(theirs), seconds(ours)
                if not torch.allclose(made, wanted, rtol=0, atol=1e-4 * float(wanted.abs().max())):
                    raise SystemExit(f"the {name}s do not agree")
                if number > 0:  # the first round prepares layers
                    found[name].append((before, now))
    print("| network | the published way | ours | times |\n| --- | --- | --- | --- |")
    found["a round trip"] = [
        (first[0] + second[0], first[1] + second[1])
        for first, second in zip(found["encoder"], found["decoder"], strict=True)
    ]
    for name, times in found.items():
        before, now = (statistics.median(column) for column in zip(*times, strict=True))
        ratio = statistics.median(a / b for a, b in times)
        print(f"| {name} | {before:.1f} s | {now:.1f} s | **{ratio:.2f}** |")


if __name__ == "__main__":
    main()
