"""Objects. Nothing is changed in place: every function gives a new object."""

from __future__ import annotations

from engine.errors import DataError
from engine.functions.declare import function, invalid
from engine.types import JSON

_MOST_NAMES = 50


@function("addProperty")
def add_property(object: dict[str, JSON], name: str, value: JSON) -> JSON:
    """The object with one more member; an error if there is one of that name.

    addProperty({'id': 1}, 'name', 'x') → {"id": 1, "name": "x"}
    """
    if name in object:
        raise invalid(f"the object has a '{name}' already", "setProperty() replaces it")
    return {**object, name: value}


@function("setProperty")
def set_property(object: dict[str, JSON], name: str, value: JSON) -> JSON:
    """The object with a member added or replaced.

    setProperty({'id': 1}, 'id', 2) → {"id": 2}
    """
    return {**object, name: value}


@function("removeProperty")
def remove_property(object: dict[str, JSON], name: str) -> JSON:
    """The object without a member; unchanged if there is none of that name.

    removeProperty({'id': 1, 'name': 'x'}, 'name') → {"id": 1}
    """
    return {key: value for key, value in object.items() if key != name}


@function("mergeObjects")
def merge_objects(object: dict[str, JSON], other: dict[str, JSON]) -> JSON:
    """The members of both objects; where both have a key, the second one's.

    mergeObjects({'a': 1, 'b': 1}, {'b': 2}) → {"a": 1, "b": 2}
    """
    return {**object, **other}


@function("prop")
def prop(object: dict[str, JSON], name: str) -> JSON:
    """A member that has to be there: unlike with a dot, a missing one is an error that lists the names there are.

    prop({'id': 7}, 'id') → 7
    """
    if name in object:
        return object[name]
    names = ", ".join(list(object)[:_MOST_NAMES]) + ", …" * (len(object) > _MOST_NAMES)
    there = f"available: {names}" if object else "the object is empty"
    raise DataError(f"there is no '{name}' ({there})", code="Missing")
