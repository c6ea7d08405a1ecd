"""The reference pages in the repository are what the code says now."""

from pathlib import Path

import pytest

from dallecli.cli.reference import command_line, error_table

PAGES = Path(__file__).parents[2] / "docs" / "reference"


@pytest.mark.parametrize(("name", "write"), [("cli.md", command_line), ("errors.md", error_table)])
def test_pages_are_up_to_date(name, write):
    text = (PAGES / name).read_text(encoding="utf-8")
    assert text == write(), "run: python -m dallecli.cli.reference docs/reference"
