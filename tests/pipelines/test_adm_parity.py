"""guided-diffusion's networks and chain against diffusers' `UNet2DModel` and the reference in `adm_oracle`.

The bound is the design's, 1e-4 of a step's largest number; see `test_parity`. Both sides compute their schedules in
float64, so nothing but the rounding of the networks is left. The seeds meet no pixel of the small picture that rounding
puts on the other side of one of its 256 levels: the upsampler would see it.
"""

from pathlib import Path

import adm_oracle as oracle
import numpy as np
import pytest
import torch
from diffusers import UNet2DModel
from oracle import difference
from PIL import Image
from torch import Tensor

from dallecli.nets.conditions import Time
from dallecli.nets.guided_unet import GuidedUNet, GuidedUNetConfig
from dallecli.nets.noised_classifier import NoisedClassifier, NoisedClassifierConfig
from dallecli.pictures.picture import Picture
from dallecli.pipelines.adm import open_adm
from dallecli.pipelines.parts import Parts
from dallecli.studio.engine import LocalEngine
from dallecli.tasks.generate import Generate
from dallecli.tasks.stages import Dials
from dallecli.weights.folder import Folder
from dallecli.weights.known import read_classes

from .test_glide_parity import assert_same, recorded
from .test_parity import LEVEL

STEPS = 5
SEED = 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return oracle.write(tmp_path_factory.mktemp("models") / "adm")


@pytest.fixture(scope="module")
def unconditional(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("models") / "adm-uncond"
    return oracle.write(place, base="unconditional", parts=("classifier",))


def unet(shape: oracle.Shape, seed: int = 1) -> tuple[GuidedUNet, oracle.Net]:
    t = oracle.table(shape, seed)
    config, tensors = oracle.converted(shape, t)
    net = GuidedUNet(GuidedUNetConfig.from_config(config))
    net.load_state_dict(tensors)
    return net.requires_grad_(False), oracle.Net(t, shape)


SHAPES = {
    "new order": oracle.BASE,
    "legacy order, four heads": oracle.UPSAMPLE,
    "no classes": oracle.UNCONDITIONAL,
    "half a first level": oracle.HALVED,
}


@pytest.mark.parametrize("name", SHAPES)
@torch.no_grad()
def test_a_network_predicts_what_the_formulas_say(name: str) -> None:
    shape = SHAPES[name]
    net, truth = unet(shape)
    x = torch.randn(2, shape.channels, shape.side, shape.side, generator=torch.Generator().manual_seed(3))
    classes = None if shape.classes is None else torch.tensor([1, 3])
    times = net.times([900, 17], classes)
    for place, t in enumerate((900, 17)):
        assert difference(net.denoise(x, Time(times, place)), truth(x, t, classes)) < 1e-5


@pytest.mark.parametrize("name", ["new order", "no classes", "legacy order"])
@torch.no_grad()
def test_a_network_predicts_what_diffusers_does(name: str) -> None:
    legacy = oracle.Shape(side=16, widths=(16, 32), layers=2, attends=(False, True), channels=6)
    shape = SHAPES.get(name, legacy)
    net, _ = unet(shape)
    config, tensors = oracle.converted(shape, oracle.table(shape, 1))
    config["attn_norm_num_groups"] = shape.groups
    foreign = ("sinusoid_dim", "time_embedding_dim", "num_attention_heads")
    theirs = UNet2DModel(**{name: value for name, value in config.items() if name not in foreign})
    theirs.load_state_dict(tensors)
    x = torch.randn(2, shape.channels, 16, 16, generator=torch.Generator().manual_seed(3))
    classes = None if shape.classes is None else torch.tensor([1, 3])
    for t in (900, 17):
        ours = net.denoise(x, Time(net.times([t], classes), 0))
        assert difference(ours, theirs(x, t, class_labels=classes).sample) < 1e-5


def test_the_classifier_and_its_gradient_are_those_of_the_formulas() -> None:
    t = oracle.classifier_table(oracle.CLASSIFIER, 3)
    config, tensors = oracle.converted(oracle.CLASSIFIER, t)
    net = NoisedClassifier(NoisedClassifierConfig.from_config(config))
    net.load_state_dict(tensors)
    net.requires_grad_(False)
    truth = oracle.Net(t, oracle.CLASSIFIER)
    x = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    classes, time = torch.tensor([1, 1, 4]), Time(net.times([500]), 0)
    assert difference(net.logits(x, time), truth.logits(x, 500)) < 1e-5
    with torch.no_grad():
        ours = net.gradient(x, time, classes)
    assert difference(ours, truth.gradient(x, 500, classes)) < 1e-4  # a gradient sums more terms than a prediction
    nudge = 1e-3 * ours / ours.norm()
    rise = [torch.log_softmax(net.logits(x + sign * nudge, time).double(), dim=1) for sign in (1, -1)]
    chosen = torch.arange(3), classes
    slope = (rise[0][chosen].sum() - rise[1][chosen].sum()) / 2e-3
    assert abs(slope / ours.norm() - 1) < 0.02  # a difference of float32 logits


def painted(folder: Path, request: Generate, batch: int = 1) -> tuple[list[Tensor], list[Picture]]:
    recipe = LocalEngine().resolve(request)
    model = open_adm(Parts(Folder(folder), torch.device("cpu"), torch.float32), read_classes(folder))
    with recorded() as seen:
        pictures = list(model.paint(recipe, lambda progress: None, batch))
    return seen, pictures


def assert_picture(image: Image.Image, truth: Tensor) -> None:
    ours = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    assert (ours - truth[0].float() / 255).abs().max() <= LEVEL


def test_the_reference_paints_pictures_that_are_neither_flat_nor_clipped() -> None:
    low, high, _, _ = oracle.paint(3, seed=7, steps=STEPS, guidance=2.0)
    for stage in (low, high):
        assert 0.1 < stage[-1].std() < 0.9
        assert (stage[-1].abs() >= 1).float().mean() < 0.5


@pytest.mark.parametrize("sampler", ["ancestral", "ddim"])
@pytest.mark.parametrize("guidance", [0.0, 2.0])
def test_pictures_of_classes_equal_the_references(folder: Path, sampler: str, guidance: float) -> None:
    decoder = Dials(sampler=sampler, steps=STEPS, guidance=guidance)
    request = Generate(
        model=str(folder), class_name="golden retriever", seed=SEED, decoder=decoder, upsampler=Dials(steps=STEPS)
    )
    seen, [picture] = painted(folder, request)
    low, high, _, pixels = oracle.paint(3, seed=SEED, steps=STEPS, guidance=guidance, ddim=sampler == "ddim")
    assert_same(seen, [*low, *high])
    assert_picture(picture.image, pixels)


def test_a_classifier_leads_to_another_picture(folder: Path) -> None:
    pictures = []
    for guidance in (0.0, 2.0):
        dials = Dials(steps=STEPS, guidance=guidance)
        _, [picture] = painted(folder, Generate(model=str(folder), class_name="3", seed=2, size=16, decoder=dials))
        pictures.append(np.array(picture.image).astype(int))
    assert abs(pictures[0] - pictures[1]).max() > 8


def test_a_picture_does_not_depend_on_its_neighbours(folder: Path) -> None:
    dials = Dials(steps=STEPS, guidance=2.0)
    request = Generate(model=str(folder), class_name="3", seed=4, count=3, decoder=dials, upsampler=Dials(steps=STEPS))
    _, together = painted(folder, request, batch=3)
    _, _, _, pixels = oracle.paint(3, seed=SEED, steps=STEPS, guidance=2.0)
    assert_picture(together[1].image, pixels)


@pytest.mark.parametrize("number", [None, 2])
@pytest.mark.parametrize("sampler", ["ancestral", "ddim"])
def test_pictures_without_a_word_equal_the_references(unconditional: Path, sampler: str, number: int | None) -> None:
    dials = Dials(sampler=sampler, steps=STEPS, guidance=3.0)
    named = None if number is None else str(number)
    seen, [picture] = painted(
        unconditional, Generate(model=str(unconditional), class_name=named, seed=6, decoder=dials)
    )
    truth, _, small, _ = oracle.paint(
        number, seed=6, steps=STEPS, guidance=3.0, ddim=sampler == "ddim", base="unconditional"
    )
    assert_same(seen, truth)
    assert_picture(picture.image, small)
