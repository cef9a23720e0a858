"""XML as JSON and back, by the convention of Newtonsoft's converter, which Microsoft's flows use.

Attributes are `@name`, text beside them or beside elements `#text`, repeated siblings a list, and white space alone
doesn't count. A document type is refused: nobody needs one here, and entities of its own can blow up.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from engine.functions.contents import Content
from engine.functions.declare import function, invalid, limited
from engine.functions.xmltexts import xml_name
from engine.types import JSON, type_name

XML = "application/xml;charset=utf-8"
_ESCAPED = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\r": "&#xD;", "\n": "&#xA;", "\t": "&#x9;"}


@dataclass
class Node:
    """An element by its name, or text, a comment and the like: `#text`, `#cdata-section`, `#comment`, `?name`."""

    name: str
    text: str = ""
    attributes: dict[str, str] = field(default_factory=dict)
    children: list[Node] = field(default_factory=list)
    empty: bool = False  # <a /> and not <a></a>

    def __str__(self) -> str:
        match self.name:
            case "#text":
                return _escaped(self.text, "[&<>\r]")
            case "#cdata-section":
                return f"<![CDATA[{self.text}]]>"
            case "#comment":
                return f"<!--{self.text}-->"
        attributes = "".join(f' {name}="{_escaped(text, _ANY)}"' for name, text in self.attributes.items())
        if self.name[0] == "?":
            return f"<{self.name}{attributes}{' ' * bool(self.text)}{self.text}?>"
        if self.empty:
            return f"<{self.name}{attributes} />"
        return f"<{self.name}{attributes}>{''.join(map(str, self.children))}</{self.name}>"


_ANY = f"[{''.join(_ESCAPED)}]"


def _escaped(text: str, characters: str) -> str:
    return re.sub(characters, lambda found: _ESCAPED[found.group()], text)


def parsed(text: str) -> Node:
    """A nameless node that holds the root element and what stands beside it. Raises DataError with line and column."""
    from xml.parsers import expat

    data = text.encode("utf-8", "replace")
    document = Node("")
    open_nodes, sections = [document], [False]
    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True

    def add(node: Node) -> None:
        open_nodes[-1].children.append(node)

    def start(name: str, attributes: dict[str, str]) -> None:
        add(node := Node(name, attributes=attributes))
        open_nodes.append(node)

    def end(_: str) -> None:
        node, at = open_nodes.pop(), parser.CurrentByteIndex
        node.empty = not node.children and data[at - 2 : at] == b"/>"

    def characters(found: str) -> None:
        if sections[0] or found.strip(" \t\r\n"):
            add(Node("#cdata-section" if sections[0] else "#text", found))

    def declaration(version: str, encoding: str | None, standalone: int) -> None:
        words = {-1: None, 0: "no", 1: "yes"}[standalone]
        given = {"version": version, "encoding": encoding, "standalone": words}
        add(Node("?xml", attributes={name: value for name, value in given.items() if value}))

    def refuse(*_: Any) -> None:
        raise invalid("the XML has a document type (<!DOCTYPE …>), which isn't read")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = characters
    parser.CommentHandler = lambda found: add(Node("#comment", found))
    parser.ProcessingInstructionHandler = lambda target, found: add(Node(f"?{target}", found))
    parser.StartCdataSectionHandler = lambda: sections.__setitem__(0, True)
    parser.EndCdataSectionHandler = lambda: sections.__setitem__(0, False)
    parser.XmlDeclHandler, parser.StartDoctypeDeclHandler = declaration, refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        reason = expat.ErrorString(error.code)
        raise invalid(f"no XML: {reason} at line {error.lineno}, column {error.offset + 1}") from error
    return document


def json_of(node: Node) -> JSON:
    """The members of a node: attributes, then children, grouped by name."""
    out: dict[str, JSON] = {f"@{name}": text for name, text in node.attributes.items()}
    groups: dict[str, list[JSON]] = {}
    for child in node.children:
        if child.name != "#comment":
            groups.setdefault(child.name, []).append(_value(child))
    return out | {name: values[0] if len(values) == 1 else values for name, values in groups.items()}


def _value(node: Node) -> JSON:
    if node.name[0] == "#" or (node.name[0] == "?" and not node.attributes):
        return node.text
    if node.attributes or len(node.children) > 1:
        return json_of(node)
    if not node.children:
        return None if node.empty else ""
    return node.children[0].text if node.children[0].name == "#text" else json_of(node)


def _nodes(name: str, value: JSON) -> Iterator[Node]:
    """The nodes that a member of an object stands for."""
    if isinstance(value, list):
        for item in value:
            if isinstance(item, list):  # a list in a list nests the element
                yield Node(xml_name(name), children=[node for inner in item for node in _nodes(name, inner)])
            else:
                yield from _nodes(name, item)
    elif name in ("#text", "#cdata-section") or (name[:1] == "?" and not isinstance(value, dict)):
        yield Node(name, _scalar(name, value))
    elif isinstance(value, dict):
        attributes = {xml_name(key[1:]): _scalar(key, v) for key, v in value.items() if key[:1] == "@"}
        children = [node for key, v in value.items() if key[:1] != "@" for node in _nodes(key, v)]
        yield Node(name if name[:1] == "?" else xml_name(name), "", attributes, children, not children)
    else:
        text = [] if value is None else [Node("#text", _scalar(name, value))]
        yield Node(xml_name(name), children=text, empty=value is None)


def _scalar(name: str, value: JSON) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case str() | int() | float():
            return str(value)
    raise invalid(f"'{name}' takes text, a number or a boolean, not {type_name(value)}")


def _document(value: dict[str, JSON]) -> list[Node]:
    nodes = [node for name, member in value.items() for node in _nodes(name, member)]
    if [node.name[:1] in ("?", "#", "@", "") for node in nodes].count(False) != 1:
        raise invalid(
            "an object that becomes XML has one member: the root element, which is no list",
            "wrap it: xml({'root': …})",
        )
    return nodes


@function("xml")
def xml(value: Content | dict[str, JSON]) -> JSON:
    """XML as content: out of text, or out of an object with one member, the root element.

    Members called `@name` become attributes, `#text` the text beside them, and a list repeats its element. As text:
    string(xml(…)).

    string(xml({'person': {'@id': 1, 'name': 'Sophia'}})) → "<person id=\\"1\\"><name>Sophia</name></person>"
    """
    try:
        nodes = parsed(value.text()).children if isinstance(value, Content) else _document(value)
        text = "".join(map(str, nodes))
    except RecursionError as error:
        raise invalid("the XML is nested too deeply") from error
    limited(len(text))
    return Content(text.encode("utf-8", "replace"), XML).json()
