"""Wrong recipes are refused, with the line and a reason a person can act on."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from apps.tokens.connectors import schema
from apps.tokens.connectors.http_recipe import HttpRecipeConnector
from apps.tokens.connectors.schema import load_recipe
from apps.tokens.errors import InvalidRecipe
from tests.tokens.connectors.recipes import LOGIN, one_step


def errors_of(text):
    with pytest.raises(InvalidRecipe) as caught:
        load_recipe(text)
    return caught.value.details["errors"]


def test_the_schema_is_a_schema():
    Draft202012Validator.check_schema(schema.schema())


def test_yaml_and_json_give_the_same():
    recipe = load_recipe(LOGIN)
    assert recipe["variables"] == {"base": "https://portal.example"}
    assert load_recipe(json.dumps(recipe)) == recipe
    assert load_recipe(json.dumps(recipe, indent="\t")) == recipe
    HttpRecipeConnector().validate(recipe)


@pytest.mark.parametrize(
    ("change", "path", "said"),
    [
        (("url: ${base}/login\n    capture", "ur1: ${base}/login\n    capture"),
         "steps[0].ur1", "did you mean 'url'"),
        (("version: 1", "version: 2"), "version", "must be 1"),
        (("version: 1\n", ""), "", "version is missing"),
        (("method: POST", "method: POSTT"), "steps[1].method", "did you mean 'POST'"),
        (("is: invalid_credentials", "is: invalid_credential"),
         "steps[1].failures[0].is", "did you mean 'invalid_credentials'"),
        (("name: login", "name: page"), "steps[1].name", "two steps 'page'"),
        (("${xsrf}", "${xsrff}"), "steps[1].form._xsrf", "did you mean 'xsrf'"),
        (("${password}", "${pasword}"), "steps[1].form.pass", "did you mean 'password'"),
        (("${password}", "${password"), "steps[1].form.pass", "not closed"),
        (("url: ${base}/login\n    capture", "url: ${base}/${token}\n    capture"),
         "steps[0].url", "cannot have a value here"),
        (("data.access_token", "data."), "steps[1].capture.token.jmespath", "JMESPath"),
        (("input[name=_xsrf]", "input[["), "steps[0].capture.xsrf.css", "CSS"),
        (('css: "input[name=_xsrf]::attr(value)"', 'xpath: "//["'),
         "steps[0].capture.xsrf.xpath", "XPath"),
        (('css: "input[name=_xsrf]::attr(value)"', 'regex: "("'),
         "steps[0].capture.xsrf.regex", "regular"),
        (('css: "input[name=_xsrf]::attr(value)"', "default: x"),
         "steps[0].capture.xsrf", "needs one of"),
        (('css: "input[name=_xsrf]::attr(value)"', "css: a, header: b"),
         "steps[0].capture.xsrf", "one source"),
        (("bearer: ${token}", "bearer: fixed"), "token", "captures nothing"),
        (("bearer: ${token}", "{}"), "token", "empty"),
        (("method: POST", "let: {p: {md6: a}}"), "steps[1].let.p", "did you mean 'md5'"),
        (("method: POST", "let: {p: {md5: {txt: a}}}"), "steps[1].let.p.md5", "does not take txt"),
        (("method: POST", "let: {p: {hmac_md5: a}}"), "steps[1].let.p.hmac_md5", "needs key"),
        (("method: POST", "let: {p: {base64: {md6: a}}}"), "steps[1].let.p.base64", "not take md6"),
        (("method: POST", "let: {p: {concat: a}}"), "steps[1].let.p.concat", "must be a list"),
        (("method: POST", "let: {p: {json: {a: {md5: {x: 1}}}}}"),
         "steps[1].let.p.json.a.md5", "does not take x"),
        (("method: POST", "let: {p: [a]}"), "steps[1].let.p", "argument"),
        (("method: POST", "let: {password: a}"), "steps[1].let.password", "taken"),
        (("method: POST", "body: x"), "steps[1].body", "one body"),
        (("method: POST", "encoding: klingon"), "steps[1].encoding", "character set"),
        (("method: POST", "encoding: rot13"), "steps[1].encoding", "character set"),
        (("method: POST", "timeout_s: 0"), "steps[1].timeout_s", "out of range"),
        (("method: POST", "follow_redirects: maybe"), "steps[1].follow_redirects", "true or false"),
        (("{status: 401}", "{status: 4001}"), "steps[1].failures[0].when.status", "out of range"),
        (("{status: 401}", "{status: 4xxx}"), "steps[1].failures[0].when.status", "match"),
        (("{status: 401}", "{equals: 1}"), "steps[1].failures[0].when.equals", "beside"),
        (("{status: 401}", "{jmespath: a, header: b}"), "steps[1].failures[0].when", "one thing"),
        (("{status: 401}", "{not: {text_matches: '['}}"),
         "steps[1].failures[0].when.not.text_matches", "regular"),
        (("{status: 401}", "{text_contains: '${nobody}'}"),
         "steps[1].failures[0].when.text_contains", "unknown"),
        (("token:\n", "expiry: {ttl_s: 5, seconds: 6}\ntoken:\n"), "expiry.ttl_s", "one place"),
        (("token:\n", "expiry: {iso: a, timezone: Mars}\ntoken:\n"), "expiry.timezone", "zone"),
        (("token:\n", "expiry: {seconds: '${gone}'}\ntoken:\n"), "expiry.seconds", "unknown"),
        (("token:\n", "probe: {url: '${token}'}\ntoken:\n"), "probe.url", "${token.bearer}"),
        (("token:\n", "probe: {url: '${token.headers.a}'}\ntoken:\n"), "probe.url", "no headers"),
        (("token:\n", "probe: {url: '${xsrf}'}\ntoken:\n"), "probe.url", "elsewhere or later"),
        (("token:\n", "probe: {url: '${totp}'}\ntoken:\n"), "probe.url", "login steps only"),
        (("token:\n", "health: {url: '${username}'}\ntoken:\n"), "health.url", "there is none"),
        (("token:\n", "health: {url: '${password}'}\ntoken:\n"), "health.url", "to an account"),
        (("token:\n", "refresh: {steps: [{name: r, url: a}]}\ntoken:\n"), "refresh", "login's"),
        (('{base: "https://portal.example"}', '{base: "${late}", late: x}'),
         "variables.base", "later"),
    ],
)  # fmt: skip
def test_each_mistake_is_named(change, path, said):
    assert change[0] in LOGIN
    errors = errors_of(LOGIN.replace(*change))
    assert said in next(error["reason"] for error in errors if error["path"] == path)


def test_an_error_names_its_line():
    (error,) = errors_of(LOGIN.replace("method: POST", "metod: POST"))
    assert error["line"] == 1 + LOGIN.replace("method: POST", "metod: POST").split("\n").index(
        "    metod: POST"
    )


def test_a_parsed_recipe_has_no_lines():
    with pytest.raises(InvalidRecipe) as caught:
        HttpRecipeConnector().validate({"version": 1})
    assert [error["line"] for error in caught.value.details["errors"]] == [None, None]


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("", 1, "empty"),
        ("version: 1\nversion: 1", 2, "twice"),
        ("a: &x [1]\nb: *x", 1, "Anchors"),
        ("a: !!python/object/apply:os.system [x]", 1, "Tags"),
        ("a: 1\n---\nb: 2", 2, "one document"),
        ("a:\n - 'x", 2, "end of stream"),
        ("[" * 5000, 1, "levels"),
        ("? [a]\n: b", 1, "key must be a text"),
        ("x" * 200_000, 1, "KB at most"),
        ('a: "\\0"', 1, "broken character"),
        ('{"a": "\\ud800"}', 1, "broken character"),
    ],
)
def test_texts_that_are_refused_before_the_schema(text, line, said):
    (error,) = errors_of(text)
    assert error["line"] == line
    assert said in error["reason"]


def test_a_code_with_leading_zeros_stays_a_text():
    text = one_step("success: [{jmespath: code, in: [007, 7, 0]}]")
    (condition,) = load_recipe(text)["steps"][0]["success"]
    assert condition["in"] == ["007", 7, 0]


def test_a_secret_of_another_name_is_declared():
    text = LOGIN.replace("${password}", "${pin}")
    assert "secrets" in errors_of(text)[0]["reason"]
    assert load_recipe(text + "secrets: [pin]\n")


def test_an_answer_needs_a_first_value_if_the_first_pass_reads_it():
    text = one_step(
        "query: {c: '${captcha}'}\n"
        "    failures: [{when: {status: 409}, is: challenge_needed, challenge:"
        " {kind: captcha, prompt: Type it, answer: captcha, resume: login}}]"
    )
    assert "cannot have a value" in errors_of(text)[0]["reason"]
    assert load_recipe(text + "variables: {captcha: ''}\n")


@given(st.text(max_size=200))
def test_any_text_is_loaded_or_refused(text):
    with contextlib.suppress(InvalidRecipe):
        load_recipe(text)


WORDS = st.sampled_from(
    ["version: 1\n", "steps:\n", "  - ", "name: a\n", "    url: ", "${x}", "token: ", "{bearer: ",
     "}", "[", "]", "'", '"', "&a ", "*a", "!!int ", "? ", ": ", "- ", "\n", "  ", "|\n", "#", "%",
     "refresh: ", "probe: ", "let: {a: {md5: ", "\t", "---\n", "null", "1e999", "0x", "<<: "]
)  # fmt: skip


@given(st.lists(WORDS, max_size=25).map("".join))
def test_anything_like_a_recipe_is_loaded_or_refused(text):
    with contextlib.suppress(InvalidRecipe):
        load_recipe(text)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 700) | st.sampled_from(["${x}", "a", "${", "all"]),
    lambda inner: st.lists(inner, max_size=2)
    | st.dictionaries(
        st.sampled_from(
            ["name", "url", "let", "md5", "capture", "css", "when", "is", "failures", "steps",
             "token", "bearer", "json", "any", "not", "status", "challenge", "default"]
        ),
        inner, max_size=3,
    ),
    max_leaves=8,
)  # fmt: skip


@given(st.sampled_from(sorted(schema.schema()["properties"])), JSON_VALUES)
def test_any_value_anywhere_is_accepted_or_refused(key, value):
    recipe = {**load_recipe(LOGIN), key: value}
    with contextlib.suppress(InvalidRecipe):
        HttpRecipeConnector().validate(recipe)
