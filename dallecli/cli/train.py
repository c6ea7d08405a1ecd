"""`dalle train`: a model from pictures of your own, the starter, and how good a model is; each command has its file."""

import typer

from dallecli.cli.help import SectionedCommand
from dallecli.cli.train_evaluate import evaluate
from dallecli.cli.train_stages import COMMANDS
from dallecli.cli.train_starter import starter, starter_tokens

train = typer.Typer(
    rich_markup_mode=None, help="Train on your own pictures; train the starter, and measure it.", no_args_is_help=True
)
for _name, _command in {**COMMANDS, "starter": starter, "starter-tokens": starter_tokens, "evaluate": evaluate}.items():
    train.command(_name, cls=SectionedCommand)(_command)
