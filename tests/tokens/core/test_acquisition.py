"""A caller's way: from storage, or by one login shared with everybody who asks."""

import json
from datetime import timedelta

import pytest
from django.utils import timezone

from apps.access.contracts import Grant
from apps.access.journal import JOURNAL
from apps.common.errors import NotPermitted
from apps.history.models import TokenAcquisitionHistory
from apps.tokens.connectors import recipe_text
from apps.tokens.errors import NoAccountAvailable, SiteDisabled, UnknownAccount, UnknownSite
from apps.tokens.models import Account, Site, StoredToken, TokenRequest
from apps.tokens.services import accounts, acquisition, sites, waiting
from apps.tokens.services.acquisition import AcquireSpec, HandOut, Ticket
from tests.tokens import scripted
from tests.tokens.factories import caller, make_account, make_site
from tests.tokens.work import work


def obtain(*, principal=None, **spec):
    spec.setdefault("site", "court_zxfw")
    return acquisition.obtain(AcquireSpec(**spec), principal=principal or caller())


def token_of(ticket):
    work()
    return waiting.look([ticket])[ticket.request_id]


def test_the_first_caller_gets_a_ticket_and_the_login_serves_it():
    make_account(make_site())
    ticket = obtain()
    assert isinstance(ticket, Ticket)
    assert token_of(ticket).material.bearer == "token-1-alice"


def test_the_next_caller_has_the_token_from_storage_without_a_login():
    make_account(make_site())
    token_of(obtain())
    found = obtain()
    assert isinstance(found, HandOut)
    assert found.cached
    assert scripted.logins == ["alice"]


def test_callers_for_one_missing_token_share_one_request():
    make_account(make_site())
    tickets = {obtain(principal=caller(name=f"bot-{n}")).request_id for n in range(5)}
    work()
    assert len(tickets) == 1
    assert scripted.logins == ["alice"]


def test_any_and_named_account_together_cause_one_login():
    make_account(make_site())
    named, anyone = obtain(account="alice"), obtain()
    assert named.request_id != anyone.request_id
    work()
    found = waiting.look([named, anyone])
    assert found[named.request_id].fingerprint == found[anyone.request_id].fingerprint
    assert scripted.logins == ["alice"]


def test_a_finished_request_has_one_history_row():
    make_account(make_site())
    ticket = obtain()
    work()
    row = TokenAcquisitionHistory.objects.get(request_id=ticket.request_id)
    assert (row.status, row.attempts, row.trigger_reason) == ("success", 1, "no_token")
    assert row.token_fingerprint == StoredToken.objects.get().fingerprint


def test_every_hand_out_writes_an_audit_line(monkeypatch):
    lines = []
    monkeypatch.setattr(JOURNAL, "append", lines.append)
    make_account(make_site())
    token_of(obtain())
    obtain(purpose="file case 7")
    assert len(lines) == 1
    assert b"file case 7" in lines[0]
    assert b"token-1" not in lines[0]


def test_force_asks_for_a_newer_token_once_for_all_who_force():
    make_account(make_site())
    token_of(obtain())
    first, second = obtain(force=True), obtain(force=True)
    assert first.request_id == second.request_id
    assert token_of(first).version == 2
    assert scripted.logins == ["alice", "alice"]


def test_force_with_a_version_that_was_replaced_needs_no_login():
    make_account(make_site())
    token_of(obtain())
    token_of(obtain(force=True))
    found = obtain(force=True, known_version=1)
    assert isinstance(found, HandOut)
    assert len(scripted.logins) == 2


def test_min_ttl_beyond_what_the_site_gives_is_said_and_causes_no_second_login():
    make_account(make_site(recipe={"ttl_s": 600}))
    token_of(obtain())
    found = obtain(min_ttl_s=86_400)
    assert isinstance(found, HandOut)
    assert found.ttl_unattainable
    assert len(scripted.logins) == 1


def test_too_short_a_rest_of_life_starts_a_login():
    make_account(make_site())
    token_of(obtain())
    end = timezone.now() + timedelta(seconds=400)
    StoredToken.objects.update(usable_until=end, refresh_after=end)
    assert isinstance(obtain(min_ttl_s=1200), Ticket)


def test_in_the_refresh_window_the_token_is_served_and_one_refresh_is_queued():
    make_account(make_site())
    token_of(obtain())
    StoredToken.objects.update(refresh_after=timezone.now())
    obtain()
    from apps.caching import services as cache

    cache.clear_all()
    found = obtain()
    assert isinstance(found, HandOut)
    assert found.refreshing
    obtain()
    assert TokenRequest.objects.filter(reason="refresh_ahead").count() == 1
    work()
    assert len(scripted.logins) == 2


def test_a_failed_refresh_keeps_the_old_token():
    make_account(make_site(recipe={"fail": ["", "SiteUnavailable"]}))
    token_of(obtain())
    from apps.caching import services as cache

    StoredToken.objects.update(refresh_after=timezone.now())
    cache.clear_all()
    obtain()
    work()
    assert isinstance(obtain(), HandOut)


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ({"site": "nowhere"}, UnknownSite),
        ({"account": "nobody"}, UnknownAccount),
    ],
)
def test_what_is_not_there_is_said_and_nothing_is_written(spec, error):
    make_account(make_site())
    with pytest.raises(error):
        obtain(**spec)
    assert not TokenRequest.objects.exists()


def test_a_disabled_site_is_said():
    make_account(make_site(enabled=False))
    with pytest.raises(SiteDisabled):
        obtain()


def test_a_site_without_a_usable_account_refuses_at_once():
    make_account(make_site(), enabled=False)
    with pytest.raises(NoAccountAvailable) as raised:
        obtain()
    assert raised.value.details == {"reasons": {"account_disabled": 1}}


def test_without_a_grant_a_site_does_not_exist():
    make_account(make_site())
    with pytest.raises(UnknownSite):
        obtain(principal=caller(Grant(site="other")))


def test_without_the_scope_nothing_is_handed_out():
    make_account(make_site())
    with pytest.raises(NotPermitted):
        obtain(principal=caller(scopes=["sites:read"]))


def test_a_stored_token_of_an_account_outside_the_grant_is_not_handed_out():
    site = make_site()
    make_account(site, "alice")
    token_of(obtain(account="alice"))
    make_account(site, "bob")
    ticket = obtain(principal=caller(Grant(site="court_zxfw", account="bob")))
    assert token_of(ticket).account == "bob"


def test_a_grant_by_label_covers_the_labelled_accounts():
    site = make_site()
    make_account(site, "alice")
    make_account(site, "bob", labels=["tax"])
    ticket = obtain(principal=caller(Grant(site="court_zxfw", label="tax")))
    assert token_of(ticket).account == "bob"


def test_a_revoked_token_is_not_handed_out_again():
    make_account(make_site())
    token_of(obtain())
    accounts.revoke(StoredToken.objects.select_related("account__site").get(), reason="revoked")
    assert isinstance(obtain(), Ticket)


def test_a_disabled_accounts_token_is_not_handed_out():
    account = make_account(make_site())
    make_account(account.site, "bob")
    token_of(obtain(account="alice"))
    account.enabled = False
    accounts.update(account, fields=["enabled"])
    assert isinstance(obtain(), Ticket)


def test_a_joiner_with_a_higher_priority_moves_the_request_forward():
    from apps.tokens.services import requests
    from apps.tokens.services.requests import Demand

    account = make_account(make_site())
    demand = Demand(site=account.site, account=None, reason="warm_up", queue="batch")
    pk = requests.ask(demand, asker=None)
    late = TokenRequest.objects.get(pk=pk).order_at
    assert obtain().request_id == pk
    assert TokenRequest.objects.get(pk=pk).order_at < late
    assert Account.objects.count() == 1


ORDERED = """
version: 1
variables: {scheme: "https", at: "${scheme}://portal.example"}
steps:
  - name: login
    url: ${at}/login
    let: {outer: {md5: x}, in: {md5: "${outer}"}}
    headers: {X-Sign: "${in}"}
    capture: {token: {jmespath: token}}
token: {bearer: "${token}"}
"""


def test_a_recipe_keeps_the_order_in_which_its_parts_use_each_other():
    """PostgreSQL's own JSON sorts keys, the short ones first."""
    recipe = recipe_text.read(ORDERED).value
    site = make_site(connector="http_recipe", recipe=recipe)
    site.refresh_from_db()
    sites.check(site)
    assert json.dumps(site.recipe) == json.dumps(recipe)
    Site.objects.update(recipe={"zz": 1, "a": {"yy": None, "b": "文"}})
    assert list(Site.objects.values_list("recipe", flat=True).get()) == ["zz", "a"]
