from django.apps import AppConfig
from django.conf import settings


class CommonConfig(AppConfig):
    name = "apps.common"
    label = "common"

    def ready(self) -> None:
        # Imported late: they read settings, or import what does.
        from apps.common import (
            checks,  # noqa: F401  # registers the system checks
            tracing,
        )
        from apps.common.uncaught import log_uncaught

        log_uncaught()
        if settings.LATCHKEY_TRACES_ENDPOINT:
            tracing.enable(
                tracing.Options(
                    endpoint=settings.LATCHKEY_TRACES_ENDPOINT,
                    headers=settings.LATCHKEY_TRACES_HEADERS,
                    service=settings.LATCHKEY_TRACES_SERVICE,
                    version=str(settings.SPECTACULAR_SETTINGS["VERSION"]),
                    ratio=settings.LATCHKEY_TRACES_RATIO,
                )
            )
