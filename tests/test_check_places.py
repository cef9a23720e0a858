"""Where a character of a value stands in the text: in every style that YAML has for texts."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.loader import load
from engine.loader.scalars import offsets

CHARACTERS = st.sampled_from([*"ab {}'\"\\:#|>-%é😀\t\n\n  "])


@settings(deadline=None, max_examples=600, derandomize=True, database=None)
@given(
    st.text(CHARACTERS, min_size=1, max_size=40),
    st.sampled_from(["'", '"', "|", ">", None]),
    st.sampled_from([10, 20, 80]),
    st.booleans(),
)
def test_each_character_stands_where_it_was_written(value: str, style: str, width: int, plain: bool) -> None:
    """At its offset stands the character itself or its escape; line breaks and what is folded stand at white space."""
    document = load(yaml.dump({"k": {"x": value}}, default_style=style, allow_unicode=plain, width=width), "f.yaml")
    if not (isinstance(document.data, dict) and isinstance(document.data["k"]["x"], str)):
        return  # a text that reads as something else without quotes
    found = document.data["k"]["x"]
    places = offsets(document.text, *document.values["k", "x"], found)
    assert len(places) == len(found) + 1
    assert places == sorted(places)
    for character, at in zip(found, places, strict=False):
        assert document.text[at : at + 1] in (character, "\\") or character in " \n"


@pytest.mark.parametrize(
    "text",
    [
        'x: "a ⟦Z b"',
        "x: 'a ⟦Z b'",
        "x: a ⟦Z b",
        'x: "\\u00e9\\n\\" \\U0001F600 ⟦Z"',
        "x: 'it''s ''⟦Z'''",
        'x: "one\n  two\n\n  ⟦Z"',
        'x: "one \\\n  \\ two ⟦Z"',
        "x: one\n  two\n\n\n  ⟦Z",
        "x: |\n  one\n    two ⟦Z\n",
        "x: |-\n\n   one\n\n   ⟦Z\n",
        "x: >\n  one\n  two\n\n    three ⟦Z\n  four\n",
        "x: >+\n\n\n  one\n  ⟦Z\n\n\n",
        "x: |2\n    one\n   ⟦Z\n",
        "x: | # a comment\n  ⟦Z\n",
        "x: &anchor ⟦Z",
        "x: &anchor |\n  one\n  ⟦Z",
        "x: !!str '⟦Z'",
        "- {x: [1, 'a', \"⟦Z\"]}",
    ],
)
def test_one_character(text: str) -> None:
    at = text.index("⟦")
    document = load(text.replace("⟦", ""), "f.yaml")
    assert not document.findings
    path = next(p for p, (start, end) in reversed(document.values.items()) if start <= at < end)
    value = document.data
    for part in path:
        value = value[part]
    place = document.place(path, at=value.index("Z"))
    assert place == document.place(path, inside="Z") == document.place_at(at)
    assert document.line(place.line)[place.column - 1] == "Z"
