from django.apps import AppConfig


class CachingConfig(AppConfig):
    name = "apps.caching"
    label = "caching"

    def ready(self) -> None:
        from apps.caching import signals  # noqa: F401 — connects the receivers
