"""Text that goes into XML, and names that have to be XML names."""

from __future__ import annotations

import re

from engine.functions.declare import function
from engine.types import JSON

_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&apos;"}
_PLAIN = {entity: character for character, entity in _ENTITIES.items()}
# Which characters may begin a name, and which may stand in it: XML 1.0, section 2.3.
_START = (
    "A-Za-z_:\xc0-\xd6\xd8-\xf6\xf8-\u02ff\u0370-\u037d\u037f-\u1fff\u200c\u200d\u2070-\u218f\u2c00-\u2fef"
    "\u3001-\ud7ff\uf900-\ufdcf\ufdf0-\ufffd\U00010000-\U000effff"
)
# Patterns as text: they are compiled when first used, for a cheap start.
_UNFIT_AT_START = f"[^{_START}]"
_UNFIT_IN_NAME = f"_(?=x(?:[0-9A-Fa-f]{{4}}|[0-9A-Fa-f]{{8}})_)|[^{_START}0-9.\xb7\u0300-\u036f\u203f\u2040-]"


@function("encodeXmlValue")
def encode_xml_value(text: str) -> JSON:
    """The text with the five characters escaped that mean something in XML.

    encodeXmlValue('<a & b>') → "&lt;a &amp; b&gt;"
    """
    return re.sub("[&<>\"']", lambda found: _ENTITIES[found.group()], text)


@function("decodeXmlValue")
def decode_xml_value(text: str) -> JSON:
    """The text with XML's own entities and character references resolved; others stay as they are.

    decodeXmlValue('&lt;a &amp; b&gt;') → "<a & b>"
    """
    return re.sub(r"&(?:amp|lt|gt|quot|apos|#[0-9]{1,7}|#x[0-9A-Fa-f]{1,6});", _resolved, text)


def _resolved(found: re.Match[str]) -> str:
    entity = found.group()
    if entity[1] != "#":
        return _PLAIN[entity]
    code = int(entity[3:-1], 16) if entity[2] == "x" else int(entity[2:-1])
    return chr(code) if 0 < code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF else entity


@function("encodeXmlName")
def encode_xml_name(text: str) -> JSON:
    """A name for XML: each character that can't stand in one becomes _xHHHH_, as .NET's XmlConvert writes it.

    encodeXmlName('Order Details') → "Order_x0020_Details"
    """
    return xml_name(text)


def xml_name(text: str) -> str:
    """The same, for XML made of objects."""
    first = re.sub(_UNFIT_AT_START, _escaped, text[:1])
    if first != text[:1]:
        return first + re.sub(_UNFIT_IN_NAME, _escaped, text[1:])
    return re.sub(_UNFIT_IN_NAME, _escaped, text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found.group())
    return f"_x{code:08X}_" if code > 0xFFFF else f"_x{code:04X}_"


@function("decodeXmlName")
def decode_xml_name(text: str) -> JSON:
    """The name that encodeXmlName() made an XML name of.

    decodeXmlName('Order_x0020_Details') → "Order Details"
    """
    return re.sub(r"_x([0-9A-Fa-f]{8}|[0-9A-Fa-f]{4})_", _unescaped, text)


def _unescaped(found: re.Match[str]) -> str:
    code = int(found.group(1), 16)
    return chr(code) if code <= 0x10FFFF else found.group()
