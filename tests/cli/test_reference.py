"""The reference pages in the repository are what the code says now."""

from pathlib import Path

import pytest

from dallecli import limits
from dallecli.cli.reference import command_line, error_table, limits_page

PAGES = Path(__file__).parents[2] / "docs" / "reference"


@pytest.mark.parametrize(
    ("name", "write"), [("cli.md", command_line), ("errors.md", error_table), ("limits.md", limits_page)]
)
def test_pages_are_up_to_date(name, write):
    text = (PAGES / name).read_text(encoding="utf-8")
    assert text == write(), "run: python -m dallecli.cli.reference docs/reference"


def test_every_bound_is_in_the_reference():
    units = {"KIB", "MIB", "GIB", "TABLE"}
    bounds = {name for name in vars(limits) if name.isupper() and not name.startswith("_")} - units
    assert bounds == {name for rows in limits.TABLE.values() for name in rows}
