"""The commands of the documents do what they say, as far as an empty installation lets them."""

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command

from apps.access.models import ApiKey
from apps.access.services import issue_key
from apps.common.clock import now
from apps.history import services as history
from apps.history.models import TokenAcquisitionHistory
from apps.history.services.archive import Archive
from apps.tokens.models import ClusterBeat
from tests.history.factories import make_record
from tests.test_docs import TYPED, managed
from tests.tokens.factories import make_site

# Those that end by themselves, ask nobody, and change nothing outside a database and a folder.
HARMLESS = {
    "history_cleanup", "history_export", "history_restore", "issue_key", "optimize_performance",
    "revoke_key", "score_forecast", "simulate_limits",
}  # fmt: skip
# The quickstart is run as a whole.
RUN = [
    typed
    for typed in TYPED
    if HARMLESS & {*managed(typed)[:1]} and typed.place != "docs/quickstart.md"
]


@pytest.fixture
def examples(db, settings, tmp_path, monkeypatch):
    """What the examples speak of: a site, a record, an archive, a key; and workers, to be well."""
    settings.LATCHKEY_AUDIT_DIR = tmp_path / "audit"
    settings.LATCHKEY_CONNECTORS = {"scripted": "tests.tokens.scripted.ScriptedConnector"}
    monkeypatch.chdir(tmp_path)
    make_site("court_zxfw")
    history.record(make_record(site="court_zxfw", account="clerk"))
    archive = Archive(tmp_path / "archive", at=now())
    archive.append(TokenAcquisitionHistory.objects.all())
    archive.close()
    archive.path.rename(archive.path.with_name("history-20260401T020000000000-4711.jsonl.gz"))
    ClusterBeat.objects.create(cluster="default", host="h", asked_at=now(), answered_at=now())
    user = get_user_model().objects.create_user("reports")
    key, _ = issue_key(user_id=user.pk, name="old", scopes=(), grants=(), issuer=None)
    ApiKey.objects.filter(pk=key.pk).update(prefix="1a2b3c4d")


@pytest.mark.parametrize("typed", RUN, ids=str)
def test_a_documented_command_does_what_it_says(examples, typed):
    call_command(*managed(typed))


def test_every_harmless_command_is_in_the_documents():
    assert {managed(typed)[0] for typed in RUN} == HARMLESS
