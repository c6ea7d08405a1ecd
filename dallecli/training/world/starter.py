"""Training the starter from nothing, or from a model: a pool of scenes, a tokenizer, every network, a model folder.

Everything lives under one state folder: pools that are drawn once, the tokenizer, and a run a stage. Stages that do not
read each other may be trained side by side by several processes.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from torch import nn

from dallecli.errors import BadSetting
from dallecli.tasks.stages import written
from dallecli.training.alone import alone
from dallecli.training.chain import LANGUAGES, Chain, Commands, Origin
from dallecli.training.kinds import TOKENS, UNCLIP
from dallecli.training.loop import Report
from dallecli.training.machine import Machine
from dallecli.training.model_folder import config_of, write_json, write_tokenizer
from dallecli.training.preset import BasePreset, Lessons, Preset
from dallecli.training.stages.clip import ClipStage
from dallecli.training.stages.decoder import DecoderLesson
from dallecli.training.stages.prior import PriorLesson
from dallecli.training.stages.stage import TrainingStage, write_stage
from dallecli.training.stages.upsampler import UpsamplerLesson
from dallecli.training.state import STATE
from dallecli.training.world.dataset import WorldDataset
from dallecli.training.world.judge_stage import JudgeStage
from dallecli.training.world.known import write_known
from dallecli.weights.folder import Folder, read_object
from dallecli.weights.layouts import LAYOUTS
from dallecli.weights.registry import find, locate, registry

LESSONS: Final = Lessons(
    prior=PriorLesson(scale=5.3),
    decoder=DecoderLesson(
        caption_dropout=0.18, embedding_dropout=0.12, both_dropout=0.08, embedding_noise=0.25, lean=0.65
    ),
    upsampler=UpsamplerLesson(corruption="noise", noise=0.08, painted=0.75),
    upsampler_2=UpsamplerLesson(corruption="noise", noise=0.06),
)
"""How the starter is taught. The low-resolution pictures get as much noise as the stage before is wrong."""

AVERAGED: Final = 2000
"""Steps that the average of a model's weights counts as taken when training starts from them (see `Counters`)."""


class Workshop:
    """The state folder of one starter: its scenes, and the chain of its stages.

    Args:
        preset: what is trained.
        folder: the state folder.
        machine: what trains.
        origin: the model (a name or a folder) that training starts from where a stage has no state, or None.
        locked: whether CLIP's image encoder stays that of the origin; it does, too, where CLIP was begun like that.

    Raises:
        UnknownModel, NotDownloaded, BadFolder: the model is not there.
        BadSetting: an image encoder is to stay that is not there, or another one has been trained in the folder.
    """

    def __init__(
        self, preset: BasePreset, folder: Path, machine: Machine, origin: str | None = None, *, locked: bool = False
    ) -> None:
        self.preset = replace(preset, lessons=LESSONS) if isinstance(preset, Preset) else preset
        self.kind = UNCLIP if isinstance(preset, Preset) else TOKENS
        self.folder = folder
        self.dataset = WorldDataset(preset, folder, machine.device)
        self._origin_name = origin
        self.origin = None if origin is None else locate(find(origin))
        own_space = self.kind is UNCLIP or self.origin is None
        stages = self.kind.stages(self.preset, lambda: self.dataset.tokenizer.end + 1, own_space)
        self._locked = self._locks(locked)
        if self._locked:
            stages |= {"clip": _locked(stages.get("clip"), self.origin)}
        judge = JudgeStage(self.dataset)
        self.chain = Chain(
            {name: stage for name, stage in (stages | {judge.name: judge}).items() if name in preset.runs},
            preset.runs,
            folder,
            self.dataset,
            machine,
            Commands(train=f"{self.kind.starter_command} --stage {{stage}}", more="--hours"),
            None if self.origin is None else Origin(folder=self.origin, averaged=AVERAGED),
            languages=tuple(name for name in LANGUAGES if name != "clip" or not self._locked),
        )

    def _locks(self, asked: bool) -> bool:
        """Whether the image encoder is locked: as CLIP was begun here with this origin, or else as it is asked for."""
        begun = self._begun()
        same = begun is not None and bool(begun.get("locked")) and begun["digest"] == self._digest
        if asked and begun is not None and not same:
            raise BadSetting(
                "CLIP was trained here with another image encoder than the one to lock",
                where=str(self.folder / "clip"),
                hint="leave --lock-image-encoder out, or name another folder with --state",
            )
        return asked or same

    def _begun(self) -> dict[str, Any] | None:
        """What CLIP was begun with, if it has been trained here."""
        file = self.folder / "clip" / "settings.json"
        if not (self.folder / "clip" / STATE).exists():
            return None
        return read_object(file) if file.exists() else {}

    @property
    def _digest(self) -> str | None:
        """What tells the origin's weights from any others; None without an origin."""
        return None if self.origin is None else self.origin.digest()

    def check_origin(self, names: Iterable[str]) -> None:
        """Find out whether the model that training starts from has the networks of these stages.

        A stage with a state of its own has them; the judge is not part of a model.

        Raises:
            BadSetting: a part of it, or the tokenizer, is another than the preset's.
            BadFolder, BadFile: a part is missing or damaged.
        """
        if self.origin is None:
            return
        read = [other for name in names for other in (name, *self.chain.stages[name].needs)]
        stages = [self.chain.stages[name] for name in dict.fromkeys(read) if not self.chain.has_state(name)]
        for stage in stages:
            there = stage.configs.items() if self.chain.has_source(stage.name) else ()
            for part, config in there:
                self._check_part(self.origin, part, config)
        if any(stage.name in self.kind.words for stage in stages):
            self._check_words(self.origin)

    def _check_part(self, origin: Folder, part: str, config: dict[str, Any]) -> None:
        if part == "feature_extractor":
            return
        there, wanted = origin.config(part), config
        if not part.endswith("scheduler"):
            # What a config leaves out has the value that the network gives it.
            there, wanted = asdict(config_of(part, there)), asdict(config_of(part, config))
        for field, value in wanted.items():
            if there.get(field) != value:
                raise BadSetting(
                    f"{part}.{field} is {there.get(field)!r}, the preset {self.preset.name} has {value!r}",
                    where=str(origin.path),
                    hint="choose the model's own --preset, or leave --from out",
                )

    def _check_words(self, origin: Folder) -> None:
        """A text tower knows tokens by their numbers."""
        mine = self.dataset.tokenizer_folder / "vocab.json"
        theirs = origin.path / "tokenizer" / "vocab.json"
        if read_object(mine) != read_object(theirs):
            raise BadSetting(
                "tokenizer.vocab has other words than the starter's captions",
                where=str(theirs),
                hint="only upsamplers can start from this model: --stage upsampler",
            )

    def train_stage(
        self, name: str, seconds: float | None = None, watch: Callable[[Report], None] | None = None
    ) -> str | None:
        """Train a stage until its budget, or `seconds` where given, is spent in all; if it is not trained, say why.

        Raises:
            BadSetting: the preset has no such stage, or its image encoder is locked and not there.
            FolderInUse: another process trains it.
            NotDownloaded, NonFinite, DiskFull: as `Chain.train`.
        """
        if name not in self.chain.stages:
            known = ", ".join(self.chain.stages)
            raise BadSetting(f"the preset {self.preset.name!r} has no stage {name!r}", hint=f"choose from {known}")
        budget = self.preset.runs[name].seconds if seconds is None else seconds
        self.chain.check_needs(name)
        if name == "clip" and not self._locked and (self._begun() or {}).get("locked"):
            raise BadSetting(
                "CLIP was begun here with a locked image encoder",
                where=str(self.folder / name),
                hint="start --from the same model, or name another folder with --state",
            )
        with alone(self.folder / name):
            begins = not self.chain.has_state(name) and not self.chain.readers(name)
            if self.origin is not None and begins and self.chain.stages[name].configs:
                began = {"preset": self.preset.name, "from": self._origin_name, "digest": self._digest}
                settings = began | ({"locked": True} if self._locked and name == "clip" else {})
                write_json(self.folder / name / "settings.json", settings)
            return self.chain.train(name, seconds=budget, watch=watch)

    def trained(self, name: str) -> nn.Module:
        """Return a stage's module with its averaged weights, frozen (see `Chain.trained`)."""
        return self.chain.trained(name)

    def export(self, target: Path) -> None:
        """Write what is trained as a model folder, weights in float16.

        Stages that were not trained here are those of the model that training starts from. A folder in Karlo's layout
        is loaded by diffusers' UnCLIPPipeline, up to the first upsampler.

        Raises:
            NotDownloaded: a stage has not been trained.
        """
        for name, stage in self.chain.stages.items():
            if stage.configs and (self.chain.has_source(name) or not stage.optional):
                write_stage(stage, self.trained(name), target)
        write_tokenizer(target, self.dataset.tokenizer_folder)
        write_json(target / "model_index.json", dict(self.kind.index))
        write_json(target / "dalle.json", self._dials(target))
        write_known(target, self.dataset.world, self.dataset.device)

    def _dials(self, target: Path) -> dict[str, Any]:
        """The registry's settings for the starter, so that a starter trained anew is run as the embedded one is."""
        spec, there = registry()[self.kind.starter], [stage.name for stage in Folder(target).stages]
        candidates = {} if spec.prior_candidates is None else {"prior_candidates": spec.prior_candidates}
        squares = {} if spec.oblong == LAYOUTS[spec.layout].oblong else {"oblong": spec.oblong}
        stages = {name: written(spec.stages[name]) for name in there}
        ways = {
            way: {name: written(dials) for name, dials in own.items() if name in there}
            for way, own in spec.dials_of.items()
        }
        return {**candidates, **squares, "stages": stages, **ways}


def _locked(clip: TrainingStage[Any] | None, origin: Folder | None) -> TrainingStage[Any]:
    """CLIP's stage with an image encoder that stays what it is in the model that training starts from."""
    if not isinstance(clip, ClipStage) or origin is None:
        raise BadSetting(
            "there is no image encoder to lock" if clip is None else "a fresh image encoder cannot be locked",
            hint="leave --lock-image-encoder out, or start --from a model that has one",
        )
    return replace(clip, locked=True)
