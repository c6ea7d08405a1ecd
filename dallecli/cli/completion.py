"""Tab completion for a shell that is named; Typer's own options are for the one that runs."""

from typing import Final

from dallecli.cli.display import emit_line, to_stderr
from dallecli.errors import RequestError

COMPLETION: Final = ("--install-completion", "--show-completion")

SHELLS: Final = ("bash", "zsh", "fish", "powershell", "pwsh")


def complete(option: str, shell: str) -> int:
    """Print a shell's script, or install it, and return the exit code. Raises RequestError for an unknown shell."""
    if shell not in SHELLS:
        raise RequestError(f"{option}: no shell is called '{shell}'", hint=f"one of {', '.join(SHELLS)}")
    from typer._completion_shared import get_completion_script, install

    if option == "--show-completion":
        emit_line(get_completion_script(prog_name="dalle", complete_var="_DALLE_COMPLETE", shell=shell))
    else:
        _, path = install(shell=shell, prog_name="dalle", complete_var="_DALLE_COMPLETE")
        to_stderr(f"completion for {shell} is in {path}; a new terminal has it")
    return 0
