import json
from io import StringIO

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command

from apps.access import services
from apps.access.contracts import Grant, Scope
from apps.access.models import ApiKey, AuditEntry
from apps.common.errors import NotAuthenticated


def run(*arguments):
    out = StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


def test_issue_key_prints_the_key(user):
    raw = run("issue_key", "job", "--user", "ann", "--site", "shop,bob", "--site", "*").strip()
    principal = services.authenticate(raw)
    assert principal.scopes == {"tokens:read"}
    assert principal.grants == (Grant(site="*"), Grant(site="shop", account="bob"))


def test_issue_key_prints_an_object(db):
    made = json.loads(
        run("issue_key", "job", "--user", "new", "--create-user", "--scopes", "all", "--json")
    )
    assert services.authenticate(made["key"]).scopes == set(Scope)
    assert not get_user_model().objects.get(username="new").has_usable_password()


def test_issue_key_sets_an_end(user):
    raw = run("issue_key", "job", "--user", "ann", "--expires-days", "7").strip()
    key = ApiKey.objects.get()
    assert round((key.expires_at - key.created_at).total_seconds()) == 7 * 86_400
    assert services.authenticate(raw).expires_at == key.expires_at


@pytest.mark.parametrize(
    "arguments",
    [["--user", "nobody"], ["--user", "ann", "--scopes", "x"], ["--user", "ann", "--site", ","]],
)
def test_issue_key_refuses(user, arguments):
    with pytest.raises(CommandError):
        run("issue_key", "job", *arguments)
    assert not ApiKey.objects.exists()


def test_revoke_key_takes_the_prefix(issue):
    key, raw = issue()
    assert "revoked" in run("revoke_key", key.prefix)
    assert "before" in run("revoke_key", f"lk_{key.prefix}")
    with pytest.raises(NotAuthenticated):
        services.authenticate(raw)
    with pytest.raises(CommandError):
        run("revoke_key", "00000000")


def test_the_command_line_is_in_the_audit(issue):
    issue()
    assert json.loads(run("import_audit", "--json"))["imported"] == 1
    entry = AuditEntry.objects.get()
    assert (entry.kind, entry.principal_kind) == ("key_issued", "operator")
