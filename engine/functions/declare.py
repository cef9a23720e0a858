"""How a function of the language is declared: once, by its Python signature.

`@function("substring")` reads the names, order and defaults of the parameters (arity and signature text), their
annotations (what each argument is checked against) and the docstring (the reference). A first parameter `ambient`
marks a function that needs time or chance. Null in place of an optional argument means that it wasn't given.

An annotation is JSON, a plain type, a union of them, or a class that reads its own form (`Reads`), such as a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import wraps
from inspect import cleandoc, unwrap
from types import NoneType, UnionType
from typing import Any, ClassVar, Protocol, Self, TypeAlias, Union, get_args, get_origin, get_type_hints

from jinja2 import Undefined

from engine.errors import DataError
from engine.expressions import MAX_TEXT, Function
from engine.types import JSON, wrong

_UNFIT: Any = object()
_VARARGS = 0x04  # code flag of a function with *args
Reader: TypeAlias = Callable[[JSON], Any]  # the argument as the function wants it, or _UNFIT


class Reads(Protocol):
    """A class that an argument is read into: `words` names the form, `read` gives None for what doesn't have it."""

    words: ClassVar[str]

    @classmethod
    def read(cls, value: JSON) -> Self | None: ...


def invalid(message: str, hint: str = "") -> DataError:
    """The error for an argument of the right type that can't be used; the caller's name is put before it."""
    return DataError(message, code="Argument", hint=hint)


def limited(characters: int) -> None:
    """Raises DataError before a text is built that would be longer than the language allows."""
    if characters > MAX_TEXT:
        raise DataError(f"the text would have {characters} characters; {MAX_TEXT} are allowed", code="TooLong")


def function(name: str) -> Callable[[Callable[..., JSON]], Function]:
    """Makes a Python function one of the language, under this name."""

    def declare(call: Callable[..., JSON]) -> Function:
        code = unwrap(call).__code__
        parameters = code.co_varnames[: code.co_argcount]
        impure = parameters[:1] == ("ambient",)
        parameters = parameters[impure:]
        rest = code.co_varnames[code.co_argcount] if code.co_flags & _VARARGS else ""
        least = len(parameters) - len(call.__defaults__ or ())
        shown = [p if i < least else f"{p}?" for i, p in enumerate(parameters)] + ([f"{rest}…"] if rest else [])
        return Function(
            name,
            _checked(name, call, (*parameters, rest) if rest else parameters, least, bool(rest)),
            least,
            None if rest else len(parameters),
            impure,
            f"{name}({', '.join(shown)})",
            cleandoc(call.__doc__ or ""),
        )

    return declare


def also(name: str, other: Function) -> Function:
    """The same function under another of its names."""
    return replace(function(name)(unwrap(other.call)), doc=other.doc.replace(f"{other.name}(", f"{name}("))


def _checked(
    name: str, call: Callable[..., JSON], parameters: tuple[str, ...], least: int, has_rest: bool
) -> Callable[..., JSON]:
    readers: tuple[tuple[str, Reader], ...] = ()
    defaults: tuple[Any, ...] = call.__defaults__ or ()
    handed_in = unwrap(call).__code__.co_argcount - len(parameters) + has_rest
    last = len(parameters) - 1

    @wraps(call)
    def checked(*arguments: JSON) -> JSON:
        nonlocal readers
        if not readers:  # at the first call, for a cheap start; two threads may both do it, to the same end
            hints = get_type_hints(call)
            readers = tuple(_reader(hints[p]) for p in parameters)
        out = list(arguments)
        for i in range(len(arguments) - handed_in):
            at = min(i, last) if has_rest else i
            value = arguments[handed_in + i]
            if value is None and least <= i < least + len(defaults):
                out[handed_in + i] = defaults[i - least]
                continue
            words, read = readers[at]
            try:
                found = read(value)
            except DataError as error:
                path = f"{name}(): parameter {i + 1} '{parameters[at]}'"
                raise DataError(f"{path}: {error.message}", code=error.code, hint=error.hint) from error
            if found is _UNFIT:
                if isinstance(value, Undefined):
                    str(value)  # raises, naming what isn't defined
                hint = "say what null means: coalesce(value, …)" if value is None else ""
                raise wrong(f"{name}(): parameter {i + 1} '{parameters[at]}'", words, value, hint)
            out[handed_in + i] = found
        try:
            result = call(*out)
            if isinstance(result, str):
                limited(len(result))
        except DataError as error:
            raise DataError(f"{name}(): {error.message}", code=error.code, hint=error.hint) from error
        return result

    return checked


def _reader(hint: Any) -> tuple[str, Reader]:
    """The words for an annotation and the function that reads an argument by it."""
    if hint is Any:
        return "a value", lambda value: value
    if get_origin(hint) in (Union, UnionType):
        parts = [_reader(part) for part in get_args(hint) if part is not NoneType]
        optional = NoneType in get_args(hint)

        def union(value: JSON) -> Any:
            if value is None and optional:
                return None
            return next((found for _, read in parts if (found := read(value)) is not _UNFIT), _UNFIT)

        return " or ".join(words for words, _ in parts), union
    hint = get_origin(hint) or hint
    return _PLAIN[hint] if hint in _PLAIN else (hint.words, _reading(hint))


def _reading(kind: type[Reads]) -> Reader:
    def read(value: JSON) -> Any:
        found = kind.read(value)
        return _UNFIT if found is None else found

    return read


def _text(value: JSON) -> Any:
    return str(value) if isinstance(value, str) else _UNFIT  # str(): jinja's tojson gives a subclass that escapes


def _whole(value: JSON) -> Any:
    if isinstance(value, bool):
        return _UNFIT
    if isinstance(value, float) and value.is_integer():
        return int(value)  # JSON doesn't tell 2.0 from 2
    return value if isinstance(value, int) else _UNFIT


def _number(value: JSON) -> Any:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else _UNFIT


def _flag(value: JSON) -> Any:
    return value if isinstance(value, bool) else _UNFIT


def _list(value: JSON) -> Any:
    if isinstance(value, list):
        return value
    return list(value) if isinstance(value, tuple) else _UNFIT  # (1, 2) in an expression is a tuple


def _object(value: JSON) -> Any:
    if isinstance(value, dict):
        return value
    return dict(value) if isinstance(value, Mapping) else _UNFIT


_PLAIN: dict[Any, tuple[str, Reader]] = {
    str: ("text", _text),
    int: ("a whole number", _whole),
    float: ("a number", _number),
    bool: ("true or false", _flag),
    list: ("a list", _list),
    dict: ("an object", _object),
}
