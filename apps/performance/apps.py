from django.apps import AppConfig


class PerformanceConfig(AppConfig):
    name = "apps.performance"
    label = "performance"

    def ready(self) -> None:
        # The services use models, which exist only now.
        from apps.performance import wiring

        wiring.connect()
