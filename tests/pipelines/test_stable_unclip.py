"""What the Stable unCLIP pipeline promises beside parity: parts that do not belong together are found at opening."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import stable_oracle as oracle
import torch

from dallecli.errors import BadFile, BadFolder
from dallecli.pipelines.parts import Parts
from dallecli.pipelines.stable_unclip import open_stable_unclip
from dallecli.pipelines.unclip_parts import UnClipParts
from dallecli.size import Size
from dallecli.weights.folder import Folder


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("models")
    return {"pictures": oracle.write(place / "pictures"), "words": oracle.write(place / "words", words=True)}


def changed(original: Path, place: Path, part: str, **fields: Any) -> Path:
    """A copy without weights, which opening does not read, with other fields in the config of a part."""
    folder = shutil.copytree(original, place / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    name = {"feature_extractor": "preprocessor_config.json"}.get(
        part, "scheduler_config.json" if part.endswith("scheduler") else "config.json"
    )
    config = json.loads((folder / part / name).read_text())
    (folder / part / name).write_text(json.dumps(config | fields))
    return folder


def opened(folder: Path) -> UnClipParts[Any]:
    return open_stable_unclip(Parts(Folder(folder), torch.device("cpu"), torch.float32), "tiny").parts


@pytest.mark.parametrize(
    ("kind", "part", "fields", "message"),
    [
        ("pictures", "text_encoder", {"hidden_size": 24}, "width of text states is 24"),
        ("pictures", "text_encoder", {"vocab_size": 10}, "larger than the text_encoder's"),
        ("pictures", "text_encoder", {"max_position_embeddings": 5}, "larger than the text_encoder's"),
        ("pictures", "image_encoder", {"projection_dim": 20}, "width of embeddings is 20"),
        ("pictures", "image_encoder", {"image_size": 42}, "reads 42 x 42 pixels, the feature_extractor makes"),
        ("pictures", "image_normalizer", {"embedding_dim": 23}, "width of embeddings is 23"),
        ("pictures", "unet", {"projection_class_embeddings_input_dim": 50}, "width of embeddings is 24"),
        ("pictures", "unet", {"in_channels": 9}, "number of channels is 9"),
        ("pictures", "unet", {"out_channels": 8}, "number of channels is 8"),
        ("pictures", "vae", {"latent_channels": 16}, "number of channels is 4"),
        ("words", "prior", {"embedding_dim": 20}, "width of embeddings is 20"),
        ("words", "prior", {"num_embeddings": 9}, "number of tokens is 11"),
        ("words", "prior_text_encoder", {"projection_dim": 20}, "width of embeddings is 20"),
        ("words", "prior_text_encoder", {"vocab_size": 10}, "larger than the prior_text_encoder's"),
    ],
)
def test_parts_of_different_models_are_refused(originals, tmp_path, kind, part, fields, message):
    with pytest.raises(BadFolder, match=message) as raised:
        opened(changed(originals[kind], tmp_path, part, **fields))
    assert raised.value.exit_code == 3


@pytest.mark.parametrize(
    ("part", "fields", "message"),
    [
        ("unet", {"class_embed_type": "timestep"}, "class_embed_type"),
        ("unet", {"cross_attention_dim": "wide"}, "cross_attention_dim"),
        ("vae", {"latents_std": [1.0]}, "latents_std"),
        ("vae", {"scaling_factor": 0.0}, "scaling_factor"),
        ("scheduler", {"_class_name": "EulerDiscreteScheduler"}, "_class_name"),
        ("scheduler", {"skip_prk_steps": False}, "Runge-Kutta"),
        ("scheduler", {"timestep_spacing": "trailing"}, "timestep_spacing"),
        ("image_noising_scheduler", {"beta_schedule": "sigmoid"}, "beta_schedule"),
        ("image_noising_scheduler", {"trained_betas": [0.1]}, "trained_betas"),
        ("scheduler", {"variance_type": "learned_range"}, "variance_type"),
        ("feature_extractor", {"image_std": [0, 1, 1]}, "image_std"),
    ],
)
def test_parts_of_an_unknown_kind_are_refused_by_name(originals, tmp_path, part, fields, message):
    with pytest.raises(BadFile, match=message) as raised:
        opened(changed(originals["pictures"], tmp_path, part, **fields))
    assert raised.value.exit_code == 3
    assert part in str(raised.value.where)


@pytest.mark.parametrize(
    "part", ["unet", "vae", "scheduler", "image_normalizer", "image_noising_scheduler", "tokenizer"]
)
def test_a_missing_part_is_named_as_it_is_on_the_disk(originals, tmp_path, part):
    folder = shutil.copytree(originals["pictures"], tmp_path / "model")
    shutil.rmtree(folder / part)
    with pytest.raises(BadFolder, match=part):
        opened(folder)


def test_the_sides_that_can_be_painted_come_from_the_networks(originals):
    folder = Folder(originals["pictures"])
    assert (folder.sizes(), folder.grid(), folder.width()) == ((64,), 32, oracle.SHAPE.width)
    assert folder.noise_shape(Size(50, 30)) == (4, 4, 8)
    # The autoencoder works on pixels, the decoder on a cell for each 8 by 8 of them.
    assert folder.working_numbers("vae") == 8 * oracle.VAE["block_out_channels"][0] * 64**2
    assert folder.working_numbers("decoder") == 60 * oracle.UNET["block_out_channels"][0] * 8**2


def test_text_written_by_new_versions_of_transformers_is_read_as_well(originals, tmp_path):
    folder = shutil.copytree(originals["pictures"], tmp_path / "model")
    place = folder / "text_encoder"
    states = opened(originals["pictures"]).embedder.read(["a cat"]).hidden
    (place / "model.safetensors").unlink()
    vocabulary = json.loads((folder / "tokenizer" / "vocab.json").read_text())
    oracle.text_states(len(vocabulary)).save_pretrained(place)
    assert torch.equal(opened(folder).embedder.read(["a cat"]).hidden, states)
