"""Telling the queue that there may be work. A hint that is lost or doubled changes nothing."""

from typing import Final

import structlog
from django.conf import settings
from django.db import DatabaseError
from django_q.brokers import get_broker
from django_q.tasks import async_task

log = structlog.get_logger(__name__)

DRAIN: Final = "apps.tokens.tasks.drain"
DEFAULT_CLUSTER: Final = "default"


def cluster_of(queue: str) -> str:
    """Return the django-q2 cluster that serves a queue."""
    return str(settings.LATCHKEY_QUEUES.get(queue, DEFAULT_CLUSTER))


def queues_of(cluster: str) -> list[str]:
    """Return the queues a cluster serves."""
    from apps.tokens.models.requests import Queue  # models load after settings

    return [queue for queue in Queue.values if cluster_of(queue) == cluster]


def clusters() -> list[str]:
    """Return every cluster that serves a queue, the default one first."""
    named = {cluster_of(queue) for queue in settings.LATCHKEY_QUEUES}
    return [DEFAULT_CLUSTER, *sorted(named - {DEFAULT_CLUSTER})]


def send(queue: str) -> bool:
    """Queue a drain for the cluster that serves this queue; see `send_to`."""
    return send_to(cluster_of(queue))


def send_to(cluster: str) -> bool:
    """Queue a drain for a cluster, unless enough are waiting; never raises.

    A failure is only logged: the supervisor's tick and lingering drains find the row anyway.
    """
    try:
        broker = get_broker(cluster)
        if broker.queue_size() >= settings.LATCHKEY_WORKERS:
            return False
        async_task(DRAIN, cluster, cluster=cluster, broker=broker, task_name="drain", save=False)
    except DatabaseError as error:
        log.warning("hint_failed", cluster=cluster, error=type(error).__name__)
        return False
    return True
