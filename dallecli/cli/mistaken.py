"""What was meant by a command or an option that does not exist."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Final

from dallecli.safe import safe
from dallecli.source import PICTURE_SUFFIXES
from dallecli.tasks.synonyms import meant

COMMANDS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("paint", "create", "make", "draw", "imagine", "txt2img", "text2img", "image", "gen"), "generate"),
    **dict.fromkeys(("variation", "variations", "variate", "img2img", "image2image"), "vary"),
    **dict.fromkeys(("blend", "morph", "mix", "interp"), "interpolate"),
    **dict.fromkeys(("outpaint", "repaint", "fill", "erase"), "inpaint"),
    **dict.fromkeys(("score", "compare"), "rank"),
    **dict.fromkeys(("tokenize", "tokens", "codes"), "encode"),
    **dict.fromkeys(("detokenize", "reconstruct"), "decode"),
    **dict.fromkeys(("server", "api", "web", "host", "listen"), "serve"),
    **dict.fromkeys(("info", "inspect", "metadata", "view", "preview"), "show"),
    **dict.fromkeys(("again", "redo", "repeat", "reproduce"), "replay"),
    **dict.fromkeys(("pull", "download", "install", "fetch", "get"), "models pull"),
    **dict.fromkeys(("ls", "model"), "models list"),
    **dict.fromkeys(("rm", "delete", "uninstall"), "models remove"),
    "convert": "models convert",
    "verify": "models verify",
    **dict.fromkeys(("sheet", "contact-sheet", "montage"), "grid"),
    **dict.fromkeys(("finetune", "fine-tune"), "train"),
    **dict.fromkeys(("settings", "configure", "set"), "config"),
    **dict.fromkeys(("diagnose", "env", "status"), "doctor"),
}
"""Commands by names that other programs have for the like."""

_WITHIN: Final[Mapping[str, str]] = {
    **dict.fromkeys(("ls", "show"), "list"),
    **dict.fromkeys(("download", "install", "fetch", "get", "add", "update"), "pull"),
    **dict.fromkeys(("rm", "delete", "uninstall"), "remove"),
    **dict.fromkeys(("check",), "verify"),
    **dict.fromkeys(("where", "folder"), "path"),
}
"""The same below `dalle models`."""

_WORDS: Final = frozenset({"prompt", "p", "text", "caption", "prompts"})
_FILES: Final = frozenset({"image", "images", "img", "i", "input", "init", "init_image", "file", "source"})


def spoken(group: Any, args: Sequence[str]) -> list[str]:
    """The arguments of a group of commands, with what everybody says turned into what it is called here."""
    first, *rest = args
    if first in group.commands:
        return list(args)
    if first == "help":
        return [*rest, "--help"]
    if "models" in group.commands:
        if first == "version":
            return ["--version", *rest]
        if first == "list":
            return ["models", *args]
    return list(args)


def command_hint(group: Any, path: str, args: Sequence[str]) -> str:
    """What to write in place of a command that does not exist: `args` begin with it, `path` is what stands before."""
    name = args[0]
    root = "models" in group.commands
    other = (COMMANDS if root else _WITHIN).get(name.lower())
    if other is not None and other.split()[0] in group.commands:
        return f"{path} {other}"
    known = meant(name, group.commands)
    if known is not None:
        return f"did you mean {path} {known}?"
    if not root or safe(" ".join(args), limit=None) != " ".join(args):  # what cannot be shown cannot be copied
        return f"{path} --help"
    if name.lower().endswith(PICTURE_SUFFIXES):
        return f"{path} show {shlex.quote(name)} says how it was made, {path} vary paints others like it"
    words = next((k for k, argument in enumerate(args) if argument.startswith("-")), len(args))
    options = [shlex.quote(option) for option in args[words:]]
    return " ".join([path, "generate", quoted(" ".join(args[:words])), *options])


def option_hint(command: Any, path: str, option: str) -> str:
    """What to write in place of an option that does not exist."""
    name = option.lstrip("-").replace("-", "_")
    arguments = {param.name for param in command.params if param.param_type_name == "argument"}
    if name.lower() in _WORDS and (found := _positional(arguments, "prompts", "things", "ends")):
        return f"the words are an argument: {path} {_EXAMPLES[found]}"
    if name.lower() in _FILES and (found := _positional(arguments, "image", "images", "things", "ends", "files")):
        return f"the picture is an argument: {path} {_EXAMPLES[found].replace(WORDS, 'cat.png')}"
    options = {opt.lstrip("-"): param for param in command.params for opt in (*param.opts, *param.secondary_opts)}
    long = {one: param for one, param in options.items() if len(one) > 1}
    known = meant(name, long)
    if known is None:
        return f"{path} --help"
    value = "" if getattr(long[known], "is_flag", False) or not long[known].metavar else f" {long[known].metavar}"
    return "both sides are in one option: --size 1024x576" if known == "size" else f"did you mean --{known}{value}?"


WORDS: Final = '"a cat"'
_EXAMPLES: Final[Mapping[str, str]] = {
    "prompts": WORDS,
    "things": WORDS,
    "ends": f'{WORDS} "a dog"',
    "image": "cat.png",
    "images": "cat.png",
    "files": "cat.png",
}


def _positional(arguments: set[str], *names: str) -> str | None:
    return next((name for name in names if name in arguments), None)


def quoted(text: str) -> str:
    """Words for a shell, in the quotes that people use, where these keep the words as they are."""
    return shlex.quote(text) if set(text) & set('"$`\\!') else f'"{text}"'
