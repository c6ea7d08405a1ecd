"""`dalle gallery`: the pictures of a folder as a page."""

from pathlib import Path
from typing import Annotated

import typer

from dallecli.cli import options
from dallecli.cli.serve import check_extra, log_to, token_of


def gallery(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder.")],
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Look into the folders in it, too.")] = False,
    port: options.Port = 0,
    open: options.Open = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Show the pictures of a folder as a page: with their recipes, searched by words.

    Only this machine reaches it, nothing in the folder is changed, and new pictures appear as they come. Prints the
    address of the page; Ctrl-C ends it.

    \b
    Examples:
      dalle gallery pictures --open
      dalle gallery runs --recursive
      dalle gallery . --port 8189
    """
    check_extra()
    from dallecli.cli.browser import Browser
    from dallecli.cli.display import Display, emit_json, emit_line
    from dallecli.server.run import show
    from dallecli.server.serving import Serving

    display = Display(quiet=quiet)
    log_to(display, debug=debug)
    serving = Serving(port=port, token=token_of(None, display))
    with Browser(serving.token, display) as browser:

        def announce(page: str) -> None:
            if json:
                emit_json({"page": page})
            else:
                emit_line(page)
            if open:
                browser.show(page)

        show(folder, serving, announce, deep=recursive)
