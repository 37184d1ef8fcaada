"""Sites and accounts over REST: who sees them, who changes them, and what never comes out."""

import pytest

from apps.access.contracts import Grant, Scope
from apps.common.clock import now
from apps.tokens.models import Account, LoginAttempt, SecretVerdict, Site
from tests.tokens.factories import make_account, make_site
from tests.tokens.work import claim, work

OTHER_KEYS = "t2:" + "QkJC" * 10 + "QkI="
SITE = {"slug": "shop", "connector": "scripted", "recipe": {}, "allowed_hosts": ["shop.example"]}


def ask(api, **spec):
    return api.post("tokens/acquire", {"site": "court_zxfw", **spec})


def test_a_site_is_made_shown_changed_and_deleted(api):
    client = api()
    made = client.post("sites", SITE | {"name": "Shop", "proxy": "http://u:hidden-word@p:1"})
    assert made.status == 201
    assert "hidden-word" not in made.raw.decode()
    assert client.patch("sites/shop", {"default_ttl_s": 60}).json["default_ttl_s"] == 60
    assert client("PUT", "sites/shop", SITE | {"enabled": False}).json["enabled"] is False
    shown = client.get("sites/shop").json
    assert (shown["name"], shown["accounts_count"]) == ("Shop", 0)
    assert Site.objects.get().proxy == "http://u:hidden-word@p:1"
    assert client.delete("sites/shop").status == 204
    assert client.get("sites/shop").status == 404


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("slug", "Not A Slug"),
        ("connector", "telepathy"),
        ("default_ttl_s", 0),
        ("login_timeout_s", 3601),
        ("strategy", "worst"),
        ("colour", "red"),
        ("token_serial", 5),
        ("allowed_hosts", "shop.example"),
    ],
)
def test_a_bad_site_is_refused_and_its_field_named(api, field, value):
    answer = api().post("sites", SITE | {field: value})
    assert (answer.status, answer.json["code"]) == (400, "validation_error")
    assert field in answer.json["details"]["errors"]
    assert not Site.objects.exists()


def test_a_recipe_is_checked_before_it_is_saved(api):
    answer = api().post("sites", SITE | {"connector": "http_recipe", "recipe": {"version": 1}})
    assert (answer.status, answer.json["code"]) == (400, "invalid_recipe")
    assert answer.json["details"]["errors"]


def test_the_hosts_of_a_site_are_a_permission_of_their_own(api):
    client = api(scopes=(Scope.SITES_READ, Scope.SITES_WRITE))
    answer = client.post("sites", SITE)
    assert (answer.status, answer.json["details"]) == (403, {"scope": "hosts:write"})
    api().post("sites", SITE)
    assert client.patch("sites/shop", {"allowed_hosts": ["evil.example"]}).status == 403
    assert client.patch("sites/shop", {"name": "x"}).status == 200
    assert Site.objects.get().allowed_hosts == ["shop.example"]


def test_reading_sites_does_not_let_write_them(api):
    client = api(scopes=(Scope.SITES_READ,))
    assert client.get("sites").status == 200
    assert client.post("sites", SITE).status == 403
    assert api(scopes=(Scope.TOKENS_READ,)).get("sites").status == 403


def test_grants_limit_which_sites_are_seen_and_changed(api):
    make_account(make_site())
    make_site("other")
    whole, part = api(Grant(site="court_zxfw")), api(Grant(site="court_zxfw", account="alice"))
    for client in (whole, part):
        assert [row["slug"] for row in client.get("sites").json["results"]] == ["court_zxfw"]
        assert client.get("sites/other").status == 404
        assert client.patch("sites/other", {"name": "x"}).status == 404
        assert client.delete("sites/other").status == 404
        assert client.post("sites", SITE).json["details"] == {"site": "shop"}
    assert whole.patch("sites/court_zxfw", {"slug": "other2"}).status == 403
    assert whole.patch("sites/court_zxfw", {"name": "mine"}).status == 200
    assert part.patch("sites/court_zxfw", {"name": "mine"}).status == 404
    for page in ("explain", "blacklist", "statistics"):
        assert whole.get(f"sites/court_zxfw/{page}").status == 200
        assert part.get(f"sites/court_zxfw/{page}").status == 404


@pytest.mark.parametrize("page", ["blacklist", "statistics"])
def test_what_is_known_of_a_sites_accounts_comes_in_pages_and_order(api, page):
    site = make_site()
    for name in ("carol", "alice", "bob"):
        make_account(site, name, enabled=False)

    def names(query):
        answer = api().get(f"sites/court_zxfw/{page}?{query}").json
        return answer["count"], [row["account"] for row in answer["results"]]

    assert names("") == (3, ["alice", "bob", "carol"])
    assert names("ordering=-account&page_size=2") == (3, ["carol", "bob"])
    assert names("ordering=-account&page_size=2&page=2") == (3, ["alice"])
    assert names("account=bob") == (1, ["bob"])


def test_what_has_no_value_comes_last(api):
    site = make_site()
    never, once = make_account(site, "alice"), make_account(site, "bob")
    Account.objects.filter(pk=once.pk).update(last_success_at=now())
    for order in ("last_success_at", "-last_success_at"):
        found = api().get(f"sites/court_zxfw/statistics?ordering={order}").json["results"]
        assert [row["account"] for row in found] == [once.username, never.username]


def test_a_site_is_not_deleted_during_a_login(api):
    make_account(make_site())
    ask(api())
    claim()
    answer = api().delete("sites/court_zxfw")
    assert (answer.status, answer.json["code"]) == (409, "business_logic_error")


def test_lists_have_filters_order_and_pages(api):
    for number in range(3):
        make_site(f"site{number}", enabled=number > 0)
    client = api()
    page = client.get("sites?ordering=-slug&page_size=2").json
    assert (page["count"], [row["slug"] for row in page["results"]]) == (3, ["site2", "site1"])
    assert client.get("sites?ordering=-slug&page_size=2&page=2").json["results"][0]["slug"] == (
        "site0"
    )
    assert client.get("sites?enabled=false").json["count"] == 1
    assert client.get("sites?slug=ITE2").json["count"] == 1
    assert client.get("sites?page=9").status == 404


def test_an_account_is_made_shown_changed_and_deleted(api):
    make_site()
    client = api()
    body = {"site": "court_zxfw", "username": "bob", "secrets": {"password": " s3cret-word "}}
    made = client.post("accounts", body | {"labels": ["eu"]})
    assert made.status == 201
    assert (made.json["secret_names"], made.json["labels"]) == (["password"], ["eu"])
    path = f"accounts/{made.json['id']}"
    assert client.patch(path, {"preferred": True}).json["preferred"] is True
    changed = client.patch(path, {"secrets": {"password": "other-word", "totp_secret": "JBSW"}})
    assert changed.json["secret_names"] == ["password", "totp_secret"]
    assert changed.json["credential_version"] == made.json["credential_version"] + 1
    answers = [made, changed, client.get(path), client.get("accounts")]
    assert not any(b"-word" in answer.raw for answer in answers)
    assert Account.objects.get().secrets["password"] == "other-word"
    assert client.delete(path).status == 204


def test_an_account_sealed_with_a_lost_key_is_shown_and_can_be_set_again(api, settings):
    account = make_account(make_site(), secrets={"password": "word"})
    path = f"accounts/{account.pk}"
    settings.LATCHKEY_KEYS = OTHER_KEYS
    client = api()
    (shown,) = client.get("accounts").json["results"]
    recipe = client.patch("sites/court_zxfw", {"recipe": {"refresh": True}})
    again = client.patch(path, {"secrets": {"password": "word"}})
    assert shown["secret_names"] == []
    assert recipe.status == 200
    assert (again.status, again.json["secret_names"]) == (200, ["password"])
    assert Account.objects.get().secrets == {"password": "word"}


def test_white_space_is_part_of_a_password(api):
    make_site()
    body = {"site": "court_zxfw", "username": "bob", "secrets": {"password": " pass word "}}
    api().post("accounts", body)
    assert Account.objects.get().secrets == {"password": " pass word "}


@pytest.mark.parametrize(
    "fields",
    [
        {"site": "other"},
        {"username": "carol"},
        {"secrets": {"password": 5.5, "more": {}}},
        {"secrets": "text"},
        {"labels": ["x" * 65]},
        {"credential_version": 9},
        {"password": "plain"},
    ],
)
def test_a_bad_change_of_an_account_is_refused(api, fields):
    account = make_account(make_site())
    answer = api().patch(f"accounts/{account.pk}", fields)
    assert (answer.status, answer.json["code"]) == (400, "validation_error")
    assert Account.objects.get().secrets == {"password": "correct-horse"}


def test_a_second_account_of_the_name_is_refused(api):
    make_account(make_site())
    body = {"site": "court_zxfw", "username": "alice", "secrets": {}}
    answer = api().post("accounts", body)
    assert answer.status == 400
    assert "username" in answer.json["details"]["errors"]


def test_whether_an_account_exists_is_not_told_to_strangers(api):
    make_account(make_site())
    stranger = api(Grant(site="other"))
    for name in ("alice", "nobody"):
        answer = stranger.post("accounts", {"site": "court_zxfw", "username": name})
        assert (answer.status, answer.json["code"]) == (404, "unknown_site")


def test_grants_limit_which_accounts_are_seen(api):
    site = make_site()
    account = make_account(site)
    make_account(site, "bob", labels=["eu"])
    make_account(make_site("other"), "carol", labels=["eu"])

    def names(*grants):
        return [row["username"] for row in api(*grants).get("accounts").json["results"]]

    assert names(Grant(site="court_zxfw")) == ["alice", "bob"]
    assert names(Grant(site="court_zxfw", account="bob")) == ["bob"]
    assert names(Grant(site="*", label="eu")) == ["bob", "carol"]
    assert names(Grant(site="court_zxfw", label="eu")) == ["bob"]
    assert names(Grant(site="nowhere")) == []
    assert api(Grant(site="other")).get(f"accounts/{account.pk}").status == 404
    assert api(Grant(site="other")).delete(f"accounts/{account.pk}").status == 404


def test_accounts_are_filtered(api):
    site = make_site()
    make_account(site)
    make_account(site, "bob", enabled=False, preferred=True)
    client = api()
    assert client.get("accounts?username=BO").json["count"] == 1
    assert client.get("accounts?enabled=true&site=court_zxfw").json["count"] == 1
    assert client.get("accounts?preferred=true&ordering=-username").json["count"] == 1
    assert client.get("accounts?site=other").json["count"] == 0


def test_one_more_attempt_is_allowed_with_a_reason_once(api):
    account = make_account(make_site(recipe={"fail": "InvalidCredentials"}))
    client = api()
    ask(client)
    work()
    assert ask(client).json["details"] == {"reasons": {"secret_known_wrong": 1}}
    path = f"accounts/{account.pk}/allow-attempt"
    assert client.post(path, {}).status == 400
    assert (
        api(scopes=(Scope.ACCOUNTS_WRITE, Scope.SITES_READ)).post(path, {"reason": "x"}).status
        == 403
    )
    assert client.post(path, {"reason": "captcha page"}).status == 204
    verdict = SecretVerdict.objects.get()
    assert (verdict.allowed_once_by, verdict.allowed_once_reason) == ("robot", "captcha page")
    assert ask(client).status == 202
    work()
    assert LoginAttempt.objects.count() == 2
    assert ask(client).status == 409
