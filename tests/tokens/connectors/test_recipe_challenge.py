"""Questions of the site that a person answers."""

import base64

import httpx
import pytest

from apps.tokens.connectors import pictures
from apps.tokens.connectors.http_recipe import HttpRecipeConnector
from apps.tokens.connectors.runner import MAX_CHALLENGES
from apps.tokens.errors import ChallengeUnanswered, HostNotAllowed, UnexpectedPage
from tests.tokens.connectors.recipes import context_for, login, one_step

PNG = b"\x89PNG" + bytes(range(200))


def recipe(image="image: {jmespath: image}", extra=""):
    return (
        one_step(
            "query: {c: '${captcha}', id: '${id}'}\n"
            "    failures: [{when: {jmespath: code, equals: captcha}, is: challenge_needed,"
            " challenge: {kind: captcha, prompt: 'For ${username}', capture: {id: {jmespath: id}},"
            f" {image}{', ' if image else ''} answer: captcha, resume: login}}}}]{extra}"
        )
        + "variables: {captcha: '', id: ''}\n"
    )


def asks(image=""):
    return httpx.Response(200, json={"code": "captcha", "id": "7", "image": image})


DONE = httpx.Response(200, json={"token": "t"})


async def test_the_answer_is_stored_and_the_login_resumes():
    image = base64.b64encode(PNG).decode()
    grant, context = await login(recipe(), [asks(image), DONE], answers=["x9"])
    (challenge,) = context.challenges
    assert (challenge.kind, challenge.prompt) == ("captcha", "For alice")
    assert (challenge.image, challenge.image_type) == (PNG, "image/png")
    assert context.requests[1].url.query == b"c=x9&id=7"
    assert grant.material.bearer == "t"
    assert [trace.verdict for trace in context.traces] == ["challenge_needed", "ok"]


async def test_nobody_answers():
    with pytest.raises(ChallengeUnanswered) as caught:
        await login(recipe(""), [asks()])
    assert caught.value.step == "login"


async def test_a_site_that_asks_for_ever_is_left():
    rounds = MAX_CHALLENGES + 1
    with pytest.raises(ChallengeUnanswered, match="asked again"):
        await login(recipe(""), [asks()] * rounds, answers=["x"] * rounds)


@pytest.mark.parametrize("image", ["image: {url: 'https://portal.example/c?id=${id}'}",
                                   "image: {jmespath: image}"])  # fmt: skip
async def test_an_image_with_an_address_is_fetched(image):
    answers = [asks("/c?id=7"), httpx.Response(200, content=PNG), DONE]
    _grant, context = await login(recipe(image), answers, answers=["x"])
    assert str(context.requests[1].url) == "https://portal.example/c?id=7"
    assert context.challenges[0].image == PNG


async def test_an_image_elsewhere_is_not_fetched():
    with pytest.raises(HostNotAllowed):
        await login(recipe(), [asks("https://evil.example/c")], answers=["x"])


@pytest.mark.parametrize("status", [404, 500])
async def test_an_image_that_is_not_there_is_an_unexpected_page(status):
    with pytest.raises(UnexpectedPage, match="image"):
        await login(recipe(), [asks("/c"), httpx.Response(status)], answers=["x"])


async def test_a_used_one_time_code_is_not_sent_again_after_a_challenge():
    text = recipe("").replace("id: '${id}'", "t: '${totp}'")
    context = context_for(text, [asks(), DONE], answers=["x"], codes=["111111", "222222"])
    await HttpRecipeConnector().login(context)
    assert [request.url.params["t"] for request in context.requests] == ["111111", "222222"]


def test_images_are_told_from_addresses():
    jpeg = b"\xff\xd8\xff" + bytes(100)
    assert pictures.inline(base64.b64encode(jpeg).decode()) == jpeg
    assert pictures.inline("data:image/png;base64," + base64.b64encode(PNG).decode()) == PNG
    assert pictures.inline("data:image/svg+xml,%3Csvg/%3E") == b"<svg/>"
    assert pictures.inline("data:image/png;base64,!!") == b""
    assert pictures.inline("/9j/captcha") is None
    assert pictures.inline("/" + "captcha" * 20) is None
    assert pictures.media_type(b"RIFF0000WEBP") == "image/webp"
    assert pictures.media_type(b"") == ""
