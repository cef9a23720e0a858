"""YAML text → plain JSON data with a place for every key and value, and every fault found at once.

YAML 1.2's core is narrowed to what JSON knows: null, true/false, JSON numbers; all else is text (`no`, `012`, dates).
Duplicate keys are errors, anchors and merge keys are allowed within limits.
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import yaml

from engine.loader.findings import Finding, Place
from engine.types import JSON

MAX_BYTES = 1024 * 1024
MAX_NODES = 100_000
MAX_DEPTH = 64
TAG = "tag:yaml.org,2002:"
NO_TAGS = "remove it: flows know no YAML tags"
Path: TypeAlias = tuple[str | int, ...]

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _JsonLoader(_Loader):  # type: ignore[misc]  # the C parser where libyaml is there
    """Resolves plain scalars as JSON does."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own attribute


for _tag, _regex, _first in (
    ("null", r"null|~|", ["n", "~", ""]),
    ("bool", r"true|false", ["t", "f"]),
    ("int", r"-?(0|[1-9][0-9]*)", list("-0123456789")),
    ("float", r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?", list("-0123456789")),
    ("merge", r"<<", ["<"]),
):
    _JsonLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_regex})$"), _first)


@dataclass
class Document:
    """A loaded document. `data` is JSON; `findings` holds YAML faults (with any, `data` may be partial)."""

    file: str
    text: str
    data: JSON = None
    findings: list[Finding] = field(default_factory=list)
    values: dict[Path, tuple[int, int]] = field(default_factory=dict)  # path → start and end offset of the value
    keys: dict[Path, int] = field(default_factory=dict)  # path → offset of its key

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]

    def place(self, path: Path, *, key: bool = False, inside: str = "") -> Place:
        """Where the value (or key) at `path` stands, or the text `inside` it; the nearest parent's if it is absent."""
        while path and path not in self.values:
            path, key = path[:-1], False
        start, end = self.values.get(path, (0, len(self.text)))
        if key:
            start = self.keys.get(path, start)
        elif inside and (found := self.text.find(inside, start, end)) >= 0:
            start = found
        return self.place_at(start)

    def place_at(self, offset: int) -> Place:
        """The place of a character offset."""
        line = self.text.count("\n", 0, offset) + 1
        return Place(self.file, line, offset - (self.text.rfind("\n", 0, offset) + 1) + 1)

    def line(self, number: int) -> str:
        """The source line, counted from 1."""
        return self._lines[number - 1] if 0 < number <= len(self._lines) else ""

    @property
    def _lines(self) -> list[str]:
        return self.text.split("\n")

    def report(self, place: Place, code: str, message: str, **more: Any) -> None:
        """Adds a finding with its source line."""
        self.findings.append(Finding(place, code, message, source=self.line(place.line).rstrip(), **more))


def load(text: str, file: str) -> Document:
    """Loads YAML text. Never raises for what is wrong in it: see `findings`."""
    document = Document(file, text.removeprefix("\ufeff").replace("\r\n", "\n"))
    if len(text.encode("utf-8", "replace")) > MAX_BYTES:
        document.report(Place(file), "TooLarge", f"the document is larger than {MAX_BYTES} bytes")
        return document
    loader = _JsonLoader(document.text)
    try:
        node = loader.get_single_node()
        if node is None:
            document.report(Place(file), "Empty", "the document is empty")
        else:
            document.data = _Builder(document).build(node, (), 0)
    except yaml.YAMLError as error:
        _report_fault(document, error)
    except RecursionError:
        document.report(Place(file), "TooDeep", f"nested deeper than {MAX_DEPTH} levels")
    finally:
        loader.dispose()
    return document


def _report_fault(document: Document, error: yaml.YAMLError) -> None:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    place = Place(document.file, mark.line + 1, mark.column + 1) if mark else Place(document.file)
    if isinstance(error, yaml.reader.ReaderError):
        place = document.place_at(error.position)
    problem = getattr(error, "problem", None) or str(error)
    context = getattr(error, "context", None)
    source = document.line(place.line)
    hint = ""
    if re.search(r"[:\[,{-]\s*\{\{", source):
        hint = 'put quotes around the value: "{{ … }}" (YAML reads an unquoted { as the start of a mapping)'
    elif "\t" in source[: place.column]:
        hint = "indent with spaces, not tabs"
    elif "mapping values are not allowed" in problem:
        hint = "a text that holds ': ' needs quotes; else check the indentation"
    document.report(place, "YamlSyntax", f"{problem}{f' ({context})' if context else ''}", hint=hint)


class _Builder:
    def __init__(self, document: Document) -> None:
        self.document = document
        self.nodes = 0

    def build(self, node: yaml.Node, path: Path, depth: int) -> JSON:
        self.nodes += 1
        if depth > MAX_DEPTH or self.nodes > MAX_NODES:
            what = f"nested deeper than {MAX_DEPTH} levels" if depth > MAX_DEPTH else f"more than {MAX_NODES} nodes"
            raise yaml.MarkedYAMLError(problem=f"the document is {what}", problem_mark=node.start_mark)
        self.document.values[path] = (node.start_mark.index, node.end_mark.index)
        if not isinstance(node, yaml.ScalarNode) and node.tag not in (f"{TAG}map", f"{TAG}seq"):
            self._fault(node, "Tag", f"unknown tag {node.tag.removeprefix(TAG)}", hint=NO_TAGS)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(child, (*path, i), depth + 1) for i, child in enumerate(node.value)]
        return self._scalar(node)

    def _scalar(self, node: yaml.Node) -> JSON:
        kind, text = node.tag.removeprefix(TAG), str(node.value)
        try:
            match kind:
                case "null" | "bool":
                    return {"null": None, "~": None, "": None, "true": True, "false": False}[text]
                case "int":
                    return int(text)
                case "float" if math.isfinite(float(text)):
                    return float(text)
        except (KeyError, ValueError):
            kind = ""
        if kind not in ("str", "merge"):
            self._fault(node, "Tag", f"'{text[:40]}' is no {node.tag.removeprefix(TAG)}", hint=NO_TAGS)
        return text

    def _fault(self, node: yaml.Node, code: str, message: str, **more: Any) -> None:
        self.document.report(self.document.place_at(node.start_mark.index), code, message, **more)

    def _mapping(self, node: yaml.MappingNode, path: Path, depth: int) -> dict[str, JSON]:
        out: dict[str, JSON] = {}
        merged: list[yaml.Node] = []
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                if isinstance(key_node, yaml.MappingNode) and node.flow_style:
                    hint = 'put quotes around it: "{{ … }}"'
                    self._fault(node, "UnquotedTemplate", "an expression without quotes", hint=hint)
                else:
                    self._fault(key_node, "Key", "a key has to be text")
            elif key_node.tag == f"{TAG}merge":
                merged += value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
            elif (key := str(key_node.value)) in out:
                first = self.document.place_at(self.document.keys[*path, key])
                message = f"'{key}' stands twice; first in line {first.line}"
                self._fault(key_node, "DuplicateKey", message, hint="remove or rename one")
            else:
                self.document.keys[*path, key] = key_node.start_mark.index
                out[key] = self.build(value_node, (*path, key), depth + 1)
        for source in merged:
            self._merge(source, out, path, depth)
        return out

    def _merge(self, source: yaml.Node, out: dict[str, JSON], path: Path, depth: int) -> None:
        """Adds what a merged mapping has and `out` has not."""
        if not isinstance(source, yaml.MappingNode):
            self._fault(source, "Merge", "'<<' merges mappings only")
            return
        keys, values = dict(self.document.keys), dict(self.document.values)
        found = self._mapping(source, path, depth)
        for key in found.keys() & out.keys():  # what stands here itself keeps its place
            here = (*path, key)
            self.document.keys |= {at: place for at, place in keys.items() if at[: len(here)] == here}
            self.document.values |= {at: span for at, span in values.items() if at[: len(here)] == here}
        out |= {key: value for key, value in found.items() if key not in out}
