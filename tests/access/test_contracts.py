import pytest

from apps.access.contracts import Grant, Principal, Scope


def holding(*grants, scopes=()):
    return Principal(
        kind="key", id="1", name="robot", user_id=1, grants=grants, scopes=frozenset(scopes)
    )


@pytest.mark.parametrize(
    ("grant", "account", "labels", "allowed"),
    [
        (Grant(site="*"), "bob", (), True),
        (Grant(site="shop"), "bob", (), True),
        (Grant(site="bank"), "bob", (), False),
        (Grant(site="shop", account="bob"), "bob", (), True),
        (Grant(site="shop", account="bob"), "eve", (), False),
        (Grant(site="shop", account="bob"), "", (), False),
        (Grant(site="shop", label="eu"), "bob", ("eu", "vip"), True),
        (Grant(site="shop", label="eu"), "bob", ("us",), False),
        (Grant(site="shop", label="eu"), "", (), False),
        (Grant(site="shop", account="bob", label="eu"), "bob", ("us",), False),
        (Grant(site="shop", account="bob", label="eu"), "eve", ("eu",), False),
    ],
)
def test_a_grant_covers_site_account_and_label(grant, account, labels, allowed):
    assert holding(grant).may_read(site="shop", account=account, labels=labels) is allowed


def test_two_grants_are_not_mixed():
    principal = holding(Grant(site="shop", account="bob"), Grant(site="bank", label="eu"))
    assert not principal.may_read(site="shop", account="eve", labels=("eu",))


def test_a_site_is_visible_for_one_account_of_it():
    principal = holding(Grant(site="shop", account="bob"))
    assert principal.may_read_site("shop")
    assert not principal.may_read_site("bank")


def test_no_grants_means_no_site():
    assert not holding(scopes=Scope).may_read_site("shop")


@pytest.mark.parametrize(
    ("wanted", "held", "allowed"),
    [
        (Grant(site="shop"), Grant(site="*"), True),
        (Grant(site="*"), Grant(site="shop"), False),
        (Grant(site="shop"), Grant(site="shop", account="bob"), False),
        (Grant(site="shop", account="bob"), Grant(site="shop"), True),
        (Grant(site="shop", account="bob"), Grant(site="shop", label="eu"), False),
        (Grant(site="shop", account="bob", label="eu"), Grant(site="shop", label="eu"), True),
    ],
)
def test_nobody_gives_more_than_they_hold(wanted, held, allowed):
    assert holding(held).may_give(wanted) is allowed


def test_scopes_are_compared_as_plain_text():
    assert holding(scopes=["tokens:read"]).has(Scope.TOKENS_READ)
    assert holding(scopes=[Scope.TOKENS_READ]).has("tokens:read")
