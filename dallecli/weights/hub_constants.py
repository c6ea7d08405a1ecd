"""The settings that huggingface_hub reads from the environment, where it can read them."""

from types import ModuleType

from dallecli.errors import BadConfig


def hub_constants() -> ModuleType:
    """huggingface_hub's settings. It stumbles over numbers that are none when it is first imported: BadConfig then."""
    try:
        from huggingface_hub import constants
    except ValueError as error:
        hint = "see HF_HUB_ETAG_TIMEOUT and HF_HUB_DOWNLOAD_TIMEOUT"
        raise BadConfig(f"an HF_ variable is not the number that it should be: {error}", hint=hint) from error
    return constants
