"""`manage.py shell`: Django's, where the dataclasses of the documents can be pasted as they are."""

from django.core.management.commands import shell


class Command(shell.Command):
    def get_auto_imports(self) -> list[str]:
        """Return what is imported at the start: the models, and `dataclass`."""
        return [*(super().get_auto_imports() or ()), "dataclasses.dataclass"]
