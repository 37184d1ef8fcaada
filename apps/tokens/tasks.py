"""What the queue calls. Payloads carry names of clusters, never anything of an account."""

from apps.common.clock import database_now
from apps.tokens.models import ClusterBeat
from apps.tokens.services import worker


def drain(cluster: str) -> int:
    """Serve a cluster's queues for a while; return how many logins were made."""
    return worker.drain(cluster).logins


def beat(cluster: str, host: str) -> None:
    """Answer a supervisor: tasks of this cluster run."""
    ClusterBeat.objects.filter(cluster=cluster, host=host).update(answered_at=database_now())
