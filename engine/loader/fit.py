"""A document against the schema: findings in words; what does not fit is set aside, so that the rest is looked at."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, TypeAlias

from engine import model
from engine.errors import DataError, did_you_mean
from engine.loader.document import Path
from engine.types import JSON, convert, fields, type_name

NAME_WORDS = "a-z, 0-9 and _, beginning with a letter"
TEMPLATE = r"\{\{"  # the pattern of the choice "or a text that holds an expression"


Report: TypeAlias = Callable[..., None]  # (path, code, message, key=…, expected=…, found=…, hint=…)


def fit(report: Report, schema: Mapping[str, Any], data: JSON) -> None:
    """Reports what doesn't fit and takes it out of `data`, which then fits the model."""
    if errors := compare(report, schema, data):
        _set_aside(data, errors)


def compare(report: Report, schema: Mapping[str, Any], data: JSON) -> list[Any]:
    """Reports what doesn't fit a schema; gives jsonschema's errors."""
    from jsonschema import Draft202012Validator

    errors = [e for top in Draft202012Validator(schema).iter_errors(data) for e in _leaves(top)]
    for error in errors:
        _finding(report, error)
    return errors


def _finding(report_at: Report, error: Any) -> None:
    path: Path = tuple(error.absolute_path)
    where = ".".join(str(p) for p in path[-3:]) or "the document"
    value = error.instance

    def report(code: str, message: str, *, at: Path = path, key: bool = False, **more: Any) -> None:
        report_at(at, code, message, key=key, **more)

    match error.validator:
        case "additionalProperties":
            known = set(error.schema.get("properties", {}))
            for name in value.keys() - known:
                hint = did_you_mean(name, known)
                message = f"unknown key '{name}'"
                report("UnknownKey", message, at=(*path, name), key=True, found=f"'{name}'", hint=hint)
        case "required":
            # A misspelt key is told of once, as the unknown key that it is.
            unknown = value.keys() - error.schema.get("properties", value).keys()
            missing = [k for k in error.validator_value if k not in value and not get_close_matches(k, unknown)]
            if missing:
                report("MissingKey", f"{where} needs {', '.join(missing)}", key=True)
        case "anyOf" if error.schema.get("$comment"):
            kinds = {k for option in error.validator_value for k in option["required"]}
            hint = next((h for k in value if (h := did_you_mean(k, kinds)).startswith("did")), "")
            expected = "one of " + ", ".join(sorted(kinds))
            report("NoKind", f"{where}: no key says what it does", key=True, expected=expected, hint=hint)
        case "type" | "anyOf":
            report("WrongType", f"{where}: wrong type", expected=_words(error.schema), found=type_name(value))
        case "enum":
            allowed = [str(v) for v in error.validator_value]
            expected, hint = "one of " + ", ".join(allowed), did_you_mean(str(value), set(allowed))
            report("NotAllowed", f"{where}: '{value}' is not allowed", expected=expected, found=f"'{value}'", hint=hint)
        case "pattern" if "propertyNames" in error.absolute_schema_path:
            report("Name", f"'{value}' is no name", at=(*path, value), key=True, expected=NAME_WORDS)
        case "pattern" if path == ("flow",):
            report("Name", f"'{value}' is no name", expected=NAME_WORDS)
        case "pattern":
            expected = error.schema.get("x-words") or f"text like {error.validator_value}"
            report("WrongValue", f"{where}: '{str(value)[:60]}' doesn't fit", expected=expected)
        case "minProperties" | "maxProperties":
            expected = "one entry" if error.schema.get("maxProperties") == 1 else "at least one entry"
            report("WrongValue", f"{where}: {len(value)} entries", expected=expected)
        case _:
            report("WrongValue", f"{where}: {error.message[:200]}", found=type_name(value))


def _words(schema: Mapping[str, Any]) -> str:
    """What a schema asks for, in words."""
    options = [o for o in schema.get("anyOf", [schema]) if o.get("pattern") != TEMPLATE]
    words: list[str] = []
    for option in options:
        kind = option.get("type")
        if "x-words" in option:
            words.append(f"{kind}, {option['x-words']}")
        elif "enum" in option:
            words.append("one of " + ", ".join(map(str, option["enum"])))
        elif "anyOf" in option:
            words.append(_words(option))
        else:
            words += [kind] if isinstance(kind, str) else kind or ["a value"]
    return " or ".join(dict.fromkeys(words))


def _leaves(error: Any) -> Iterator[Any]:
    """Looks through `value or template` choices: the error is about the value."""
    if error.validator == "anyOf" and error.context and not error.schema.get("$comment"):
        options = error.validator_value
        branches: dict[int, list[Any]] = {}
        for inner in error.context:
            branches.setdefault(inner.schema_path[0], []).append(inner)
        values = [i for i, o in enumerate(options) if o.get("pattern") != TEMPLATE and o.get("type") != "null"]
        if len(values) > 1:
            values = [i for i in values if not _of_another_kind(branches.get(i, []), error)]
        if values:
            for inner in branches.get(values[0], []):
                yield from _leaves(inner)
            return
    yield error


def _of_another_kind(branch: list[Any], error: Any) -> bool:
    here = [e for e in branch if e.absolute_path == error.absolute_path]
    return any(e.validator == "type" or (e.validator == "enum" and not isinstance(e.instance, str)) for e in here)


def _set_aside(data: JSON, errors: list[Any]) -> None:
    """Removes what the errors are about; a step or part that is then no longer whole makes place for an empty one."""
    for error in errors:
        path = list(error.absolute_path)
        if error.validator == "additionalProperties":
            target, gone = at(data, path), error.instance.keys() - error.schema.get("properties", {}).keys()
        elif error.validator == "required" or error.schema.get("$comment"):
            continue
        else:
            target, gone = (at(data, path[:-1]), path[-1:]) if path else (None, [])
        if isinstance(target, dict):
            for key in gone:
                target.pop(key, None)
    for name, (tp, required) in fields(model.Flow).items():
        if name == "steps":
            data["steps"] = _whole_steps(data.get("steps"))
        elif name == "flow":
            data[name] = data.get(name, "unnamed")
        elif name in data and not _fits(tp, data[name]) and not required:
            del data[name]


def _whole_steps(steps: JSON) -> dict[str, JSON]:
    out = {}
    for name, step in (steps if isinstance(steps, dict) else {}).items():
        if not re.fullmatch(model.NAME, name):
            continue
        if isinstance(step, dict):
            for key in {"steps", "then", "else", "default"} & step.keys():
                step[key] = _whole_steps(step[key])
            if isinstance(step.get("cases"), dict):
                step["cases"] = {case: _whole_steps(inner) for case, inner in step["cases"].items()}
        out[name] = step if _fits(model.Step, step) else {"compose": None}
    return out


def _fits(tp: Any, value: JSON) -> bool:
    try:
        convert(tp, value, "")
    except DataError:
        return False
    return True


def at(data: JSON, path: Path | list[Any]) -> JSON:
    """The value at a path, None where there is none."""
    for part in path:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return None
    return data


def faults_of_schema(schema: JSON) -> list[tuple[Path, str]]:
    """What is wrong with a JSON Schema in a document, with the place in it: it has to be valid and whole in itself."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    if not isinstance(schema, dict):
        return []
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return [(tuple(error.absolute_path), error.message[:200])]
    return [(path, "$ref leads to nothing in it") for path in _dangling(schema, schema)]


def _dangling(schema: JSON, root: JSON, path: Path = ()) -> Iterator[Path]:
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key == "$ref" and isinstance(value, str):
                parts = [p.replace("~1", "/").replace("~0", "~") for p in value.removeprefix("#").split("/")[1:]]
                steps = [int(p) if p.isdigit() else p for p in parts]
                if not value.startswith("#") or (parts and at(root, steps) is None):
                    yield (*path, key)
            yield from _dangling(value, root, (*path, key))
    elif isinstance(schema, list):
        for i, value in enumerate(schema):
            yield from _dangling(value, root, (*path, i))
