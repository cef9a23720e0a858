"""Bytes that are no text, and values as text.

Such bytes travel as an object {"$content-type": …, "$content": base64}, as in Microsoft's flows; whatever takes such
content takes text as well, as its UTF-8 bytes.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from engine.expressions import to_text
from engine.functions.declare import invalid
from engine.functions.values import Exact
from engine.types import JSON

BINARY = "application/octet-stream"
TEXT = "text/plain;charset=utf-8"
_TEXTUAL = r"(?i)text/|[\w-]+/(?:.*\+)?(?:json|xml)\b"
_XML = r"(?i)[\w-]+/(?:.*\+)?xml\b"
_CHARSET = r"(?i);\s*charset=\"?([\w.:-]+)"


@dataclass(frozen=True)
class Content:
    """Bytes and their media type."""

    words: ClassVar[str] = "text or content with $content-type and $content"

    data: bytes
    type: str = TEXT

    @property
    def textual(self) -> bool:
        """Whether its type is one of text, JSON or XML."""
        return re.match(_TEXTUAL, self.type) is not None

    @property
    def xml(self) -> bool:
        """Whether its type is XML."""
        return re.match(_XML, self.type) is not None

    @classmethod
    def read(cls, value: JSON) -> Content | None:
        """Out of a text, or an object that holds content. Raises DataError for content that isn't base64."""
        if isinstance(value, str):
            return cls(utf8(value))
        if isinstance(value, Mapping) and isinstance(held := value.get("$content"), str):
            return cls(from_base64(held), str(value.get("$content-type") or BINARY))
        return None

    def json(self) -> JSON:
        """The object that holds it."""
        return {"$content-type": self.type, "$content": base64.b64encode(self.data).decode("ascii")}

    def text(self) -> str:
        """In the charset of its type, UTF-8 where it names none. Raises DataError for bytes that aren't in it."""
        found = re.search(_CHARSET, self.type)
        charset = found.group(1) if found else "utf-8"
        try:
            return self.data.decode("utf-8-sig" if charset.lower() == "utf-8" else charset)
        except (UnicodeError, LookupError) as error:
            raise invalid(f"the content is no text in {charset}", "keep it as content: base64ToBinary()") from error


def utf8(text: str) -> bytes:
    """The text in UTF-8; half a character, which JSON can hold, becomes U+FFFD."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return re.sub("[\ud800-\udfff]", "\ufffd", text).encode()


def from_base64(text: str) -> bytes:
    """Raises DataError for what isn't base64; white space in it doesn't count."""
    try:
        return base64.b64decode(re.sub(r"[ \t\r\n]+", "", text), validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid(f"the text isn't base64: {str(error)[:1].lower()}{str(error)[1:]}") from error


def text_of(value: JSON) -> str:
    """The value as text: null is empty, true and false are words, lists and objects are JSON, and content of a textual
    type is the text that it holds."""
    if isinstance(value, Exact):
        return str(value)
    if isinstance(value, Mapping) and "$content-type" in value:
        content = Content.read(value)
        if content is not None and content.textual:
            return content.text()
    return to_text(value)
