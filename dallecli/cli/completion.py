"""Tab completion for a shell that is named; Typer's own options are for the one that runs."""

import os
from typing import Final

from dallecli.cli.display import emit_line, to_stderr
from dallecli.errors import RequestError

COMPLETION: Final = ("--install-completion", "--show-completion")

SHELLS: Final = ("bash", "zsh", "fish", "powershell", "pwsh")


VARIABLE: Final = "_DALLE_COMPLETE"
"""What a shell's script sets to ask what a line could go on with."""


def asked_by_shell() -> bool:
    """Whether a shell asks for completions: the variable alone, left behind or made up, is no question."""
    action, _, shell = os.environ.get(VARIABLE, "").partition("_")
    if action == "complete" and shell == "bash":
        return "COMP_WORDS" in os.environ and os.environ.get("COMP_CWORD", "").isdecimal()
    return shell in SHELLS and (action == "source" or (action == "complete" and "_TYPER_COMPLETE_ARGS" in os.environ))


def complete(option: str, shell: str) -> int:
    """Print a shell's script, or install it, and return the exit code. Raises RequestError for an unknown shell."""
    if shell not in SHELLS:
        raise RequestError(f"{option}: no shell is called '{shell}'", hint=f"one of {', '.join(SHELLS)}")
    from typer._completion_shared import get_completion_script, install

    if option == "--show-completion":
        emit_line(get_completion_script(prog_name="dalle", complete_var=VARIABLE, shell=shell))
    else:
        _, path = install(shell=shell, prog_name="dalle", complete_var=VARIABLE)
        to_stderr(f"completion for {shell} is in {path}; a new terminal has it")
    return 0
