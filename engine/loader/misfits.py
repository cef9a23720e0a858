"""What doesn't fit a schema: the misfits that are found, and the checks of single values, in words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine import model
from engine.errors import did_you_mean
from engine.loader.document import Path
from engine.loader.words import NAME_WORDS, as_name, in_words, is_of, keys_in, rewritten, snake
from engine.types import JSON, type_name

ANYTHING = "*"  # among names: there may be any other


@dataclass(frozen=True)
class Misfit:
    path: Path
    code: str
    message: str
    key: bool
    more: Mapping[str, Any]


class Misfits:
    """Misfits as they are found. `dropped` are the keys in what is set aside; `name` is what the whole is called."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.misfits: list[Misfit] = []
        self.dropped: set[str] = set()

    def report(self, path: Path, code: str, message: str, *, key: bool = False, **more: Any) -> None:
        self.misfits.append(Misfit(path, code, message, key, {k: v for k, v in more.items() if v}))

    def _where(self, path: Path) -> str:
        shown = path[-4:] if path and isinstance(path[-1], int) else path[-3:]
        return ".".join(map(str, shown)) or self.name or "the document"

    def _wrong(self, path: Path, value: JSON, message: str, **more: Any) -> None:
        self.report(path, "WrongValue", message, **{"found": type_name(value), **more})

    def _typed(self, schema: Mapping[str, Any], kind: Any, value: JSON, path: Path) -> bool:
        if any(is_of(k, value) for k in ([kind] if isinstance(kind, str) else kind)):
            return True
        if "propertyNames" in schema and value is not None:
            self.dropped |= {ANYTHING, *keys_in(value)}
        self._wrong_type(schema, value, path)
        return False

    def _wrong_type(self, schema: Mapping[str, Any], value: JSON, path: Path, expected: str = "") -> None:
        words = expected or in_words(schema)
        self.report(path, "WrongType", f"{self._where(path)}: wrong type", expected=words, found=type_name(value),
                    hint=rewritten(words, value))  # fmt: skip

    def _allowed(self, allowed: list[JSON], value: JSON, path: Path) -> bool:
        if any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in allowed):
            return True
        names = [str(v) for v in allowed]
        if isinstance(value, dict | list):
            self._wrong_type({}, value, path, "one of " + ", ".join(names))
            return False
        hint = next((f"did you mean '{n}'?" for n in names if n.lower() == str(value).lower()), "")
        self.report(
            path,
            "NotAllowed",
            f"{self._where(path)}: '{value}' is not allowed",
            found=f"'{value}'",
            expected="one of " + ", ".join(names),
            hint=hint or did_you_mean(str(value), set(names)),
        )
        return False

    def _matches(self, schema: Mapping[str, Any], value: str, path: Path) -> bool:
        pattern = schema.get("pattern")
        if pattern is None or re.search(pattern, value):
            return True
        if pattern == f"^(?:{model.NAME})$":
            self.report(path, "Name", f"'{value}' is no name", expected=NAME_WORDS, hint=as_name(value))
        else:
            expected = schema.get("x-words") or f"text like {pattern}"
            better = ".".join(map(snake, value.split(".")))
            hint = f"such as {better}" if re.search(pattern, better) else ""
            message = f"{self._where(path)}: '{value[:60]}' doesn't fit"
            self._wrong(path, value, message, expected=expected, found="", hint=hint)
        return False

    def _in_range(self, schema: Mapping[str, Any], value: float, path: Path) -> bool:
        least, most = schema.get("minimum"), schema.get("maximum")
        if (least is None or value >= least) and (most is None or value <= most):
            return True
        bounds = [f"at least {least}"] * (least is not None) + [f"at most {most}"] * (most is not None)
        self._wrong(
            path,
            value,
            f"{self._where(path)}: {value} is out of range",
            expected=" and ".join(bounds),
            found=str(value),
        )
        return False
