"""What is known of a model that writes codes, before its weights are read. No torch here."""

from dallecli.errors import TaskNotSupported
from dallecli.pipelines.description import Description
from dallecli.tasks.generate import Generate
from dallecli.tasks.task import ModelRequest


class TokenDescription(Description):
    """A model that writes a picture as codes: there is no noise from which it could paint another one over."""

    def check_request(self, request: ModelRequest) -> None:
        """Refuse what the model has no parts for. Raises TaskNotSupported, BadSetting."""
        super().check_request(request)
        if isinstance(request, Generate) and request.init is not None:
            what = f"{self.spec.name} writes a picture code by code, and paints over no other"
            hint = "leave out --init" if self.rows is None else "--continue keeps the upper rows of a picture"
            raise TaskNotSupported(what, hint=hint)
