"""A definition's variables, parameters and app settings, as a flow declares them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from engine.types import JSON
from engine.wdl.definition import Action, calls, named_by
from engine.wdl.jinja import Printer
from engine.wdl.names import named
from engine.wdl.syntax import Call, Interpolation, Literal, WdlError, parse

if TYPE_CHECKING:
    from engine.wdl.convert import Conversion

# Type there → type here, and what an expression's value of it surely is.
TYPES: Mapping[str, tuple[str, str]] = {
    **dict.fromkeys(("string", "securestring"), ("string", "text")),
    **dict.fromkeys(("int", "integer"), ("integer", "number")),
    **dict.fromkeys(("float", "number"), ("number", "number")),
    **dict.fromkeys(("bool", "boolean"), ("boolean", "boolean")),
    **dict.fromkeys(("object", "secureobject"), ("object", "object")),
    "array": ("array", "list"),
}
_TYPE_OF: Mapping[type, str] = {bool: "Bool", int: "Int", float: "Float", list: "Array", dict: "Object"}


class Declarations:
    """`variables` and `parameters`: name there → path here, such as variables.x. `kinds`: path → what it surely is."""

    def __init__(self, conversion: Conversion) -> None:
        self.conversion = conversion
        self.kinds: dict[str, str] = {}
        self.variables: dict[str, str] = {}
        self.never_null: set[str] = set()  # variables that hold text made by @{…}
        self.settings: dict[str, str] = {}
        self.declared = self._declared()
        self._first: dict[str, JSON] = {}
        self._fixed: set[tuple[str, str]] = set()
        self._own: dict[str, str] = {}

    def _declared(self) -> dict[str, dict[str, JSON]]:
        """All parameters: the definition's own, those declared in other files, those made of secrets and blanks."""
        conversion, secrets = self.conversion, self.conversion.secrets
        given = conversion.source.definition.get("parameters")
        own = {k: v for k, v in given.items() if isinstance(v, dict)} if isinstance(given, dict) else {}
        known = {n.casefold() for n in (*own, *secrets.parameters)}
        read = dict.fromkeys(named_by(c) for c in calls(conversion.definition) if c.name.lower() == "parameters")
        missing = [n for n in read if n and not n.startswith("$") and n.casefold() not in known]
        values = conversion.source.values
        if left := [n for n in missing if n not in values]:
            conversion.remarks.append(f"declared in another file; from the environment here: {', '.join(left)}")
        others: dict[str, dict[str, JSON]] = {
            n: {"type": _TYPE_OF.get(type(values[n]), "String")} if n in values else {"type": "String", "blank": True}
            for n in missing
        }
        return {**own, **others, **secrets.parameters}

    def settle(self) -> None:
        """Gives everything its name; what a recipe made needless is left out."""
        recipe = self.conversion.recipe
        wanted = [n for n in self.declared if not n.startswith("$") and n not in recipe.dropped_parameters]
        self._own = named(wanted, "parameter")
        for name, own in self._own.items():
            written = str(self.declared[name].get("type", "")).lower()
            self.kinds[f"parameters.{own}"] = TYPES.get(written, ("", ""))[1]
            if "secure" in written:
                self.conversion.secrets.hide(name, self.declared[name].get("defaultValue"))
                self.conversion.secrets.hide(name, self.conversion.source.values.get(name))
        self._variables()

    @property
    def parameters(self) -> dict[str, str]:
        return {name: f"parameters.{own}" for name, own in self._own.items()}

    def environment(self, parameter: str) -> str:
        """The environment variable that a parameter's value is in."""
        return self._own[parameter].upper()

    # Variables

    def _variables(self) -> None:
        actions = self.conversion.actions.values()
        changed = {str(a.inputs.get("name")) for a in actions if changes(a)}
        given = [(a, v) for a in actions for v in initialised(a)]
        names = named(dict.fromkeys(str(v.get("name")) for _, v in given), "variable")
        for action, variable in given:
            name, value = str(variable.get("name")), variable.get("value")
            if name in self.conversion.recipe.dropped_variables:
                continue
            repeated = repeats(value)
            if name not in changed and repeated in self._own:
                self.variables[name] = f"parameters.{self._own[str(repeated)]}"
                self._fixed.add((action.name, name))
                continue
            path = self.variables[name] = f"variables.{names[name]}"
            kind, sure = TYPES.get(str(variable.get("type", "")).lower(), ("", ""))
            is_fixed, constant = fixed(value)
            if is_fixed and "value" in variable and self._is_plain(action):
                self._first[names[name]] = constant
                self._fixed.add((action.name, name))
                self.kinds[path] = sure
            else:
                self._first[names[name]] = {"string": {"type": "string"}, "array": [], "object": {}}.get(kind)
                if kind == "string" and isinstance(value, str) and _interpolates(value):
                    self.never_null.add(name)

    def _is_plain(self, action: Action) -> bool:
        """Whether leaving an action out changes no order: it and what waits for it want success alone."""
        waiting = [a.after[action.name] for a in self.conversion.actions.values() if action.name in a.after]
        return all(statuses == ["succeeded"] for statuses in (*action.after.values(), *waiting))

    def is_fixed(self, action: Action, variable: str) -> bool:
        """Whether the value that an action gives a variable stands in the document already."""
        return (action.name, variable) in self._fixed

    def home(self, action: Action) -> tuple[str, str]:
        """What is left of an action without a step: where its variable is declared, and under which name."""
        for variable in initialised(action):
            root, _, own = self.variables.get(str(variable.get("name")), "").partition(".")
            if own:
                return root, own if root == "variables" else ""
        return "left out", ""

    # As the document has them

    def setting(self, name: str) -> str:
        """The parameter for an app setting of Logic Apps: an environment variable here."""
        if name not in self.settings:
            (own,) = named([name], "setting", {*self._own.values(), *self.settings.values()}).values()
            self.settings[name] = own
        return f"parameters.{self.settings[name]}"

    def written_variables(self) -> dict[str, JSON]:
        return self._first

    def written_parameters(self, text: str | None = None) -> dict[str, Any]:
        """The flow's parameters. A secret, a blank, and a text without a value come from the environment.

        Those made of secrets that aren't in `text`, the flow's steps, are left out.
        """
        out: dict[str, Any] = {}
        made = self.conversion.secrets.parameters
        for name, own in [*self._own.items()]:
            if text is not None and name in made and f"parameters.{own}" not in text:
                del self._own[name]
                continue
            out[own] = self._parameter(name, own)
        for name, own in self.settings.items():
            out[own] = {"type": "string", "default": _reference(re.sub(r"\W", "_", name)), "note": name}
        return out

    def _parameter(self, name: str, own: str) -> dict[str, Any]:
        about = self.declared[name]
        written = str(about.get("type", "string")).lower()
        kind, secret = TYPES.get(written, ("string", ""))[0], "secure" in written
        value = self.conversion.source.values.get(name, about.get("defaultValue"))
        parameter: dict[str, Any] = {"type": kind}
        if secret or (kind == "string" and (about.get("blank") or value is None)):
            parameter["default"] = _reference(own.upper())
        elif isinstance(value, str) and value.startswith("@"):
            setting = re.fullmatch(r"(?i)@\{?\s*appsetting\(\s*'([^']+)'\s*\)\s*\}?", value)
            parameter["default"] = _reference(re.sub(r"\W", "_", setting[1]) if setting else own.upper())
        elif isinstance(value, str) and "${" in value:
            parameter["default"] = _reference(own.upper())
            self.conversion.remarks.append(f"parameter {own}: {value} reads like a reference; set {own.upper()} to it")
        elif value is not None:
            parameter["default"] = value
        if secret:
            parameter["secret"] = True
        metadata = about.get("metadata")
        described = (metadata.get("description") if isinstance(metadata, dict) else None) or about.get("description")
        note = ": ".join(str(part) for part in (name if own != name else "", described) if part)
        return {**parameter, "note": note} if note else parameter


def _reference(variable: str) -> str:
    return "${env:" + variable + "}"


def changes(action: Action) -> bool:
    """Whether an action changes a variable after its first value."""
    return "variable" in action.type and action.type != "initializevariable" and isinstance(action.inputs, dict)


def initialised(action: Action) -> list[Mapping[str, JSON]]:
    """The variables that an action initialises."""
    if action.type != "initializevariable" or not isinstance(action.inputs, dict):
        return []
    given = action.inputs.get("variables")
    return [v for v in given if isinstance(v, dict)] if isinstance(given, list) else []


def repeats(value: JSON) -> str | None:
    """The parameter that a value is, if it is that and nothing else."""
    try:
        found = parse(value) if isinstance(value, str) else None
    except WdlError:
        return None
    if isinstance(found, Interpolation) and len(found.parts) == 1 and not isinstance(found.parts[0], str):
        found = found.parts[0]
    if isinstance(found, Call) and found.name.lower() == "parameters" and not found.members:
        return named_by(found)
    return None


def fixed(value: JSON) -> tuple[bool, JSON]:
    """Whether a value needs no run, and the value."""
    if isinstance(value, str):
        return _fixed_text(value)
    if isinstance(value, dict):
        pairs = {k: fixed(v) for k, v in value.items()}
        is_fixed = all(f for f, _ in pairs.values()) and not any(k.startswith("@") or "@{" in k for k in value)
        return is_fixed and set(value) != {"type"}, {k: v for k, (_, v) in pairs.items()}
    if isinstance(value, list):
        items = [fixed(v) for v in value]
        return all(f for f, _ in items), [v for _, v in items]
    return True, value


def _fixed_text(text: str) -> tuple[bool, JSON]:
    try:
        found = parse(text)
        if isinstance(found, Literal):
            return True, found.value
        if isinstance(found, Interpolation) and all(isinstance(p, str) for p in found.parts):
            return True, "".join(str(p) for p in found.parts)
        if isinstance(found, Call) and Printer().expression(found).text in ("[]", "{}"):
            return True, [] if Printer().expression(found).text == "[]" else {}
    except WdlError:
        pass
    return False, None


def _interpolates(value: str) -> bool:
    try:
        return isinstance(parse(value), Interpolation)
    except WdlError:
        return False
