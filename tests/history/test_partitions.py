import pytest
from django.core.management import call_command
from django.db import connection

from apps.history import partitions, services
from apps.history.models import TokenAcquisitionHistory
from apps.history.periods import month_of
from tests.history.factories import NOON, make_record

MONTH = month_of(NOON)


def partition_of(row) -> str:
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT tableoid::regclass::text FROM {partitions.TABLE} WHERE id = %s", [row.pk]
        )
        return cursor.fetchone()[0]


@pytest.fixture
def on_postgresql(no_month_yet):
    if connection.vendor != "postgresql":
        pytest.skip("partitions are of PostgreSQL")


@pytest.mark.django_db
def test_only_postgresql_is_partitioned():
    assert partitions.is_partitioned() == (connection.vendor == "postgresql")
    assert bool(partitions.existing()) == (connection.vendor == "postgresql")


@pytest.mark.django_db
def test_a_new_partition_takes_the_rows_of_its_month_out_of_the_default_one(on_postgresql):
    services.record(make_record())
    row = TokenAcquisitionHistory.objects.get()
    assert partition_of(row) == partitions.DEFAULT
    assert partitions.ensure([MONTH]) == ["history_p2026_03"]
    assert partition_of(row) == "history_p2026_03"
    assert partitions.ensure([MONTH]) == []


@pytest.mark.django_db
def test_a_row_goes_to_the_partition_of_its_month(on_postgresql):
    partitions.ensure([MONTH])
    services.record(make_record())
    assert partition_of(TokenAcquisitionHistory.objects.get()) == "history_p2026_03"


@pytest.mark.django_db
def test_the_unique_constraint_and_indexes_are_on_every_partition(on_postgresql):
    partitions.ensure([MONTH])
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT tablename, count(*) FROM pg_indexes WHERE tablename LIKE 'history\\_p%' "
            "GROUP BY tablename"
        )
        counts = dict(cursor.fetchall())
    assert set(counts.values()) == {8}


@pytest.mark.django_db(transaction=True)
def test_rows_survive_the_migration_back_and_forth():
    services.record(make_record())
    try:
        call_command("migrate", "history", "0001", verbosity=0)
        assert not partitions.is_partitioned()
        services.record(make_record())
    finally:
        call_command("migrate", "history", verbosity=0)
    services.record(make_record())
    assert TokenAcquisitionHistory.objects.count() == 3
    assert len(set(TokenAcquisitionHistory.objects.values_list("pk", flat=True))) == 3


@pytest.mark.django_db(transaction=True)
def test_a_migration_does_not_fail_because_somebody_reads(reader):
    with reader.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {partitions.TABLE}")
        call_command("migrate", verbosity=0)
        assert partitions.existing() == {}
    reader.rollback()
    call_command("migrate", verbosity=0)
    assert partitions.existing()


@pytest.mark.django_db
def test_models_and_migrations_agree():
    call_command("makemigrations", "history", check=True, dry_run=True, verbosity=0)
