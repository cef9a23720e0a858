"""YAML text → plain JSON data with a place for every key and value, and every fault found at once.

YAML 1.2's core is narrowed to what JSON knows: null, true/false, JSON numbers; all else is text (`no`, `012`, dates).
Duplicate keys are errors, anchors and merge keys are allowed within limits. After a fault that can be looked past the
rest is still loaded: what stands at the fault is `Lost`.
"""

from __future__ import annotations

import gc
import hashlib
import math
import re
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import yaml

from engine.loader import faults, scalars
from engine.loader.findings import Finding, Place
from engine.types import JSON

MAX_BYTES = 1024 * 1024
MAX_NODES = 100_000
MAX_DEPTH = 64
MOST_MENDED = 50  # faults that are looked past in one document
TAG = "tag:yaml.org,2002:"
NO_TAGS = "remove it: flows know no YAML tags; a text that begins with ! needs quotes"
Path: TypeAlias = tuple[str | int, ...]
Span: TypeAlias = tuple[int, int]  # offsets of the begin and the end

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


class Lost(str):
    """A value that can't be read because of a fault, which is reported: nothing more is said about it."""

    __slots__ = ()


@dataclass
class Document:
    """A loaded document. `data` is JSON; `findings` holds YAML faults (with any, `data` may be partial)."""

    file: str
    text: str
    data: JSON = None
    findings: list[Finding] = field(default_factory=list)
    values: dict[Path, Span] = field(default_factory=dict)
    keys: dict[Path, Span] = field(default_factory=dict)
    doubled: set[Path] = field(default_factory=set)  # keys that stand twice: the first one counts
    dropped: set[str] = field(default_factory=set)  # the keys in what the others hold
    spelt: dict[Path, str] = field(default_factory=dict)  # path of a misspelt key as it should be → the key as it is

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]

    def place(self, path: Path, *, key: bool = False, inside: str = "", at: int | None = None) -> Place:
        """Where the value (or key) at `path` stands, or the `at`th character of its text, or the text `inside` it.

        The nearest parent's place if there is nothing at `path`.
        """
        if self.spelt:
            path = tuple(self.spelt.get(path[: n + 1], str(part)) if isinstance(part, str) else part
                         for n, part in enumerate(path))  # fmt: skip
        while path and path not in self.values:
            path, key, inside, at = path[:-1], False, "", None
        start, end = self.keys.get(path, (0, 0)) if key else self.values.get(path, (0, len(self.text)))
        text = path[-1] if key and path else value_at(self.data, path)
        if inside and isinstance(text, str):
            at = text.find(inside) if inside in text else None
        if at is not None and isinstance(text, str):
            start = scalars.offsets(self.text, start, end, text)[min(at, len(text))]
        return self.place_at(start)

    def place_at(self, offset: int) -> Place:
        """The place of a character offset."""
        line = bisect_right(self._begins, offset)
        return Place(self.file, line, offset - self._begins[line - 1] + 1)

    @cached_property
    def _begins(self) -> list[int]:
        """The offset at which each line begins."""
        return [0, *(found.end() for found in re.finditer("\n", self.text))]

    def line(self, number: int) -> str:
        """The source line, counted from 1."""
        if not 0 < number <= len(self._begins):
            return ""
        start = self._begins[number - 1]
        return (
            self.text[start:].split("\n", 1)[0]
            if number == len(self._begins)
            else self.text[start : self._begins[number] - 1]
        )

    def report(self, place: Place, code: str, message: str, **more: Any) -> None:
        """Adds a finding with its source line."""
        self.findings.append(Finding(place, code, message, source=self.line(place.line).rstrip(), **more))


def value_at(data: JSON, path: Path | list[Any]) -> JSON:
    """The value at a path, None where there is none."""
    for part in path:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return None
    return data


@contextmanager
def uncollected() -> Iterator[None]:
    """Looks for no garbage in cycles meanwhile: while many nodes come up that stay, it would take half of the time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def load(source: str | bytes, file: str) -> Document:
    """Loads YAML. Never raises for what is wrong in it: see `findings`."""
    try:
        text = source.decode() if isinstance(source, bytes) else source
    except UnicodeDecodeError as error:
        return _undecoded(error.object, error, file)
    document = Document(file, re.sub(r"\r\n?", "\n", text.removeprefix("\ufeff")))
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "replace")) > MAX_BYTES:
        document.report(Place(file), "TooLarge", f"the document is larger than {MAX_BYTES} bytes",
                        hint="move a part to a flow of its own and `run` it")  # fmt: skip
    elif found := faults.forbidden(document.text):
        _report(document, found)
    else:
        with uncollected():
            _load(document)
    return document


def _undecoded(source: bytes, error: UnicodeDecodeError, file: str) -> Document:
    utf16 = source[:2] in (b"\xff\xfe", b"\xfe\xff")
    before = "" if utf16 else source[: error.start].decode().removeprefix("\ufeff")
    document = Document(file, re.sub(r"\r\n?", "\n", before + source[error.start :].decode("latin-1")))
    byte = "it is UTF-16" if utf16 else f"byte 0x{source[error.start]:02X}"
    document.report(document.place_at(len(re.sub(r"\r\n?", "\n", before))), "Encoding", f"no UTF-8 text: {byte}",
                    expected="UTF-8", hint="save the file as UTF-8")  # fmt: skip
    return document


def _report(document: Document, fault: faults.Fault) -> None:
    document.report(document.place_at(fault.offset), fault.code, fault.message, hint=fault.hint,
                    expected=fault.expected, found=fault.found)  # fmt: skip


class _LimitError(Exception):
    """The document is too large or too deep from here on."""


def _load(document: Document) -> None:
    """Loads it, and again after each fault that can be looked past."""
    text = document.text
    told: set[int] = set()  # lines that were mended: what is wrong there or right below comes of the mending
    for _ in range(MOST_MENDED):
        loader = _JsonLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                document.report(
                    Place(document.file), "Empty", "the document is empty", hint="begin with `flow: NAME` and `steps:`"
                )
            else:
                document.data = _Builder(document).build(node, (), 0)
        except yaml.YAMLError as error:
            fault = faults.explain(text, error, _JsonLoader)
            line = document.place_at(fault.offset).line
            if fault.code == "YamlSyntax" and {line, line - 1} & told:
                return
            _report(document, fault)
            if fault.mended is None:
                return
            told.add(line)
            text = fault.mended
            continue
        except _LimitError as error:
            offset, code, message = error.args
            document.data = None
            document.report(
                document.place_at(offset), code, message, hint="move a part to a flow of its own and `run` it"
            )
        except RecursionError:
            document.report(Place(document.file), "TooDeep", f"nested deeper than {MAX_DEPTH} levels")
        finally:
            loader.dispose()
        return


class _Builder:
    def __init__(self, document: Document) -> None:
        self.document = document
        self.nodes = 0

    def build(self, node: yaml.Node, path: Path, depth: int) -> JSON:
        self.nodes += 1
        start, end = node.start_mark.index, node.end_mark.index
        if depth > MAX_DEPTH:
            raise _LimitError(start, "TooDeep", f"nested deeper than {MAX_DEPTH} levels")
        if self.nodes > MAX_NODES:
            raise _LimitError(start, "TooLarge", f"the document has more than {MAX_NODES} nodes")
        self.document.values[path] = (start, end)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if self._unquoted(node):
            return Lost()
        if node.tag not in (f"{TAG}map", f"{TAG}seq"):
            self._fault(node, "Tag", f"unknown tag {node.tag.removeprefix(TAG)}", hint=NO_TAGS)
        if isinstance(node, yaml.MappingNode):
            out: dict[str, JSON] = {}
            self._fill(out, node, path, depth)
            return out
        return [self.build(child, (*path, i), depth + 1) for i, child in enumerate(node.value)]

    def _unquoted(self, node: yaml.Node) -> bool:
        """Whether it is an expression without quotes, which YAML takes for two mappings."""
        if not (isinstance(node, yaml.MappingNode) and self.document.text.startswith("{{", node.start_mark.index)):
            return False
        self._fault(node, "UnquotedTemplate", "an expression without quotes", hint=faults.QUOTE_TEMPLATE)
        return True

    def _scalar(self, node: yaml.Node) -> JSON:
        kind, text = node.tag.removeprefix(TAG), str(node.value)
        if faults.LOST in text:
            return Lost()
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
            return Lost()
        return text

    def _fault(self, node: yaml.Node, code: str, message: str, **more: Any) -> None:
        self.document.report(self.document.place_at(node.start_mark.index), code, message, **more)

    def _fill(
        self, out: dict[str, JSON], node: yaml.MappingNode, path: Path, depth: int, *, merged: bool = False
    ) -> None:
        """Adds the members of a mapping; of a merged one those that are not there yet."""
        merges: list[tuple[yaml.Node, list[yaml.Node]]] = []
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                if not self._unquoted(key_node):
                    self._fault(key_node, "Key", "a key has to be text", hint="put quotes around it")
            elif key_node.tag == f"{TAG}merge":
                several = isinstance(value_node, yaml.SequenceNode)
                merges.append((key_node, value_node.value if several else [value_node]))
            elif name := self._colonless(key_node, value_node):
                _report(self.document, faults.no_colon(self.document.text, key_node.start_mark.index))
                out[name] = Lost()
            elif (key := str(key_node.value)) not in out:
                if faults.LOST not in key:
                    self.document.keys[*path, key] = (key_node.start_mark.index, key_node.end_mark.index)
                    out[key] = self.build(value_node, (*path, key), depth + 1)
            elif not merged:
                self.document.doubled.add((*path, key))
                self.document.dropped |= set(_names(value_node))
                first = self.document.place_at(self.document.keys[*path, key][0])
                self._fault(key_node, "DuplicateKey", f"'{key}' stands twice; first in line {first.line}",
                            hint="remove or rename one")  # fmt: skip
                if out[key] is None:  # nothing stands at the first
                    out[key] = self.build(value_node, (*path, key), depth + 1)
        for key_node, sources in merges:
            if depth > MAX_DEPTH:
                raise _LimitError(key_node.start_mark.index, "TooDeep", f"nested deeper than {MAX_DEPTH} levels")
            if not all(isinstance(source, yaml.MappingNode) for source in sources):
                hint = "name an anchor on a mapping: <<: *name"
                self._fault(key_node, "Merge", "'<<' merges mappings only", hint=hint)
            for source in sources:
                if isinstance(source, yaml.MappingNode):
                    self._fill(out, source, path, depth + 1, merged=True)

    def _colonless(self, key: yaml.ScalarNode, value: yaml.Node) -> str:
        """The key in what became a key because a colon, or the blank after it, is missing; nothing if it is a key."""
        text = str(key.value)
        found = faults.COLONLESS.match(text)
        if found is None and value.value == "":
            found = re.fullmatch(r"([a-z_]\w*):\S.*", text)
        return found[1] if found and not key.style else ""


def _names(node: yaml.Node) -> Iterator[str]:
    """Every key in a node, however deep."""
    pending, seen = [node], set()
    while pending:
        node = pending.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            pending += node.value
        elif isinstance(node, yaml.MappingNode):
            yield from (str(key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode))
            pending += [value for _, value in node.value]
