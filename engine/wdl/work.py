"""The converting of one action: what is said about it, and the translation of its values."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from engine.types import JSON
from engine.wdl.defects import DEFECTS
from engine.wdl.definition import Action, key_of, named_by
from engine.wdl.jinja import Printer
from engine.wdl.outcome import Status
from engine.wdl.pieces import escaped
from engine.wdl.scope import DocumentNames
from engine.wdl.syntax import Call, Expression, Interpolation, Template, WdlError, parse
from engine.wdl.syntax import Literal as Constant

if TYPE_CHECKING:
    from engine.wdl.convert import Conversion

Steps: TypeAlias = dict[str, dict[str, Any]]
COMPARED = ("equals", "greater", "greaterorequals", "less", "lessorequals", "contains", "startswith", "endswith")


@dataclass
class Work:
    """One action, or trigger, under conversion.

    `changes` say what is other than it was and why, `hand` what somebody has to do, `notes` go into the step.
    """

    conversion: Conversion
    action: Action
    changes: list[str] = field(default_factory=list)
    hand: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    selecting: bool = False

    @property
    def status(self) -> Status:
        return "by hand" if self.hand else "changed" if self.changes else "converted"

    @property
    def inputs(self) -> Mapping[str, JSON]:
        return self.action.inputs if isinstance(self.action.inputs, dict) else {}

    def printer(self, *, strict: bool = False, counts: bool = True) -> Printer:
        conversion = self.conversion
        names = DocumentNames(document=conversion.document, here=self.action, selecting=self.selecting)
        return Printer(names, strict=strict or conversion.faithful, loosened=conversion.loosened if counts else None)

    def value(self, value: JSON, *, strict: bool = False) -> Any:
        """A value with its expressions translated, at any depth; what can't be stays as it is, and is reported."""
        if isinstance(value, dict):
            return {self._key(k): self.value(v, strict=strict) for k, v in value.items()}
        if isinstance(value, list):
            return [self.value(v, strict=strict) for v in value]
        if not isinstance(value, str):
            return value
        try:
            return self.printer(strict=strict).template(self._mended(parse(value)))
        except WdlError as error:
            self._failed(value, error)
            return escaped(value)

    def _mended(self, tree: Template) -> Template:
        if isinstance(tree, Interpolation):
            return Interpolation(tuple(p if isinstance(p, str) else self.mend(p) for p in tree.parts))
        return self.mend(tree)

    def _key(self, key: str) -> str:
        if not key.startswith("@") and "@{" not in key:
            return escaped(key)
        try:
            found = self.printer().value(key)
        except WdlError:
            return escaped(key)  # such as @odata.type, which somebody forgot to write twice
        return found if isinstance(found, str) else str(found)

    def _failed(self, text: str, error: WdlError) -> None:
        shown = text if len(text) <= 120 else f"{text[:117]}…"
        self.hand.append(f"{shown}: {error.message}" + (f" ({error.hint})" if error.hint else ""))

    def expression(self, value: JSON) -> Any:
        """A value where an expression stands: its source, or what it is if it is no text."""
        if not isinstance(value, str):
            return self.value(value)
        try:
            tree = parse(value)
            if isinstance(tree, Interpolation):
                return self.printer().bare(value)
            return self._shown(self.mend(tree))
        except WdlError as error:
            self._failed(value, error)
            self.notes.append(f"Power Automate: {value}")
            return "null"

    def _shown(self, tree: Expression) -> Any:
        if isinstance(tree, Constant) and isinstance(tree.value, bool):
            return tree.value
        return self.printer().expression(tree).text

    def kind(self, value: JSON) -> str:
        """What a value surely is: text, number, boolean, list, object; nothing if that shows only in the run."""
        match value:
            case bool():
                return "boolean"
            case int() | float():
                return "number"
            case list():
                return "list"
            case dict():
                return "object"
            case str():
                try:
                    tree = parse(value)
                    printer = self.printer(counts=False)
                    return "text" if isinstance(tree, Interpolation) else printer.expression(tree).kind
                except WdlError:
                    return ""
        return ""

    # Conditions

    def condition(self, value: JSON) -> Any:
        """A condition, as text or as an object such as {"and": […]}: the source of an expression, or true or false."""
        try:
            return self._shown(self.mend(condition(value)))
        except WdlError as error:
            self._failed(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), error)
            self.notes.append(f"Power Automate: {json.dumps(value, ensure_ascii=False)}")
            return False

    def mend(self, tree: Expression) -> Expression:
        """A tree without the mistakes that are safe to mend; each is reported by its name."""
        if not isinstance(tree, Call):
            return tree
        arguments = tuple(self.mend(argument) for argument in tree.arguments)
        tree = Call(tree.name, arguments, tree.members, tree.offset)
        if tree.name.lower() != "equals" or len(arguments) != 2:
            return tree
        for one, other in (arguments, arguments[::-1]):
            text = key_of(other)
            if not isinstance(one, Call) or not isinstance(other, Constant):
                continue
            if isinstance(text, str) and re.fullmatch(r"'[^']+'", text) and self.defect("QuotedText", text=text):
                return Call("equals", (one, Constant(text[1:-1], other.offset)), (), tree.offset)
            name = named_by(one) if one.name.lower() == "variables" and not one.members else None
            never = name in self.conversion.declarations.never_null
            if text is None and never and self.defect("NullTest", variable=str(name)):
                return Call("empty", (one,), (), tree.offset)
        return tree

    def defect(self, code: str, **values: str) -> bool:
        """Reports a defect of the package by its name. Whether it is mended."""
        mends = self.conversion.defect(code, self.action, **values)
        if mends:
            self.changes.append(f"{DEFECTS[code][1]} ({code})")
        return mends


def condition(value: JSON) -> Expression:
    """The tree of a condition. Raises WdlError."""
    if isinstance(value, dict):
        if len(value) == 1:
            ((name, held),) = value.items()
            return _joined(str(name), held)
        if not value:
            return Constant(True)
        return _all("and", [_joined(str(name), held) for name, held in value.items()])
    return operand(value)


def _joined(name: str, held: JSON) -> Expression:
    match name.lower(), held:
        case ("and" | "or") as operator, list(parts):
            return _all(operator, [condition(part) for part in parts])
        case "not", list([part]):
            return Call("not", (condition(part),))
        case "not", _:
            return Call("not", (condition(held),))
        case operator, list(operands) if operator in COMPARED and len(operands) == 2:
            return Call(operator, tuple(operand(o) for o in operands))
        case operator, list(operands):
            return Call(operator, tuple(operand(o) for o in operands))
    raise WdlError(f"'{name}' is no condition")


def _all(operator: str, parts: list[Expression]) -> Expression:
    if len(parts) == 1:
        return parts[0]
    return Call(operator, tuple(parts)) if parts else Constant(operator == "and")


def operand(value: JSON) -> Expression:
    """A value in a definition as a tree. Raises WdlError."""
    if isinstance(value, str):
        tree = parse(value)
        if not isinstance(tree, Interpolation):
            return tree
        parts = tuple(Constant(p) if isinstance(p, str) else p for p in tree.parts)
        if len(parts) == 1:
            return parts[0] if isinstance(parts[0], Constant) else Call("string", parts)
        return Call("concat", parts)
    if value is None or isinstance(value, bool | int | float):
        return Constant(value)
    if isinstance(value, list) and value:
        return Call("createArray", tuple(operand(item) for item in value))
    if "@" in json.dumps(value):
        raise WdlError("an object with expressions in it, within an expression")
    return Call("json", (Constant(json.dumps(value)),))
