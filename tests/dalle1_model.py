"""A tiny random DALL·E 1 as a model folder, written as a training writes it."""

from pathlib import Path

import torch

from dallecli.training.model_folder import TOKEN_INDEX, write_json, write_tokenizer
from dallecli.training.preset_file import load_own
from dallecli.training.stages.stage import write_stage
from dallecli.training.token_preset import read_token_preset, token_stages
from dallecli.training.tokenizer import train_tokenizer


def make(folder: Path) -> Path:
    """16 px, 4 by 4 codes of 16, and a few words."""
    tokenizer = folder.with_name(f"{folder.name}-tokenizer")
    size = train_tokenizer(["a red cat and a blue dog", "the cat", "two dogs"], tokenizer, 10)
    table = load_own("tokens-tiny", ("tokens-tiny",)) | {"context": 10}
    torch.manual_seed(0)
    for stage in token_stages(read_token_preset(table, "tokens-tiny"), lambda: size).values():
        net = stage.fresh()
        for weight in net.parameters():
            torch.nn.init.normal_(weight, std=0.3)
        write_stage(stage, net, folder)
    write_tokenizer(folder, tokenizer)
    write_json(folder / "model_index.json", TOKEN_INDEX)
    return folder
