"""A layered layout of one list of steps: no boxes overlap, arrows run downwards and never through a box.

Steps stand in rows by how many steps come before them. Between two rows of steps there is one for the labels of
arrows. An arrow has a place of its own in each row that it passes, so a label or a long arrow gets room like a box.
Within the rows the order is by the mean place of the neighbours (few crossings), the places are the nearest to below
the neighbours that keep the distance (isotonic regression).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

SPACE = 24.0  # between two boxes of a row
LANE = 10.0  # width of an arrow that passes a row
GAP = 16.0  # between two rows, at least
SWEEPS = 6


@dataclass(frozen=True)
class Size:
    width: float
    height: float


@dataclass(frozen=True)
class Link:
    """An arrow from a box to another, with the text beside it and the size of that."""

    source: str
    target: str
    text: str = ""
    size: Size | None = None


@dataclass(frozen=True)
class Route:
    """An arrow's way: x at each row that it passes, with the row's top and bottom; `label` is its text's middle."""

    link: Link
    points: Sequence[tuple[float, float, float]]
    label: tuple[float, float] | None = None


@dataclass(frozen=True)
class Layout:
    """Top left corner of each box, the arrows, and the size of the whole."""

    size: Size
    places: Mapping[str, tuple[float, float]]
    routes: Sequence[Route]


@dataclass(eq=False)
class _Item:
    """A box, or an arrow's place in a row that it passes."""

    size: Size
    name: str = ""
    at: float = 0.0  # its number in the row, then x of its middle
    above: list[_Item] = field(default_factory=list)
    below: list[_Item] = field(default_factory=list)

    @property
    def weight(self) -> float:
        return 1.0 if self.name else 4.0  # long arrows are to be straight


def layered(boxes: Mapping[str, Size], links: Sequence[Link]) -> Layout:
    """Places boxes and arrows. The arrows make no cycle and stay within the boxes."""
    ranks = _ranks(boxes, links)
    rows: list[list[_Item]] = [[] for _ in range(2 * max(ranks.values(), default=-1) + 1)]
    items = {name: _Item(size, name) for name, size in boxes.items()}
    for name, item in items.items():
        rows[2 * ranks[name]].append(item)
    chains = [_chain(items, ranks, rows, link) for link in links]
    _order(rows)
    _straighten(rows)
    return _measure(rows, items, links, chains)


def _ranks(boxes: Mapping[str, Size], links: Sequence[Link]) -> dict[str, int]:
    """The row of each box: below all that it runs after."""
    waiting = dict.fromkeys(boxes, 0)
    below: dict[str, list[str]] = {name: [] for name in boxes}
    for link in links:
        below[link.source].append(link.target)
        waiting[link.target] += 1
    ranks = dict.fromkeys(boxes, 0)
    ready = [name for name, count in waiting.items() if not count]
    for name in ready:
        for target in below[name]:
            ranks[target] = max(ranks[target], ranks[name] + 1)
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    return ranks


def _chain(items: Mapping[str, _Item], ranks: Mapping[str, int], rows: list[list[_Item]], link: Link) -> list[_Item]:
    """An arrow as items from its source to its target, one in each row; the label is right below the source."""
    begin, end = 2 * ranks[link.source], 2 * ranks[link.target]
    between = [_Item(Size(LANE, 0.0)) for _ in range(begin + 1, end)]
    if link.size is not None:
        between[0].size = link.size
    for row, item in enumerate(between, begin + 1):
        rows[row].append(item)
    chain = [items[link.source], *between, items[link.target]]
    for upper, lower in pairwise(chain):
        upper.below.append(lower)
        lower.above.append(upper)
    return chain


# Order within the rows


def _order(rows: list[list[_Item]]) -> None:
    """Sorts each row by its neighbours' mean place, down and up in turn, and keeps the order with fewest crossings."""
    for row in rows:
        _number(row)
    best, fewest = [list(row) for row in rows], _crossings(rows)
    for sweep in range(SWEEPS):
        if not fewest:
            break
        down = sweep % 2 == 0
        for row in rows if down else reversed(rows):
            row.sort(key=(_above if down else _below))
            _number(row)
        if (crossings := _crossings(rows)) < fewest:
            best, fewest = [list(row) for row in rows], crossings
    rows[:] = best


def _number(row: list[_Item]) -> None:
    for number, item in enumerate(row):
        item.at = number


def _above(item: _Item) -> float:
    return sum(n.at for n in item.above) / len(item.above) if item.above else item.at


def _below(item: _Item) -> float:
    return sum(n.at for n in item.below) / len(item.below) if item.below else item.at


def _crossings(rows: list[list[_Item]]) -> int:
    total = 0
    for upper, lower in pairwise(rows):
        places = {id(item): place for place, item in enumerate(lower)}
        seen: list[int] = []
        for item in upper:
            ends = [places[id(n)] for n in item.below]
            total += sum(earlier > end for end in ends for earlier in seen)
            seen += ends
    return total


# Places within the rows


def _straighten(rows: list[list[_Item]]) -> None:
    for row in rows:
        _spread(row, [0.0] * len(row))
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        for row in rows if down else reversed(rows):
            _spread(row, list(map(_above if down else _below, row)))


def _spread(row: list[_Item], wanted: list[float]) -> None:
    """Puts a row's items as near to the wanted places as their order and the space between them allow."""
    offsets, at = [], 0.0
    for before, item in zip([None, *row], row, strict=False):
        if before is not None:
            at += (before.size.width + item.size.width) / 2 + SPACE
        offsets.append(at)
    groups: list[list[float]] = []  # sum of weighted places, weight, number of items: pooled where they'd overlap
    for item, place, offset in zip(row, wanted, offsets, strict=True):
        groups.append([(place - offset) * item.weight, item.weight, 1])
        while len(groups) > 1 and groups[-2][0] / groups[-2][1] > groups[-1][0] / groups[-1][1]:
            last = groups.pop()
            groups[-1] = [a + b for a, b in zip(groups[-1], last, strict=True)]
    places = [total / weight for total, weight, number in groups for _ in range(int(number))]
    for item, place, offset in zip(row, places, offsets, strict=True):
        item.at = place + offset


def _measure(
    rows: list[list[_Item]],
    items: Mapping[str, _Item],
    links: Sequence[Link],
    chains: list[list[_Item]],
) -> Layout:
    """Coordinates from 0: rows below each other, farther apart where arrows go far sideways."""
    left = min((item.at - item.size.width / 2 for row in rows for item in row), default=0.0)
    right = max((item.at + item.size.width / 2 for row in rows for item in row), default=0.0)
    spans: dict[int, tuple[float, float]] = {}  # top and bottom of the row that an item stands in
    y = 0.0
    for number, row in enumerate(rows):
        height = max((item.size.height for item in row), default=0.0)
        spans |= {id(item): (y, y + height) for item in row}
        aside = max((abs(item.at - lower.at) for item in row for lower in item.below), default=0.0)
        y += height + (GAP + min(aside / 10, 3 * GAP) if number + 1 < len(rows) else 0.0)
    places = {name: (item.at - left - item.size.width / 2, spans[id(item)][0]) for name, item in items.items()}
    routes = []
    for link, chain in zip(links, chains, strict=True):
        points = [(item.at - left, *spans[id(item)]) for item in chain]
        x, top, bottom = points[0]
        points[0] = (x, top + chain[0].size.height, bottom)
        points[-1] = (points[-1][0], points[-1][1], points[-1][1])
        middle = (points[1][0], sum(points[1][1:]) / 2) if link.size is not None else None
        routes.append(Route(link, points, middle))
    return Layout(Size(right - left, y), places, routes)
