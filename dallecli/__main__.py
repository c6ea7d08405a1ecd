"""`python -m dallecli` is `dalle`."""

from dallecli.cli.app import main

main()
