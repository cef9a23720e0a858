"""Python types as the one declaration of data: typed values out of JSON here, JSON Schema in engine.loader.schema.

Understood: bool, int, float, str, None, Any, Literal, Annotated, unions, list, dict, Mapping, dataclasses, TypedDict
(open: keys it doesn't declare are kept), Secret. Dataclasses are closed: an unknown key is an error with the nearest
known one named; one that defines `from_json(value, path)` itself reads its own form.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from functools import cache
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Required,
    TypeAlias,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from engine.errors import DataError, did_you_mean

JSON: TypeAlias = Any  # null, bool, int, float, str, list or dict with str keys: what json.loads gives
Converter: TypeAlias = Callable[[JSON, str], Any]


@dataclasses.dataclass(frozen=True)
class Doc:
    """Words for a field: shown by editors, `connectors show` and the reference pages."""

    text: str


@dataclasses.dataclass(frozen=True)
class Pattern:
    """The whole text must match; `words` names the form for a person."""

    regex: str
    words: str = ""


@dataclasses.dataclass(frozen=True)
class Range:
    """Least and greatest number allowed."""

    least: float | None = None
    most: float | None = None


@dataclasses.dataclass(frozen=True)
class Key:
    """The key in JSON where it can't be the field's name (`as`, `if`)."""

    name: str


@dataclasses.dataclass(frozen=True)
class Schema:
    """More JSON Schema for a type, merged over what the type gives."""

    of: Mapping[str, Any]

    def __hash__(self) -> int:
        return hash(repr(self.of))


Guid: TypeAlias = Annotated[
    str, Pattern(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", "a GUID such as 8f3c1a52-…")
]


class Secret:
    """A text that no repr, log, journal or error shows. `reveal()` gives it to the code that needs it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "Secret('***')"


class NotKnownError(Exception):
    """Something had to be decided by a value that isn't known yet."""


class Unknown:
    """Stands in a plan for a value that is known once the run is there; what is made of it is unknown too."""

    __slots__ = ()

    def _same(self, *_: Any) -> Any:
        return self

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _same
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = __neg__ = __pos__ = _same
    __lt__ = __le__ = __gt__ = __ge__ = _same
    __eq__ = __ne__ = _same

    def __bool__(self) -> bool:
        raise NotKnownError

    def __iter__(self) -> Any:
        raise NotKnownError

    __len__ = __contains__ = __iter__
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return "(known after the run)"


UNKNOWN: Any = Unknown()


def type_name(value: JSON) -> str:
    """A JSON value's type in the words of error messages."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
    return "an object"


def fields(tp: type) -> dict[str, tuple[Any, bool]]:
    """JSON key → (type, required), of a dataclass or TypedDict."""
    return dict(_fields(tp))


@cache
def _fields(tp: type) -> tuple[tuple[str, tuple[Any, bool]], ...]:
    hints = get_type_hints(tp, include_extras=True)
    if is_typeddict(tp):
        required: frozenset[str] = tp.__required_keys__  # type: ignore[attr-defined]
        return tuple((name, (_strip(hint), name in required)) for name, hint in hints.items())
    found = []
    for f in dataclasses.fields(tp):
        needed = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        found.append((key_of(hints[f.name], f.name), (hints[f.name], needed)))
    return tuple(found)


def key_of(hint: Any, name: str) -> str:
    """The JSON key of a field: its Key mark, else its own name."""
    return next((m.name for m in getattr(hint, "__metadata__", ()) if isinstance(m, Key)), name)


def _strip(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) in (Required, NotRequired) else hint


def convert(tp: Any, value: JSON, path: str) -> Any:
    """The typed value that `value` stands for. Raises DataError naming path, expected and found."""
    return converter(tp)(value, path)


def wrong(path: str, expected: str, value: JSON, hint: str = "") -> DataError:
    """The error for a value of the wrong form; `found` shows its type and a short piece of it."""
    shown = "" if value is None or isinstance(value, dict | list) else f" {str(value)[:60]!r}"
    return DataError(f"{path}: expected {expected}, found {type_name(value)}{shown}", code="WrongType", hint=hint)


@cache
def converter(tp: Any) -> Converter:
    """A function (value, path) → typed value, built once for each type."""
    origin = get_origin(tp)
    if origin is Annotated:
        inner, *marks = get_args(tp)
        return _constrained(converter(inner), marks)
    if origin in (Union, UnionType):
        return _union(get_args(tp))
    if origin is Literal:
        allowed = get_args(tp)
        words = "one of " + ", ".join(map(str, allowed))

        def literal(value: JSON, path: str) -> Any:
            if value in allowed:
                return value
            raise wrong(path, words, value, did_you_mean(str(value), set(map(str, allowed))))

        return literal
    if origin is list:
        item = converter(get_args(tp)[0])

        def sequence(value: JSON, path: str) -> Any:
            if not isinstance(value, list):
                raise wrong(path, "a list", value)
            return [item(v, f"{path}[{i}]") for i, v in enumerate(value)]

        return sequence
    if origin in (dict, Mapping):
        member = converter(get_args(tp)[1])

        def mapping(value: JSON, path: str) -> Any:
            if not isinstance(value, dict):
                raise wrong(path, "an object", value)
            return {k: member(v, f"{path}.{k}") for k, v in value.items()}

        return mapping
    if "from_json" in vars(tp if isinstance(tp, type) else type):
        return tp.from_json  # type: ignore[no-any-return]
    if dataclasses.is_dataclass(tp):
        return _dataclass(tp)  # type: ignore[arg-type]  # is_dataclass also accepts instances
    if is_typeddict(tp):
        return _typed_dict(tp)
    return _scalar(tp)


def _scalar(tp: Any) -> Converter:
    words, kinds = {
        bool: ("true or false", (bool,)),
        int: ("a whole number", (int,)),
        float: ("a number", (int, float)),
        str: ("text", (str,)),
        NoneType: ("null", (NoneType,)),
        Secret: ("text", (str, Secret)),
        list: ("a list", (list,)),
        dict: ("an object", (dict,)),
    }.get(tp, ("", (object,)))

    def scalar(value: JSON, path: str) -> Any:
        if not isinstance(value, kinds) or (isinstance(value, bool) and tp in (int, float)):
            raise wrong(path, words, value)
        return Secret(value) if tp is Secret and isinstance(value, str) else value

    return scalar


def _union(parts: tuple[Any, ...]) -> Converter:
    options = [(part, converter(part)) for part in parts]
    plain = [c for part, c in options if part is not NoneType]
    tag, tagged = _tagged([part for part in parts if part is not NoneType])

    def union(value: JSON, path: str) -> Any:
        if value is None and len(plain) < len(options):
            return None
        if tag and isinstance(value, dict):
            if isinstance(name := value.get(tag), str) and name in tagged:
                return tagged[name](value, path)
            names = "one of " + ", ".join(tagged)
            if tag not in value:
                raise DataError(f"{path}: missing {tag}", code="Missing", hint=names)
            raise wrong(f"{path}.{tag}", names, name, did_you_mean(str(name), set(tagged)))
        failures = []
        for option in plain:
            try:
                return option(value, path)
            except DataError as error:
                failures.append(error)
        if len(failures) == 1:
            raise failures[0]
        raise wrong(path, " or ".join(dict.fromkeys(_expected(f) for f in failures)), value)

    return union


def _tagged(parts: list[Any]) -> tuple[str, dict[str, Converter]]:
    """The key whose Literal text tells the dataclasses of a union apart, and the converter for each text."""
    members = [fields(part) if dataclasses.is_dataclass(part) else {} for part in parts]  # type: ignore[arg-type]
    for key in members[0] if len(parts) > 1 else ():
        hints = [member.get(key, (None,))[0] for member in members]
        if all(get_origin(hint) is Literal for hint in hints):
            return key, {
                text: converter(part) for part, hint in zip(parts, hints, strict=True) for text in get_args(hint)
            }
    return "", {}


def _expected(error: DataError) -> str:
    return error.message.split(": expected ", 1)[-1].split(", found ", 1)[0]


def _constrained(inner: Converter, marks: list[Any]) -> Converter:
    patterns = [(re.compile(m.regex), m.words or f"text matching {m.regex}") for m in marks if isinstance(m, Pattern)]
    ranges = [m for m in marks if isinstance(m, Range)]
    if not patterns and not ranges:
        return inner

    def constrained(value: JSON, path: str) -> Any:
        out = inner(value, path)
        for regex, words in patterns:
            if isinstance(out, str) and not regex.fullmatch(out):
                raise wrong(path, words, value)
        for r in ranges:
            if (r.least is not None and out < r.least) or (r.most is not None and out > r.most):
                raise wrong(path, f"a number from {r.least} to {r.most}", value)
        return out

    return constrained


def _dataclass(tp: type) -> Converter:
    hints = get_type_hints(tp, include_extras=True)
    names = {key_of(hints[f.name], f.name): f.name for f in dataclasses.fields(tp)}
    members = {key: converter(hints[name]) for key, name in names.items()}
    required = {key for key, (_, needed) in _fields(tp) if needed}

    def build(value: JSON, path: str) -> Any:
        if isinstance(value, tp):
            return value
        if not isinstance(value, dict):
            raise wrong(path, "an object", value)
        if missing := required - value.keys():
            raise DataError(f"{path}: missing {', '.join(sorted(missing))}", code="Missing")
        out = {}
        for key, v in value.items():
            if key not in members:
                raise DataError(f"{path}: unknown key '{key}'", code="UnknownKey", hint=did_you_mean(key, set(members)))
            out[names[key]] = members[key](v, f"{path}.{key}")
        return tp(**out)

    return build


def _typed_dict(tp: type) -> Converter:
    members = {key: (converter(hint), needed) for key, (hint, needed) in _fields(tp)}

    def check(value: JSON, path: str) -> Any:
        if not isinstance(value, dict):
            raise wrong(path, "an object", value)
        for key, (member, needed) in members.items():
            if key in value:
                member(value[key], f"{path}.{key}")
            elif needed:
                raise DataError(f"{path}: missing {key}", code="Missing")
        return value

    return check


_SCALARS = frozenset({str, int, bool, NoneType})


def plain(value: Any) -> JSON:
    """The JSON of a typed value: dataclasses become objects, tuples lists; a Secret is a mistake of the caller."""
    kind = type(value)
    if kind in _SCALARS or value is UNKNOWN:  # nearly all: worth not asking abstract classes
        return value
    if kind is dict or isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    raise TypeError(f"{value if isinstance(value, float) else kind.__name__} is no JSON")
