"""Data against a schema: each misfit is reported once, in words, and a copy is made that fits.

What does not fit is set aside, so that the rest is looked at and nothing is said twice: a misspelt key counts as the
one that was meant, what is missing gets a stand-in.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, TypeAlias

from engine import model
from engine.errors import DataError, did_you_mean
from engine.loader.document import Document, Lost, Path
from engine.loader.document import value_at as at
from engine.loader.misfits import ANYTHING, Misfit, Misfits
from engine.loader.words import ELSEWHERE, NAME_WORDS, TEMPLATE, as_name, in_words, keys_in, nearest, snake
from engine.types import JSON, convert, fields

__all__ = ["Report", "at", "compare", "fit"]

STEP, TRIGGER = "#/$defs/step", "#/$defs/trigger"
KINDS = {STEP: model.STEP_KINDS, TRIGGER: model.TRIGGER_KINDS}
NULL = {"type": "null"}
LOOP_KEYS = {"foreach": {"as", "concurrency"}, "until": {"limit", "on_limit"}}
STAND_IN: JSON = {"compose": None}  # for a step that nothing can be made of
# Misspelt keys whose values are looked at: others refer to the names in them.
NAMING = frozenset(
    {"steps", "then", "else", "cases", "default", "variables", "parameters", "connections", "triggers", "as", "flow"}
)
_ANNOTATIONS = frozenset(
    {"title", "description", "default", "examples", "format", "writeOnly", "readOnly", "deprecated", "$schema", "$id"}
    | {"$comment", "$defs", "definitions", "contentMediaType", "contentEncoding"}
)
_KNOWN = _ANNOTATIONS | {
    "$ref", "type", "enum", "const", "anyOf", "allOf", "if", "then", "else", "pattern", "minimum", "maximum", "items",
    "properties", "required", "additionalProperties", "propertyNames", "minProperties", "maxProperties",
}  # fmt: skip
_OF_OBJECTS = frozenset(
    {"properties", "required", "additionalProperties", "propertyNames", "minProperties", "maxProperties"}
)
_GONE: Any = object()  # nothing that fits can be made of it

Report: TypeAlias = Callable[..., None]  # (path, code, message, key=…, severity=…, expected=…, found=…, hint=…)


def fit(report: Report, schema: Mapping[str, Any], document: Document) -> dict[str, JSON]:
    """Reports what doesn't fit, and gives a copy that does. In the document's own data misspelt keys are put right."""
    walk = _Walk(schema)
    out = walk.value(schema, document.data, ())
    document.dropped |= walk.dropped
    if walk.renames:
        document.data = copy.deepcopy(document.data)
    for path, key, meant in walk.renames:
        holder = at(document.data, path)
        holder[meant] = _kept(meant, holder.pop(key))
        document.spelt[*path, meant] = key
    for misfit in walk.misfits:
        report(misfit.path, misfit.code, misfit.message, key=misfit.key, **misfit.more)
    return {"flow": "unnamed", "steps": {}, **(out if isinstance(out, dict) else {})}


def compare(report: Report, schema: Mapping[str, Any], data: JSON, name: str = "") -> None:
    """Reports what doesn't fit a schema. `name` is what the data is called in messages."""
    walk = _Walk(schema, name)
    walk.value(schema, data, ())
    for misfit in walk.misfits:
        path = misfit.path
        for at_, key, meant in walk.renames:
            if path[: len(at_) + 1] == (*at_, meant):
                path = (*at_, key, *path[len(at_) + 1 :])
        report(path, misfit.code, misfit.message, key=misfit.key, **misfit.more)


class _Walk(Misfits):
    """One walk along a schema. `value` gives the copy that fits, or _GONE."""

    def __init__(self, schema: Mapping[str, Any], name: str = "") -> None:
        super().__init__(name)
        self.root = schema
        self.renames: list[tuple[Path, str, str]] = []
        self.settled: set[Path] = set()  # of values that nothing is said about
        self._following: set[tuple[str, Path]] = set()

    def value(self, schema: Any, value: JSON, path: Path) -> JSON:
        if not isinstance(schema, Mapping) or not schema:
            return value
        if path in self.settled:
            return value
        if isinstance(value, Lost):
            self.settled.add(path)
            filler = self._filler(schema)
            return value if filler is _GONE else filler
        if "$ref" in schema:
            value = self._referred(schema["$ref"], value, path)
        kind = schema.get("type")
        if value is _GONE or (kind is not None and not self._typed(schema, kind, value, path)):
            return _GONE
        if "enum" in schema and not self._allowed(schema["enum"], value, path):
            return _GONE
        if "const" in schema and value != schema["const"]:
            self._wrong(path, value, f"{self._where(path)}: not {schema['const']}", expected=str(schema["const"]))
            return _GONE
        if "anyOf" in schema:
            value = self._choice(schema, value, path)
        if isinstance(value, str) and not self._matches(schema, value, path):
            return _GONE
        if isinstance(value, int | float) and not isinstance(value, bool) and not self._in_range(schema, value, path):
            return _GONE
        if isinstance(value, dict) and not _OF_OBJECTS.isdisjoint(schema):
            value = self._object(schema, value, path)
        elif isinstance(value, list) and "items" in schema:
            items = [self.value(schema["items"], item, (*path, i)) for i, item in enumerate(value)]
            value = [item for item in items if item is not _GONE]
        if "if" in schema:
            branch = schema.get("then" if self._holds(schema["if"], value) else "else")
            value = self.value(branch, value, path)
        for part in schema.get("allOf", ()):
            value = self.value(part, value, path) if value is not _GONE else value
        if not schema.keys() <= _KNOWN and value is not _GONE:
            self._others(schema, value, path)
        return value

    # References

    def _resolved(self, schema: Any) -> Mapping[str, Any]:
        for _ in range(10):
            if not isinstance(schema, Mapping) or "$ref" not in schema:
                break
            schema = self._target(schema["$ref"])
        return schema if isinstance(schema, Mapping) else {}

    def _target(self, reference: str) -> Any:
        return at(self.root, [p.replace("~1", "/").replace("~0", "~") for p in reference.lstrip("#/").split("/")])

    def _referred(self, reference: str, value: JSON, path: Path) -> JSON:
        if (reference, path) in self._following:
            return value  # a schema that refers to itself alone
        self._following.add((reference, path))
        try:
            return self._fitted(reference, value, path)
        finally:
            self._following.discard((reference, path))

    def _fitted(self, reference: str, value: JSON, path: Path) -> JSON:
        before = len(self.misfits) + len(self.settled)
        if reference in KINDS and isinstance(value, dict):
            value = self._kind(KINDS[reference], value, path)
        out = self.value(self._target(reference), value, path)
        changed = len(self.misfits) + len(self.settled) > before
        if reference == STEP and changed and (out is _GONE or not _fits(model.Step, out)):
            self.dropped |= set(keys_in(value))
            kept = {k: v for k, v in value.items() if k == "run_after"} if isinstance(value, dict) else {}
            return {**STAND_IN, **kept} if _fits(model.Step, {**STAND_IN, **kept}) else dict(STAND_IN)
        return out

    def _holds(self, schema: Any, value: JSON) -> bool:
        if isinstance(value, Lost):
            return False
        if not isinstance(value, dict) or not schema.keys() <= {"required", "properties"}:
            return not self._attempt(schema, value, ())[1]
        if any(key not in value for key in schema.get("required", ())):
            return False
        return all(
            self._holds(piece, value[key]) for key, piece in schema.get("properties", {}).items() if key in value
        )

    def _others(self, schema: Mapping[str, Any], value: JSON, path: Path) -> None:
        """The keywords that only schemas of people have; a value that holds expressions is checked once rendered."""
        rest = {k: v for k, v in schema.items() if k not in _KNOWN and not k.startswith("x-")}
        if rest and "{{" not in str(value):
            from jsonschema import Draft202012Validator

            for error in Draft202012Validator({**rest, "$defs": self.root.get("$defs", {})}).iter_errors(value):
                self._wrong(
                    (*path, *error.absolute_path), error.instance, f"{self._where(path)}: {error.message[:200]}"
                )

    # Choices

    def _attempt(self, schema: Any, value: JSON, path: Path) -> tuple[JSON, list[Misfit], list[tuple[Path, str, str]]]:
        """What comes of a schema, with the misfits that would be reported."""
        kept = self.misfits, self.renames, set(self.settled), set(self.dropped)
        self.misfits, self.renames = [], []
        out = self.value(schema, value, path)
        found = out, self.misfits, self.renames
        self.misfits, self.renames, self.settled, self.dropped = kept
        return found

    def _choice(self, schema: Mapping[str, Any], value: JSON, path: Path) -> JSON:
        """The option that fits; else the misfits of the one that is of the value's kind."""
        options = [self._resolved(option) for option in schema["anyOf"]]
        if schema.get("$comment"):
            return self._no_kind(options, value, path)
        tried = []
        for option in options:
            out, misfits, renames = self._attempt(option, value, path)
            if not misfits:
                return out
            if option.get("pattern") != TEMPLATE and option.get("type") != "null":
                tried.append((out, misfits, renames))
        if len(tried) > 1:
            tried = [t for t in tried if not any(m.path == path and _of_another_kind(m, value) for m in t[1])]
        if not tried:
            self._wrong_type(schema, value, path)
            return _GONE
        out, misfits, renames = min(tried, key=lambda t: len(t[1]))
        self.misfits += misfits
        self.renames += renames
        return out

    def _kind(self, kinds: Mapping[str, Any], value: dict[str, JSON], path: Path) -> dict[str, JSON]:
        """A step or trigger; if no key but `steps`, which loops have too, says what it is, one may be misspelt."""
        if any(key in value for key in kinds if key != "steps"):
            return value
        known = {key for kind in kinds.values() for key in fields(kind)}
        for key in value.keys() - known:
            meant = nearest(key, kinds.keys() - value.keys())
            if meant and _fits(fields(kinds[meant])[meant][0], value[key]):
                self.report((*path, meant), "UnknownKey", f"unknown key '{key}'", key=True, found=f"'{key}'",
                            hint=f"did you mean '{meant}'?")  # fmt: skip
                self.renames.append((path, key, meant))
                return {meant if k == key else k: v for k, v in value.items()}
        for kind, own in LOOP_KEYS.items():
            if "steps" in value and own & value.keys():
                self.report(
                    path,
                    "MissingKey",
                    f"{self._where(path)} needs {kind}",
                    key=True,
                    hint=f"`{min(own & value.keys())}` belongs to a loop: say by `{kind}` what it goes through",
                )
                self.settled.add((*path, kind))
                return {kind: "", **value}
        return value

    def _no_kind(self, options: list[Mapping[str, Any]], value: JSON, path: Path) -> JSON:
        kinds = {key for option in options for key in option["required"]}
        near = (nearest(key, kinds) or ELSEWHERE.get(key, "") for key in value)
        hint = next((f"did you mean '{meant}'?" for meant in near if meant in kinds), "")
        self.report(path, "NoKind", f"{self._where(path)}: no key says what it does", key=True, hint=hint,
                    expected="one of " + ", ".join(sorted(kinds)))  # fmt: skip
        return _GONE

    # Objects

    def _object(self, schema: Mapping[str, Any], value: dict[str, JSON], path: Path) -> JSON:
        properties: Mapping[str, Any] = schema.get("properties", {})
        more = schema.get("additionalProperties")
        needed = schema.get("required", ())
        strangers = value.keys() - properties.keys() if properties or more is False else set()
        if strangers and not more:
            value = self._strangers(strangers, properties, needed, value, path, closed=more is False)
        out: dict[str, JSON] = {}
        for key, member in value.items():
            piece = properties.get(key, more)
            if "propertyNames" in schema and not re.search(schema["propertyNames"].get("pattern", ""), key):
                self.report(
                    (*path, key), "Name", f"'{key}' is no name", key=True, expected=NAME_WORDS, hint=as_name(key)
                )
            if "propertyNames" in schema and self.misfits and self.misfits[-1].path == (*path, key):
                self.dropped |= {snake(key), re.sub(r"\W", "", key).lower()}  # others may call it so already
            fitted = self.value(piece, member, (*path, key))
            if fitted is _GONE and key not in properties:
                fitted = self._filler(piece)  # one of many: its name stays known
            if fitted is not _GONE:
                out[key] = fitted
        count, least, most = len(value), schema.get("minProperties", 0), schema.get("maxProperties")
        if count < least or (most is not None and count > most):
            self._wrong(path, value, f"{self._where(path)}: {count} entries", found="",
                        expected="one entry" if most == 1 else "at least one entry")  # fmt: skip
        if missing := [key for key in needed if key not in out]:
            self._missing(missing, value, properties, path)
            for key in missing:
                out[key] = self._filler(properties.get(key, {}))
            if any(out[key] is _GONE for key in missing):
                return _GONE if path else {key: member for key, member in out.items() if member is not _GONE}
        return out

    def _strangers(
        self,
        strangers: set[str],
        properties: Mapping[str, Any],
        needed: Any,
        value: dict[str, JSON],
        path: Path,
        *,
        closed: bool,
    ) -> dict[str, JSON]:
        """Reports unknown keys. Gives the object without them, the misspelt ones under the names that were meant."""
        out = dict(value)
        what, kinds = ("step", model.STEP_KINDS) if "run_after" in properties else ("trigger", model.TRIGGER_KINDS)
        if {"run_after", "collapse"} & properties.keys() and (
            others := [k for k in value if k in strangers & kinds.keys()]
        ):
            key = others[0]
            self.report((*path, key), "UnknownKey", f"unknown key '{key}'", key=True, found=f"'{key}'",
                        hint=f"a {what} has one kind: make `{key}` a {what} of its own")  # fmt: skip
            for key in strangers & {f for other in others for f in fields(kinds[other])}:
                self.dropped |= set(keys_in({key: out.pop(key)}))
        for key in [k for k in out if k in strangers]:
            meant = nearest(key, properties.keys())
            taken = meant in out
            if not closed and (taken or not meant):
                continue
            hint = f"did you mean '{meant}'?" if meant else did_you_mean(key, set(properties))
            if ELSEWHERE.get(key) in properties and not meant:
                hint = f"did you mean '{ELSEWHERE[key]}'?"
            usable = bool(meant) and not taken and not self._another(properties[meant], out[key])
            where = (*path, meant) if usable else (*path, key)
            severity = "error" if closed or meant in needed else "warning"
            self.report(
                where, "UnknownKey", f"unknown key '{key}'", key=True, found=f"'{key}'", hint=hint, severity=severity
            )
            if usable:
                self.renames.append((path, key, meant))
                out = {meant if k == key else k: _kept(meant, v) if k == key else v for k, v in out.items()}
            elif closed:
                self.dropped |= set(keys_in(out.pop(key)))
        return out

    def _another(self, schema: Any, value: JSON) -> bool:
        """Whether a value is of another kind than a schema wants: then its key was not what was meant."""
        return any(m.path == () for m in self._attempt(schema, value, ())[1])

    def _missing(self, missing: list[str], value: JSON, properties: Mapping[str, Any], path: Path) -> None:
        told = {m.path for m in self.misfits}
        near = value.keys() - properties.keys()
        missing = [k for k in missing if k not in value and (*path, k) not in told and not get_close_matches(k, near)]
        if not missing:
            return
        hints = []
        for key in missing:
            piece = self._resolved(properties.get(key))
            inner = {k: self._resolved(piece.get("properties", {}).get(k)) for k in piece.get("required", ())}
            about = inner if key == "with" and inner else {key: piece}
            hints += [f"{k}: {p.get('description') or in_words(p) or 'a value'}" for k, p in about.items()]
        names = ", ".join(missing)
        if any(properties.get(key, {}).get("propertyNames") for key in missing):
            self.dropped.add(ANYTHING)  # what would stand there is unknown
        self.report(path, "MissingKey", f"{self._where(path)} needs {names}", key=True, hint="; ".join(hints))

    def _filler(self, schema: Any) -> JSON:
        """Some value of a schema, if there is a simple one."""
        schema = self._resolved(schema)
        if "anyOf" in schema and not schema.get("$comment"):
            return None if NULL in schema["anyOf"] else self._filler(schema["anyOf"][0])
        if "default" in schema or "enum" in schema:
            return schema.get("default", schema.get("enum", [None])[0])
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = "null" if "null" in kind else kind[0]
        if "pattern" in schema or "if" in schema or (kind == "object" and schema.get("required")):
            return _GONE
        empty = {"string": "", "array": [], "object": {}, "boolean": True, "integer": 1, "number": 1}
        return empty.get(kind or "")


def _kept(key: str, value: JSON) -> JSON:
    return value if key in NAMING or key in model.STEP_KINDS or key in model.TRIGGER_KINDS else Lost()


def _of_another_kind(misfit: Misfit, value: JSON) -> bool:
    return misfit.code == "WrongType" or (misfit.code == "NotAllowed" and not isinstance(value, str))


def _fits(tp: Any, value: JSON) -> bool:
    try:
        convert(tp, value, "")
    except DataError:
        return False
    return True
