"""A family of tokens: words to a square of codes, one after the other, and those to pixels. Random and tiny.

It is what DALL·E Mini would be: this file, and one entry of `LAYOUTS`.
"""

import json
from pathlib import Path
from typing import Any

from dallecli.errors import BadFile
from dallecli.pipelines.token_description import TokenDescription
from dallecli.pipelines.token_pipeline import TokenPipeline
from dallecli.tasks.stages import CODES, TokenSettings
from dallecli.weights.folder import Folder, read_object
from dallecli.weights.layouts import Layout, StageParts
from dallecli.weights.registry import ModelSpec

LAYOUT = Layout(
    pipeline="ToyTokensPipeline",
    networks=("writer", "detokenizer"),
    stages=(StageParts(stage=CODES, network="writer", sized="detokenizer"),),
    tasks={"generate": "writer"},
    dials={"codes": TokenSettings(temperature=1.0, top_k=0, top_p=1.0, guidance=2.0)},
    description=f"{__name__}:TokensDescription",
    opener=f"{__name__}:Tokens",
)
SIDE, VOCABULARY, PATCH = 4, 32, 2
KNOWN = ("", "a", "red", "blue", "cat", "dog")


class TokensDescription(TokenDescription):
    """It knows six words, and paints over no picture."""

    rows = SIDE

    def __init__(self, spec: ModelSpec, folder: Folder) -> None:
        self.vocabulary = vocabulary(folder)
        super().__init__(spec, folder)

    def dropped(self, text: str) -> str:
        return " ".join(word for word in text.split() if word not in self.vocabulary)


class Tokens(TokenPipeline):
    """The writer has a row of logits for each word and each place; the detokenizer has a patch for each code."""

    side, cell, writing, drawing = SIDE, PATCH, ("writer",), "detokenizer"

    def __init__(self, parts: Any) -> None:
        super().__init__(parts)
        self.words = vocabulary(parts.folder)
        self.vocabulary, self.coder = VOCABULARY, self

    def writer(self, words: Any, dtype: Any, watch: Any) -> Any:
        import torch

        net = self._net("writer", len(KNOWN), SIDE * SIDE * VOCABULARY)
        told = [*([words.negative] * len(words.prompts) if words.guided else []), *words.prompts]
        rows = torch.stack([net(torch.tensor(self._ids(sentence))).mean(dim=0) for sentence in told])
        logits, before = rows.view(-1, SIDE * SIDE, VOCABULARY), [0]

        def write(codes: Any) -> Any:
            before[0] += codes.shape[1]
            return logits[:, before[0]]

        return write

    def pixels(self, codes: Any) -> Any:
        from dallecli.pipelines.pixels import to_images

        b, h, w = codes.shape
        patches = self._net("detokenizer", VOCABULARY, 3 * PATCH * PATCH)(codes).view(b, h, w, 3, PATCH, PATCH)
        return to_images(patches.permute(0, 3, 1, 4, 2, 5).reshape(b, 3, h * PATCH, w * PATCH))

    def encode(self, image: Any, size: int) -> Any:
        """The code of the patch that each part of the picture is closest to."""
        import torch
        from PIL import ImageOps

        from dallecli.pipelines.pixels import to_pixels

        square = to_pixels([ImageOps.fit(image, (size.width, size.height))])[0].reshape(3, SIDE, PATCH, SIDE, PATCH)
        patches = square.permute(1, 3, 0, 2, 4).reshape(SIDE, SIDE, -1)
        table = self._net("detokenizer", VOCABULARY, 3 * PATCH * PATCH).weight
        return torch.cdist(patches.flatten(0, 1), table).argmin(dim=1).view(SIDE, SIDE).int().numpy()

    def decode(self, codes: Any) -> Any:
        import torch

        return self.pixels(torch.from_numpy(codes).long()[None])[0]

    def _ids(self, sentence: str) -> list[int]:
        return [self.words[word] for word in sentence.split() if word in self.words] or [0]

    def _net(self, part: str, rows: int, width: int) -> Any:
        import torch
        from torch import nn

        return self.parts.net(part, lambda config: nn.Embedding(rows, width), torch.float32)


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
    shapes = {"writer": (len(KNOWN), SIDE * SIDE * VOCABULARY), "detokenizer": (VOCABULARY, 3 * PATCH * PATCH)}
    for part, shape in shapes.items():
        (folder / part).mkdir(parents=True)
        (folder / part / "config.json").write_text(json.dumps({"sample_size": SIDE * PATCH}))
        save_file({"weight": torch.randn(shape, generator=generator)}, folder / part / "model.safetensors")
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps({word: k for k, word in enumerate(KNOWN)}))
    (folder / "model_index.json").write_text(json.dumps({"_class_name": LAYOUT.pipeline}))
    return folder
