"""Operators mean what the functions of the same name mean; filters and tests may be named in a text."""

import json

import pytest
from test_functions import LANGUAGE, run

from engine.errors import DataError
from engine.loader.references import references
from engine.types import JSON

GIVES: list[tuple[str, JSON]] = [
    ("-1", -1),
    ("- 1 + 2", 1),
    ("1 == true", False),
    ("0 in [false]", False),
    ("1 == 1.0", True),
    ("1 != true", True),
    ("{'a': [1]} == {'a': [1.0]}", True),
    ("null == ''", False),
    ("1 < 2 <= 2", True),
    ("1 < 2 < 2", False),
    ("'b' > 'a'", True),
    ("'a' in 'abc'", True),
    ("'a' in {'a': 1}", True),
    ("'b' not in ['a']", True),
    ("true and not false", True),
    ("false and 1", False),
    ("true or 1", True),
    ("and(false, div(1, 0) > 1)", False),
    ("or(false, false, true)", True),
    ("if(1 > 2, div(1, 0), 'no')", "no"),
    ("'a' if true else div(1, 0)", "a"),
    ("'a' if false", None),
    ("{'a': '<b>&'} | tojson", '{"a":"<b>&"}'),
    ("'ä' | tojson | concat('<')", '"ä"<'),
    ("rows | selectattr('n', 'equals', 1) | map('prop', 't')", ["a"]),
    ("rows | selectattr('t', 'greater', 'a') | map('prop', 't')", ["b", "c"]),
    ("rows | rejectattr('n', 'equals', null) | length", 2),
    ("5 is greater(3)", True),
    ("'' is empty", True),
    ("['' is string, 1 is string]", [True, False]),
    ("string(1234567890123456.0)", "1234567890123456"),
    ("string(0.00001) ~ 1e20", "1E-051E+20"),
]


@pytest.mark.parametrize(("source", "wanted"), GIVES, ids=[source for source, _ in GIVES])
def test_gives(source: str, wanted: JSON) -> None:
    assert json.dumps(run(source)) == json.dumps(wanted)
    references(LANGUAGE, source)


REFUSES = [
    ("true and 1", "and(): parameter 2 'other': expected true or false, found a number '1'"),
    ("null and true", "and(): parameter 1 'value': expected true or false, found null"),
    ("and(true, true, 'x')", "and(): parameter 3 'more': expected true or false, found text 'x'"),
    ("'x' or 'y'", "or(): parameter 1 'value': expected true or false, found text 'x'"),
    ("or(false, false, 0)", "or(): parameter 3 'more': expected true or false, found a number '0'"),
    ("not 1", "not(): parameter 1 'value': expected true or false, found a number '1'"),
    ("not(null)", "not(): parameter 1 'value': expected true or false, found null"),
    ("if('true', 1, 2)", "if(): parameter 1 'condition': expected true or false, found text 'true'"),
    ("1 if 1 else 2", "if(): parameter 1 'condition': expected true or false, found a number '1'"),
    ("null > 0", "greater(): parameter 1 'value': expected a number or text, found null"),
    ("1 < 'a'", "less(): a number and text can't be compared"),
    ("'a' in null", "contains(): parameter 1 'collection': expected text or a list or an object, found null"),
    ("1 | formatNumber(format='0')", "by position"),
    ("rows | selectattr('n', 'add', 1)", "add() is no test: it gives a number, not true or false"),
]


@pytest.mark.parametrize(("source", "words"), REFUSES, ids=[source for source, _ in REFUSES])
def test_refuses(source: str, words: str) -> None:
    with pytest.raises(DataError) as caught:
        run(source)
    assert words in caught.value.message


# What `check` sees: an unknown name, or a call with the wrong number of arguments.
NAMED = [
    ("rows | selectattr('n', 'equalto', 1)", "unknown test 'equalto'"),
    ("rows | rejectattr('n', 'upper')", "unknown test 'upper'"),
    ("rows | map('upper')", "unknown filter 'upper'"),
    ("rows | map('utcNow')", "unknown filter 'utcNow'"),
    ("1 is odder", "unknown test 'odder'"),
    ("1 | formatNumber(format='0')", "formatNumber takes its arguments by position"),
]


@pytest.mark.parametrize(("source", "words"), NAMED, ids=[source for source, _ in NAMED])
def test_check_sees_names_in_texts(source: str, words: str) -> None:
    (fault,) = references(LANGUAGE, source).faults
    assert words in fault.message


def test_check_counts_arguments_behind_names() -> None:
    found = references(
        LANGUAGE, "rows | selectattr('n', 'equals') | map('replace', 'a') | rejectattr('t') | map('trim')"
    )
    counted = [(name, given) for name, given, _ in found.calls if name in ("equals", "replace", "trim")]
    assert sorted(counted) == [("equals", 1), ("replace", 2), ("trim", 1)]


def test_coalesce_in_coalesce_does_not_grow() -> None:
    deep = "null"
    for _ in range(60):
        deep = f"coalesce({deep}, null)"
    assert run(f"coalesce({deep}, 7)") == 7


def test_what_is_too_deep_is_an_error_in_words() -> None:
    with pytest.raises(DataError):
        run("(" * 3000 + "1" + ")" * 3000)
