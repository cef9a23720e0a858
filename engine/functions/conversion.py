"""From one type or encoding to another."""

from __future__ import annotations

import base64
import json
import math
import re
from decimal import Decimal
from urllib.parse import quote_from_bytes, unquote_to_bytes

from engine.functions.contents import BINARY, TEXT, Content, from_base64, text_of, utf8
from engine.functions.cultures import EN_US, Culture
from engine.functions.declare import also, function, invalid
from engine.functions.numerals import parse_decimal, parse_float, parse_int
from engine.functions.values import LARGEST_INT, Exact, comparable
from engine.functions.xmltrees import json_of, parsed
from engine.types import JSON


@function("int")
def integer(value: str | float) -> JSON:
    """A whole number out of text, of 64 bits. Other text is an error, and so is a number with a fraction.

    int('10') → 10
    """
    if isinstance(value, str):
        number = parse_int(value)
        if number is None:
            raise invalid(f"'{value[:60]}' is no whole number of 64 bits", "float() or decimal() reads others")
        return number
    exact = value.exact if isinstance(value, Exact) else value
    whole = int(exact)
    if whole != exact:
        raise invalid(f"{value} is no whole number", "int(formatNumber(value, '0')) rounds it")
    if not -LARGEST_INT - 1 <= whole <= LARGEST_INT:
        raise invalid(f"{value} is beyond 64 bits")
    return whole


@function("float")
def real(value: str | float, locale: Culture = EN_US) -> JSON:
    """A number out of text as a locale writes it, en-US if none is named. Other text is an error.

    float('10,000.333') → 10000.333
    """
    number = parse_float(value, locale) if isinstance(value, str) else float(value)
    if number is None:
        raise invalid(f"'{str(value)[:60]}' is no number")
    return number


@function("decimal")
def decimal(value: str | float) -> JSON:
    """A number that is calculated and compared exactly, with 28 to 29 digits; string() prints all of them.

    As JSON it is a common number: between steps keep it as text. Text that is no number is an error.

    string(add(decimal('0.1'), decimal('0.2'))) → "0.3"
    """
    number = parse_decimal(value, EN_US) if isinstance(value, str) else Decimal(comparable(value))
    if number is None:
        raise invalid(f"'{str(value)[:60]}' is no number")
    return Exact(number)


@function("bool")
def boolean(value: bool | int | str) -> JSON:
    """True or false out of a text ('true' or 'false', in any letter case) or a whole number (0 is false).

    Other text is an error.

    bool('false') → false
    """
    if not isinstance(value, str):
        return bool(value)
    word = value.strip().lower()
    if word not in ("true", "false"):
        raise invalid(f"'{value[:60]}' is neither true nor false")
    return word == "true"


@function("string")
def string(value: JSON) -> JSON:
    """A value as text: null as '', lists and objects as JSON, content of a textual type as the text it holds.

    string(10) → "10"
    """
    return text_of(value)


@function("json")
def from_json(value: Content) -> JSON:
    """The value that a JSON text stands for, or XML that xml() gave; an error says where the text is wrong.

    Of XML, attributes are members called `@name`, text beside them `#text`, and repeated elements a list.

    json('{"id": 7}') → {"id": 7}
    """
    text = value.text().removeprefix("\ufeff")
    try:
        if value.xml:
            return json_of(parsed(text))
        return json.loads(text, parse_constant=_no_number, parse_float=_finite)
    except json.JSONDecodeError as error:
        hint = "XML is read by json(xml(…))" if text.lstrip().startswith("<") else ""
        raise invalid(f"no JSON: {error.msg} at line {error.lineno}, column {error.colno}", hint) from error
    except RecursionError as error:
        raise invalid("the text is nested too deeply") from error
    except ValueError as error:  # more digits than Python reads as one number
        raise invalid(f"no JSON: {error}") from error


def _no_number(word: str) -> JSON:
    raise invalid(f"no JSON: {word} is no number")


def _finite(text: str) -> float:
    if math.isinf(number := float(text)):
        raise invalid(f"no JSON: {text[:60]} is too large for a number")
    return number


@function("base64")
def to_base64(value: Content) -> JSON:
    """A text (in UTF-8) or content as base64.

    base64('hello') → "aGVsbG8="
    """
    return base64.b64encode(value.data).decode("ascii")


@function("base64ToString")
def base64_to_string(value: str) -> JSON:
    """The text that base64 stands for; an error for what isn't base64 or, decoded, isn't UTF-8.

    base64ToString('aGVsbG8=') → "hello"
    """
    try:
        return from_base64(value).decode()
    except UnicodeDecodeError as error:
        raise invalid("the bytes are no UTF-8 text", "base64ToBinary() keeps them") from error


decode_base64 = also("decodeBase64", base64_to_string)


@function("base64ToBinary")
def base64_to_binary(value: str) -> JSON:
    """The content that base64 stands for.

    base64ToBinary('aGVsbG8=') → {"$content-type": "application/octet-stream", "$content": "aGVsbG8="}
    """
    return Content(from_base64(value), BINARY).json()


@function("trimByteOrderMark")
def trim_byte_order_mark(value: str | Content) -> JSON:
    """A text or content without the byte order mark at its beginning, if there is one.

    base64ToString(trimByteOrderMark(base64ToBinary('77u/aGk='))['$content']) → "hi"
    """
    if isinstance(value, str):
        return value.removeprefix("\ufeff")
    return Content(re.sub(b"\\A(?:\xef\xbb\xbf|\xff\xfe|\xfe\xff)", b"", value.data), value.type).json()


@function("binary")
def binary(value: Content) -> JSON:
    """A text (in UTF-8) or content as content of unknown type.

    binary('hello') → {"$content-type": "application/octet-stream", "$content": "aGVsbG8="}
    """
    return Content(value.data, BINARY).json()


@function("dataUri")
def data_uri(value: Content) -> JSON:
    """A text or content as a data URI.

    dataUri('hello') → "data:text/plain;charset=utf-8;base64,aGVsbG8="
    """
    return f"data:{value.type};base64,{base64.b64encode(value.data).decode('ascii')}"


def _content_of(uri: str) -> Content:
    found = re.fullmatch(r"data:([^,]*?)(;base64)?,(.*)", uri.strip(), re.IGNORECASE | re.DOTALL)
    if not found:
        raise invalid("the text is no data URI such as data:text/plain;base64,aGk=")
    kind, encoded, data = found.groups()
    kind = "text/plain" + kind if kind.startswith(";") else kind or TEXT
    return Content(from_base64(data) if encoded else unquote_to_bytes(utf8(data)), kind)


@function("dataUriToString")
def data_uri_to_string(value: str) -> JSON:
    """The text in a data URI, in the charset that it names; UTF-8 where it names none.

    dataUriToString('data:text/plain;charset=utf-8;base64,aGVsbG8=') → "hello"
    """
    return _content_of(value).text()


@function("dataUriToBinary")
def data_uri_to_binary(value: str) -> JSON:
    """The content in a data URI.

    dataUriToBinary('data:image/png;base64,aGk=') → {"$content-type": "image/png", "$content": "aGk="}
    """
    return _content_of(value).json()


decode_data_uri = also("decodeDataUri", data_uri_to_binary)


@function("uriComponent")
def uri_component(value: Content) -> JSON:
    """A text or content with every character escaped that can't stand in a part of a URI: only A-Za-z0-9-_.~ stay.

    uriComponent('https://contoso.com') → "https%3A%2F%2Fcontoso.com"
    """
    return quote_from_bytes(value.data, safe="")


encode_uri_component = also("encodeUriComponent", uri_component)


@function("uriComponentToString")
def uri_component_to_string(value: str) -> JSON:
    """The text without URI escapes; what is no escape of UTF-8 stays as it is.

    uriComponentToString('https%3A%2F%2Fcontoso.com') → "https://contoso.com"
    """
    return re.sub(r"(?:%[0-9A-Fa-f]{2})+", lambda run: _unescaped(run.group()), value)


def _unescaped(run: str) -> str:
    try:
        return unquote_to_bytes(run).decode()
    except UnicodeDecodeError:
        return run


decode_uri_component = also("decodeUriComponent", uri_component_to_string)


@function("uriComponentToBinary")
def uri_component_to_binary(value: str) -> JSON:
    """The bytes of a text without URI escapes, as content.

    uriComponentToBinary('a%20b') → {"$content-type": "application/octet-stream", "$content": "YSBi"}
    """
    return Content(unquote_to_bytes(utf8(value)), BINARY).json()
