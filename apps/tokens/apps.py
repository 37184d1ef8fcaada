from django.apps import AppConfig
from django.core.checks import register


class TokensConfig(AppConfig):
    name = "apps.tokens"
    label = "tokens"

    def ready(self) -> None:
        # Imported late: the registry reads settings, the jobs need the models.
        from apps.tokens import jobs  # noqa: F401 - registers them
        from apps.tokens.connectors.registry import check_connectors

        register(check_connectors)
