"""Random tiny models, written once a run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import oracle
import pytest
import torch
from diffusers import UnCLIPPipeline
from families import WRITERS

from dallecli.pipelines.karlo import open_karlo
from dallecli.pipelines.parts import Parts
from dallecli.pipelines.unclip_parts import UnClipParts
from dallecli.weights.folder import Folder


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of one of `oracle.SHAPES`; not to be written to."""
    written: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in written:
            written[name] = oracle.write(tmp_path_factory.mktemp("models") / name, oracle.SHAPES[name])
        return written[name]

    return folder


@pytest.fixture(scope="session")
def family_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The folder of a model of one of `families.WRITERS`; not to be written to."""
    written: dict[str, str] = {}

    def folder(family: str) -> str:
        if family not in written:
            written[family] = str(WRITERS[family](tmp_path_factory.mktemp("families") / family))
        return written[family]

    return folder


@pytest.fixture(scope="session")
def variations_folder(
    model_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """The image-variation folder of one of `oracle.SHAPES`: no prior; not to be written to."""
    written: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in written:
            place = tmp_path_factory.mktemp("variations") / name
            written[name] = oracle.write_variations(place, model_folder(name))
        return written[name]

    return folder


@pytest.fixture(scope="session")
def oracle_of(model_folder: Callable[[str], Path]) -> Callable[..., UnCLIPPipeline]:
    """diffusers' pipeline on the folder of a shape; to be left as it was."""
    opened: dict[tuple[str, torch.dtype], UnCLIPPipeline] = {}

    def pipeline(name: str, dtype: torch.dtype = torch.float32) -> UnCLIPPipeline:
        if (name, dtype) not in opened:
            opened[name, dtype] = oracle.open_pipeline(model_folder(name), dtype)
        return opened[name, dtype]

    return pipeline


@pytest.fixture(scope="session")
def opened() -> Callable[..., UnClipParts[Any]]:
    """Open a folder on the CPU."""

    def open_folder(folder: Path, dtype: torch.dtype = torch.float32) -> UnClipParts[Any]:
        return open_karlo(Parts(Folder(folder), torch.device("cpu"), dtype), space="tiny").parts

    return open_folder
