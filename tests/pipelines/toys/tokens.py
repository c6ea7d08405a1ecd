"""A family of tokens: words to a square of codes, one after the other, and those to pixels. Random and tiny.

It is what DALL·E Mini would be: this file, and one entry of `LAYOUTS`.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dallecli.engine import Progress
from dallecli.errors import BadFile, TaskNotSupported
from dallecli.pictures.picture import Picture
from dallecli.pipelines.description import Description
from dallecli.pipelines.pipeline import Pipeline
from dallecli.recipe import Recipe
from dallecli.tasks.stages import Stage, TokenSettings
from dallecli.tasks.task import ModelRequest
from dallecli.weights.folder import Folder, read_object
from dallecli.weights.layouts import Layout, StageParts
from dallecli.weights.registry import ModelSpec

TOKENS = Stage(name="tokens", group="decoder", settings=TokenSettings, hurried=False)
LAYOUT = Layout(
    pipeline="ToyTokensPipeline",
    networks=("writer", "detokenizer"),
    stages=(StageParts(stage=TOKENS, network="writer", sized="detokenizer"),),
    tasks={"generate": "writer"},
    dials={"tokens": TokenSettings(temperature=1.0, top_k=0, top_p=1.0, guidance=2.0)},
    description=f"{__name__}:TokensDescription",
    opener=f"{__name__}:Tokens",
)
SIDE, CODES, PATCH = 4, 32, 2
KNOWN = ("", "a", "red", "blue", "cat", "dog")


class TokensDescription(Description):
    """It knows six words, leads away from nothing that is said, and starts from no picture."""

    def __init__(self, spec: ModelSpec, folder: Folder) -> None:
        self.vocabulary = vocabulary(folder)
        super().__init__(spec, folder)

    def check_request(self, request: ModelRequest) -> None:
        super().check_request(request)
        if request.sources or len(request.texts) > 1:
            raise TaskNotSupported(f"{self.spec.name} paints from one sentence alone", hint="leave out the rest")

    def dropped(self, text: str) -> str:
        return " ".join(word for word in text.split() if word not in self.vocabulary)


class Tokens(Pipeline):
    """The writer has a row of logits for each word and each place; the detokenizer has a patch for each code."""

    def __init__(self, parts: Any) -> None:
        super().__init__(parts.folder)
        self.parts = parts
        self.vocabulary = vocabulary(parts.folder)

    def paint(self, recipe: Recipe, progress: Callable[[Progress], None], batch: int) -> Iterator[Picture]:
        import torch

        from dallecli.diffusion.noise import Noise
        from dallecli.pipelines.chunks import chunks_of
        from dallecli.pipelines.pixels import to_images

        dials = recipe.stages["tokens"]
        assert isinstance(dials, TokenSettings)
        ids = [self.vocabulary[word] for word in recipe.prompt.split() if word in self.vocabulary]
        for chunk in chunks_of(recipe, progress, batch):
            with torch.inference_mode():
                logits = self._logits(ids, dials.guidance)
                noise, codes = Noise(chunk.seeds), []
                for position in range(SIDE * SIDE):
                    codes.append(drawn(logits[position], noise, dials))
                    chunk.watch("tokens", position + 1, SIDE * SIDE)
                patches = self._net("detokenizer", CODES, 3 * PATCH * PATCH)(torch.stack(codes, dim=1))
            yield from chunk.pictures(to_images(assembled(patches).clamp(-1, 1)))

    def _logits(self, ids: list[int], guidance: float) -> Any:
        import torch

        net = self._net("writer", len(KNOWN), SIDE * SIDE * CODES)
        unled, led = net(torch.tensor([0])).mean(dim=0), net(torch.tensor(ids if ids else [0])).mean(dim=0)
        return (unled + guidance * (led - unled)).view(SIDE * SIDE, CODES)

    def _net(self, part: str, rows: int, width: int) -> Any:
        import torch
        from torch import nn

        return self.parts.net(part, lambda config: nn.Embedding(rows, width), torch.float32)


def drawn(logits: Any, noise: Any, dials: TokenSettings) -> Any:
    """A code for each picture [b]: the likeliest, or one of the likeliest with as much chance as the dials leave it."""
    import torch

    if dials.top_k:
        least = logits.topk(dials.top_k).values[-1]
        logits = logits.masked_fill(logits < least, float("-inf"))
    shares, order = logits.softmax(dim=0).sort(descending=True)
    logits = logits.index_fill(0, order[shares.cumsum(dim=0) - shares >= dials.top_p], float("-inf"))
    uniform = torch.special.ndtr(noise.draw(logits.shape).double()).clamp(1e-12, 1 - 1e-12)
    return (logits - dials.temperature * (-uniform.log()).log()).argmax(dim=-1)


def assembled(patches: Any) -> Any:
    """Patches [b n 3*p*p] as pixels [b 3 s s]."""
    square = patches.view(len(patches), SIDE, SIDE, 3, PATCH, PATCH).permute(0, 3, 1, 4, 2, 5)
    return square.reshape(len(patches), 3, SIDE * PATCH, SIDE * PATCH)


def vocabulary(folder: Folder) -> dict[str, int]:
    """The words that the model knows, with their rows. Raises BadFile."""
    path = folder.path_of("tokenizer") / "vocab.json"
    words = read_object(path)
    if "" not in words:
        raise BadFile("the vocabulary has no empty word", str(path))
    return words


def write(folder: Path) -> Path:
    """A random model in a new folder."""
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(2)
    shapes = {"writer": (len(KNOWN), SIDE * SIDE * CODES), "detokenizer": (CODES, 3 * PATCH * PATCH)}
    for part, shape in shapes.items():
        (folder / part).mkdir(parents=True)
        (folder / part / "config.json").write_text(json.dumps({"sample_size": SIDE * PATCH}))
        save_file({"weight": torch.randn(shape, generator=generator)}, folder / part / "model.safetensors")
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps({word: k for k, word in enumerate(KNOWN)}))
    (folder / "model_index.json").write_text(json.dumps({"_class_name": LAYOUT.pipeline}))
    return folder
