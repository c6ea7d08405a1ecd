"""The stages of a model: together they make all of it, and their seeds are a promise."""

from pathlib import Path

import pytest
import torch

from dallecli.errors import NonFinite
from dallecli.training.machine import Machine
from dallecli.training.model_folder import INDEX
from dallecli.training.preset_file import load_own, load_preset, read_preset
from dallecli.training.stages.stage import write_stage
from dallecli.training.stages.unclip import stages_of
from dallecli.training.world.starter import Workshop


def test_every_part_of_a_model_is_made_by_one_stage() -> None:
    preset = read_preset(load_own("small"), "small")
    parts = [part for stage in stages_of(preset, lambda: 512).values() for part in stage.configs]
    assert len(parts) == len(set(parts))
    second = {"super_res_2_first", "super_res_2_last", "super_res_2_scheduler"}
    named = {name for name in INDEX if not name.startswith("_")}
    more = {"image_encoder", "feature_extractor", "autoregressive_prior"}
    assert set(parts) == (named - {"tokenizer"}) | second | more


def test_a_stage_has_the_same_seed_wherever_it_is_trained(tmp_path: Path) -> None:
    seeds = {"clip": 1, "prior": 2, "autoregressive_prior": 12, "decoder": 3, "upsampler": 4, "upsampler_2": 5}
    stages = stages_of(read_preset(load_own("small"), "small"), lambda: 512)
    assert {name: stage.seed for name, stage in stages.items()} == seeds
    starter = Workshop(load_preset("cpu"), tmp_path, Machine(torch.device("cpu")))
    assert {name: stage.seed for name, stage in starter.chain.stages.items()} == {**seeds, "judge": 6}


def test_every_network_of_a_stage_has_its_config_in_the_same_stage() -> None:
    for stage in stages_of(read_preset(load_own("tiny"), "tiny"), lambda: 512).values():
        networks = stage.networks(stage.fresh())
        rest = set(stage.configs) - set(networks)
        assert set(networks) <= set(stage.configs)
        assert all(part.endswith("_scheduler") or part == "feature_extractor" for part in rest)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 65520.0, -1e6])
def test_weights_that_float16_cannot_hold_are_not_written(tmp_path: Path, number: float) -> None:
    stage = stages_of(read_preset(load_own("tiny"), "tiny"), lambda: 512)["decoder"]
    module = stage.fresh()
    write_stage(stage, module, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with torch.no_grad():
        next(iter(module.parameters())).view(-1)[0] = number
    with pytest.raises(NonFinite, match="holds numbers that float16 cannot"):
        write_stage(stage, module, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
