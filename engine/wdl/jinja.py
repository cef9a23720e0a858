"""From the syntax tree to flowrun's own expressions: operators and dotted paths where they mean the same.

What means the same, and what doesn't:

- `equals`, `and`, `not`, `if`, `greater`, `contains`, `concat` … and the operators are done by the same functions.
- `+ - *` stand for `add`, `sub`, `mul` where no operand can be text, a list or a decimal; `div` and `mod` stay, because
  `//` and `%` round otherwise below zero.
- `?['a']` is `.a`: null where there is none. `['a']` without `?` is an error there, so it is `prop(…, 'a')`; but a
  dotted path where the outcome is the same: further strict members follow, or a function that takes no null.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from inspect import unwrap
from types import NoneType
from typing import Any, get_args, get_type_hints

from engine.errors import did_you_mean
from engine.expressions import Function, arity_message
from engine.functions import FUNCTIONS
from engine.types import JSON
from engine.wdl.names import ENVELOPE, Kind, Names, canonical, split
from engine.wdl.operators import REWRITTEN
from engine.wdl.pieces import ATOM, CONCAT, CONDITION, Printed, called, escaped, literal, quoted
from engine.wdl.syntax import Call, Expression, Interpolation, Literal, Member, Template, WdlError, parse

SCALARS = frozenset({"text", "number", "boolean", "decimal"})  # kinds that have no members
OURS = frozenset({"prop", "jsonpath", "jsonpath_one"})  # functions that the other language doesn't have
BY_NAME: Mapping[str, Function] = {name.lower(): f for name, f in FUNCTIONS.items() if name not in OURS}
REFERENCES: Mapping[str, tuple[Kind, int]] = {
    **dict.fromkeys(("body", "actionbody"), ("body", 1)),
    **dict.fromkeys(("outputs", "actionoutputs"), ("outputs", 1)),
    **dict.fromkeys(("trigger", "triggers"), ("trigger", 0)),
    **{"actions": ("action", 1), "triggeroutputs": ("trigger_outputs", 0), "triggerbody": ("trigger_body", 0)},
    **{"variables": ("variable", 1), "parameters": ("parameter", 1), "item": ("item", 0), "items": ("items", 1)},
    **{"result": ("result", 1), "iterationindexes": ("index", 1), "workflow": ("workflow", 0)},
    **{"action": ("current", 0), "appsetting": ("setting", 1)},
}
# Reading forms: a function of ours over the body of an action, or of the trigger.
FORMS: Mapping[str, tuple[str, Kind]] = {
    "formdatavalue": ("formDataValue", "body"),
    "formdatamultivalues": ("formDataMultiValues", "body"),
    "multipartbody": ("multipartBody", "body"),
    "triggerformdatavalue": ("formDataValue", "trigger_body"),
    "triggerformdatamultivalues": ("formDataMultiValues", "trigger_body"),
    "triggermultipartbody": ("multipartBody", "trigger_body"),
}


@cache
def demanding(name: str) -> tuple[tuple[bool, ...], bool]:
    """Whether each parameter of a function takes no null, and whether all further ones don't."""
    call = unwrap(FUNCTIONS[name].call)
    hints = get_type_hints(call)
    code = call.__code__
    names = code.co_varnames[: code.co_argcount]
    optional = names[len(names) - len(call.__defaults__ or ()) :]
    rest = code.co_varnames[code.co_argcount] if code.co_flags & 0x04 else ""

    def strict(parameter: str) -> bool:
        hint = hints[parameter]
        return parameter not in optional and hint is not Any and NoneType not in get_args(hint)

    return tuple(strict(n) for n in names if n != "ambient"), bool(rest) and strict(rest)


class Printer:
    """Prints expressions of one document, or of none.

    With `strict=False` every member is read as if it had a `?`; `loosened` collects where that makes a difference.
    """

    def __init__(self, names: Names | None = None, *, strict: bool = True, loosened: list[str] | None = None) -> None:
        self.names = names or Names()
        self.strict = strict
        self.loosened = loosened

    # Texts of a definition

    def value(self, text: str) -> JSON:
        """A definition's text as a value of a flow: a template, or for `@true`, `@5` … the value. Raises WdlError."""
        return self.template(parse(text))

    def template(self, tree: Template) -> JSON:
        """A tree as a value of a flow."""
        if isinstance(tree, Literal):
            return escaped(tree.value) if isinstance(tree.value, str) else tree.value
        if isinstance(tree, Call):
            return f"{{{{ {self.expression(tree).text} }}}}"
        if len(tree.parts) == 1 and not isinstance(tree.parts[0], str):
            return f"{{{{ {self._as_text(tree.parts[0])} }}}}"
        out = ""
        for part in tree.parts:
            if isinstance(part, str):
                out += escaped(part)
            else:
                out = out[:-1] + "{{ '{' }}" if out.endswith("{") else out  # else it would open the braces
                out += f"{{{{ {self.expression(part).text} }}}}"
        return out

    def _as_text(self, tree: Expression) -> str:
        """An expression that stands alone between @{ and }: its value as text."""
        found = self.expression(tree)
        return found.text if found.kind == "text" else f"string({found.text})"

    def bare(self, text: str) -> str:
        """A definition's text as the source of an expression. Raises WdlError."""
        tree = parse(text)
        if not isinstance(tree, Interpolation):
            return self.expression(tree).text
        return self._joined(tree).text

    def _joined(self, tree: Interpolation) -> Printed:
        """A text with expressions in it, as one expression."""
        parts = [Literal(p) if isinstance(p, str) else p for p in tree.parts]
        if len(parts) == 1:
            return (
                Printed(self._as_text(parts[0]), CONDITION, "text")
                if not isinstance(parts[0], Literal)
                else self.expression(parts[0])
            )
        return Printed(" ~ ".join(self.expression(p).within(CONCAT) for p in parts), CONCAT, "text")

    # Expressions

    def expression(self, tree: Expression, *, demanded: bool = False) -> Printed:
        """One expression; `demanded` where null in its place is an error anyway. Raises WdlError."""
        if isinstance(tree, Literal):
            return literal(tree.value)
        name = tree.name.lower()
        if name in REFERENCES:
            return self._reference(tree, demanded)
        if name in FORMS:
            found = self._form(tree, *FORMS[name])
        elif name in BY_NAME:
            found = self._function(tree, BY_NAME[name])
        else:
            hint = did_you_mean(tree.name, {f.name for f in BY_NAME.values()})
            hint = hint if hint.startswith("did") else ""
            raise WdlError(f"there is no function '{tree.name}'", offset=tree.offset, code="UnknownFunction", hint=hint)
        return self._members(found, tree.members, demanded)

    def _function(self, tree: Call, function: Function) -> Printed:
        tree = self.names.adjusted(tree)
        least, most = function.least, function.most
        if len(tree.arguments) < least or (most is not None and len(tree.arguments) > most):
            raise WdlError(arity_message(function, len(tree.arguments)), offset=tree.offset, code="Arguments")
        each, rest = demanding(function.name)
        arguments = [
            self.expression(argument, demanded=each[i] if i < len(each) else rest)
            for i, argument in enumerate(tree.arguments)
        ]
        rewrite = REWRITTEN.get(function.name)
        found = rewrite(function, arguments, tree) if rewrite else None
        return found or called(function.name, arguments)

    def _form(self, tree: Call, name: str, kind: Kind) -> Printed:
        function = BY_NAME.get(name.lower())
        if function is None:
            raise WdlError(f"there is no function '{tree.name}'", offset=tree.offset, code="UnknownFunction")
        own = 2 if kind == "body" else 1
        if len(tree.arguments) != own:
            raise WdlError(
                f"{tree.name}() takes {own} argument{'s' * (own > 1)}, given {len(tree.arguments)}",
                offset=tree.offset,
                code="Arguments",
            )
        source = self._place(tree, kind, tree.arguments[: own - 1], (), False)
        return called(function.name, [source, self.expression(tree.arguments[-1], demanded=True)])

    # References and members

    def _reference(self, tree: Call, demanded: bool) -> Printed:
        kind, wanted = REFERENCES[tree.name.lower()]
        if len(tree.arguments) != wanted:
            message = f"{tree.name}() takes {wanted} argument{'s' * (wanted != 1)}, given {len(tree.arguments)}"
            raise WdlError(message, offset=tree.offset, code="Arguments")
        return self._place(tree, kind, tree.arguments, tree.members, demanded)

    def _place(
        self, tree: Call, kind: Kind, arguments: tuple[Expression, ...], members: tuple[Member, ...], demanded: bool
    ) -> Printed:
        kind, members = canonical(kind, members)
        name = constant(arguments[0]) if arguments else ""
        if name is None:
            return self._chosen(tree, kind, arguments[0], members, demanded)
        place = self.names.place(kind, name, members, tree.offset)
        rest = place.rest
        if rest and kind in ("outputs", "trigger_outputs", "action", "trigger") and constant(rest[0].key) in ENVELOPE:
            rest = (replace(rest[0], safe=True), *rest[1:])  # every record has these
        return self._members(Printed(place.path, kind=place.kind), rest, demanded)

    def _chosen(self, tree: Call, kind: Kind, name: Expression, members: tuple[Member, ...], demanded: bool) -> Printed:
        """A reference whose name is only known in the run: one of all there are."""
        known = self.names.known(kind)
        if not known:
            hint = "write the name as a text" if known is None else ""
            raise WdlError(f"{tree.name}() of a name that isn't known before", offset=tree.offset, hint=hint)
        pairs = [f"{quoted(each)}: {self.names.place(kind, each, (), tree.offset).path}" for each in known]
        choice = Printed(f"{{{', '.join(pairs)}}}", kind="object")
        return self._members(choice, (Member(name, False, tree.offset), *members), demanded)

    def _members(self, base: Printed, members: tuple[Member, ...], demanded: bool) -> Printed:
        if not members:
            return base
        if base.text.startswith("split(") and members[0].key == Literal(0):
            members = (replace(members[0], safe=True), *members[1:])  # there always is a first part
        steps = [self._step(member) for member in members]
        last = -1 if demanded else max((i for i, m in enumerate(members) if not m.safe), default=-1)
        if not self.strict and last >= 0:
            if self.loosened is not None:
                self.loosened.append(base.text)
            last = -1
        found = base
        for i, (key, plain) in enumerate(steps):
            if plain is not None and plain.startswith("/"):
                text = self._slashed(found.within(ATOM), members[i], plain[1:], strict=i == last)
            elif plain is None or found.kind in SCALARS or i == last:
                text = f"prop({found.text}, {key})"
            else:
                text = found.within(ATOM) + plain
            found = Printed(text)
        return found

    def _step(self, member: Member) -> tuple[str, str | None]:
        """A member's key, and how it is read plainly (None: it can't be)."""
        if isinstance(member.key, Literal):
            match member.key.value:
                case str(key) if "/" in key:
                    return quoted(key), f"/{key}"
                case str(key):
                    return quoted(key), f".{key}" if re.fullmatch(
                        r"[A-Za-z_][A-Za-z0-9_]*", key
                    ) else f"[{quoted(key)}]"
                case bool() | None | float():
                    hint = "objects are read by ['name'], lists by [0]"
                    raise WdlError("an index is a text or a whole number", offset=member.key.offset, hint=hint)
                case int(index):
                    return str(index), f"[{index}]" if index >= 0 else None
        key = self.expression(member.key, demanded=True).text
        return key, f"[{key}]"

    def _slashed(self, text: str, member: Member, key: str, *, strict: bool) -> str:
        """`?['a/b']`: a key with a slash in it, or Power Automate's way to write ['a']['b']."""
        whole = f"{text}[{quoted(key)}]"
        parts = key.split("/")
        if self.names.slash == "key" or not all(re.fullmatch(r"[\w@.$ -]+", part) for part in parts):
            return f"prop({text}, {quoted(key)})" if strict else whole
        steps = [self._step(m) for m in split(member, parts)]
        path = text + "".join(plain or "" for _, plain in (steps[:-1] if strict else steps))
        path = f"prop({path}, {steps[-1][0]})" if strict else path
        return path if self.names.slash == "path" else f"coalesce({whole}, {path})"


def constant(tree: Expression) -> str | None:
    """A name that is known before the run: a text, or texts that are joined."""
    if isinstance(tree, Literal):
        return tree.value if isinstance(tree.value, str) else None
    if tree.name.lower() == "concat" and not tree.members:
        parts = [constant(argument) for argument in tree.arguments]
        return "".join(p for p in parts if p is not None) if None not in parts else None
    return None
