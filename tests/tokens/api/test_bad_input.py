"""Every path of the API, given nonsense: a clear refusal in the caller's language, nothing written.

The parameters and fields come from the schema, so a new path is tested without a word here.
"""

import itertools
import json
import re
from urllib.parse import urlencode

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from drf_spectacular.generators import SchemaGenerator
from jsonschema import Draft202012Validator, FormatChecker

from apps.common import schema
from apps.tokens.models import StoredToken
from tests.tokens.api.conftest import API, Api, over_django
from tests.tokens.factories import make_account, make_site
from tests.tokens.work import work

ROOT = "/" + API.strip("/")
WRITES = re.compile(r'(?:INSERT INTO|UPDATE|DELETE FROM) "(\w+)"')
# What an asking leaves behind, whatever it asks for.
ALWAYS = {"access_ratewindow", "access_apikey"}
BODIES = {
    "nothing": b"",
    "half": b'{"a": ',
    "not UTF-8": b'{"a": "\xff"}',
    "deep": b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    "a megabyte": b'{"a": "' + b"x" * 1_000_000 + b'"}',
    "NUL": b'{"a": "\\u0000"}',
    "not a number": b'{"a": NaN}',
    "65 bits": b'{"a": 18446744073709551616}',
    "a list": b"[]",
    "null": b"null",
    "a stranger": b'{"nobody_knows_this": 1}',
}
PROBLEM = Draft202012Validator(
    {**schema.PROBLEM, "additionalProperties": False}, format_checker=FormatChecker()
)
REFUSED = set(BODIES) - {"nothing", "a stranger"}
QUERIES = {
    "date-time": ["9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+14:00", "2026-13-45"],
    "integer": ["9223372036854775808", "-1"],
    "number": ["1e400"],
    "string": ["\0", "9" * 5_000],
}
FIELDS = {
    "date-time": ["9999-12-31T23:59:59-23:59", 5],
    "integer": [2**63 - 1, -(2**63), 1e300],
    "number": [1e300, []],
    "array": [[None], ["x" * 5_000], {}],
    "string": ["x" * 5_000, "\x1b", {}],
}


@pytest.fixture(scope="module")
def description():
    return SchemaGenerator().get_schema(request=None, public=True)


@pytest.fixture
def call(api, monkeypatch):
    """Call a path in a transaction that is undone; return the answer and the tables written to."""
    one = api()
    languages = itertools.cycle(["en", "zh-Hans"])

    def call(method, path, body=b"", **headers):
        headers = {
            "content-type": "application/json",
            "accept-language": next(languages),
            **headers,
        }
        with CaptureQueriesContext(connection) as queries, transaction.atomic():
            answer = over_django(method, path, headers={"x-api-key": one.key, **headers}, body=body)
            transaction.set_rollback(True)
        sql = [query["sql"] or "" for query in queries]
        answer.written = {found for text in sql for found in WRITES.findall(text)} - ALWAYS
        answer.language = headers["accept-language"]
        return answer

    return call


@pytest.fixture
def rows(api):
    """One row of everything that a path can name."""
    site = make_site()
    make_account(site)
    one = api()
    one.post("tokens/acquire", {"site": site.slug})
    work()
    assert StoredToken.objects.exists()
    one.post("tokens/acquire", {"site": site.slug, "force": True})
    return one


def operations(description, *methods):
    for path, entry in description["paths"].items():
        for method, operation in entry.items():
            if method.upper() in methods:
                yield path, method.upper(), operation


def real(path, one: Api):
    """Put the name of a row into a path, or one that is well formed and unknown."""
    if "{" not in path:
        return path
    listed, _, name = path.partition("/{")
    found = one.get(listed.removeprefix(ROOT + "/") + "?page_size=1").json
    name = name.partition("}")[0]
    row = found["results"][0] if found and found.get("results") else {}
    value = row.get(name, "00000000-0000-4000-8000-000000000000")
    return re.sub(r"\{\w+\}", str(value), path)


def faults(what, answer, *, must_refuse=False):
    """Return what is wrong with an answer to nonsense."""
    if answer.status < 400 and not must_refuse:
        return []
    problem = answer.json if isinstance(answer.json, dict) else {}
    found = []
    if not 400 <= answer.status < 500:
        found.append(f"{answer.status}")
    if answer.headers["content-type"] != "application/problem+json" or not problem.get("code"):
        found.append("no problem")
    elif errors := sorted(error.message for error in PROBLEM.iter_errors(problem)):
        found.append(f"not as described: {errors[0]}")
    if bool(re.search("[一-龥]", problem.get("user_message", ""))) != (answer.language != "en"):
        found.append(f"not in {answer.language}")
    if answer.written:
        found.append(f"wrote to {sorted(answer.written)}")
    return [f"{what}: {', '.join(found)}"] if found else []


def test_nonsense_in_the_query_is_refused(description, call, rows):
    found = []
    for path, method, operation in operations(description, "GET"):
        place = real(path, rows)
        for parameter in operation.get("parameters", []):
            if parameter["in"] != "query":
                continue
            kind = kind_of(parameter["schema"])
            for value in QUERIES.get(kind, QUERIES["string"]):
                query = urlencode({parameter["name"]: value})
                answer = call(method, f"{place}?{query}")
                found += faults(f"{path}?{query[:60]}", answer, must_refuse=kind == "date-time")
    assert not found, "\n".join(found)


def test_nonsense_in_a_path_is_refused(description, call):
    found = []
    for path, method, _ in operations(description, "GET", "POST", "PUT", "PATCH", "DELETE"):
        for value in ("%00", "9" * 300, "%FF"):
            if "{" in path:
                answer = call(method, re.sub(r"\{\w+\}", value, path), b"{}")
                found += faults(f"{method} {path} {value[:20]}", answer)
    assert not found, "\n".join(found)


def test_a_body_that_is_no_object_of_json_is_refused(description, call, rows):
    found = []
    for path, method, operation in operations(description, "POST", "PATCH"):
        place = real(path, rows)
        for name, body in BODIES.items():
            refuse = name in REFUSED and "requestBody" in operation
            found += faults(
                f"{method} {path} {name}", call(method, place, body), must_refuse=refuse
            )
        for kind in ("application/x-www-form-urlencoded", "application/json; charset=gbk"):
            answer = call(method, place, b"{}", **{"content-type": kind})
            found += faults(
                f"{method} {path} {kind}", answer, must_refuse="requestBody" in operation
            )
    assert not found, "\n".join(found)


def test_nonsense_in_a_field_is_refused(description, call, rows):
    found = []
    for path, method, operation in operations(description, "POST", "PATCH"):
        place = real(path, rows)
        fields = fields_of(description, operation)
        good = {name: example(name, fields[name]) for name in fields if fields[name]["required"]}
        for name, field in fields.items():
            for value in (None, *FIELDS.get(kind_of(field), [[{}], -1])):
                body = json.dumps({**good, name: value}).encode()
                found += faults(
                    f"{method} {path} {name}={str(value)[:40]}", call(method, place, body)
                )
    assert not found, "\n".join(found)


def fields_of(description, operation):
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    reference = content.get("schema", {}).get("$ref", "")
    found = description["components"]["schemas"].get(reference.rpartition("/")[2], {})
    required = found.get("required", [])
    return {
        name: {**field, "required": name in required}
        for name, field in found.get("properties", {}).items()
    }


def kind_of(field):
    kind = field.get("format")
    return kind if kind == "date-time" else field.get("type", "")


def example(name, field):
    examples = {"integer": 1, "number": 1, "boolean": True, "array": [], "object": {}}
    return "court_zxfw" if name == "site" else examples.get(field.get("type"), "example")
