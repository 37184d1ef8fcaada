"""Rendering is complete or it fails."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.tokens.connectors import template
from apps.tokens.connectors.template import TemplateError

VALUES = {
    "a": "x",
    "n": 7,
    "yes": True,
    "deep": {"b": [10, {"c": "found"}], "X-Auth": "h"},
    "sites": {"https://portal.example": {"jwt": "j"}},
    "sneaky": "${password}",
    "nothing": None,
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("${a}", "x"),
        ("${ a }-${n}-${yes}", "x-7-true"),
        ("${deep.b[1].c}", "found"),
        ("${deep.X-Auth}", "h"),
        ('${sites["https://portal.example"].jwt}', "j"),
        ("$${a}", "${a}"),
        ("$a {b} $", "$a {b} $"),
        ("${sneaky}", "${password}"),
    ],
)
def test_references_are_filled_in(text, expected):
    assert template.render_text(text, VALUES) == expected


@pytest.mark.parametrize(
    "text",
    ["${b}", "${deep.x}", "${deep.b[9]}", "${a.b}", "${nothing}", "${deep}", "${", "${a", "${}",
     "${a b}", "${a.}", "${1}"],
)  # fmt: skip
def test_what_cannot_be_filled_in_is_an_error(text):
    with pytest.raises(TemplateError):
        template.render_text(text, VALUES)


def test_a_lone_reference_keeps_its_type():
    assert template.render({"n": "${n}", "l": ["${deep.b}", "${n}!"]}, VALUES) == {
        "n": 7,
        "l": [[10, {"c": "found"}], "7!"],
    }


TEXTS = st.lists(
    st.sampled_from(["${", "}", "$", "{", "a", "${a}", "$${", "${gone}", "${a.b}", "x", " "]),
    max_size=12,
).map("".join)


@given(TEXTS, st.dictionaries(st.sampled_from(["a", "x"]), st.just("filled"), max_size=2))
def test_no_unresolved_variable_is_ever_left_in_what_is_rendered(text, values):
    try:
        rendered = template.render_text(text, values)
    except TemplateError:
        return
    wanted = re.findall(r"(?<!\$)\$\{([^{}]*)\}", re.sub(r"\$\$\{", "\0", text))
    assert all(name.strip() in values for name in wanted)
    # What is left of `${` was written as `$${`.
    assert rendered.count("${") == text.count("$${")


@given(st.text(max_size=60))
def test_any_text_is_rendered_or_refused(text):
    try:
        template.render_text(text, {})
    except TemplateError:
        assert "${" in text
