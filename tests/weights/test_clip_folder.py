"""CLIP alone: one folder with both towers in one file, as OpenAI's is published."""

import json
import shutil
from functools import partial
from pathlib import Path

import clip_oracle
import numpy as np
import pytest
import torch
from hub import Hub
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

import dallecli
from dallecli.errors import BadFile, BadFolder, LayoutMismatch
from dallecli.nets.clip import ClipTextConfig, CLIPTextModel, ClipVisionConfig, CLIPVisionModel
from dallecli.weights.fetch.pull import pull
from dallecli.weights.folder import Folder
from dallecli.weights.hub import Patience
from dallecli.weights.registry import find, judges, locate, registry


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clip_oracle.write(tmp_path_factory.mktemp("clip") / "tiny")


@pytest.fixture
def clip(written: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(written, tmp_path / "tiny")


def test_vit_b_32_has_the_tensors_of_transformers_class_at_full_size() -> None:
    # The defaults of transformers' CLIPConfig are those of ViT-B/32, and so are ours.
    with torch.device("meta"):
        published = CLIPModel(CLIPConfig())
        towers = [CLIPTextModel(ClipTextConfig()), CLIPVisionModel(ClipVisionConfig())]
    wanted = {name: tuple(tensor.shape) for name, tensor in published.state_dict().items()}
    assert wanted.pop("logit_scale") == ()
    found = {name: tuple(tensor.shape) for tower in towers for name, tensor in tower.state_dict().items()}
    assert found == wanted
    count = sum(tensor.numel() for tower in towers for tensor in tower.parameters())
    assert registry()["clip-vit-b-32"].parameters == count


def test_embeddings_equal_those_of_transformers_from_the_file_to_the_number(clip: Path) -> None:
    rng = np.random.default_rng(3)
    images = [Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)) for h, w in ((50, 70), (28, 28))]
    sentences = ["a red cat", "a teddy bear on a blue dog"]
    found = dallecli.open(str(clip), device="cpu", dtype="fp32").embed(*images, *sentences)
    net, tokenizer = clip_oracle.open_model(clip)
    with torch.inference_mode():
        pixels = CLIPImageProcessorPil.from_pretrained(clip)(images, return_tensors="pt")["pixel_values"]
        tokens = tokenizer(sentences, padding="max_length", return_tensors="pt")
        seen, read = net.get_image_features(pixels).pooler_output, net.get_text_features(**tokens).pooler_output
    assert [one.kind for one in found] == ["image", "image", "text", "text"]
    wanted = torch.cat([seen, read]).numpy()
    # sums of float32 in another order
    assert np.abs(np.stack([one.vector for one in found]) - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_a_tensor_of_neither_tower_is_refused(clip: Path) -> None:
    file = clip / "model.safetensors"
    save_file({**load_file(file), "audio_model.weight": torch.ones(2)}, file)
    with pytest.raises(LayoutMismatch, match="1 unexpected"):
        dallecli.open(str(clip), device="cpu").embed("a cat")


def test_a_tower_that_the_config_lacks_is_named(clip: Path) -> None:
    config = json.loads((clip / "config.json").read_text())
    del config["vision_config"]
    (clip / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadFile, match="vision_config is missing"):
        Folder(clip).config("image_encoder")


@pytest.mark.parametrize("architectures", [["BertModel"], None, "CLIPModel", [3]])
def test_another_model_of_one_folder_is_no_clip(clip: Path, architectures: object) -> None:
    (clip / "config.json").write_text(json.dumps({"architectures": architectures}))
    with pytest.raises(BadFolder, match="is not run here"):
        Folder(clip)


def test_what_lies_beside_the_model_is_not_in_its_digest(clip: Path) -> None:
    before = Folder(clip).digest()
    (clip / "README.md").write_text("another card")
    assert Folder(clip).digest() == before
    (clip / "merges.txt").write_text("#version: 0.2\n")
    assert Folder(clip).digest() != before


@pytest.mark.parametrize(("name", "kind"), [("clip-vit-b-32", "bin"), ("hf:org/clip", "safetensors")])
@pytest.mark.long
def test_a_pull_brings_a_repository_without_folders(hub: Hub, clip: Path, name: str, kind: str) -> None:
    if kind == "bin":  # as it was published first
        torch.save(load_file(clip / "model.safetensors"), clip / "pytorch_model.bin")
        (clip / "model.safetensors").unlink()
    repository = "openai/clip-vit-base-patch32" if name == "clip-vit-b-32" else "org/clip"
    hub.add(repository, clip)
    pulled = pull(name, agree=lambda _: None, report=lambda _: None, patience=Patience(tries=2, unit=0.0))
    folder = locate(find(name))
    assert folder.path == pulled.folder
    assert (folder.layout, folder.tasks) == ("clip", ("embed", "rank"))
    assert not (pulled.folder / "README.md").exists()
    found = dallecli.open(name, device="cpu", dtype="fp32").rank("a cat", Image.new("RGB", (30, 30)))
    assert [score.text for score in found] == ["a cat"]


def test_who_does_nothing_but_judge_is_offered_first() -> None:
    assert judges()[:2] == ["clip-vit-b-32", "starter"]
    assert not {"dvae", "glide", "adm-64", "if-m"} & set(judges())


REFUSALS = {
    "generate": "cannot generate",
    "vary": "cannot vary",
    "embed --imagine": "has no prior, which --imagine needs",
    "embed --invert": "has no decoder, which --invert needs",
}


@pytest.mark.parametrize("asked", REFUSALS)
def test_what_clip_cannot_do_is_refused_by_name(clip: Path, asked: str) -> None:
    model, picture = dallecli.open(str(clip), device="cpu"), Image.new("RGB", (30, 30))
    act = {
        "generate": partial(model.generate, "a cat"),
        "vary": partial(model.vary, picture),
        "embed --imagine": partial(model.embed, "a cat", imagine=True),
        "embed --invert": partial(model.embed, picture, invert=True),
    }[asked]
    with pytest.raises(dallecli.DalleError, match=f"tiny {REFUSALS[asked]}"):
        act()
