"""XML as JSON and back: the convention of Newtonsoft's converter."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_functions import run

from engine.errors import DataError
from engine.types import JSON

# XML, what json(xml(…)) makes of it, and how string(xml(…)) prints it if not as it was.
READ: list[tuple[str, JSON, str | None]] = [
    ("<a />", {"a": None}, None),
    ("<a/>", {"a": None}, "<a />"),
    ("<a></a>", {"a": ""}, None),
    ("<a> \n</a>", {"a": ""}, "<a></a>"),
    ("<a> x </a>", {"a": " x "}, None),
    ("<a>1</a>", {"a": "1"}, None),
    ('<a b="1" />', {"a": {"@b": "1"}}, None),
    ("<a  b = '\"1' />", {"a": {"@b": '"1'}}, '<a b="&quot;1" />'),
    ('<a b="1">x</a>', {"a": {"@b": "1", "#text": "x"}}, None),
    ("<a><b>1</b><c>2</c></a>", {"a": {"b": "1", "c": "2"}}, None),
    ("<a><b>1</b><c /><b>2</b></a>", {"a": {"b": ["1", "2"], "c": None}}, None),
    ("<a>x<b />y</a>", {"a": {"#text": ["x", "y"], "b": None}}, None),
    ("<a>\n  <b/>\n</a>", {"a": {"b": None}}, "<a><b /></a>"),
    ("<a><![CDATA[<&]]></a>", {"a": {"#cdata-section": "<&"}}, None),
    ("<a><!-- c --><b>1</b></a>", {"a": {"b": "1"}}, None),
    ("<a>x<!-- c --></a>", {"a": {"#text": "x"}}, None),
    ("<a>&lt;&amp;&#228;&#x1F600;&apos;</a>", {"a": "<&ä😀'"}, "<a>&lt;&amp;ä😀'</a>"),
    ('<?xml version="1.0" encoding="x"?><a />', {"?xml": {"@version": "1.0", "@encoding": "x"}, "a": None}, None),
    ('<?xml version="1.0" standalone="no"?><a />', {"?xml": {"@version": "1.0", "@standalone": "no"}, "a": None}, None),
    ("<?pi x y?><a />", {"?pi": "x y", "a": None}, None),
    ('<n:a xmlns:n="urn:n" n:b="1" />', {"n:a": {"@xmlns:n": "urn:n", "@n:b": "1"}}, None),
    ('<a b="1&#xA;2" />', {"a": {"@b": "1\n2"}}, None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "value", "printed"), READ, ids=[text for text, _, _ in READ])
def test_read(text: str, value: JSON, printed: str | None) -> None:
    assert json.dumps(run("json(xml(t))", {"t": text})) == json.dumps(value)
    assert run("string(xml(t))", {"t": text}) == (printed or text)


WRITTEN: list[tuple[JSON, str]] = [
    ({"a": None}, "<a />"),
    ({"a": {}}, "<a />"),
    ({"a": ""}, "<a></a>"),
    ({"a": True}, "<a>true</a>"),
    ({"a": 1.5}, "<a>1.5</a>"),
    ({"a": {"b": [1, None, {"c": "x"}], "d": []}}, "<a><b>1</b><b /><b><c>x</c></b></a>"),
    ({"a": {"b": [[1, 2], 3]}}, "<a><b><b>1</b><b>2</b></b><b>3</b></a>"),
    ({"a": {"@b": None, "#text": "<x>"}}, '<a b="">&lt;x&gt;</a>'),
    ({"a": {"#cdata-section": "<x>"}}, "<a><![CDATA[<x>]]></a>"),
    ({"first name": {"@a b": 1}}, '<first_x0020_name a_x0020_b="1" />'),
    ({"?xml": {"@version": "1.0"}, "a": 1}, '<?xml version="1.0"?><a>1</a>'),
    ({"?pi": "x y", "a": 1}, "<?pi x y?><a>1</a>"),
]


@pytest.mark.parametrize(("value", "text"), WRITTEN, ids=[text for _, text in WRITTEN])
def test_written(value: JSON, text: str) -> None:
    assert run("string(xml(v))", {"v": value}) == text


def test_it_travels_as_content() -> None:
    content = run("xml('<ä/>')")
    assert content == {"$content-type": "application/xml;charset=utf-8", "$content": "PMOkIC8+"}
    scope = {"c": content, "latin": {"$content-type": "text/xml; charset=iso-8859-1", "$content": "PGE+5DwvYT4="}}
    assert run("json(c)", scope) == {"ä": None}
    assert run("concat('<r>', c, '</r>')", scope) == "<r><ä /></r>"
    assert run("base64ToString(base64(c))", scope) == "<ä />"
    assert run("json(latin)", scope) == {"a": "ä"}
    assert run("string(xml(latin))", scope) == "<a>ä</a>"
    assert run("json({'$content-type': 'image/svg+xml', '$content': 'PGEvPg=='})") == {"a": None}


REFUSED = [
    ("xml('')", "xml(): no XML: no element found at line 1, column 1"),
    ("xml('text')", "no XML: syntax error at line 1, column 1"),
    ("xml('<a>\\n<b></a>')", "no XML: mismatched tag at line 2, column 6"),
    ("xml('<a/><b/>')", "no XML: junk after document element"),
    ("xml('<a>&x;</a>')", "no XML: undefined entity"),
    ("xml('<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>')", "has a document type"),
    ("xml({})", "one member: the root element"),
    ("xml({'a': 1, 'b': 2})", "one member: the root element"),
    ("xml({'a': [1, 2]})", "one member: the root element"),
    ("xml({'#text': 'x'})", "one member: the root element"),
    ("xml({'a': {'@b': {}}})", "'@b' takes text, a number or a boolean, not an object"),
    ("json({'$content-type': 'application/xml', '$content': 'eA=='})", "json(): no XML: syntax error"),
]


@pytest.mark.parametrize(("source", "words"), REFUSED, ids=[source for source, _ in REFUSED])
def test_refused(source: str, words: str) -> None:
    with pytest.raises(DataError) as caught:
        run(source)
    assert words in caught.value.message


def test_depth_is_limited() -> None:
    deep = "<a>" * 100_000 + "</a>" * 100_000
    with pytest.raises(DataError, match="nested too deeply"):
        run("xml(t)", {"t": deep})
    value: JSON = None
    for _ in range(100_000):
        value = {"a": value}
    with pytest.raises(DataError, match="nested too deeply"):
        run("xml(v)", {"v": value})


names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.]{0,8}", fullmatch=True)
texts = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Cn"]), max_size=20).filter(
    lambda t: t.strip()
)
elements = st.recursive(
    st.none() | st.just("") | texts,
    lambda inner: st.dictionaries(names, inner | st.lists(inner, min_size=2, max_size=3), min_size=1, max_size=3),
    max_leaves=12,
)


@given(names, elements, st.dictionaries(names, texts, max_size=2))
@settings(max_examples=200, deadline=None)
def test_what_is_written_is_read(root: str, content: JSON, attributes: dict[str, str]) -> None:
    members = {f"@{name}": text for name, text in attributes.items()}
    if members:
        content = members | (content if isinstance(content, dict) else {"#text": content} if content else {})
    assert run("json(xml(v))", {"v": {root: content}}) == {root: content}
