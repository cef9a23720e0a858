"""What the foreign services share: a request as it came in, an answer as it is meant, and a refusal."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from typing import Any, NoReturn, TypeAlias
from urllib.parse import parse_qsl, unquote

Now: TypeAlias = Callable[[], float]  # Unix seconds
JSON_TYPE = "application/json; charset=utf-8"


@dataclass(frozen=True)
class Ask:
    """One request. `target` is its request line's address as it was sent."""

    method: str
    host: str
    target: str
    headers: Message
    body: bytes

    @property
    def path(self) -> str:
        return unquote(self.target.partition("?")[0], errors="strict")

    @property
    def query(self) -> dict[str, str]:
        """The query by name. Raises ValueError for one that stands there twice, or is no query."""
        text = self.target.partition("?")[2]
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=True, errors="strict") if text else []
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a query option stands there twice")
        return dict(pairs)

    def header(self, name: str) -> str:
        return str(self.headers.get(name) or "").strip()

    @property
    def bearer(self) -> str:
        scheme, _, token = self.header("Authorization").partition(" ")
        return token if scheme == "Bearer" else ""

    @property
    def prefers(self) -> dict[str, str]:
        """The Prefer header (RFC 7240), names in lower case, quotes taken off."""
        parts = (part.strip().partition("=") for part in self.header("Prefer").split(",") if part.strip())
        return {name.strip().lower(): value.strip().strip('"') for name, _, value in parts}

    def json(self) -> Any:
        """The body as strict JSON in UTF-8. Raises ValueError."""
        return json.loads(self.body.decode("utf-8"), parse_constant=_no_number, object_pairs_hook=_unique)


@dataclass(frozen=True)
class Answer:
    """An answer. A dict or list is JSON, a text or bytes is sent as it is, None means no body at all."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    kind: str = JSON_TYPE


class Refused(Exception):
    """Ends the handling of a request with this answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"{answer.status} {answer.body}")
        self.answer = answer


def refuse(status: int, body: Any, headers: Mapping[str, str] | None = None, kind: str = JSON_TYPE) -> NoReturn:
    raise Refused(Answer(status, body, headers or {}, kind))


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("a member stands there twice")
    return found
