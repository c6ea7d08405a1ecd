"""DeepFloyd IF reads the prompts of a whole run while T5 is in memory, which under `--memory low` is once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import if_oracle
import pytest
from PIL import Image

import dallecli.pipelines.parts as parts_module
from dallecli.pipelines.description import Description
from dallecli.placement import Placement
from dallecli.studio.engine import LocalEngine
from dallecli.studio.memory import plan_model
from dallecli.studio.models import Models

from .conftest import Dalle

pytestmark = pytest.mark.usefixtures("local")

FAST = ("--steps", "2", "--upsampler-steps", "2", "--device", "cpu", "--dtype", "fp32", "-q")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(if_oracle.write(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The parts whose networks were read, in order."""
    parts: list[str] = []
    load = parts_module.open_net

    def noted(build: Any, file: Path, *others: Any) -> Any:
        parts.append(file.parent.name)
        return load(build, file, *others)

    monkeypatch.setattr(parts_module, "open_net", noted)
    yield parts


def pixels(path: Path) -> bytes:
    with Image.open(path) as image:
        return image.tobytes()


@pytest.mark.long
def test_a_prompt_file_reads_t5_once_and_paints_the_same_as_prompt_by_prompt(dalle: Dalle, model: str, loaded):
    prompts = ["a corgi", "a bicycle", "a photo of times square", "an umbrella"]
    Path("p.jsonl").write_text("".join(f'{{"prompt": "{prompt}", "seed": 5}}\n' for prompt in prompts))
    together = dalle("generate", "--prompts", "p.jsonl", "-m", model, *FAST, "--memory", "low", "--out", "low")
    assert together.code == 0, together.err
    assert loaded.count("text_encoder") == 1 and len(loaded) == 1 + 2 * len(prompts)
    for prompt in prompts:
        assert dalle("generate", prompt, "-s", "5", "-m", model, *FAST, "-o", f"{prompt}.png").code == 0
    one = [pixels(Path(f"{prompt}.png")) for prompt in prompts]
    assert [pixels(path) for path in sorted(Path("low").glob("*.png"))] == one and len(set(one)) == len(prompts)


@pytest.mark.long
def test_several_prompts_on_a_command_line_and_values_of_an_axis_read_t5_once_too(dalle: Dalle, model: str, loaded):
    many = dalle("generate", "a corgi", "a bicycle", "-m", model, *FAST, "--memory", "low")
    assert (many.code, loaded.count("text_encoder")) == (0, 1)
    loaded.clear()
    sheet = dalle("generate", "a corgi", "--x", "guidance=2,4", "-m", model, *FAST, "--memory", "low")
    assert (sheet.code, loaded.count("text_encoder")) == (0, 1), sheet.err
    loaded.clear()
    replayed = dalle("replay", *many.lines, "-m", model, "-q", "--memory", "low", "--out", "again")
    assert (replayed.code, loaded.count("text_encoder")) == (0, 1), replayed.err


def test_several_pictures_of_a_prompt_read_it_once(dalle: Dalle, model: str, loaded):
    assert dalle("generate", "a corgi", "-n", "3", "-m", model, *FAST, "--memory", "low").code == 0
    assert loaded.count("text_encoder") == 1


def test_only_the_network_at_work_is_in_memory(model: str):
    engine = LocalEngine(memory="low")
    described: Description = Models().find(model)
    plan = engine.plan_memory(model, Placement(name="cpu", kind="fp32", why=""))
    assert plan.kept == frozenset()
    largest = max(4 * described.parameters[part] + plan.needs[part].working for part in described.parameters)
    assert plan.peak == plan.least == largest


def test_in_float16_the_plan_counts_what_stays_in_float32(model: str):
    described = Models().find(model)
    half, whole = (plan_model(described, Placement(name="cpu", kind=kind, why=""), "low") for kind in ("fp16", "bf16"))
    single = described.folder.single_numbers("text_encoder")
    assert 0 < single < described.parameters["text_encoder"]
    assert half.needs["text_encoder"].weights == whole.needs["text_encoder"].weights + 2 * single
    assert half.needs["decoder"] == whole.needs["decoder"]
