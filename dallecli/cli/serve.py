"""`dalle serve`: the images API of OpenAI on this machine, and the page."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dallecli.cli import options
from dallecli.cli.folding import folded
from dallecli.cli.help import OUTPUT, REPORTING, SERVER
from dallecli.errors import MissingExtra

if TYPE_CHECKING:
    from dallecli.cli.display import Display
    from dallecli.server.run import Announced
    from dallecli.server.serving import Serving


@dataclass(frozen=True, slots=True, kw_only=True)
class ReachOptions:
    """Who can reach a server, and under which names."""

    host: Annotated[
        str,
        typer.Option(
            "--host",
            metavar="ADDRESS",
            help="Where to listen. Anything but this machine itself needs a token.",
            rich_help_panel=SERVER,
        ),
    ] = "127.0.0.1"
    port: options.Port = 8188
    token_file: options.TokenFile = None
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host",
            metavar="NAME",
            help="Another name under which clients reach this server; repeatable.",
            rich_help_panel=SERVER,
        ),
    ] = None
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(
            "--cors-origin",
            metavar="ORIGIN",
            help="Let web pages from there use this server, as https://example.org; repeatable.",
            rich_help_panel=SERVER,
        ),
    ] = None
    public_url: Annotated[
        str | None,
        typer.Option(
            "--public-url",
            metavar="URL",
            help="What the URLs of pictures begin with, if clients reach this server through another one.",
            rich_help_panel=SERVER,
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweringOptions:
    """How a server answers."""

    alias: Annotated[
        list[str] | None,
        typer.Option(
            "--alias", metavar="NAME=MODEL", help="Another name for a model; repeatable.", rich_help_panel=SERVER
        ),
    ] = None
    no_aliases: Annotated[
        bool,
        typer.Option(
            "--no-aliases",
            help="Refuse dall-e-2, dall-e-3, gpt-image-1 and the like, which stand for --model.",
            rich_help_panel=SERVER,
        ),
    ] = False
    strict_size: Annotated[
        bool,
        typer.Option(
            "--strict-size",
            help="Refuse sizes that the model does not paint, instead of resampling.",
            rich_help_panel=SERVER,
        ),
    ] = False
    queue: Annotated[
        int,
        typer.Option(
            "--queue",
            metavar="N",
            help="How many pictures may wait; who comes then is told to try again.",
            rich_help_panel=SERVER,
        ),
    ] = 32
    timeout: Annotated[
        float,
        typer.Option(
            "--timeout",
            metavar="S",
            help="Seconds for which a request may wait and be painted.",
            rich_help_panel=SERVER,
        ),
    ] = 600.0
    drain: Annotated[
        float,
        typer.Option(
            "--drain",
            metavar="S",
            help="Seconds for what is waiting when the server is asked to end; a second Ctrl-C ends it at once.",
            rich_help_panel=SERVER,
        ),
    ] = 60.0
    log_prompts: Annotated[
        bool, typer.Option("--log-prompts", help="Write prompts into the log.", rich_help_panel=REPORTING)
    ] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PageOptions:
    """The page, and what it keeps."""

    pictures: Annotated[
        Path | None,
        typer.Option(
            "--pictures",
            metavar="DIR",
            help="Where the page keeps its pictures; a folder of dalle's own if not given.",
            rich_help_panel=OUTPUT,
        ),
    ] = None
    open: options.Open = False


@folded
def serve(
    *,
    model: options.ModelOptions,
    engine: options.EngineOptions,
    cluster: options.ClusterOptions,
    reach: ReachOptions,
    answering: AnsweringOptions,
    rewriting: options.RewriteOptions,
    page: PageOptions,
    reporting: options.Reporting,
) -> None:
    """Serve the images API of OpenAI on this machine, and a page to paint with.

    Programs that speak it paint here when their base URL is the one that is printed: generations, edits, variations.
    The page is at the same address without /v1.

    \b
    Examples:
      dalle serve
      dalle serve --open
      dalle serve --model karlo --port 8000
      dalle serve --host 0.0.0.0 --token-file token.txt
      dalle serve --ray auto
      dalle serve --rewrite-with http://127.0.0.1:11434/v1 llama3.2
    """
    check_extra()
    from dallecli.cli.browser import Browser
    from dallecli.cli.display import Display
    from dallecli.cluster.engine import ClusterEngine
    from dallecli.server.run import serve as run

    display = Display(quiet=reporting.quiet)
    log_to(display, debug=reporting.debug)
    serving = replace(_serving(model, reach, answering, page, display), rewriter=rewriting.rewriter())
    with Browser(serving.token, display) as browser, cluster.engine(engine, engine.engine, wide=True) as painting:
        if isinstance(painting, ClusterEngine):
            painting.join()  # what is wrong with a cluster is said before anybody asks
        engines = iter((painting, engine.engine()))

        def announce(found: "Announced") -> None:
            _announce(found, display, reporting)
            if page.open:
                browser.show(found.page)

        run(serving, lambda: next(engines), announce)


_MODULES = ("starlette", "uvicorn", "python_multipart")
"""What the packages of the extra are called when they are imported."""


def check_extra() -> None:
    """Raises MissingExtra."""
    from importlib.util import find_spec

    from dallecli.installation import extra_command

    missing = [name for name in _MODULES if find_spec(name) is None]
    if missing:
        raise MissingExtra(f"a server needs {', '.join(missing)}", hint=extra_command("serve"))


def _serving(
    model: options.ModelOptions,
    reach: ReachOptions,
    answering: AnsweringOptions,
    page: PageOptions,
    display: "Display",
) -> "Serving":
    """What was chosen. Raises BadSetting."""
    from dallecli.server.serving import Serving, read_aliases

    defaults = {name: value for name, value in (("device", model.device), ("dtype", model.dtype)) if value is not None}
    return Serving(
        model=model.model,
        defaults=defaults,
        host=reach.host,
        port=reach.port,
        token=token_of(reach.token_file, display),
        hosts=tuple(reach.allow_host or ()),
        origins=tuple(reach.cors_origin or ()),
        public_url=reach.public_url,
        aliases=read_aliases(answering.alias or []),
        known_aliases=not answering.no_aliases,
        strict_size=answering.strict_size,
        queue=answering.queue,
        drain=answering.drain,
        timeout=answering.timeout,
        log_prompts=answering.log_prompts,
        pictures=page.pictures,
    )


def token_of(file: Path | None, display: "Display") -> str | None:
    """The token in the file or the environment. It is no option: command lines can be read by others."""
    from dallecli.remote.token import find_token

    token, doubt = find_token(file)
    if doubt is not None:
        display.warn(doubt)
    return token


class _Log(logging.Handler):
    """What the server has to say, on standard error, each a line; what led to a mistake only for --debug."""

    def __init__(self, display: "Display", *, debug: bool) -> None:
        super().__init__(logging.INFO)
        self._display = display
        self._debug = debug

    def emit(self, record: logging.LogRecord) -> None:
        import traceback

        from dallecli.safe import safe

        text = safe(record.getMessage(), 1000)
        self._display.say(text if record.levelno < logging.WARNING else f"warning: {text}")
        error = record.exc_info[1] if self._debug and record.exc_info is not None else None
        for line in "".join(traceback.format_exception(error)).splitlines() if error is not None else ():
            self._display.say(safe(line, None))


def log_to(display: "Display", *, debug: bool) -> None:
    ours = logging.getLogger("dallecli")
    ours.handlers = [_Log(display, debug=debug)]
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)  # whatever it says, we say
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)


def _announce(found: "Announced", display: "Display", reporting: options.Reporting) -> None:
    """Say where the server is: the base URL for programs is the result."""
    from dallecli.cli.display import emit_json, emit_line

    base = f"{found.url}/v1"
    if reporting.json:
        emit_json({"url": base, "page": found.page, "model": found.model})
    else:
        emit_line(base)
    display.say(f"serving {found.model}: OPENAI_BASE_URL={base}; the page is {found.page}; Ctrl-C ends it")
