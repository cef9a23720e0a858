"""Text. Positions and lengths count characters (code points) from 0, so that no character is ever cut in two.

Where the language ignores upper and lower case, characters are compared one by one in their simple upper case, which
keeps positions true; no language's own rules apply.
"""

from __future__ import annotations

from engine.expressions import Ambient
from engine.functions.contents import text_of
from engine.functions.cultures import EN_US, Culture
from engine.functions.declare import function, invalid, limited
from engine.functions.numerals import format_number
from engine.types import JSON

# What .NET calls white space: Python's idea of it, without the separators U+001C to U+001F.
_WHITE = "".join(c for c in map(chr, range(0x3001)) if c.isspace() and not "\x1c" <= c <= "\x1f")
_UNCASED = frozenset("\u0130\u0131")  # Turkish dotted I and dotless i belong to one language only


def upper(text: str) -> str:
    """Simple upper case, character by character: no character becomes two."""
    if text.isascii():
        return text.upper()
    return "".join(u if len(u := c.upper()) == 1 and c not in _UNCASED else c for c in text)


def _lower(text: str) -> str:
    if text.isascii():
        return text.lower()
    return "".join(u if len(u := c.lower()) == 1 and c not in _UNCASED else c for c in text)


@function("concat")
def concat(text: JSON, *more: JSON) -> JSON:
    """One text out of several values: null counts as empty, lists and objects as JSON.

    concat('Hello', ' ', 2) → "Hello 2"
    """
    texts = [text_of(value) for value in (text, *more)]
    limited(sum(map(len, texts)))
    return "".join(texts)


@function("substring")
def substring(text: str, start: int, length: int | None = None) -> JSON:
    """The part of a text from a position on, to the end or `length` characters long.

    A part that doesn't lie within the text is an error; slice() takes what there is.

    substring('hello world', 6, 5) → "world"
    """
    end = len(text) if length is None else start + length
    if start < 0 or end < start or max(start, end) > len(text):
        part = f"from {start} on" if length is None else f"from {start}, {length} long,"
        raise invalid(f"the part {part} isn't within the text of {len(text)} characters", "slice() takes what there is")
    return text[start:end]


@function("slice")
def cut(text: str, start: int, end: int | None = None) -> JSON:
    """The part of a text from one position up to, but not including, another; negative ones count from the end.

    What isn't there is left out, so it never fails.

    slice('Hello World', 3, -1) → "lo Worl"
    """
    return text[start:end]


@function("replace")
def replace(text: str, old: str, new: str) -> JSON:
    """The text with every `old` replaced; upper and lower case count. An empty `old` is an error.

    replace('the old string', 'old', 'new') → "the new string"
    """
    if not old:
        raise invalid("the text to replace is empty")
    if len(new) > len(old):
        limited(len(text) + text.count(old) * (len(new) - len(old)))
    return text.replace(old, new)


@function("toLower")
def to_lower(text: str) -> JSON:
    """The text in lower case.

    toLower('Hello World') → "hello world"
    """
    return _lower(text)


@function("toUpper")
def to_upper(text: str) -> JSON:
    """The text in upper case.

    toUpper('Hello World') → "HELLO WORLD"
    """
    return upper(text)


@function("trim")
def trim(text: str) -> JSON:
    """The text without the white space at its ends.

    trim('  Hello World ') → "Hello World"
    """
    return text.strip(_WHITE)


@function("indexOf")
def index_of(text: str, search: str) -> JSON:
    """Where a text first occurs in another, whatever its case; -1 if it doesn't, 0 for an empty one.

    indexOf('hello world', 'World') → 6
    """
    return upper(text).find(upper(search))


@function("lastIndexOf")
def last_index_of(text: str, search: str) -> JSON:
    """Where a text last occurs in another, whatever its case; -1 if it doesn't.

    An empty one is found at the last character, or at 0 in an empty text.

    lastIndexOf('hello world hello world', 'World') → 18
    """
    if not search:
        return max(len(text) - 1, 0)
    return upper(text).rfind(upper(search))


@function("nthIndexOf")
def nth_index_of(text: str, search: str, occurrence: int) -> JSON:
    """Where a text occurs for the nth time in another, whatever its case, counted from the end if n is negative.

    -1 if it doesn't occur so often. Neither the text nor n may be empty or zero.

    nthIndexOf('123456789123465789', '12', 2) → 9
    """
    if not search or not occurrence:
        raise invalid("an empty text can't be counted" if not search else "there is no occurrence 0: the first is 1")
    text, search = upper(text), upper(search)
    at = -1 if occurrence > 0 else len(text)
    for _ in range(min(abs(occurrence), len(text) + 1)):
        at = text.find(search, at + 1) if occurrence > 0 else text.rfind(search, 0, max(at + len(search) - 1, 0))
        if at < 0:
            return -1
    return at


@function("startsWith")
def starts_with(text: str, search: str) -> JSON:
    """Whether a text begins with another, whatever the case.

    startsWith('hello world', 'HELLO') → true
    """
    return upper(text).startswith(upper(search))


@function("endsWith")
def ends_with(text: str, search: str) -> JSON:
    """Whether a text ends with another, whatever the case.

    endsWith('hello world', 'World') → true
    """
    return upper(text).endswith(upper(search))


@function("split")
def split(text: str, separator: str) -> JSON:
    """The parts of a text between separators, empty ones too; the whole text in a list where there is none.

    split('a_b_c', '_') → ["a", "b", "c"]
    """
    return text.split(separator) if separator else [text]


@function("length")
def length(collection: str | list[JSON]) -> JSON:
    """How many characters a text has, or items a list.

    length('abcd') → 4
    """
    return len(collection)


@function("guid")
def guid(ambient: Ambient, format: str = "D") -> JSON:
    """A new random GUID, as N (digits only), D (with hyphens), B (in braces), P (in parentheses) or X (hexadecimal).

    guid('D') → "c2ecc88d-88c8-4096-912c-d6f2e2b138ce"
    """
    new = ambient.guid()
    match format.upper():
        case "D" | "":
            return str(new)
        case "N":
            return new.hex
        case "B":
            return f"{{{new}}}"
        case "P":
            return f"({new})"
        case "X":
            low, middle, high = new.fields[:3]
            rest = ",".join(f"0x{byte:02x}" for byte in new.bytes[8:])
            return f"{{0x{low:08x},0x{middle:04x},0x{high:04x},{{{rest}}}}}"
    raise invalid(f"'{format[:20]}' is no format of a GUID", "use N, D, B, P or X")


@function("formatNumber")
def number_text(number: float, format: str, locale: Culture = EN_US) -> JSON:
    """A number in a .NET format: C, D, E, F, G, N, P, R, X with a precision, or a custom one such as '#,##0.00'.

    An unknown format or locale is an error.

    formatNumber(1234567890, '#,##0.00') → "1,234,567,890.00"
    """
    return format_number(number, format, locale)


@function("utf8Length")
def utf8_length(text: str) -> JSON:
    """How many bytes a text has in UTF-8.

    utf8Length('Zürich') → 7
    """
    return len(text.encode("utf-8", "surrogatepass"))


@function("utf16Length")
def utf16_length(text: str) -> JSON:
    """How many UTF-16 code units a text has: one a character, two beyond U+FFFF, as Microsoft's services count.

    utf16Length('a😀') → 3
    """
    return len(text) + sum(c > "\uffff" for c in text)
