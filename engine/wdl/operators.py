"""Functions that are written as operators, lists or literals. Each gives None where the function itself has to stay."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeAlias

from engine.expressions import Function
from engine.wdl.pieces import AND, COMPARISON, CONCAT, CONDITION, NOT, OR, PRODUCT, SUM, UNARY, Printed, called, literal
from engine.wdl.syntax import Call, Literal

Rewrite: TypeAlias = Callable[[Function, list[Printed], Call], Printed | None]
COMPARED = {"equals": "==", "greater": ">", "greaterOrEquals": ">=", "less": "<", "lessOrEquals": "<="}
OPPOSITE = {"==": "!=", ">": "<=", ">=": "<", "<": ">=", "<=": ">", "in": "not in"}


def _compared(function: Function, arguments: list[Printed], _: Call) -> Printed | None:
    left, right = arguments
    if function.name == "equals":
        for one, other in ((left, right), (right, left)):
            if one.kind == "boolean" and one.text not in ("true", "false") and other.text in ("true", "false"):
                return one if other.text == "true" else _opposite(one)
    return _comparison(left, COMPARED[function.name], right)


def _comparison(left: Printed, sign: str, right: Printed) -> Printed:
    a, b = left.within(SUM), right.within(SUM)
    return Printed(f"{a} {sign} {b}", COMPARISON, "boolean", f"{a} {OPPOSITE[sign]} {b}")


def _contains(_: Function, arguments: list[Printed], __: Call) -> Printed:
    collection, value = arguments
    return _comparison(value, "in", collection)


def _junction(function: Function, arguments: list[Printed], _: Call) -> Printed:
    level = AND if function.name == "and" else OR
    return Printed(f" {function.name} ".join(a.within(level) for a in arguments), level, "boolean")


def _not(_: Function, arguments: list[Printed], __: Call) -> Printed:
    return _opposite(arguments[0])


def _opposite(operand: Printed) -> Printed:
    if operand.opposite:
        return Printed(operand.opposite, COMPARISON, "boolean", operand.text)
    return Printed(f"not {operand.within(NOT)}", NOT, "boolean")


def _if(_: Function, arguments: list[Printed], __: Call) -> Printed:
    test, yes, no = arguments
    kind = yes.kind if yes.kind == no.kind else ""
    return Printed(f"{yes.within(OR)} if {test.within(OR)} else {no.text}", CONDITION, kind)


def _concat(_: Function, arguments: list[Printed], tree: Call) -> Printed | None:
    if len(arguments) == 1:
        return arguments[0] if arguments[0].kind == "text" else None
    return Printed(" ~ ".join(a.within(CONCAT) for a in arguments), CONCAT, "text")


def _arithmetic(function: Function, arguments: list[Printed], _: Call) -> Printed | None:
    left, right = arguments
    kinds = {left.kind, right.kind}
    if "decimal" in kinds:
        return replace(called(function.name, arguments), kind="decimal")
    if not kinds <= {"number", ""} or (function.name == "add" and kinds == {""}):
        return None
    if function.name == "mul":
        return Printed(f"{left.within(PRODUCT)} * {right.within(UNARY)}", PRODUCT, "number")
    sign, after = ("+", SUM) if function.name == "add" else ("-", CONCAT)
    return Printed(f"{left.within(SUM)} {sign} {right.within(after)}", SUM, "number")


def _decimal_too(function: Function, arguments: list[Printed], _: Call) -> Printed:
    found = called(function.name, arguments)
    return replace(found, kind="decimal") if any(a.kind in ("decimal", "") for a in arguments) else found


def _coalesce(_: Function, arguments: list[Printed], tree: Call) -> Printed:
    """One call: the first value of the first values is the first of all."""
    out: list[str] = []
    for argument, printed in zip(tree.arguments, arguments, strict=True):
        nested = isinstance(argument, Call) and argument.name.lower() == "coalesce" and not argument.members
        out.append(printed.text.removeprefix("coalesce(").removesuffix(")") if nested else printed.text)
    return Printed(f"coalesce({', '.join(out)})")


def _list(_: Function, arguments: list[Printed], __: Call) -> Printed:
    return Printed(f"[{', '.join(a.text for a in arguments)}]", kind="list")


def _string(_: Function, arguments: list[Printed], __: Call) -> Printed | None:
    return arguments[0] if arguments[0].kind == "text" else None


def _json(function: Function, arguments: list[Printed], tree: Call) -> Printed | None:
    """json() of a text that stands in the definition: the value itself."""
    (argument,) = tree.arguments
    if not isinstance(argument, Literal) or not isinstance(argument.value, str):
        return None
    try:
        value = function.call(argument.value)
    except Exception:  # noqa: BLE001 - it fails in the run, in the same words
        return None
    found = literal(value)
    return found if len(found.text) <= 2000 and found.kind != "large" else None


REWRITTEN: Mapping[str, Rewrite] = {
    **dict.fromkeys(("equals", "greater", "greaterOrEquals", "less", "lessOrEquals"), _compared),
    **dict.fromkeys(("and", "or"), _junction),
    **dict.fromkeys(("add", "sub", "mul"), _arithmetic),
    **dict.fromkeys(("div", "mod", "min", "max"), _decimal_too),
    **dict.fromkeys(("createArray", "array"), _list),
    **{
        "coalesce": _coalesce,
        "contains": _contains,
        "not": _not,
        "if": _if,
        "concat": _concat,
        "string": _string,
        "json": _json,
    },
}
