"""`dalle probe`: experiments of the papers, each in a file of its own."""

import typer

from dallecli.cli.help import SectionedCommand
from dallecli.cli.probe_pca import pca
from dallecli.cli.probe_vocabulary import vocabulary

probe = typer.Typer(
    rich_markup_mode=None, help="Experiments of the papers: what a model and its CLIP know.", no_args_is_help=True
)
for _name, _command in {"pca": pca, "vocabulary": vocabulary}.items():
    probe.command(_name, cls=SectionedCommand)(_command)
