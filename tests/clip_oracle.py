"""The oracle of CLIP alone: random tiny folders, written by transformers' own `CLIPModel` as OpenAI's are published."""

import json
from pathlib import Path

import oracle
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTokenizer, CLIPVisionConfig

SHAPE = oracle.SHAPES["karlo"]


@torch.no_grad()
def write(folder: Path, seed: int = 20) -> Path:
    """Write a CLIP of Karlo's shape, but for its weights, in one folder; `seed` decides on these."""
    vocab_size = oracle.tokenizer_files(folder, SHAPE)
    text = CLIPTextConfig(
        vocab_size=vocab_size,
        hidden_size=SHAPE.width,
        projection_dim=SHAPE.width,
        max_position_embeddings=SHAPE.context,
        eos_token_id=2,
        bos_token_id=0,
        pad_token_id=1,
        **SHAPE.text,
    )
    vision = CLIPVisionConfig(projection_dim=SHAPE.width, num_hidden_layers=2, intermediate_size=40, **SHAPE.vision)
    config = CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=SHAPE.width)
    oracle.random_net(lambda: CLIPModel(config), seed).save_pretrained(folder)
    _as_published(folder)
    oracle.feature_extractor(SHAPE).save_pretrained(folder)
    (folder / "README.md").write_text("# A model card, which is no part of the model")
    return folder


def _as_published(folder: Path) -> None:
    """Add what older transformers wrote: the positions of both towers, and a second key for each section."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    for tower in ("text_model", "vision_model"):
        count = len(tensors[f"{tower}.embeddings.position_embedding.weight"])
        tensors[f"{tower}.embeddings.position_ids"] = torch.arange(count)[None]
    save_file(tensors, file, metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config |= {"text_config_dict": None, "vision_config_dict": None}
    (folder / "config.json").write_text(json.dumps(config))


def open_model(folder: Path) -> tuple[CLIPModel, CLIPTokenizer]:
    """Let transformers open a folder."""
    return CLIPModel.from_pretrained(folder).eval(), CLIPTokenizer.from_pretrained(folder)
