"""Lists and other collections. Nothing is changed in place: every function gives a new value."""

from __future__ import annotations

from collections.abc import Iterable

from engine.functions.contents import text_of
from engine.functions.declare import function, invalid, limited
from engine.functions.values import identity, sort_key
from engine.types import JSON, type_name, wrong

_LONGEST_RANGE = 100_000
_LARGEST_RANGE = 2**31 - 1


@function("contains")
def contains(collection: str | list[JSON] | dict[str, JSON], value: JSON) -> JSON:
    """Whether a text holds another, a list an equal item, or an object a key; upper and lower case count.

    contains('hello world', 'world') → true
    """
    if isinstance(collection, list):
        wanted = identity(value)
        return any(identity(item) == wanted for item in collection)
    if not isinstance(value, str):
        raise wrong("parameter 2 'value'", "text", value)
    return value in collection


@function("empty")
def empty(collection: str | list[JSON] | dict[str, JSON] | None) -> JSON:
    """Whether a text, list or object has nothing in it; null counts as empty.

    empty('') → true
    """
    return not collection


@function("first")
def first(collection: str | list[JSON]) -> JSON:
    """The first item of a list, null if it is empty; the first character of a text, '' if it is empty.

    first([0, 1, 2]) → 0
    """
    return collection[0] if collection else "" if isinstance(collection, str) else None


@function("last")
def last(collection: str | list[JSON]) -> JSON:
    """The last item of a list, null if it is empty; the last character of a text, '' if it is empty.

    last([0, 1, 2]) → 2
    """
    return collection[-1] if collection else "" if isinstance(collection, str) else None


@function("take")
def take(collection: str | list[JSON], count: int) -> JSON:
    """The first `count` items of a list or characters of a text; fewer where there aren't as many.

    take('abcde', 3) → "abc"
    """
    return collection[: max(count, 0)]


@function("skip")
def skip(collection: list[JSON], count: int) -> JSON:
    """The items of a list after the first `count`.

    skip([0, 1, 2, 3], 1) → [1, 2, 3]
    """
    return collection[max(count, 0) :]


@function("join")
def join(collection: list[JSON], separator: str) -> JSON:
    """The items of a list as one text, with a separator between them; null counts as empty.

    join(['a', 'b', 'c'], '.') → "a.b.c"
    """
    texts = [text_of(item) for item in collection]
    limited(sum(map(len, texts)) + len(separator) * max(len(texts) - 1, 0))
    return separator.join(texts)


@function("union")
def union(collection: list[JSON] | dict[str, JSON], *more: list[JSON] | dict[str, JSON]) -> JSON:
    """All items of several lists, each once, in the order of first appearance; or all members of several objects.

    Where objects have the same key, the last one wins. Lists and objects together are an error.

    union([1, 2, 3], [1, 2, 10, 101]) → [1, 2, 3, 10, 101]
    """
    if isinstance(collection, dict):
        return {k: v for each in (collection, *_alike(more, dict, "an object")) for k, v in each.items()}
    return _distinct(item for each in (collection, *_alike(more, list, "a list")) for item in each)


@function("intersection")
def intersection(collection: list[JSON] | dict[str, JSON], *more: list[JSON] | dict[str, JSON]) -> JSON:
    """The items that all of several lists have, each once; or the members whose key all of several objects have.

    Of an object's members the last one wins. Lists and objects together are an error.

    intersection([1, 2, 3], [101, 2, 1, 10], [6, 8, 1, 2]) → [1, 2]
    """
    if isinstance(collection, dict):
        objects = [collection, *_alike(more, dict, "an object")]
        return {key: objects[-1][key] for key in collection if all(key in each for each in objects)}
    others = [{identity(item) for item in each} for each in _alike(more, list, "a list")]
    return _distinct(item for item in collection if all(identity(item) in other for other in others))


def _alike(more: tuple[JSON, ...], kind: type, words: str) -> tuple[JSON, ...]:
    for i, each in enumerate(more):
        if not isinstance(each, kind):
            raise wrong(f"parameter {i + 2} 'more'", f"{words} like the first", each)
    return more


def _distinct(items: Iterable[JSON]) -> list[JSON]:
    seen: dict[object, JSON] = {}
    for item in items:
        seen.setdefault(identity(item), item)
    return list(seen.values())


@function("chunk")
def chunk(collection: str | list[JSON], length: int) -> JSON:
    """A list or text cut into pieces of one length; the last one may be shorter.

    chunk('abcdefgh', 3) → ["abc", "def", "gh"]
    """
    if length < 1:
        raise invalid(f"a piece has to be at least 1 long, not {length}")
    return [collection[i : i + length] for i in range(0, len(collection), length)]


@function("sort")
def sort(collection: list[JSON], key: str | None = None) -> JSON:
    """A list in ascending order, its objects by the value of a key; null and a missing key come first.

    What is sorted has to be all numbers, all texts (ordered by code points) or all booleans.

    sort([2, 1, 0, 3]) → [0, 1, 2, 3]
    """
    values = collection if key is None else [_member(item, key) for item in collection]
    keys = [sort_key(value) for value in values]
    if len(kinds := {rank: value for (rank, _), value in zip(keys, values, strict=True) if rank}) > 1:
        mixed = " and ".join(type_name(value) for value in kinds.values())
        raise invalid(f"{mixed} can't be sorted together")
    return [collection[i] for i in sorted(range(len(keys)), key=keys.__getitem__)]


def _member(item: JSON, key: str) -> JSON:
    if not isinstance(item, dict):
        raise invalid(f"the key '{key}' needs objects in the list, found {type_name(item)}")
    return item.get(key)


@function("reverse")
def reverse(collection: list[JSON]) -> JSON:
    """A list from its end to its beginning.

    reverse([0, 1, 2, 3]) → [3, 2, 1, 0]
    """
    return collection[::-1]


@function("createArray")
def create_array(value: JSON, *more: JSON) -> JSON:
    """A list of the values given.

    createArray('h', 'i') → ["h", "i"]
    """
    return [value, *more]


@function("array")
def array(value: JSON) -> JSON:
    """A list that holds one value.

    array('hello') → ["hello"]
    """
    return [value]


@function("range")
def span(start: int, count: int) -> JSON:
    """A list of `count` whole numbers from `start` on; at most 100,000 of them, and none beyond 32 bits.

    range(1, 4) → [1, 2, 3, 4]
    """
    if not 0 <= count <= _LONGEST_RANGE:
        raise invalid(f"the count has to be from 0 to {_LONGEST_RANGE}, not {count}")
    if start < -_LARGEST_RANGE - 1 or start + count > _LARGEST_RANGE:
        raise invalid(f"the sum of start and count may not exceed {_LARGEST_RANGE}: found {start} and {count}")
    return list(range(start, start + count))
