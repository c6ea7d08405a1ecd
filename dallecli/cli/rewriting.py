"""`--rewrite`: who has prompts rewritten in a command, and what is said of it."""

from typing import TYPE_CHECKING, cast

from dallecli.cli.display import Display
from dallecli.cli.options import PaintingOptions
from dallecli.engine import Engine
from dallecli.safe import safe

if TYPE_CHECKING:
    from dallecli.rewriting.rewriter import Rewriter


def rewriting(engine: Engine, painting: PaintingOptions) -> Engine:
    """The engine that has prompts rewritten as the options say; without them, the given one.

    A dry run asks nobody. Raises BadSetting, BadConfig.
    """
    rewriter = painting.rewriting.rewriter()
    if rewriter is None:
        return engine
    announce(rewriter, painting)
    if painting.reporting.dry_run:
        return unasked(engine)
    from dallecli.rewriting.engine import RewritingEngine

    return cast(Engine, RewritingEngine(engine, rewriter))


def unasked(engine: Engine) -> Engine:
    """The engine that takes sentences which are to be rewritten, and asks nobody yet."""
    from dallecli.rewriting.engine import UnaskedEngine

    return cast(Engine, UnaskedEngine(engine))


def announce(rewriter: "Rewriter", painting: PaintingOptions) -> None:
    """Say who is asked: it may take a while, and prompts leave this program."""
    who = f"{safe(rewriter.endpoint.model, 60)} at {safe(rewriter.endpoint.url, 200)}"
    asks = "would rewrite the prompts; a dry run asks nobody" if painting.reporting.dry_run else "rewrites the prompts"
    Display(quiet=painting.reporting.quiet).say(f"{who} {asks}")
