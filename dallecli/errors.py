"""Everything that can go wrong on purpose, as one tree.

    DalleError                  1   one of ours; never raised bare
    ├── RequestError            2   the ask is wrong: change the request
    │   ├── UnknownModel            no such name in the registry, no such folder
    │   ├── UnknownSampler          no such name in the table of samplers
    │   ├── TaskNotSupported        this model has no such verb
    │   ├── PromptError             empty, too big, not text
    │   ├── PromptTooLong           --strict, and the model would not read all of it
    │   ├── BadSetting              a number or name outside its range: count, seed, guidance, dtype
    │   ├── BadSteps                too few or too many steps for the schedule
    │   ├── BadSize                 a size that this model does not paint
    │   ├── BadInput                an input is missing, unreadable, or has changed since the recipe was made
    │   ├── BadPicture              not a PNG, JPEG or WebP, or not one that we can read
    │   ├── BadMask                 a mask that does not fit the picture, or repaints nothing
    │   ├── BadEmbedding            not an embedding file, or one of another CLIP
    │   ├── BadRecipe               a picture without a recipe, or a recipe that is not one
    │   ├── MissingExtra            an optional package that this needs is not installed
    │   ├── BadPromptFile           lines of a prompt file that are wrong
    │   ├── BadOutput               the place to write is missing, read-only, taken or not a file
    │   ├── FolderInUse             another process paints into this folder
    │   └── BadConfig               the config file or an environment variable is wrong
    ├── WeightsError            3   the files of a model are wrong or absent
    │   ├── NotDownloaded           known, but not on this machine
    │   ├── BadFolder               not a model folder, or a part of it is missing
    │   ├── BadFile                 truncated, a web page, a Git LFS pointer, pickle only
    │   └── LayoutMismatch          tensors missing, unexpected, misshaped or not finite
    ├── NetworkError            4   the network failed; nothing was half-kept
    ├── MachineError            5   the machine cannot
    │   ├── NoSuchDevice            no such device here
    │   ├── OutOfMemory             the model or the pictures do not fit
    │   ├── DiskFull                no space left, or over quota
    │   └── NonFinite               a stage gave NaN or infinity in its widest type
    ├── SomeFailed              1   some pictures of many could not be painted; the others are there
    ├── InternalError          70   a mistake in dalle itself; whatever was not foreseen becomes this one
    └── Interrupted           130   Ctrl-C, or (143) a request to terminate; finished pictures are kept

The number is the exit code of the command line. An error is made of facts: *what* happened, *where*, and a *hint*
what to do about it. They may quote outside text; `lines` makes that harmless, and is the only way to print one.
"""

from typing import ClassVar

from dallecli.safe import safe


class DalleError(Exception):
    """A failure that has an explanation: `what` happened, `where` (a path, a stage), and a `hint` what to do."""

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def lines(self) -> list[str]:
        """The error as one to three printable lines, whatever text it quotes."""
        parts = (("error", self.what), ("where", self.where), ("hint", self.hint))
        return [f"{label}: {safe(text)}" for label, text in parts if text is not None]

    def facts(self) -> dict[str, str | int | None]:
        """The error for programs: the class's name, the exit code and the three facts, unescaped."""
        return {
            "error": type(self).__name__,
            "exit_code": self.exit_code,
            "what": self.what,
            "where": self.where,
            "hint": self.hint,
        }


class RequestError(DalleError):
    """The ask is wrong; the same request will fail again."""

    exit_code = 2


class UnknownModel(RequestError):
    """The model is neither a name in the registry nor a folder."""


class UnknownSampler(RequestError):
    """The sampler is not in the table of samplers."""


class TaskNotSupported(RequestError):
    """The model is known but cannot do this task."""


class PromptError(RequestError):
    """The prompt is empty, too big, or not text."""


class PromptTooLong(RequestError):
    """The model would not read the whole prompt, and the request is strict."""


class BadSetting(RequestError):
    """A number or a name lies outside its range."""


class BadSteps(RequestError):
    """The number of steps does not fit the schedule."""


class BadSize(RequestError):
    """The model does not paint this size."""


class BadInput(RequestError):
    """An input is missing, cannot be read, or is not the one that a recipe was made with."""


class BadPicture(RequestError):
    """The file is not a PNG, JPEG or WebP picture that can be read."""


class BadMask(RequestError):
    """The mask does not fit the picture, or leaves nothing to repaint or to keep."""


class BadEmbedding(RequestError):
    """The file is not an embedding, or its embedding lives in another CLIP's space."""


class BadRecipe(RequestError):
    """There is no recipe in the picture, or what is there is not a recipe."""


class MissingExtra(RequestError):
    """This needs an optional package that is not installed; the hint is the command that installs it."""


class BadOutput(RequestError):
    """The place to write to is missing, read-only, taken, or not a file."""


class BadPromptFile(RequestError):
    """A prompt file cannot be read, or has lines that are wrong."""


class FolderInUse(RequestError):
    """Another process paints into this folder."""


class BadConfig(RequestError):
    """The config file or an environment variable holds something that is not a setting."""


class WeightsError(DalleError):
    """The files of a model are wrong or absent."""

    exit_code = 3


class NotDownloaded(WeightsError):
    """The model is known, but its files are not on this machine."""

    def __init__(
        self, what: str, where: str | None = None, hint: str | None = None, *, model: str | None = None
    ) -> None:
        """`model`: the name under which it can be pulled, None if it cannot."""
        super().__init__(what, where, hint)
        self.model = model


class BadFolder(WeightsError):
    """The folder is not a model, or a part of it is missing."""


class BadFile(WeightsError):
    """A weights file is truncated, is something else, or holds pickled code."""


class LayoutMismatch(WeightsError):
    """The tensors in a file are not those that the network needs."""


class NetworkError(DalleError):
    """The network failed."""

    exit_code = 4


class MachineError(DalleError):
    """The machine cannot do this."""

    exit_code = 5


class NoSuchDevice(MachineError):
    """The device does not exist here."""


class OutOfMemory(MachineError):
    """The model or its pictures do not fit into memory."""


class DiskFull(MachineError):
    """There is no space left to write to."""


class NonFinite(MachineError):
    """A stage gave NaN or infinity, even in the widest type."""


class SomeFailed(DalleError):
    """Some of many pictures could not be painted, or files are not what the journal says; all others are there."""


class InternalError(DalleError):
    """A mistake in dalle itself.

    Its exit code is sysexits' EX_SOFTWARE: Python's own 1 is taken, for "some failed, the rest is done".
    """

    exit_code = 70


class Interrupted(DalleError):
    """Somebody pressed Ctrl-C, or asked the process to end (143)."""

    exit_code = 130
