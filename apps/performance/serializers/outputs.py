"""Answers of the performance API. Durations in seconds, rates from 0 to 1."""

from typing import Any

from rest_framework import serializers

from apps.common.output import RowOutput
from apps.performance.models import MetricBucket, MetricReset, SystemSample


class DistributionOutput(serializers.Serializer[Any]):
    n = serializers.IntegerField()
    mean = serializers.FloatField(allow_null=True)
    min = serializers.FloatField(allow_null=True)
    max = serializers.FloatField(allow_null=True)
    p50 = serializers.FloatField(allow_null=True)
    p95 = serializers.FloatField(allow_null=True)
    p99 = serializers.FloatField(allow_null=True)


class TrendOutput(serializers.Serializer[Any]):
    name = serializers.CharField()
    count = serializers.IntegerField()
    before = serializers.IntegerField()


class RecentErrorOutput(serializers.Serializer[Any]):
    at = serializers.DateTimeField()
    site = serializers.CharField()
    account = serializers.CharField()
    code = serializers.CharField()
    message = serializers.CharField()
    blame = serializers.CharField()


class MetricsOutput(serializers.Serializer[Any]):
    since = serializers.DateTimeField()
    until = serializers.DateTimeField()
    site = serializers.CharField(allow_null=True)
    total = serializers.IntegerField()
    success = serializers.IntegerField()
    failed = serializers.IntegerField()
    cancelled = serializers.IntegerField()
    timeout_errors = serializers.IntegerField()
    network_errors = serializers.IntegerField()
    captcha_errors = serializers.IntegerField()
    credential_errors = serializers.IntegerField()
    success_rate = serializers.FloatField(allow_null=True)
    timeout_rate = serializers.FloatField(allow_null=True)
    total_s = DistributionOutput()
    login_s = DistributionOutput()
    queue_wait_s = DistributionOutput()
    store_s = DistributionOutput()
    retrieve_s = DistributionOutput()
    api_s = DistributionOutput()
    api_routes = serializers.DictField(child=DistributionOutput())
    error_types = TrendOutput(many=True)
    error_codes = TrendOutput(many=True)
    login_errors = TrendOutput(many=True)
    in_flight = serializers.IntegerField()
    queued = serializers.IntegerField()
    oldest_wait_s = serializers.FloatField(allow_null=True)
    handed_out = serializers.IntegerField()
    handed_out_cached = serializers.IntegerField()
    cache_hit_rate = serializers.FloatField(allow_null=True)
    recent_errors = RecentErrorOutput(many=True)


class PointOutput(serializers.Serializer[Any]):
    at = serializers.DateTimeField()
    count = serializers.IntegerField()
    values = DistributionOutput()


class SystemSampleOutput(RowOutput[SystemSample]):
    class Meta:
        model = SystemSample
        fields = "__all__"
        read_only_fields = [field.name for field in SystemSample._meta.fields]


class MetricBucketOutput(RowOutput[MetricBucket]):
    class Meta:
        model = MetricBucket
        fields = "__all__"
        read_only_fields = [field.name for field in MetricBucket._meta.fields]


class MetricResetOutput(RowOutput[MetricReset]):
    class Meta:
        model = MetricReset
        fields = ["id", "since", "by"]
        read_only_fields = fields


class ClusterOutput(serializers.Serializer[Any]):
    cluster = serializers.CharField()
    host = serializers.CharField()
    asked_at = serializers.DateTimeField()
    answered_at = serializers.DateTimeField(allow_null=True)


class ResourceUsageOutput(serializers.Serializer[Any]):
    """`processes` is the newest look at each process of the last half minute.

    `database_states` counts the connections of PostgreSQL by state (active, idle, …).
    """

    at = serializers.DateTimeField()
    cpu_percent = serializers.FloatField()
    memory_percent = serializers.FloatField()
    processes = SystemSampleOutput(many=True)
    database_connections = serializers.IntegerField(allow_null=True)
    database_connections_max = serializers.IntegerField(allow_null=True)
    database_states = serializers.DictField(child=serializers.IntegerField())
    database_ms = serializers.FloatField()
    redis = serializers.CharField()
    clusters = ClusterOutput(many=True)
    queue_depth = serializers.IntegerField()
    in_flight = serializers.IntegerField()
    workers = serializers.ListField(child=serializers.JSONField())


class CacheLayerOutput(serializers.Serializer[Any]):
    namespace = serializers.CharField()
    layer = serializers.CharField()
    hits = serializers.IntegerField()
    misses = serializers.IntegerField()
    hit_rate = serializers.FloatField(allow_null=True)
    negative_hits = serializers.IntegerField()
    stale_served = serializers.IntegerField()
    loads = serializers.IntegerField()
    load_ms = serializers.FloatField()
    errors = serializers.IntegerField()  # type: ignore[assignment]  # DRF keeps fields apart
    evictions = serializers.IntegerField()
    entries = serializers.IntegerField()
    bytes = serializers.IntegerField()


class CacheStatisticsOutput(serializers.Serializer[Any]):
    hit_rate = serializers.FloatField(allow_null=True)
    status = serializers.CharField()
    reasons = serializers.ListField(child=serializers.CharField())
    layers = CacheLayerOutput(many=True)


class ClearOutput(serializers.Serializer[Any]):
    cleared = serializers.CharField(help_text="The namespace, or * for all of them.")


class WarmUpOutput(serializers.Serializer[Any]):
    """`fresh` accounts needed nothing, `requested` logins were queued, others were `skipped`."""

    sites = serializers.ListField(child=serializers.CharField())
    accounts = serializers.IntegerField()
    fresh = serializers.IntegerField()
    requested = serializers.IntegerField()
    skipped = serializers.DictField(child=serializers.IntegerField())
    request_ids = serializers.ListField(child=serializers.UUIDField())


class WarmStateOutput(serializers.Serializer[Any]):
    """`fresh` are warm, `pending` are being logged in, `missing` neither; `progress` in percent."""

    sites = serializers.ListField(child=serializers.CharField())
    accounts = serializers.IntegerField()
    fresh = serializers.IntegerField()
    pending = serializers.IntegerField()
    missing = serializers.IntegerField()
    skipped = serializers.DictField(child=serializers.IntegerField())
    progress = serializers.IntegerField()


class CleanupOutput(serializers.Serializer[Any]):
    dead_owners = serializers.IntegerField()
    lost_attempts = serializers.IntegerField()
    expired_requests = serializers.IntegerField()
    stranded_requests = serializers.IntegerField()
    histories = serializers.IntegerField()
    skipped = serializers.BooleanField()
    metric_rows = serializers.IntegerField()
