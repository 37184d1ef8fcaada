"""What an operator can do from the admin's lists."""

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission

from apps.tokens.connectors import recipe_text
from apps.tokens.models import SecretVerdict, Site, TokenRequest
from apps.tokens.services import warming
from tests.tokens.factories import make_account, make_site
from tests.tokens.work import work


@pytest.fixture
def operator(client):
    client.force_login(get_user_model().objects.create_superuser("root", password="x"))
    return client


def act(client, page, action, row):
    data = {"action": action, "_selected_action": [str(row.pk)]}
    answer = client.post(f"/admin/tokens/{page}/", data, follow=True)
    assert answer.status_code == 200
    return answer.content.decode()


def test_warming_up_a_site_queues_its_missing_logins(operator):
    account = make_account(make_site())
    assert "1 logins queued" in act(operator, "site", "warm_up", account.site)
    assert TokenRequest.objects.get().reason == "warm_up"


def test_some_accounts_are_warmed_up(operator):
    site = make_site()
    make_account(site, "alice")
    bob = make_account(site, "bob")
    assert "1 logins queued" in act(operator, "account", "warm_up", bob)
    assert TokenRequest.objects.get().account == bob


def test_the_list_of_sites_says_how_warm_they_are(operator):
    site = make_site()
    make_account(site, "alice")
    make_account(site, "off", enabled=False)
    make_account(make_site("other"), "carol")
    assert "0 of 1" in operator.get("/admin/tokens/site/").content.decode()
    warming.warm([site.slug])
    work()
    assert "1 of 1" in operator.get("/admin/tokens/site/").content.decode()


def test_a_site_is_paused_and_resumed(operator):
    site = make_site()
    act(operator, "site", "pause", site)
    assert Site.objects.get().paused
    act(operator, "site", "resume", site)
    assert not Site.objects.get().paused


def test_one_more_attempt_is_allowed_and_audited(operator, monkeypatch):
    from apps.access.journal import JOURNAL

    lines = []
    monkeypatch.setattr(JOURNAL, "append", lines.append)
    account = make_account(make_site())
    act(operator, "account", "allow_attempt", account)
    assert SecretVerdict.objects.get().allowed_once_by == "root"
    assert b"allow_attempt" in lines[0]


def test_who_may_only_look_is_offered_nothing(client):
    from django.contrib.auth.models import Permission

    user = get_user_model().objects.create_user("viewer", password="x", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_site"))
    client.force_login(user)
    site = make_site()
    act(client, "site", "pause", site)
    assert not Site.objects.get().paused


# The form of a site ---------------------------------------------------------------------------
RECIPE = """\
version: 1
steps:
  - name: login
    url: https://portal.example/login
    capture: {token: {jmespath: token}}
token:
  bearer: ${tokn}
"""


def change(client, site, **fields):
    """Send the form of a site as the page shows it, with these fields changed."""
    page = f"/admin/tokens/site/{site.pk}/change/"
    form = client.get(page).context["adminform"].form
    shown = {name: form[name].value() for name in form.fields}
    data = {
        name: value for name, value in shown.items() if value is not None and value is not False
    }
    for name, value in data.items():
        data[name] = value if isinstance(value, str) else form.fields[name].prepare_value(value)
    answer = client.post(page, {**data, **fields})
    return answer.context["adminform"].form.errors if answer.context else {}


def test_a_recipe_is_shown_and_taken_as_yaml(operator):
    site = make_site(
        connector="http_recipe", recipe=recipe_text.read(RECIPE.replace("tokn", "token")).value
    )
    page = operator.get(f"/admin/tokens/site/{site.pk}/change/").content.decode()
    assert "steps:\n- name: login\n  url: https://portal.example/login\n" in page
    assert change(operator, site) == {}
    assert Site.objects.get().recipe == site.recipe
    text = RECIPE.replace("tokn", "token").replace("/login", "/api")
    assert change(operator, site, recipe=text) == {}
    assert Site.objects.get().recipe["steps"][0]["url"] == "https://portal.example/api"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (RECIPE, "Line 7: token.bearer: The variable &#x27;tokn&#x27; is unknown; did you mean"),
        ("version: 1\nsteps: [", "Line 2: "),
        ("version: 1\nversion: 1", "Line 2: The key &#x27;version&#x27; stands here twice."),
    ],
)
def test_a_mistake_in_a_recipe_is_shown_with_its_line(operator, text, told):
    site = make_site(
        connector="http_recipe", recipe=recipe_text.read(RECIPE.replace("tokn", "token")).value
    )
    assert told in str(change(operator, site, recipe=text)["recipe"])
    assert Site.objects.get().recipe == site.recipe


@pytest.mark.parametrize(
    ("field", "value"),
    [("allowed_hosts", "[5]"), ("closed_hours", '["never"]'), ("time_zone", "Mars/Base")],
)
def test_a_mistake_in_another_field_is_shown_there(operator, field, value):
    assert field in change(operator, make_site(), **{field: value})


def test_who_may_not_set_hosts_may_change_the_rest(client):
    site = make_site()
    person = get_user_model().objects.create_user("clerk", password="x", is_staff=True)
    person.user_permissions.set(
        Permission.objects.filter(codename__in=["change_site", "view_site"])
    )
    client.force_login(person)
    assert change(client, site, name="Renamed") == {}
    assert (Site.objects.get().name, Site.objects.get().allowed_hosts) == ("Renamed", ["127.0.0.1"])
