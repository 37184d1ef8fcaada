"""`manage.py optimize_token_performance`: the older name of `optimize_performance`."""

from apps.performance.management.commands.optimize_performance import Command

__all__ = ["Command"]
