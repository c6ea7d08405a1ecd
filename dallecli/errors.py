"""Everything that can go wrong on purpose, as one tree.

    DalleError                  1  500  one of ours; its subclasses are raised, never it itself
    ├── RequestError            2  400  the request is invalid: change it
    │   ├── UnknownModel           404  no such name in the registry, no such folder
    │   ├── UnknownSampler         400  no such name in the table of samplers
    │   ├── TaskNotSupported       400  this model cannot do this task
    │   ├── PromptError            400  empty, too big, not text
    │   ├── PromptTooLong          400  --strict, and the model would not read all of it
    │   ├── NotKnown               400  --strict, and the model does not know a word, or nothing like a picture
    │   ├── BadSetting             400  a number or name outside its range: count, seed, guidance, dtype
    │   ├── BadSteps               400  too few or too many steps for the schedule
    │   ├── BadSize                400  a size that this model does not paint
    │   ├── BadInput               400  an input is missing, unreadable, or has changed since the recipe was made
    │   ├── BadPicture             400  not a PNG, JPEG or WebP, or not one that we can read
    │   ├── BadMask                400  a mask that does not fit the picture, or repaints nothing
    │   ├── BadEmbedding           400  not an embedding file, or one of another CLIP
    │   ├── BadCodes               400  not a file of codes, or one of another codebook
    │   ├── BadRecipe              400  a picture without a recipe, or something that is not a recipe
    │   ├── MissingExtra           501  an optional package that this needs is not installed
    │   ├── BadPromptFile          400  a prompt file with invalid lines
    │   ├── BadOutput              500  the place to write to is missing, read-only, taken or not a file
    │   ├── FolderInUse            409  another process works in this folder
    │   └── BadConfig              500  the config file or an environment variable is wrong
    ├── WeightsError            3  500  the files of a model are wrong or missing
    │   ├── NotDownloaded          404  known, but not on this machine
    │   ├── BadFolder              500  not a model folder, or a part of it is missing
    │   ├── BadFile                500  truncated, a web page, a Git LFS pointer, a pickle
    │   └── LayoutMismatch         500  tensors missing, unexpected, misshapen or not finite
    ├── NetworkError            4  502  the network failed; no half file is ever taken for a whole one
    ├── MachineError            5  500  the machine cannot do it
    │   ├── NoSuchDevice           400  no such device here
    │   ├── OutOfMemory            503  the model or the pictures do not fit
    │   ├── DiskFull               503  no space left, or over quota
    │   ├── NonFinite              500  a stage gave NaN or infinity in its widest type
    │   ├── BadCluster             503  the machines of a cluster do not fit together, or none is left
    │   └── WorkerLost             500  workers of a cluster were lost whenever they painted this
    ├── SomeFailed              1  500  some pictures of many could not be painted; the others are there
    ├── InternalError          70  500  a bug in dalle; anything unexpected becomes this one
    └── Interrupted           130  503  Ctrl-C, or (143) a request to terminate; finished pictures are kept

The first number is the exit code of the command line, the second the status of an HTTP response (RFC 9110, section
15): 4xx where another request would succeed on the same machine, 5xx where the machine, its files or its configuration
are at fault. 503 is for what may be over when the client tries again.

An error is made of facts: *what* happened, *where*, and a *hint* what to do about it. They may quote outside text;
`lines` makes that harmless, and is the only way to print one.
"""

from typing import ClassVar

from dallecli.safe import safe


def reason(error: Exception) -> str:
    """What an error says, of one of the system without its number and path."""
    return error.strerror if isinstance(error, OSError) and error.strerror is not None else str(error)


class DalleError(Exception):
    """A failure that has an explanation: `what` happened, `where` (a path, a stage), and a `hint` what to do."""

    exit_code: ClassVar[int] = 1
    """Of the command line."""
    http_status: ClassVar[int] = 500
    """Of an HTTP response."""

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
    """The request is invalid; the same request will fail again."""

    exit_code = 2
    http_status = 400


class UnknownModel(RequestError):
    """The model is neither a name in the registry nor a folder.

    Status 404: the model is the resource that the request is about.
    """

    http_status = 404


class UnknownSampler(RequestError):
    """The sampler is not in the table of samplers."""


class TaskNotSupported(RequestError):
    """The model is known but cannot do this task."""


class PromptError(RequestError):
    """The prompt is empty, too big, or not text."""


class PromptTooLong(RequestError):
    """The model would not read the whole prompt, and the request is strict."""


class NotKnown(RequestError):
    """The model does not know a word, or nothing like a picture, and the request is strict."""


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


class BadCodes(RequestError):
    """The file holds no codes, or codes of another codebook."""


class BadRecipe(RequestError):
    """The picture has no recipe, or something that is not a recipe."""


class MissingExtra(RequestError):
    """This needs an optional package that is not installed; the hint is the command that installs it.

    Status 501: the server lacks what it takes to do this, for anybody.
    """

    http_status = 501


class BadOutput(RequestError):
    """The place to write to is missing, read-only, taken, or not a file.

    Status 500: a server writes to places of its own, which no client has chosen.
    """

    http_status = 500


class BadPromptFile(RequestError):
    """A prompt file cannot be read, or has invalid lines."""


class FolderInUse(RequestError):
    """Another process works in this folder: it paints, or trains.

    Status 409: the request is sound, and conflicts with what is going on.
    """

    http_status = 409


class BadConfig(RequestError):
    """The config file or an environment variable holds something that is not a setting.

    Status 500: a server's configuration is its owner's.
    """

    http_status = 500


class WeightsError(DalleError):
    """The files of a model are wrong or missing.

    Status 500, not 503: they will not mend themselves.
    """

    exit_code = 3
    http_status = 500


class NotDownloaded(WeightsError):
    """The model is known, but its files are not on this machine.

    Status 404, as for an unknown name: this server does not have it, and waiting does not help.
    """

    http_status = 404

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
    """The network failed, or a server did not answer as it should.

    Status 502: for the client, this server is the gateway to the one that failed.
    """

    exit_code = 4
    http_status = 502


class MachineError(DalleError):
    """The machine cannot do this."""

    exit_code = 5


class NoSuchDevice(MachineError):
    """The device does not exist here.

    Status 400: a request that names no device, or another one, succeeds.
    """

    http_status = 400


class OutOfMemory(MachineError):
    """The model or its pictures do not fit into memory.

    Status 503: when other requests are done, there may be room.
    """

    http_status = 503


class DiskFull(MachineError):
    """There is no space left to write to.

    Status 503: the server's owner may make room.
    """

    http_status = 503


class NonFinite(MachineError):
    """A stage gave NaN or infinity, even in the widest type."""


class BadCluster(MachineError):
    """The machines of a cluster have other versions than this one, or none of them can paint.

    Status 503: the cluster's owner may mend it, or a machine may join.
    """

    http_status = 503


class WorkerLost(MachineError):
    """Several workers of a cluster were lost while they painted this and nothing else."""


class SomeFailed(DalleError):
    """Some of many pictures could not be painted, or files are not what the journal says; all others are there."""


class InternalError(DalleError):
    """A bug in dalle.

    Its exit code is sysexits' EX_SOFTWARE: Python's own 1 is taken, for "some failed, the rest is done".
    """

    exit_code = 70


class Interrupted(DalleError):
    """Somebody pressed Ctrl-C, or asked the process to end (143).

    Status 503: the server is going down; the next one may answer.
    """

    exit_code = 130
    http_status = 503
