"""Following the pages of a list, in the three ways that services know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import parse_qsl, quote, urlencode, urljoin, urlsplit

from connectors.http.message import content, netloc
from engine import JSON, ConfigError, Doc, Range, RemoteError

if TYPE_CHECKING:
    from requests import Response


@dataclass(frozen=True)
class Cursor:
    """A mark in the answer that is sent back as a query parameter."""

    path: Annotated[str, Doc("JSONPath of the mark in the answer, such as $.paging.next.after")]
    param: Annotated[str, Doc("The query parameter that takes it")]


@dataclass(frozen=True)
class Paging:
    """How to reach the next page: exactly one of `next`, `link_header` and `cursor`."""

    next: Annotated[str | None, Doc("JSONPath of the next page's URL; '@odata.nextLink' needs no $")] = None
    link_header: Annotated[bool, Doc('The next page is in the Link header, rel="next" (RFC 8288)')] = False
    cursor: Cursor | None = None
    items: Annotated[str | None, Doc("JSONPath of the list in a page; default: the page itself, or its `value`")] = None
    max_items: Annotated[int, Range(1), Doc("Where to stop; the summary says so")] = 100_000

    def prepare(self) -> None:
        """Raises ConfigError for a combination or a JSONPath that can't work, before anything is sent."""
        if (self.next is not None) + self.link_header + (self.cursor is not None) != 1:
            raise ConfigError("paging needs exactly one of next, link_header: true, cursor", code="Paging")
        paths = (self.next, self.cursor.path if self.cursor else None, self.items)
        for path in paths:
            if path is not None and not path.startswith("@"):
                parsed(path)

    def items_of(self, page: JSON) -> list[JSON]:
        """The items of a page. Raises RemoteError where there is no list."""
        if self.items is not None:
            found = find(self.items, page)
            return found[0] if len(found) == 1 and isinstance(found[0], list) else found
        items = page.get("value") if isinstance(page, dict) else page
        if not isinstance(items, list):
            raise RemoteError(
                "the page holds no list", code="Paging", hint="say where it is by `paging.items`, such as $.data"
            )
        return items

    def follow(self, send: Callable[[str], Response], url: str, answer: Response) -> tuple[Response, list[JSON], str]:
        """The last answer, all items, and words on how many there are. Raises RemoteError for pages in a circle."""
        items: list[JSON] = []
        seen = {url}
        while True:
            page = content(answer)
            items += self.items_of(page)
            at = self.following(url, answer, page)
            if at is None or len(items) >= self.max_items:
                break
            if at in seen:
                raise RemoteError("the link to the next page leads back to one already read", code="Paging")
            seen.add(at)
            url, answer = at, send(at)
        cut = at is not None or len(items) > self.max_items
        del items[self.max_items :]
        said = f": {len(items)} items in {len(seen)} page{'s' * (len(seen) > 1)}"
        return answer, items, f"{said}, more left out by max_items" if cut else said

    def following(self, url: str, answer: Response, page: JSON) -> str | None:
        """The next page's URL, or None. Raises RemoteError for one that would leave https."""
        if self.cursor:
            mark = next(iter(find(self.cursor.path, page)), None)
            if mark is None or mark is False or mark == "":
                return None
            if isinstance(mark, bool | list | dict):
                raise RemoteError("the cursor is neither text nor a number", code="Paging")
            return with_parameter(url, self.cursor.param, mark)
        if self.link_header:
            links = answer.links.values()
            link = next((at["url"] for at in links if "next" in at.get("rel", "").lower().split()), None)
        else:
            link = next(iter(find(self.next or "", page)), None)
        if not link:
            return None
        if not isinstance(link, str):
            raise RemoteError("the link to the next page is no text", code="Paging")
        target, scheme = urlsplit(urljoin(url, link.strip())), urlsplit(url).scheme
        if target.scheme != scheme:
            raise RemoteError(f"the link to the next page leaves {scheme}: it isn't followed", code="Paging")
        return target._replace(netloc=netloc(target), fragment="").geturl()


def find(path: str, page: JSON) -> list[JSON]:
    """What a JSONPath finds; a path that begins with @ is the name of one annotation. Raises RemoteError."""
    if path.startswith("@"):
        return [page[path]] if isinstance(page, dict) and path in page else []
    try:
        return [match.value for match in parsed(path).find(page)]
    except (TypeError, ValueError, AttributeError):  # a filter or function met a value that it isn't made for
        raise RemoteError(f"paging: {path!r} doesn't fit the page", code="Paging") from None


@lru_cache(256)
def parsed(path: str) -> Any:
    """A JSONPath, ready to search. Raises ConfigError."""
    from jsonpath_ng.exceptions import JSONPathError  # noqa: PLC0415 - only who uses paths pays for it
    from jsonpath_ng.ext.parser import parse  # noqa: PLC0415
    from jsonpath_ng.ext.string import DefintionInvalid  # noqa: PLC0415

    try:
        return parse(path)
    except (JSONPathError, DefintionInvalid) as error:
        raise ConfigError(f"{path!r} is no JSONPath: {str(error)[:100]}", code="JsonPath") from None


def with_parameter(url: str, name: str, value: JSON) -> str:
    """The URL with one query parameter set, in place of an earlier one."""
    parts = urlsplit(url)
    pairs = [(k, v) for k, v in parse_qsl(parts.query, keep_blank_values=True) if k != name]
    return parts._replace(query=urlencode([*pairs, (name, str(value))], quote_via=quote)).geturl()
