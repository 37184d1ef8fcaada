"""import_sites and export_sites: whole or not at all, with lines, and without secrets."""

import io
import os
import stat

import pytest
from django.core.management import CommandError, call_command

from apps.tokens.models import Account, Site
from tests.tokens.factories import make_account, make_site

FILE = """\
sites:
  - slug: shop
    name: Shop
    connector: http_recipe
    allowed_hosts: [shop.example]
    recipe:
      version: 1
      steps:
        - name: login
          method: POST
          url: https://shop.example/login
          json: {user: "${username}", word: "${password}"}
          capture: {token: {jmespath: token}}
      token: {bearer: "${token}"}
    accounts:
      - username: alice
        labels: [eu]
        secrets: {password: import-word-1}
      - username: bob
"""


@pytest.fixture(autouse=True)
def scripted(settings, db, tmp_path):
    settings.LATCHKEY_CONNECTORS = {"scripted": "tests.tokens.scripted.ScriptedConnector"}
    settings.LATCHKEY_AUDIT_DIR = tmp_path / "audit"


@pytest.fixture
def write(tmp_path):
    def make(text):
        path = tmp_path / "sites.yaml"
        path.write_text(text)
        return str(path)

    return make


def run(*arguments):
    out = io.StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


def test_a_file_makes_sites_and_accounts(write):
    assert run("import_sites", write(FILE)) == "3 created, 0 changed, 0 as they were.\n"
    site = Site.objects.get()
    assert (site.slug, site.allowed_hosts) == ("shop", ["shop.example"])
    assert {row.username: row.secrets for row in site.accounts.all()} == {
        "alice": {"password": "import-word-1"},
        "bob": {},
    }


def test_the_second_time_nothing_changes(write):
    run("import_sites", write(FILE))
    before = list(Site.objects.values()) + list(Account.objects.values())
    assert run("import_sites", write(FILE)) == "0 created, 0 changed, 3 as they were.\n"
    assert list(Site.objects.values()) + list(Account.objects.values()) == before


def test_an_entry_without_secrets_keeps_them(write):
    run("import_sites", write(FILE))
    run("import_sites", write(FILE.replace("        secrets: {password: import-word-1}\n", "")))
    assert Account.objects.get(username="alice").secrets == {"password": "import-word-1"}


def test_new_secrets_begin_a_new_version(write):
    run("import_sites", write(FILE))
    told = run("import_sites", write(FILE.replace("word-1", "word-2")))
    assert told == "0 created, 1 changed, 2 as they were.\n"
    account = Account.objects.get(username="alice")
    assert (account.secrets, account.credential_version) == ({"password": "import-word-2"}, 2)


def test_secrets_sealed_with_a_lost_key_are_brought_back(write, settings):
    run("import_sites", write(FILE))
    settings.LATCHKEY_KEYS = "t2:" + "QkJC" * 10 + "QkI="
    assert run("import_sites", write(FILE)) == "0 created, 1 changed, 2 as they were.\n"
    assert Account.objects.get(username="alice").secrets == {"password": "import-word-1"}


def test_a_dry_run_changes_nothing(write):
    told = run("import_sites", write(FILE), "--dry-run")
    assert told == "3 would be created, 0 would be changed, 0 as they were.\n"
    assert not Site.objects.exists()


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("name: Shop", "nmae: Shop", "line 3: sites[0].nmae: Unknown"),
        ("slug: shop", "slug: Not Good", "line 2: sites[0].slug: Use a-z"),
        ("http_recipe", "telepathy", "line 4: sites[0].connector: There is no"),
        ("method: POST", "method: SHOUT", "line 10: "),
        ("[shop.example]", "5", "allowed_hosts"),
        ("[eu]", "[eu", "line "),
        ("{password: import-word-1}", "[import-word-1]", "line 18: sites[0].accounts[0].secrets"),
        ("- username: bob", "- name: bob", "line 19: sites[0].accounts[1].name: Unknown"),
        ("slug: shop", "slug: [shop]", "line 2: sites[0].slug"),
        ("connector: http_recipe", "default_ttl_s: 0\n    connector: http_recipe", "default_ttl_s"),
        ("connector: http_recipe", "enabled: often\n    connector: http_recipe", "enabled"),
    ],
)
def test_an_error_names_its_line_and_nothing_is_changed(write, old, new, told):
    make_account(make_site("shop", name="Before"))
    with pytest.raises(CommandError) as raised:
        run("import_sites", write(FILE.replace(old, new, 1)))
    assert told in str(raised.value)
    assert "import-word-1" not in str(raised.value)
    assert (Site.objects.get().name, Account.objects.count()) == ("Before", 1)


@pytest.mark.parametrize(
    "content", [b"", b"sites: 5", b"- slug", b"\xff\xfe", b"sites: !!python/x"]
)
def test_a_file_that_is_no_site_file_is_refused(tmp_path, content):
    path = tmp_path / "odd.yaml"
    path.write_bytes(content)
    with pytest.raises(CommandError):
        run("import_sites", str(path))
    with pytest.raises(CommandError):
        run("import_sites", str(tmp_path / "absent.yaml"))


def test_an_export_is_read_back_as_it_was(write, tmp_path):
    run("import_sites", write(FILE))
    target = tmp_path / "out.yaml"
    run("export_sites", "--output", str(target))
    text = target.read_text()
    assert "import-word-1" not in text
    assert run("import_sites", str(target)) == "0 created, 0 changed, 3 as they were.\n"


def test_an_export_with_secrets_restores_an_empty_database(write, tmp_path, settings):
    run("import_sites", write(FILE))
    target = tmp_path / "out.yaml"
    run("export_sites", "--with-secrets", "--output", str(target))
    Site.objects.all().delete()
    run("import_sites", str(target))
    assert Account.objects.get(username="alice").secrets == {"password": "import-word-1"}
    (journal,) = settings.LATCHKEY_AUDIT_DIR.glob("*.open")
    assert '"with_secrets":true' in journal.read_text()


def test_an_export_is_readable_by_its_owner_only(write, tmp_path):
    run("import_sites", write(FILE))
    target = tmp_path / "out.yaml"
    target.touch()
    target.chmod(0o644)
    before = os.umask(0)
    try:
        run("export_sites", "--output", str(target))
    finally:
        os.umask(before)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_single_sites_are_exported():
    make_site("one")
    make_site("two")
    assert "two" not in run("export_sites", "one")
    with pytest.raises(CommandError, match="no site 'three'"):
        run("export_sites", "three")


def test_a_proxy_with_its_password_is_a_secret_of_the_export():
    make_site(proxy="http://u:proxy-word@p:1")
    assert "proxy-word" not in run("export_sites")
    assert "proxy-word" in run("export_sites", "--with-secrets")
