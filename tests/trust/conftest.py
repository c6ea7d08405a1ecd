"""What every trust test starts from."""

from cli.conftest import dalle, settings  # noqa: F401  # fixtures
