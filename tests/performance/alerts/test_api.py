"""Rules, alerts, channels and notices over HTTP and in the admin."""

import json
import math
import re

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from apps.access.contracts import Grant, Scope
from apps.performance.models import (
    Alert,
    AlertRule,
    AlertRuleState,
    NotificationChannel,
    NotificationDelivery,
)
from apps.performance.services import notification
from apps.tokens.models import Site
from tests.performance.alerts import receivers
from tests.performance.alerts.receivers import KEY, SECRET, receiving
from tests.tokens.factories import make_site

RULE = {
    "name": "Slow", "metric": "mean_total_s", "direction": "above", "threshold": 60,
    "severity": "low", "site": "*",
}  # fmt: skip
HOOK = {"name": "hook", "kind": "webhook", "url": f"https://hooks.example/{KEY}", "secret": SECRET}
PATH = "performance/"
OTHER_KEYS = "t2:" + "QkJC" * 10 + "QkI="


def test_a_rule_lives(api):
    made = api().post(PATH + "alert-rules", RULE)
    rule = f"{PATH}alert-rules/{made.json['id']}"
    changed = api().patch(rule, {"threshold": 90, "severity": "high"})
    listed = api().get(PATH + "alert-rules?severity=high&ordering=-threshold&page_size=1")
    gone = api().delete(rule)

    assert [made.status, changed.status, gone.status] == [201, 200, 204]
    assert (changed.json["threshold"], changed.json["severity"]) == (90.0, "high")
    assert listed.json["count"] == 1
    assert not AlertRule.objects.exists()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"metric": "nonsense"}, "metric"),
        ({"severity": "fatal"}, "severity"),
        ({"site": "nowhere"}, "site"),
        ({"metric": "memory_percent"}, "site"),
        ({"metric": "pool_lasts_min", "site": ""}, "site"),
        ({"window_s": 1}, "window_s"),
        ({"threshold": -1}, "threshold"),
        ({"id": 7}, "id"),
    ],
)
def test_a_rule_that_cannot_work_is_refused(api, change, field):
    answer = api().post(PATH + "alert-rules", RULE | change)

    assert answer.status == 400
    assert field in answer.json["details"]["errors"]


def test_a_rule_whose_site_is_gone_can_still_be_changed(api, make_rule, make_channel):
    rows = {"alert-rules": make_rule(site="gone"), "channels": make_channel(site="gone")}
    for kind, row in rows.items():
        path = f"{PATH}{kind}/{row.pk}"

        assert api().patch(path, {"site": "gone", "name": "as it was"}).status == 200
        assert api().patch(path, {"site": "nowhere"}).status == 400


@pytest.mark.parametrize("change", [{"enabled": False}, {"direction": "below"}])
def test_alerts_of_a_rule_end_when_it_comes_to_mean_something_else(api, watch, make_rule, change):
    rule = make_rule()
    watch.sees(130.0)

    api().patch(f"{PATH}alert-rules/{rule.pk}", change)

    assert (Alert.objects.get().state, Alert.objects.get().resolved_by) == ("resolved", "robot")


def test_an_alert_outlives_its_rule(api, watch, make_rule):
    rule = make_rule()
    watch.sees(130.0)

    api().delete(f"{PATH}alert-rules/{rule.pk}")

    (row,) = api().get(PATH + "alerts").json["results"]
    assert (row["rule"], row["rule_name"], row["state"]) == (None, "Mean time", "resolved")


def test_an_alert_is_acknowledged_and_resolved_by_whom(api, watch, make_rule):
    make_rule()
    watch.sees(130.0)
    alert = f"{PATH}alerts/{Alert.objects.get().pk}"

    known = api().post(alert + "/acknowledge", {"note": "on it"})
    over = api().post(alert + "/resolve")
    late = api().post(alert + "/acknowledge")

    assert (known.json["state"], known.json["acknowledged_by"]) == ("acknowledged", "robot")
    assert (over.json["state"], over.json["resolved_by"]) == ("resolved", "robot")
    assert (late.status, late.json["code"]) == (409, "alert_resolved")


def test_alerts_are_filtered_by_state_and_severity(api, watch, make_rule):
    make_rule(name="one")
    make_rule(name="two", threshold=10)
    watch.sees(130.0)
    alert = Alert.objects.get(rule_name="one")
    api().post(f"{PATH}alerts/{alert.pk}/acknowledge")

    def names(query):
        found = api().get(f"{PATH}alerts?{query}").json["results"]
        return sorted(row["rule_name"] for row in found)

    assert names("state=acknowledged") == ["one"]
    assert names("state=open&state=acknowledged") == ["one", "two"]
    assert names("state=resolved") == []
    assert names("severity=high") == ["two"]


def test_a_key_sees_only_the_alerts_of_sites_it_has_grants_for(api, watch, make_rule):
    make_site("a")
    make_site("b")
    make_rule(name="each", site="*")
    make_rule(name="all")
    for site in ("a", "b", ""):
        watch.readings.set(130.0, site=site)
    watch.looks()

    narrow = api(Grant(site="a"))
    found = narrow.get(PATH + "alerts").json["results"]
    foreign = Alert.objects.get(site="b")

    assert [row["site"] for row in found] == ["a"]
    assert narrow.post(f"{PATH}alerts/{foreign.pk}/resolve").status == 404


@pytest.mark.parametrize("what", ["alert-rules", "alerts", "channels", "notices", "health"])
def test_everything_needs_the_scope_operate(api, what):
    assert api(scopes=[Scope.TOKENS_READ]).get(PATH + what).status == 403
    assert api().get(PATH + what).status == 200


@pytest.mark.parametrize("what", ["alert-rules", "channels", "notices", "health"])
def test_what_is_about_all_sites_needs_a_grant_for_all(api, what):
    assert api(Grant(site="a")).get(PATH + what).status == 403


def test_a_channel_never_gives_its_address_or_secret_back(api):
    made = api().post(PATH + "channels", HOOK)
    shown = api().get(f"{PATH}channels/{made.json['id']}")

    assert made.status == 201
    assert (shown.json["host"], shown.json["has_secret"]) == ("hooks.example", True)
    for answer in (made, shown, api().get(PATH + "channels")):
        assert KEY.encode() not in answer.raw
        assert SECRET.encode() not in answer.raw


def test_changing_a_channel_keeps_its_secret(api):
    made = api().post(PATH + "channels", HOOK)

    api().patch(f"{PATH}channels/{made.json['id']}", {"minimum_severity": "high"})

    assert NotificationChannel.objects.get().secrets == {"url": HOOK["url"], "secret": SECRET}


def test_a_channel_sealed_with_a_lost_key_is_shown_and_can_be_set_again(api, settings):
    made = api().post(PATH + "channels", HOOK)
    channel = f"{PATH}channels/{made.json['id']}"
    settings.LATCHKEY_KEYS = OTHER_KEYS

    (shown,) = api().get(PATH + "channels").json["results"]
    tested = api().post(channel + "/test")
    without = api().patch(channel, {"minimum_severity": "high"})
    again = api().patch(channel, {"url": HOOK["url"], "secret": SECRET})

    assert (made.json["is_lost"], shown["is_lost"], shown["has_secret"]) == (False, True, False)
    assert "enter them again" in tested.json["error"]
    assert (without.status, list(without.json["details"]["errors"])) == (400, ["url"])
    assert (again.status, again.json["is_lost"], again.json["has_secret"]) == (200, False, True)
    assert NotificationChannel.objects.get().secrets == {"url": HOOK["url"], "secret": SECRET}


@pytest.mark.parametrize(
    "url",
    ["", "ftp://a.example/", "https://", "https://user:secret-word@a.example/", "https://a b/",
     "https://[", "https://a.example:0/", "https://a.example:99999/", "https://xn--zzzzzz99999/",
     "https://a..example/", f"https://{'a' * 64}.example/", f"https://{'a.' * 200}example/",
     "https://1.2.3.444/"],
)  # fmt: skip
def test_an_address_nothing_can_be_sent_to_is_refused_and_not_repeated(api, url):
    answer = api().post(PATH + "channels", HOOK | {"url": url})

    assert answer.status == 400
    assert "url" in answer.json["details"]["errors"]
    assert b"secret-word" not in answer.raw


@pytest.mark.parametrize("recipients", [[], "ops@example.org", ["nobody"], [1]])
def test_a_mail_channel_needs_addresses(api, recipients):
    body = {"name": "mail", "kind": "mail", "recipients": recipients}

    answer = api().post(PATH + "channels", body)

    assert answer.status == 400
    assert "recipients" in answer.json["details"]["errors"]


def test_the_test_button_sends_and_says_so(api):
    with receiving(receivers.webhook) as server:
        made = api().post(PATH + "channels", HOOK | {"url": server.url})
        good = api().post(f"{PATH}channels/{made.json['id']}/test")
        api().patch(f"{PATH}channels/{made.json['id']}", {"secret": "another"})
        bad = api().post(f"{PATH}channels/{made.json['id']}/test")

    assert good.json == {"delivered": True, "error": ""}
    assert bad.json == {"delivered": False, "error": "HTTP 401"}
    assert len(server.taken) == 1


def test_a_notice_that_was_given_up_can_be_tried_again(api, watch, make_rule, make_channel):
    with receiving(lambda *_: (404, b"", False)) as server:
        make_channel("slack", url=server.url + "/x")
        make_rule()
        watch.sees(130.0)
        NotificationDelivery.objects.update(not_before=watch.at)
        notification.deliver_due()
    row = NotificationDelivery.objects.get()

    answer = api().post(f"{PATH}notices/{row.pk}/retry")

    assert (row.status, row.error) == ("failed", "HTTP 404")
    assert (answer.json["status"], answer.json["attempts"]) == ("waiting", 0)


@pytest.fixture
def admin():
    user = get_user_model().objects.create_superuser("anna", password="x")
    client = Client()
    client.force_login(user)
    return client


ADMIN = "/admin/performance/"


@pytest.mark.parametrize(
    "page", ["alertrule", "alertrulestate", "alert", "notificationchannel",
             "notificationdelivery", "turn"]
)  # fmt: skip
def test_every_page_of_the_admin_opens(admin, watch, make_rule, make_channel, page):
    make_channel()
    make_rule()
    watch.sees(130.0)

    assert admin.get(f"{ADMIN}{page}/").status_code == 200


@pytest.mark.parametrize(
    ("value", "text"), [(11.821061998489313, "11.82"), (12.0, "12"), (math.inf, "never")]
)
def test_the_admin_shows_what_a_rule_last_saw_as_people_read_it(
    admin, watch, make_rule, value, text
):
    make_rule(name="Lasts", metric="pool_lasts_min", direction="below", threshold=5, site="court")
    make_site("court")
    watch.sees(value, site="court")
    row = AlertRuleState.objects.get()

    listed = admin.get(f"{ADMIN}alertrulestate/").content.decode()
    page = admin.get(f"{ADMIN}alertrulestate/{row.pk}/change/").content.decode()

    assert re.search(rf">\s*{text}\s*<", listed)
    assert re.search(rf">\s*{text}\s*<", page)
    assert "Lasts court" in re.search(r"<title>(.*?)</title>", page, re.DOTALL).group(1)
    assert "000000000" not in listed + page


def test_the_list_of_alerts_shows_few_and_short_columns(admin, watch, make_rule):
    make_rule()
    watch.sees(130.0618)

    text = admin.get(f"{ADMIN}alert/").content.decode()

    assert "130.1 (above 120)" in text
    assert "130.0618" not in text
    assert "Seen at" not in text


def test_people_acknowledge_and_resolve_in_the_admin(admin, watch, make_rule):
    make_rule()
    watch.sees(130.0)
    alert = Alert.objects.get()

    for action in ("acknowledge", "resolve"):
        admin.post(f"{ADMIN}alert/", {"action": action, "_selected_action": [alert.pk]})

    alert.refresh_from_db()
    assert (alert.acknowledged_by, alert.resolved_by) == ("anna", "anna")


FORM = {
    "name": "hook", "kind": "webhook", "enabled": "on", "minimum_severity": "1", "site": "",
    "notify_resolved": "on", "recipients": "", "url": "", "secret": "",
}  # fmt: skip
LOG = FORM | {"name": "log", "kind": "log"}


def test_people_make_test_and_change_a_channel_in_the_admin(admin):
    with receiving(receivers.webhook) as server:
        admin.post(f"{ADMIN}notificationchannel/add/", FORM | {"url": server.url, "secret": SECRET})
        channel = NotificationChannel.objects.get()
        page = f"{ADMIN}notificationchannel/{channel.pk}/change/"
        admin.post(page, FORM | {"name": "renamed"})
        admin.post(
            f"{ADMIN}notificationchannel/",
            {"action": "send_test", "_selected_action": [channel.pk]},
        )
        shown = admin.get(page).content.decode()

    channel.refresh_from_db()
    assert (channel.name, channel.secrets["secret"], len(server.taken)) == ("renamed", SECRET, 1)
    assert SECRET not in shown


RULE_FORM = RULE | {
    "severity": "1", "enabled": "on", "window_s": "300", "minimum": "1", "for_s": "0",
    "clear_for_s": "120", "clear_margin": "0.05",
}  # fmt: skip


@pytest.mark.parametrize(("page", "form"), [("alertrule", RULE_FORM), ("notificationchannel", LOG)])
def test_the_admin_takes_only_sites_that_there_are(admin, page, form):
    make_site("court")
    model = {"alertrule": AlertRule, "notificationchannel": NotificationChannel}[page]

    refused = admin.post(f"{ADMIN}{page}/add/", form | {"site": "cuort"})
    assert b"Select a valid choice. cuort is not one of" in refused.content
    assert not model.objects.exists()

    admin.post(f"{ADMIN}{page}/add/", form | {"site": "court"})
    row = model.objects.get()
    assert row.site == "court"

    Site.objects.all().delete()
    path = f"{ADMIN}{page}/{row.pk}/change/"
    assert b"court (there is no such site)" in admin.get(path).content
    admin.post(path, form | {"site": "court", "name": "changed"})
    row.refresh_from_db()
    assert (row.name, row.site) == ("changed", "court")


def test_people_write_mail_addresses_one_a_line_in_the_admin(admin):
    mail = FORM | {"name": "mail", "kind": "mail"}
    two = {"recipients": " ops@example.org\r\n\r\nnight@example.org\r\n"}

    admin.post(f"{ADMIN}notificationchannel/add/", mail | two)
    channel = NotificationChannel.objects.get()
    page = admin.get(f"{ADMIN}notificationchannel/{channel.pk}/change/").content.decode()
    none = admin.post(f"{ADMIN}notificationchannel/add/", mail | {"name": "none"})
    wrong = admin.post(
        f"{ADMIN}notificationchannel/add/", mail | {"name": "wrong", "recipients": "ops"}
    )

    assert channel.recipients == ["ops@example.org", "night@example.org"]
    assert re.search(r">\s*ops@example.org\nnight@example.org</textarea>", page)
    assert b"at least one" in none.content
    assert b"not a mail address" in wrong.content
    assert NotificationChannel.objects.count() == 1


def test_the_button_of_the_page_saves_and_sends(admin, django_capture_on_commit_callbacks):
    with receiving(receivers.webhook) as server:
        admin.post(f"{ADMIN}notificationchannel/add/", FORM | {"url": server.url, "secret": SECRET})
        page = f"{ADMIN}notificationchannel/{NotificationChannel.objects.get().pk}/change/"
        button = re.search(r'name="(\w+save_and_send_test)"', admin.get(page).content.decode())
        with django_capture_on_commit_callbacks(execute=True):
            admin.post(page, FORM | {"name": "renamed", button[1]: ""})

    ((_, body),) = server.taken
    assert json.loads(body)["channel"] == "renamed"


def test_the_admin_refuses_a_channel_without_an_address(admin):
    answer = admin.post(f"{ADMIN}notificationchannel/add/", FORM)

    assert "An address is needed." in answer.content.decode()
    assert not NotificationChannel.objects.exists()
