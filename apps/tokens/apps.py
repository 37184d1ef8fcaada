from django.apps import AppConfig
from django.core.checks import register


class TokensConfig(AppConfig):
    name = "apps.tokens"
    label = "tokens"

    def ready(self) -> None:
        # Imported late: the registry reads settings.
        from apps.tokens.connectors.registry import check_connectors

        register(check_connectors)
