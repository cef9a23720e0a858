"""What every argument of every function may be. All else is refused by one sentence that names the function, the
parameter, what is expected and what was found.
"""

import json
import re
from datetime import UTC, datetime

import pytest

from engine.errors import DataError
from engine.expressions import Ambient, Expressions
from engine.functions import FUNCTIONS
from engine.types import JSON, type_name

LANGUAGE = Expressions(FUNCTIONS)
# By letter: a value that fits, the words for it in messages, and which other values fit.
KINDS: dict[str, tuple[JSON, str, str]] = {
    "x": ("a", "text", "text"),
    "i": (1, "a whole number", "whole"),
    "n": (1, "a number", "whole real"),
    "b": (True, "true or false", "boolean"),
    "l": ([1], "a list", "list"),
    "o": ({"a": 1}, "an object", "object"),
    "j": (1, "", "null boolean whole real text list object"),
    "0": (None, "", "null"),
    "c": ("a", "text or content with $content-type and $content", "text"),
    "t": ("2018-03-15", "a time such as 2018-03-15T13:27:36Z or 3/15/2018 1:27 PM", ""),
    "s": ("1:00", "a span of time such as 1.12:30:00", ""),
    "z": ("UTC", "the name of a time zone such as Pacific Standard Time", ""),
    "L": ("en-US", "the name of a locale such as en-US", ""),
    "u": ("http://a/", "an absolute URI such as https://contoso.com/a?b=c", ""),
}
VALUES: dict[str, JSON] = {
    **{"null": None, "boolean": True, "whole": 7, "real": 1.5, "text": "qq", "list": [1], "object": {"a": 1}},
}
# Parameters in their order; several letters are alternatives, ? may be left out (or null), * any number of times.
TAKES = """
concat: j j* | substring: x i i? | slice: x i i? | replace: x x x | toLower: x | toUpper: x | trim: x
indexOf: x x | lastIndexOf: x x | nthIndexOf: x x i | startsWith: x x | endsWith: x x | split: x x | length: xl
guid: x? | formatNumber: n x L? | utf8Length: x | utf16Length: x | contains: xlo j | empty: xlo0 | first: xl | last: xl
take: xl i | skip: l i | join: l x | union: lo lo* | intersection: lo lo* | chunk: xl i | sort: l x? | reverse: l
createArray: j j* | array: j | range: i i | addProperty: o x j | setProperty: o x j | removeProperty: o x
mergeObjects: o o | prop: o x | and: b b b* | or: b b b* | not: b | equals: j j | greater: nx nx
greaterOrEquals: nx nx | less: nx nx | lessOrEquals: nx nx | if: b j j | coalesce: j j* | isInt: x | isFloat: x L?
add: n n | sub: n n | mul: n n | div: n n | mod: n n | min: nl n* | max: nl n* | rand: i i | int: xn | float: xn L?
decimal: xn | bool: bix | string: j | json: c | base64: c | base64ToString: x | decodeBase64: x | base64ToBinary: x
trimByteOrderMark: xc | binary: c | dataUri: c | dataUriToString: x | dataUriToBinary: x | decodeDataUri: x
uriComponent: c | encodeUriComponent: c | uriComponentToString: x | decodeUriComponent: x | uriComponentToBinary: x
xml: co | encodeXmlValue: x | decodeXmlValue: x | encodeXmlName: x | decodeXmlName: x | utcNow: x?
getFutureTime: i x x? | getPastTime: i x x? | addSeconds: t i x? | addMinutes: t i x? | addHours: t i x?
addDays: t i x? | addToTime: t i x x? | subtractFromTime: t i x x? | startOfHour: t x? | startOfDay: t x?
startOfMonth: t x? | dayOfWeek: t | dayOfMonth: t | dayOfYear: t | ticks: t | formatDateTime: t x? L?
parseDateTime: x L? x?
dateDifference: t t | formatTimeSpan: s x L? | convertFromUtc: t z x? | convertToUtc: t z x? | convertTimeZone: t z z x?
uriHost: u | uriPath: u | uriPathAndQuery: u | uriPort: u | uriQuery: u | uriScheme: u | jsonpath: x j
jsonpath_one: x j
"""
PARAMETERS = {name: takes.split() for name, takes in re.findall(r"(\w+): ([^|\n]+)", TAKES)}


def test_all_functions_stand_here() -> None:
    assert sorted(PARAMETERS) == sorted(FUNCTIONS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_signature_says_what_may_be_left_out(name: str) -> None:
    takes, function = PARAMETERS[name], FUNCTIONS[name]
    assert function.least == sum(t[-1] not in "?*" for t in takes)
    assert function.most == (None if takes[-1][-1:] == "*" else len(takes))
    shown = function.signature.removeprefix(f"{name}(").removesuffix(")").split(", ")
    assert [p[-1] if p[-1] in "?…" else "" for p in shown] == [
        t[-1].replace("*", "…") if t[-1] in "?*" else "" for t in takes
    ]


def parameter(name: str, i: int) -> str:
    return FUNCTIONS[name].signature.removeprefix(f"{name}(").removesuffix(")").split(", ")[i].rstrip("?…")


@pytest.mark.parametrize("name", PARAMETERS)
def test_what_does_not_fit_is_named(name: str) -> None:
    for i in range(len(PARAMETERS[name])):
        for found in VALUES:
            try_one(name, i, found)


def try_one(name: str, i: int, found: str) -> None:
    function, takes, value = FUNCTIONS[name], PARAMETERS[name], VALUES[found]
    arguments = [KINDS[t[0]][0] for t in takes]
    arguments[i] = value
    ambient = [Ambient(datetime(2018, 3, 15, tzinfo=UTC), "seed")] if function.impure else []
    letters = takes[i].rstrip("?*")
    fits = any(found in KINDS[letter][2].split() for letter in letters) or (takes[i][-1] == "?" and value is None)
    try:
        function.call(*ambient, *arguments)
    except DataError as error:
        refused = error
    else:
        assert fits, f"{name}() took {value!r} for {letters}"
        return
    if fits:  # of the right type, but another argument or the content forbids it
        assert refused.message.startswith(f"{name}(): ")
        return
    start = f"{name}(): parameter {i + 1} '{parameter(name, i)}': "
    assert refused.message.startswith(start)
    if found == "text" and letters in "zL":
        assert "'qq'" in refused.message
        return
    words = " or ".join(dict.fromkeys(KINDS[letter][1] for letter in letters if KINDS[letter][1]))
    assert refused.code == "WrongType"
    assert refused.message.startswith(f"{start}expected {words}, found {type_name(value)}")
    assert ("coalesce(value, …)" in refused.hint) == (value is None)


def outcome(source: str, scope: dict[str, JSON]) -> str:
    try:
        return json.dumps(LANGUAGE.evaluate(source, scope, Ambient(datetime(2018, 3, 15, tzinfo=UTC), "seed")))
    except DataError as error:
        return error.message.partition(": ")[2]


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_call_is_a_filter_and_a_name_for_map(name: str) -> None:
    scope = {f"a{i}": KINDS[takes[0]][0] for i, takes in enumerate(PARAMETERS[name])}
    first, rest = "a0", ", ".join(list(scope)[1:])
    called = outcome(f"{name}({', '.join(scope)})", scope)
    assert outcome(f"{first} | {name}({rest})" if rest else f"{first} | {name}", scope) == called
    if not FUNCTIONS[name].impure:
        mapped = outcome(f"[{first}] | map('{name}'{', ' * bool(rest)}{rest})", scope)
        assert mapped in (f"[{called}]", called)  # called: an error


@pytest.mark.parametrize("source", ["'a' | upper", "2.5 | round", "{} | items", "[] | batch(2)", "[1] | map('upper')"])
def test_filters_of_jinja_are_gone(source: str) -> None:
    with pytest.raises(DataError, match="filter"):
        LANGUAGE.evaluate(source, {}, Ambient(datetime(2018, 3, 15, tzinfo=UTC), "seed"))
