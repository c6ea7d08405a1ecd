"""Models by name and by folder, without torch."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dallecli.diffusion import samplers
from dallecli.errors import BadFile, BadFolder, NotDownloaded, TaskNotSupported, UnknownModel
from dallecli.tasks.stages import DiffusionSettings
from dallecli.weights import registry as module
from dallecli.weights.registry import find, locate, read_registry, registry
from weights.model_folder import write_json, write_model

ENTRY = """
[m]
description = "d"
layout = "karlo"
source = "hub:org/name"
licence = "MIT"
tasks = ["generate"]
sizes = [64, 256]
prior_candidates = 2
[m.stages]
prior = { sampler = "ancestral", steps = 25, guidance = 4 }
decoder = { sampler = "ddim", steps = 25, guidance = 8.0 }
upsampler = { sampler = "ancestral", steps = 7, guidance = 1.0 }
"""


def test_the_shipped_registry_is_in_order() -> None:
    models = registry()
    adm = [f"adm-{size}" for size in ("64", "128", "256", "256-uncond", "512")]
    published = ["karlo", "kandinsky", "sd-unclip", "sd-unclip-small", "glide", *adm, "if-m", "if-l", "if-xl"]
    published += ["starter-1", "dalle-mini", "dalle-mega", "mindalle", "dvae", "vqgan-f16"]
    assert list(models) == ["starter", *published, "clip-vit-b-32"]
    for name, spec in models.items():
        assert spec.name == name
        if spec.tasks:
            assert list(spec.stages) == [stage.name for stage in spec.declared]
            painting = [stage for stage in spec.declared if not stage.imagines]
            assert len(spec.sizes) == (len(painting) if painting else 1)
            assert any(stage.imagines for stage in spec.declared) == (spec.prior_candidates is not None)
        if spec.source.startswith("hub:"):
            assert spec.parts[0].repository == spec.source.removeprefix("hub:")
    assert all(spec.tasks for spec in models.values())


def test_commits_are_stated_where_they_are_known() -> None:
    assert [part.commit for part in registry()["kandinsky"].parts] == [
        "9fc51ad5732afc5d031724219d22e6c42179c5a8",
        "9ae140d347fed8ce6e8bb3005dcc1f48543bb8e3",
        "db790ad5cbcabed886f069ef2710774657621702",
    ]
    assert {part.commit for name in ("karlo", "sd-unclip") for part in registry()[name].parts} == {None}


def test_what_is_only_planned_is_not_offered_for_painting() -> None:
    with pytest.raises(TaskNotSupported, match="cannot run it yet"):
        locate(replace(find("sd-unclip"), tasks=()))


@pytest.mark.parametrize(("name", "size"), [("sd-unclip", "stable"), ("sd-unclip-small", "stable_small")])
def test_the_size_of_stable_unclip_is_that_of_its_published_networks(name: str, size: str) -> None:
    published = Path(__file__).parents[1] / "nets" / "published_keys"
    tower = "stable_image_encoder" if size == "stable" else "image_encoder"  # the smaller one has Karlo's
    parts = (f"{size}_unet", f"{size}_image_normalizer", tower, "stable_text_encoder", "stable_vae")
    total = sum(json.loads((published / f"{part}.json").read_text())["num_parameters"] for part in parts)
    assert registry()[name].parameters == total


@pytest.mark.parametrize("size", ["mini", "mega"])
def test_the_size_of_dalle_mini_is_that_of_its_published_networks(size: str) -> None:
    published = Path(__file__).parents[1] / "nets" / "published_keys"
    parts = (f"dalle_{size}_encoder", f"dalle_{size}_decoder", "vqgan_detoker")
    total = sum(json.loads((published / f"{part}.json").read_text())["num_parameters"] for part in parts)
    spec = registry()[f"dalle-{size}"]
    assert spec.parameters == total
    # Two bytes a number, four of the VQGAN's, and what torch's container takes.
    stated = sum(file.bytes for file in spec.files if file.bytes is not None)
    assert 0 < stated - 2 * total - 2 * 46_709_891 < 400_000


@pytest.mark.parametrize("size", ["64", "128", "256", "256-uncond", "512"])
def test_the_size_of_an_adm_is_that_of_its_published_networks(size: str) -> None:
    spec = registry()[f"adm-{size}"]
    published = Path(__file__).parents[1] / "nets" / "published_keys"
    sizes = json.loads((published / "adm.json").read_text())
    assert spec.parameters == sum(sizes[file.name]["num_parameters"] for file in spec.files)


def test_the_smaller_stable_unclip_paints_in_karlos_space() -> None:
    models = registry()
    assert models["sd-unclip-small"].clip == models["karlo"].clip
    assert models["sd-unclip"].clip != models["karlo"].clip


def test_karlo_has_its_published_dials() -> None:
    karlo = registry()["karlo"]
    assert karlo.stages["prior"] == DiffusionSettings(sampler="ancestral", steps=25, guidance=4.0)
    assert karlo.stages["decoder"] == DiffusionSettings(sampler="ancestral", steps=25, guidance=8.0)
    assert karlo.stages["upsampler"] == DiffusionSettings(sampler="ancestral", steps=7, guidance=1.0)
    assert karlo.licence == "creativeml-openrail-m"
    assert karlo.commit is None


def test_the_size_of_karlo_is_that_of_its_published_networks() -> None:
    published = Path(__file__).parents[1] / "nets" / "published_keys"
    counts = dict.fromkeys(("text_encoder", "image_encoder", "prior", "text_proj", "decoder"), 1) | {
        "super_res_first": 2
    }
    total = sum(
        json.loads((published / f"{part}.json").read_text())["num_parameters"] * n for part, n in counts.items()
    )
    assert registry()["karlo"].parameters == total
    assert registry()["karlo"].memory() == 4 * total
    assert registry()["karlo"].memory(2) == 2 * total


def test_glide_is_four_files_and_a_vocabulary_and_has_no_prior() -> None:
    glide = registry()["glide"]
    published = Path(__file__).parents[1] / "nets" / "published_keys"
    names = ("base", "upsample", "base_inpaint", "upsample_inpaint")
    counts = [json.loads((published / f"glide_{name}.json").read_text())["num_parameters"] for name in names]
    assert glide.parameters == sum(counts)
    assert [file.name for file in glide.files] == [*(f"{name}.pt" for name in names), "encoder.json", "vocab.bpe"]
    assert [file.tasks for file in glide.files] == [None, None, ("inpaint",), ("inpaint",), None, None]
    assert glide.prior_candidates is None
    assert glide.stages == {
        "decoder": DiffusionSettings(sampler="ancestral", steps=100, guidance=3.0),
        "upsampler": DiffusionSettings(sampler="ddim", steps=27, guidance=1.0),
    }


def test_the_names_of_the_samplers_are_those_of_the_table() -> None:
    assert tuple(samplers.SAMPLERS) == module.SAMPLERS


def test_changing_the_registry_that_was_given_changes_no_other() -> None:
    registry().clear()
    assert "starter" in registry()


def test_the_registry_needs_no_torch() -> None:
    code = (
        "import sys; from dallecli.weights.registry import find; find('starter');"
        "print([name for name in ('torch', 'numpy', 'huggingface_hub', 'safetensors') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize(("typed", "meant"), [("kalro", "karlo"), ("Starter", "starter"), ("starter-v1", "starter-1")])
def test_a_misspelt_name_is_answered_with_the_one_that_was_meant(typed: str, meant: str) -> None:
    with pytest.raises(UnknownModel) as raised:
        find(typed)
    assert raised.value.hint == f"did you mean {meant}?"
    assert typed in raised.value.what


@pytest.mark.parametrize("name", ["dall-e-9000", "", "nul\0", "x" * 5000])
def test_an_unknown_name_is_answered_with_all_that_there_are(name: str) -> None:
    with pytest.raises(UnknownModel) as raised:
        find(name)
    assert "starter, karlo" in str(raised.value.hint)
    assert len(raised.value.lines()) <= 3


@pytest.mark.parametrize("path", ["./gone", "/gone/model", "~nobody-here/model", "models/gone", "x" * 5000 + "/y"])
def test_a_folder_that_is_not_there_is_not_taken_for_a_name(path: str) -> None:
    with pytest.raises(UnknownModel, match="no such model folder"):
        find(path)


WAYS = """strength = 0.5
[m.inpaint]
decoder = { sampler = "ddim", steps = 9, guidance = 2.0 }
[m.stages]"""


def test_ways_to_paint_may_have_dials_of_their_own() -> None:
    spec = read_registry(ENTRY.replace("[m.stages]", WAYS), "here")["m"]
    assert spec.habits.strength == 0.5
    assert spec.dials("inpaint")["decoder"] == DiffusionSettings(sampler="ddim", steps=9, guidance=2.0)
    assert spec.dials("inpaint")["prior"] == spec.stages["prior"]
    assert spec.dials("init") == spec.dials("generate") == spec.stages


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("strength = 0.5", "strength = 0", "m.strength is 0"),
        ("strength = 0.5", "strength = 1.5", "m.strength is 1.5"),
        ("[m.inpaint]\ndecoder", "[m.inpaint]\nmovq", "m.inpaint.movq"),
        ("[m.inpaint]", "[m.vary]", "m.vary"),
        ("steps = 9", 'steps = "smart28"', "m.inpaint.decoder.steps is 'smart28'"),
    ],
)
def test_dials_of_ways_are_read_strictly(before: str, after: str, words: str) -> None:
    with pytest.raises(BadFile, match=words):
        read_registry(ENTRY.replace("[m.stages]", WAYS.replace(before, after)), "here")


def test_a_folder_gets_the_dials_of_its_layout_and_its_own_sizes(tmp_path: Path) -> None:
    spec = find(str(write_model(tmp_path / "mine")))
    assert spec.name == "mine"
    assert spec.sizes == (16, 64)
    assert spec.stages == registry()["karlo"].stages
    assert locate(spec).path == tmp_path / "mine"
    assert spec.licence is None


def test_a_second_upsampler_gets_the_dials_of_the_first(tmp_path: Path) -> None:
    spec = find(str(write_model(tmp_path / "mine", second=True)))
    assert spec.sizes == (16, 64, 256)
    assert spec.stages["upsampler_2"] == spec.stages["upsampler"]


def test_a_relative_folder_keeps_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write_model(tmp_path / "mine"))
    assert find(".").name == "mine"
    monkeypatch.chdir(tmp_path)
    assert find("mine").name == "mine"


def test_a_name_wins_over_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(tmp_path / "starter")
    monkeypatch.chdir(tmp_path)
    assert find("starter").source == "package:starter"
    assert find("./starter").source == f"folder:{tmp_path / 'starter'}"


def test_a_folder_may_state_its_own_dials(tmp_path: Path) -> None:
    model = write_model(tmp_path / "mine")
    write_json(model / "dalle.json", {"prior_candidates": 1, "stages": {"decoder": {"steps": 40, "guidance": 0}}})
    spec = find(str(model))
    assert spec.prior_candidates == 1
    assert spec.stages["decoder"] == DiffusionSettings(sampler="ancestral", steps=40, guidance=0.0)
    assert spec.stages["prior"] == registry()["karlo"].stages["prior"]


def test_a_folder_may_state_dials_for_a_way_to_paint(tmp_path: Path) -> None:
    model = write_model(tmp_path / "mine")
    stages = {"decoder": {"steps": 10, "sampler": "dpm++"}}
    write_json(model / "dalle.json", {"stages": stages, "inpaint": {"decoder": {"sampler": "ancestral"}}})
    spec = find(str(model))
    guidance = registry()["karlo"].stages["decoder"].guidance
    assert spec.dials("init")["decoder"] == DiffusionSettings(sampler="dpm++", steps=10, guidance=guidance)
    assert spec.dials("inpaint")["decoder"] == DiffusionSettings(sampler="ancestral", steps=10, guidance=guidance)
    assert spec.dials("inpaint")["prior"] == spec.stages["prior"]


@pytest.mark.parametrize(
    ("dials", "message"),
    [
        ({"inpaint": {"decoder": {"steps": 1}}}, r"inpaint\.decoder\.steps is 1, not a whole number from 2 on"),
        ({"inpaint": {"movq": {}}}, r"not a setting of a model: inpaint\.movq"),
        ({"vary": {"decoder": {}}}, "not a setting of a model: vary"),
        ({"seed": 3}, "not a setting of a model: seed"),
        ({"prior_candidates": 0}, "prior_candidates is 0, not a whole number from 1 on"),
        ({"stages": []}, r"stages is \[\], not a table"),
        ({"stages": {"upsampler_2": {}}}, r"not a setting of a model: stages\.upsampler_2"),
        ({"stages": {"decoder": {"steps": 1}}}, r"stages\.decoder\.steps is 1, not a whole number from 2 on"),
        ({"stages": {"decoder": {"steps": 2.5}}}, r"stages\.decoder\.steps is 2\.5"),
        ({"stages": {"decoder": {"steps": True}}}, r"stages\.decoder\.steps is True"),
        ({"stages": {"decoder": {"sampler": "euler"}}}, r"stages\.decoder\.sampler is 'euler', not one of ancestral"),
        ({"stages": {"decoder": {"sampler": []}}}, r"stages\.decoder\.sampler is \[\], not one of ancestral"),
        ({"stages": {"decoder": {"guidance": -1}}}, r"stages\.decoder\.guidance is -1"),
        ({"stages": {"decoder": {"guidance": "8"}}}, r"stages\.decoder\.guidance is '8'"),
        ({"stages": {"decoder": {"step": 9}}}, r"not a setting of a model: stages\.decoder\.step"),
    ],
)
def test_wrong_dials_are_refused_by_their_name(tmp_path: Path, dials: Any, message: str) -> None:
    model = write_model(tmp_path / "mine")
    write_json(model / "dalle.json", dials)
    with pytest.raises(BadFile, match=message) as raised:
        find(str(model))
    assert raised.value.where == str(model / "dalle.json")


def test_a_good_entry_is_read() -> None:
    spec = read_registry(ENTRY, "here")["m"]
    assert spec.stages["decoder"] == DiffusionSettings(sampler="ddim", steps=25, guidance=8.0)
    assert spec.memory() is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[m]", "[m", "not valid TOML"),
        ('layout = "karlo"', "", r"m\.layout is missing"),
        ('layout = "karlo"', 'layout = "rainbow"', r"m\.layout is 'rainbow'"),
        ('"hub:org/name"', '"https://evil.example/x"', r"m\.source is"),
        ('"hub:org/name"', '"hub:../../etc"', r"m\.source is"),
        ('"hub:org/name"', '"folder:/etc"', r"m\.source is"),
        ('["generate"]', '["fly"]', r"m\.tasks is"),
        ("[64, 256]", "[256, 64]", r"m\.sizes is"),
        ("[64, 256]", "[]", r"m\.sizes is"),
        ("[64, 256]", "[64, 128, 256]", r"m\.stages\.upsampler_2 is missing"),
        ('"d"', '""', r"m\.description is"),
        ("prior_candidates = 2", "prior_candidates = 2\ncolour = 3", r"not a setting of a model: m\.colour"),
        ('"hub:org/name"', '"hub:org/name"\nparts = 3', r"m\.parts is 3, not a list of tables"),
        ('"hub:org/name"', '"hub:org/name"\nparts = [{ hub = "o/../x", names = ["a"] }]', r"m\.parts\[0\]\.hub is"),
        ('"hub:org/name"', '"hub:org/name"\nparts = [{ hub = "o/x", names = ["../a"] }]', r"m\.parts\[0\]\.names is"),
        ('"hub:org/name"', '"hub:org/name"\nparts = [{ hub = "o/x", names = [] }]', r"m\.parts\[0\]\.names is"),
        (
            '"hub:org/name"',
            '"hub:org/name"\nparts = [{ hub = "o/x", names = ["a"], folder = "../b" }]',
            r"m\.parts\[0\]\.folder is",
        ),
        (
            '"hub:org/name"',
            '"hub:org/name"\nparts = [{ hub = "o/x", names = ["a"], commit = "main" }]',
            r"m\.parts\[0\]\.commit is 'main', not a commit in full",
        ),
        ("[m.stages]", "[m.stages]\nthird = {}", r"not a setting of a model: m\.stages\.third"),
    ],
)
def test_a_wrong_entry_is_refused_by_the_name_of_its_field(old: str, new: str, message: str) -> None:
    assert old in ENTRY
    with pytest.raises(BadFile, match=message):
        read_registry(ENTRY.replace(old, new), "here")


def test_a_package_without_its_model_says_so() -> None:
    with pytest.raises(NotDownloaded, match="not part of this installation") as raised:
        locate(replace(registry()["starter"], source="package:nothing_here"))
    assert "install" in str(raised.value.hint)


def cache_snapshot(cache: Path, source: Path) -> Path:
    """Lay a model into a Hugging Face cache the way that the Hub's client does."""
    repository = cache / "models--kakaobrain--karlo-v1-alpha"
    commit = "0" * 40
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots").mkdir()
    return source.rename(repository / "snapshots" / commit)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_karlo_that_is_not_here_comes_with_the_command_that_gets_it(cache: Path) -> None:
    with pytest.raises(NotDownloaded) as raised:
        locate(find("karlo"))
    assert raised.value.exit_code == 3
    assert raised.value.hint == "dalle models pull karlo"
    assert raised.value.model == "karlo"


def test_karlo_in_the_hugging_face_cache_is_used_without_a_network(cache: Path, tmp_path: Path) -> None:
    snapshot = cache_snapshot(cache, write_model(tmp_path / "karlo"))
    assert locate(find("karlo")).path == snapshot


def test_half_a_download_is_not_downloaded_and_says_what_is_missing(cache: Path, tmp_path: Path) -> None:
    snapshot = cache_snapshot(cache, write_model(tmp_path / "karlo"))
    (snapshot / "decoder").rename(tmp_path / "decoder")
    with pytest.raises(NotDownloaded, match="only in part: the part decoder is missing"):
        locate(find("karlo"))


def test_a_folder_that_went_away_is_an_error(tmp_path: Path) -> None:
    model = write_model(tmp_path / "mine")
    spec = find(str(model))
    model.rename(tmp_path / "gone")
    with pytest.raises(BadFolder):
        locate(spec)
