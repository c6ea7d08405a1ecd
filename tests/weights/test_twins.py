"""Networks that are the same under two names: stored once, and there for whoever asks for either."""

import json
import shutil
from pathlib import Path

import oracle
import pytest

from dallecli.errors import BadFile, BadFolder
from dallecli.weights.convert import convert_folder
from dallecli.weights.folder import Folder
from dallecli.weights.recorded import recorded, wrong_files
from dallecli.weights.registry import find, locate
from dallecli.weights.twins import share

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def starter(tmp_path: Path) -> Path:
    return Path(shutil.copytree(locate(find("starter")).path, tmp_path / "starter"))


@pytest.fixture
def whole(starter: Path, tmp_path: Path) -> Path:
    """The starter with every file that Karlo's layout has."""
    convert_folder(starter, tmp_path / "whole")
    return tmp_path / "whole"


def test_the_starter_stores_each_network_once(starter: Path) -> None:
    folder = Folder(starter)
    assert folder.shared() == ("super_res_last", "super_res_2_last")
    for part in folder.shared():
        assert folder.weights_file(part) == folder.weights_file(folder.family.twins[part])
        assert not (starter / part / WEIGHTS).exists()


def test_a_whole_folder_is_the_same_model_and_has_every_file(starter: Path, whole: Path) -> None:
    folder = Folder(whole)
    assert folder.shared() == ()
    assert folder.digest() == Folder(starter).digest()
    for name in ("super_res", "super_res_2"):
        first, last = (whole / f"{name}_{which}" / WEIGHTS for which in ("first", "last"))
        assert first.read_bytes() == last.read_bytes() == (starter / f"{name}_first" / WEIGHTS).read_bytes()
    sums = recorded(whole)
    assert sums is not None and len(sums) == len(recorded(starter) or {}) + 2
    assert wrong_files(whole, sums) == []
    assert find(str(whole)).stages == find(str(starter)).stages


def test_sharing_takes_back_what_a_whole_folder_adds(starter: Path, whole: Path) -> None:
    assert share(whole) == ["super_res_last", "super_res_2_last"]
    files = {path.relative_to(starter) for path in starter.rglob("*") if path.is_file()}
    assert {path.relative_to(whole) for path in whole.rglob("*") if path.is_file()} == files
    assert all((whole / name).read_bytes() == (starter / name).read_bytes() for name in files)
    assert share(whole) == ["super_res_last", "super_res_2_last"]  # and a second time


def test_networks_that_differ_stay(whole: Path) -> None:
    file = whole / "super_res_last" / WEIGHTS
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    assert share(whole) == ["super_res_2_last"]
    assert file.exists()


def test_missing_weights_are_those_of_the_twin_only_where_the_folder_says_so(starter: Path) -> None:
    (starter / "dalle.json").unlink()
    with pytest.raises(BadFolder, match="the weights of super_res_last are missing"):
        Folder(starter).weights_file("super_res_last")


@pytest.mark.parametrize("stated", [["decoder"], ["super_res_first"], "super_res_last", {"super_res_last": 1}])
def test_only_twins_of_the_layout_are_shared(starter: Path, stated: object) -> None:
    (starter / "dalle.json").write_text(json.dumps({"shared": stated}))
    with pytest.raises(BadFile, match="shared is"):
        Folder(starter).weights_file("super_res_last")


def test_the_command_writes_a_folder_that_diffusers_opens(whole: Path) -> None:
    pipeline = oracle.open_pipeline(whole)
    for which in ("first", "last"):
        net = getattr(pipeline, f"super_res_{which}")
        assert sum(weight.numel() for weight in net.parameters()) == Folder(whole).parameters_of("super_res_first")
