"""Pictures of several requests painted at once: of every family whose pictures depend on how many these are."""

from collections.abc import Callable
from pathlib import Path

import dalle_mini_oracle
import mindalle_oracle
import pytest

from dallecli.studio.engine import LocalEngine
from dallecli.tasks.builder import build_request

TOKENS: dict[str, Callable[[Path], Path]] = {
    "mindalle": mindalle_oracle.make,
    "dalle-mini": dalle_mini_oracle.make,
}


@pytest.fixture(scope="module")
def folder_of(family_folder: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    def folder(family: str) -> str:
        if family in TOKENS:
            return str(TOKENS[family](tmp_path_factory.mktemp("tokens") / family))
        return family_folder(family)

    return folder


@pytest.mark.parametrize("family", ["kandinsky", "glide", "if", "adm", *TOKENS])
def test_a_recipe_says_how_many_pictures_were_painted_with_its_own(
    family: str, folder_of: Callable[[str], str]
) -> None:
    engine, placed = LocalEngine(batch=2), {"model": folder_of(family), "device": "cpu", "dtype": "fp32"}
    enlarging = {"upsampler_steps": 2} if family in ("glide", "if", "adm") else {}
    steps = {} if family in TOKENS else {"steps": 2, **enlarging}
    words = (
        [{"class": "3"}] * 3
        if family == "adm"
        else [{"prompt": prompt} for prompt in ("a corgi", "a bicycle", "a corgi")]
    )
    requests = [build_request("generate", {"seed": seed, **steps, **said}, placed) for seed, said in enumerate(words)]
    pictures = list(engine.paint_together([engine.resolve(request) for request in requests], lambda step: None))
    # Three, two at a time: the last is painted with a copy of itself, or alone.
    assert [picture.recipe.together for picture in pictures] == [2, 2, 2]
    assert [picture.recipe.seed for picture in pictures] == [0, 1, 2]
    assert all(picture.seconds > 0 for picture in pictures)
