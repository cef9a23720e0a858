"""Strict access as Workflow Definition Language has it: into objects by key, into lists by position."""

from __future__ import annotations

from engine.functions.declare import function, invalid
from engine.functions.objects import prop as member
from engine.types import JSON


@function("prop")
def prop(value: dict[str, JSON] | list[JSON], key: str | int) -> JSON:
    """A member or an item that has to be there: unlike with a dot, a missing one is an error.

    prop({'id': 7}, 'id') → 7
    """
    if isinstance(value, dict):
        return member.call(value, key)
    if not isinstance(key, int):
        raise invalid(f"a list has items by number, not '{key}'")
    if not 0 <= key < len(value):
        raise invalid(f"there is no item {key} in a list of {len(value)} items, counted from 0")
    return value[key]
