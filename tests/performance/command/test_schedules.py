"""The queue's schedules: what installs them, and what each does."""

import io

import pytest
from django.core.management import call_command
from django_q.models import Schedule

from apps.common.clock import now
from apps.common.errors import ValidationFailed
from apps.history.models import TokenAcquisitionHistory
from apps.performance.management.commands.install_schedules import SCHEDULES
from apps.performance.models import MetricReset
from apps.performance.services import upkeep
from tests.performance.command.rows import old_record, workers_answer


def install(*words):
    out = io.StringIO()
    call_command("install_schedules", *words, stdout=out)
    return out.getvalue()


def test_schedules_are_installed_once_and_keep_what_somebody_changed():
    install()
    Schedule.objects.filter(name="upkeep: clean up").update(cron="0 1 * * *")

    text = install()

    assert Schedule.objects.count() == len(SCHEDULES)
    assert text.count("kept") == len(SCHEDULES)
    assert Schedule.objects.get(name="upkeep: clean up").cron == "0 1 * * *"
    assert all(row.next_run > now() for row in Schedule.objects.all())


def test_schedules_can_be_put_back_and_removed():
    install()
    Schedule.objects.update(cron="0 1 * * *")

    install("--reset")
    assert {row.cron for row in Schedule.objects.all()} == {cron for cron, _ in SCHEDULES.values()}

    install("--remove")
    assert not Schedule.objects.exists()


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_runs_what_it_says(name):
    workers_answer()
    _cron, arguments = SCHEDULES[name]

    done = upkeep.run_scheduled(**arguments)

    assert {step.flag for step in upkeep.discover() if step.name in done} == set(arguments["flags"])


def test_a_schedule_with_a_misspelt_flag_fails():
    with pytest.raises(ValidationFailed, match="No step has the flag cleanup_day"):
        upkeep.run_scheduled(["cleanup_day"])


def test_a_schedule_that_fails_says_so(broken_step):
    with pytest.raises(RuntimeError, match="broken"):
        upkeep.run_scheduled(["cleanup_days"])


def test_a_schedule_may_name_a_folder_for_the_archive(tmp_path):
    old_record()

    upkeep.run_scheduled(["cleanup_days"], cleanup_days=30, archive_to=str(tmp_path))

    assert list(tmp_path.glob("*.jsonl.gz"))


def test_a_schedule_with_a_folder_without_a_name_fails():
    old_record()

    with pytest.raises(ValueError, match="needs a name"):
        upkeep.run_scheduled(["cleanup_days"], cleanup_days=30, archive_to="")

    assert TokenAcquisitionHistory.objects.count() == 1


def test_a_schedule_tells_that_another_run_is_under_way():
    with upkeep.hold():
        told = upkeep.run_scheduled(["reset_metrics"])

    assert "nothing was done" in told["upkeep"]
    assert not MetricReset.objects.exists()
