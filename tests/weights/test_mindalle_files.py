"""minDALL-E's published files become a model, or nothing does."""

import json
from pathlib import Path

import mindalle_oracle as oracle
import pytest
import torch
from safetensors.torch import load_file

from dallecli.errors import BadFolder
from dallecli.nets.gpt import Gpt, GptConfig
from dallecli.weights.folder import Folder
from dallecli.weights.layouts import published_in
from dallecli.weights.mindalle import config_of, convert_mindalle, read_yaml
from dallecli.weights.registry import registry

KEYS = Path(__file__).parents[1] / "nets" / "published_keys"


def test_the_published_checkpoint_fills_the_network_at_full_size() -> None:
    published = json.loads((KEYS / "mindalle_gpt.json").read_text())
    shapes = {name: tuple(shape) for name, shape in published["state_dict"].items()}
    config = config_of(shapes, {"n_heads": "24", "type": "transformer1d"})
    assert (config["n_heads"], config["n_layers"], config["sample_size"]) == (24, 42, 16)
    with torch.device("meta"):
        net = Gpt(GptConfig.from_config(config))
    assert {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()} == shapes
    vqgan = json.loads((KEYS / "vqgan_taming.json").read_text())
    assert registry()["mindalle"].parameters == published["num_parameters"] + vqgan["num_parameters"]


@pytest.mark.long
def test_the_files_become_a_folder_with_the_same_tensors(tmp_path: Path) -> None:
    source = oracle.write_published(tmp_path / "files")
    family = published_in(source)
    assert family is not None
    assert family.pipeline == "MinDallePipeline"  # the VQGAN is there, too
    made = convert_mindalle(source, tmp_path / "tiny")
    folder = Folder(tmp_path / "tiny")
    assert {(file.name, path.parent.name) for file, path in made} == {
        ("stage1_last.ckpt", "vqgan_encoder"), ("stage1_last.ckpt", "vqgan"), ("stage2_last.ckpt", "decoder")
    }  # fmt: skip
    assert (folder.tasks, folder.sizes(), folder.largest()) == (("generate", "encode", "decode"), (8,), None)
    found, wanted = load_file(folder.weights_file("decoder")), oracle.table()
    assert set(found) == set(wanted)
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())


def test_of_the_config_the_transformers_keys_are_read_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(oracle.YAML)
    stated = read_yaml(tmp_path / "config.yaml")
    assert (stated["n_heads"], stated["n_layers"], stated["mlp_bias"]) == ("2", "2", "True")
    (tmp_path / "config.yaml").write_text("- [stage2: {\n\tn_heads: 3\n!!python/object:os.system x\n")
    assert read_yaml(tmp_path / "config.yaml") == {}


SHAPES = {name: tuple(tensor.shape) for name, tensor in oracle.table().items()}
OTHERS = {
    "other layers": ({"n_layers": "3"}, "n_layers is 2 there, and 3 in config.yaml"),
    "no number": ({"n_heads": "two"}, "n_heads is 'two' in config.yaml, which is no number"),
    "another activation": ({"gelu_use_approx": "true"}, "gelu_use_approx is true in config.yaml, supported is False"),
    "another kind": ({"type": "igpt"}, "type is igpt in config.yaml"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_a_config_of_another_network_is_refused_by_name(what: str) -> None:
    stated, words = OTHERS[what]
    with pytest.raises(ValueError, match=words):
        config_of(SHAPES, stated)


def test_tensors_of_another_network_are_refused() -> None:
    with pytest.raises(ValueError, match=r"it has no tensor pos_emb_img\.weight"):
        config_of({name: shape for name, shape in SHAPES.items() if name != "pos_emb_img.weight"}, {})
    with pytest.raises(ValueError, match=r"it has no tensor tok_emb_txt\.weight"):
        config_of({"w": (2,)}, {})


@pytest.mark.parametrize("name", ["tokenizer/bpe-16k-merges.txt", "stage1_last.ckpt"])
def test_without_one_of_the_files_nothing_is_made(tmp_path: Path, name: str) -> None:
    (oracle.write_published(tmp_path / "files") / name).unlink()
    with pytest.raises(BadFolder, match=f"{name} of minDALL-E is missing"):
        convert_mindalle(tmp_path / "files", tmp_path / "tiny")
    assert [path.name for path in tmp_path.iterdir()] == ["files"]
