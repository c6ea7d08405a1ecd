"""Training on pictures of one's own: data in, a model folder out, with everything on the way inside of it.

OUT/                        the model, in the published layout; each part is there as soon as it is trained
OUT/training/settings.json  the preset, and the model that it began from
OUT/training/album/         the pictures, decoded (album.py); `left-out.jsonl` beside it names what was not used
OUT/training/STAGE/         a stage's run (loop.py): state, log, sheets of samples
OUT/training/tensorboard/   the same for TensorBoard

What is not trained is the model's that it began from (`--from`), or is missing yet. `OUT/training` can be removed when
nothing is to be trained any more.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Final

from PIL import Image

from dallecli.errors import BadFolder, BadInput, BadOutput, BadSetting, DiskFull, NotDownloaded
from dallecli.pictures.picture import encode
from dallecli.pictures.sheets import grid
from dallecli.tokens import ClipTokenizer
from dallecli.training.album import Album, Terms, is_current, make_album, open_album
from dallecli.training.album_dataset import AlbumDataset
from dallecli.training.alone import alone
from dallecli.training.chain import Chain, Commands, Origin
from dallecli.training.kinds import kind_of
from dallecli.training.listing import Fault, Listing, summary
from dallecli.training.loop import Report, parts_of
from dallecli.training.machine import Machine
from dallecli.training.model_folder import write_file, write_json
from dallecli.training.preset import Preset
from dallecli.training.project_settings import LEFT_OUT, ProjectSettings
from dallecli.training.stages.stage import write_stage
from dallecli.training.state import STATE
from dallecli.training.tokenizer import train_tokenizer
from dallecli.weights.folder import Folder
from dallecli.weights.registry import find, locate

SHOWN: Final = 16
"""Held-out pictures on the sheet that samples are compared with."""


class Project:
    """A folder in which a model is trained.

    Nothing is written before `begin`: everything that can be wrong with the settings is found out here.

    Args:
        out: the folder.
        settings: from `choose_settings`.
        machine: what trains.

    Raises:
        BadSetting: the preset describes networks that cannot be.
        UnknownModel, NotDownloaded, BadFolder, BadFile: the model to begin from is missing or not whole.
    """

    def __init__(self, out: Path, settings: ProjectSettings, machine: Machine) -> None:
        self.out = out
        self.settings = settings
        self.kind = kind_of(settings.table)
        self.machine = machine
        self.state = out / "training"
        self.origin: Folder | None = None
        if settings.origin is None:
            self.preset = self.kind.read(settings.table, settings.preset)
        else:
            # The project's own folder is the origin as soon as it is a whole copy.
            self.origin = Folder(out) if (out / "model_index.json").is_file() else locate(find(settings.origin))
            self.preset = self.kind.of(self.origin, settings.table, settings.preset)
        self.kind.check(self.preset)
        vocab_size = None if self.origin is not None else lambda: self.tokenizer.end + 1
        self._stages = self.kind.stages(self.preset, vocab_size, self.origin is None)

    @property
    def stages(self) -> tuple[str, ...]:
        """All stages, in the order in which they are trained."""
        return tuple(self._stages)

    def check_stages(self, stages: Sequence[str]) -> None:
        """Find out whether these stages can be trained, one after the other, before hours go into the first.

        Raises:
            BadSetting: the preset does not say how, or a batch cannot be shared out equally.
            NotDownloaded: one of them reads CLIP, which has not been trained.
            BadFolder: the model to begin from has no image tower.
        """
        for stage in stages:
            if stage not in self.preset.runs:
                raise BadSetting(
                    f"the preset does not say how to train {stage}",
                    where=self.preset.name,
                    hint=f"add runs.{stage} to it",
                )
            parts_of(self.preset.runs[stage].how, self.machine.team.size, stage)  # or BadSetting
        reads = [stage for stage in stages if "clip" in (stage, *self._stages[stage].needs)]
        if reads and isinstance(self.preset, Preset) and not self.preset.image_encoder:
            raise BadFolder(
                "the model has no image_encoder: its CLIP cannot see pictures",
                str(self.out if self.origin is None else self.origin.path),
                "only upsamplers can be trained from it; or put the image_encoder of the same CLIP into its folder",
            )
        if reads and "clip" not in stages and self.origin is None and not self.state_file("clip").exists():
            hint = "train it first: dalle train clip"
            raise NotDownloaded(f"the {reads[0]} needs CLIP, which has not been trained yet", str(self.out), hint)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep trainings that are not of this team out of the folder. Raises FolderInUse, BadOutput, DiskFull."""
        with alone(self.state) if self.machine.team.first else nullcontext():
            yield

    def terms(self, listing: Listing, least: int | None, mirrored: bool) -> Terms:
        """What the album of a listing is made of; `least` of None is the side of what the decoder paints."""
        side = self.preset.sizes[0] if least is None else least
        return Terms(sizes=tuple(sorted(self.preset.seen)), data=listing.digest, least=side, mirrored=mirrored)

    def begin(self, listing: Listing, terms: Terms, *, strict: bool, watch: Callable[[int, int], None]) -> None:
        """Write down the settings, decode the pictures where that was not done yet, and train the tokenizer.

        Raises:
            BadInput: too little is left to train on, or, with `strict`, something is left out.
            DiskFull, BadOutput: there is no space, or no right, to write.

        What is left out is named in `left-out.jsonl`, also where this raises BadInput.
        """
        if self.machine.team.first:
            # First of all, because it may be the reason why training stops.
            if listing.faults:
                self._name_left_out(listing.faults)
            if strict and listing.faults:
                raise self._refused(listing.faults)
            album = self._album_of(listing, terms, watch)
            if strict and album.faults:
                raise self._refused(album.faults)
            if not (self.out / "tokenizer").exists():
                self._train_tokenizer(album)
            self._show_held_out(album)
        self.machine.team.wait()
        if self.origin is not None:
            self.origin = Folder(self.out)

    @cached_property
    def album(self) -> Album:
        """The pictures; `begin` has made it."""
        return open_album(self.album_folder)

    @property
    def album_folder(self) -> Path:
        """Where the decoded pictures are."""
        return self.state / "album"

    @property
    def left_out(self) -> Path:
        """The file that names what was not used, a JSON object a line."""
        return self.state / LEFT_OUT

    @cached_property
    def tokenizer(self) -> ClipTokenizer:
        """The model's tokenizer."""
        return ClipTokenizer.open(self.out / "tokenizer")

    @cached_property
    def cut(self) -> tuple[str, ...]:
        """The captions that are longer than the context, so that their ends are not read."""
        distinct = dict.fromkeys(self.album.captions)
        return tuple(caption for caption in distinct if self.tokenizer.encode(caption).dropped)

    @cached_property
    def chain(self) -> Chain:
        """The stages and their runs; `begin` comes before."""
        return Chain(
            self._stages,
            self.preset.runs,
            self.state,
            AlbumDataset(self.album, self.album_folder / "album.json", self.tokenizer, self.machine),
            self.machine,
            Commands(train=self.kind.train, more="--hours or --train-steps"),
            None if self.origin is None else Origin(folder=self.origin),
            self.state / "tensorboard",
        )

    def state_file(self, stage: str) -> Path:
        """Where a stage's run keeps its state."""
        return self.state / stage / STATE

    def train_stage(
        self,
        stage: str,
        *,
        seconds: float,
        steps: int | None,
        watch: Callable[[Report], None] | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> str | None:
        """Train a stage (see `Chain.train`), and write its parts. `check_stages` and `begin` come before."""
        written = self._is_written(stage)
        reason = self.chain.train(stage, seconds=seconds, steps=steps, watch=watch, warn=warn, finished=written)
        if self.machine.team.first and not self._is_written(stage) and not self.chain.readers(stage):
            self._write(stage)
        self.machine.team.wait()
        return reason

    def _is_written(self, stage: str) -> bool:
        """Whether the parts of a stage are of its last state: a kill may have come between them."""
        state, last = self.state_file(stage), self.out / self._last_part(stage)
        if not state.exists() or not last.is_dir():
            return False
        return all(file.stat().st_mtime_ns >= state.stat().st_mtime_ns for file in last.iterdir())

    def _last_part(self, stage: str) -> str:
        """The part of the model folder that a stage writes last."""
        return list(self._stages[stage].configs)[-1]

    def missing(self) -> tuple[str, ...]:
        """The stages that still have no part in the model folder."""
        needed = [name for name, stage in self._stages.items() if not stage.optional]
        return tuple(stage for stage in needed if not self._has_parts(stage))

    def _has_parts(self, stage: str) -> bool:
        """Whether a stage has its parts in the model folder."""
        return (self.out / self._last_part(stage)).is_dir()

    def stale(self) -> tuple[str, ...]:
        """The stages whose networks were made for another CLIP than the one that was trained here."""
        if self.origin is None or not self.state_file("clip").exists():
            return ()
        there = [stage for stage in self._stages.values() if not stage.optional or self._has_parts(stage.name)]
        readers = [stage.name for stage in there if "clip" in stage.needs]
        return tuple(name for name in readers if not self.state_file(name).exists())

    # What is written

    def _album_of(self, listing: Listing, terms: Terms, watch: Callable[[int, int], None]) -> Album:
        """The album of a listing, which is made where it is not there yet."""
        if not is_current(self.album_folder, terms):
            try:
                self._make_folder()
                make_album(self.album_folder, listing, terms, watch, self._name_left_out)
            except BadInput as problem:
                if self.left_out.exists():
                    raise BadInput(problem.what, where=str(self.left_out), hint=problem.hint) from problem
                raise
        else:
            self._make_folder()
        album = open_album(self.album_folder)
        self._name_left_out(album.faults)
        return album

    def _name_left_out(self, faults: Sequence[Fault]) -> None:
        lines = "".join(json.dumps(asdict(fault)) + "\n" for fault in faults)
        write_file(self.left_out, lines.encode())

    def _refused(self, faults: Sequence[Fault]) -> BadInput:
        what = f"not all data can be used: {'; '.join(summary(faults))}"
        return BadInput(what, where=str(self.left_out), hint="repair them, or leave --strict out")

    def _make_folder(self) -> None:
        write_json(self.state / "settings.json", asdict(self.settings))
        if self.origin is not None and self.origin.path != self.out:
            _copy_model(self.origin, self.out)

    def _train_tokenizer(self, album: Album) -> None:
        partial = self.state / "tokenizer.partial"
        shutil.rmtree(partial, ignore_errors=True)
        train_tokenizer(dict.fromkeys(album.captions), partial, self.preset.context, self.preset.vocabulary)
        partial.rename(self.out / "tokenizer")

    def _show_held_out(self, album: Album) -> None:
        """The held-out pictures and captions that the sheets of samples show painted again."""
        largest = album.pictures[self.preset.sizes[-1]][-album.held_out :][:SHOWN]
        images = [Image.fromarray(one.permute(1, 2, 0).numpy()).resize((128, 128)) for one in largest]
        write_file(self.state / "held-out.png", encode(grid(images), "png", None))
        captions = album.captions[-album.held_out :][:SHOWN]
        write_file(self.state / "held-out.txt", "".join(f"{caption}\n" for caption in captions).encode())

    def _write(self, stage: str) -> None:
        """Write the parts of a trained stage, with its averaged weights, and what makes a whole model of them."""
        write_stage(self._stages[stage], self.chain.trained(stage), self.out)
        if not self.missing() and not (self.out / "model_index.json").exists():
            if self.preset.dials is not None:
                write_json(self.out / "dalle.json", self.preset.dials)
            write_json(self.out / "model_index.json", dict(self.kind.index))


def _copy_model(origin: Folder, out: Path) -> None:
    """Copy the parts of a model, its dials and its index, the index last."""
    names = [*origin.parts, "feature_extractor", "dalle.json", "model_index.json"]
    sources = [origin.path / name for name in names if (origin.path / name).exists()]
    files = [file for source in sources for file in ([source] if source.is_file() else sorted(source.iterdir()))]
    needed, free = sum(file.stat().st_size for file in files), shutil.disk_usage(out).free
    if free < needed:
        raise DiskFull(f"a copy of the model takes {needed} bytes, {free} are free", str(out), "make room")
    for file in files:
        target = out / file.relative_to(origin.path)
        try:
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, target)
        except OSError as problem:
            raise BadOutput(f"the model cannot be copied: {problem.strerror}", str(target)) from problem
