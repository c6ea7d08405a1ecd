"""What is known of a CLIP that stands alone, before its weights are read. No torch here."""

from dallecli.errors import TaskNotSupported
from dallecli.pipelines.unclip_description import UnClipDescription
from dallecli.tasks.embed import Embed
from dallecli.tasks.task import ModelRequest, Request


class ClipDescription(UnClipDescription):
    """A CLIP that was found and checked. It sees and reads, and has nothing that paints or imagines."""

    def check_request(self, request: ModelRequest) -> None:
        """Refuse what takes more than two towers. Raises TaskNotSupported."""
        if isinstance(request, Request):
            raise TaskNotSupported(f"{self.spec.name} cannot {request.task}", hint=self.abilities)
        if isinstance(request, Embed) and (request.imagine or request.invert):
            option, why = ("--imagine", "a prior") if request.imagine else ("--invert", "a decoder")
            what = f"{self.spec.name} has no {why.removeprefix('a ')}, which {option} needs"
            raise TaskNotSupported(what, hint=f"use a model that paints, or leave out {option}")
        super().check_request(request)
