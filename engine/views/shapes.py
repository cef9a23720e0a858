"""The sizes of what is drawn: text cut to fit, boxes around text, containers around their lists of steps."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace

from engine.views.drawing import Block, Box, Source
from engine.views.layout import Layout, Link, Size, layered
from engine.views.outcome import MARKS

LINE = 17.0  # height of a line of text
PAD = 10.0
FONT_SIZE = 13.0
NARROWEST = 120.0
WIDEST = 380.0  # text of a box
WIDEST_ROW = 1500.0  # lists of a container stand side by side up to here
# Widths in em, on the safe side of common sans-serif fonts.
WIDTHS = (
    (0.36, " ',.·:;|!ijlIJ"), (0.43, "/\\()[]ftr-"), (0.53, '_*"`–sz'), (0.62, "ckvxyLFTaeo"),
    (0.66, "bdghnpqu$0123456789{}?ESKP"), (0.8, "ABCDGHNOQRUVXYZ&w#+<=>^~"), (1.05, "mMW%@…✓✗↻■⏱"),
)  # fmt: skip
EM = {character: em for em, characters in WIDTHS for character in characters}
LATIN, OTHER, BOLD = 0.8, 1.25, 1.16  # of other letters; how much wider bold is


@dataclass(frozen=True)
class Text:
    """A line of text; `full` is what it said before it was cut."""

    shown: str
    full: str
    bold: bool = False
    dim: bool = False

    @property
    def width(self) -> float:
        return width(self.shown, bold=self.bold)


@dataclass(frozen=True)
class Shape:
    """A box with its lines of text, and the lists of steps that it holds, each with its place inside."""

    what: Box | Source
    lines: tuple[Text, ...]
    size: Size
    lists: tuple[tuple[float, float, List], ...] = ()


@dataclass(frozen=True)
class List:
    """A list of steps, laid out at (left, top) of its own area; `label` stands above it."""

    label: Text | None
    size: Size
    left: float
    top: float
    layout: Layout
    shapes: Mapping[str, Shape]


def width(text: str, *, bold: bool = False) -> float:
    """Pixels that a text takes, rather too many than too few."""
    return sum(map(_em, text)) * FONT_SIZE * (BOLD if bold else 1.0)


def _em(character: str) -> float:
    if unicodedata.combining(character):
        return 0.0
    return EM.get(character) or (LATIN if character < "\u0250" else OTHER)


def fitted(text: str, most: float = WIDEST, *, bold: bool = False, dim: bool = False) -> Text:
    """A line that is no wider than so many pixels."""
    full = shown = " ".join(text.split())
    if width(full, bold=bold) > most:
        room = most - width("…", bold=bold)
        while shown and width(shown, bold=bold) > room:
            shown = shown[: min(len(shown) - 1, int(len(shown) * 0.97))]
        shown = f"{shown.rstrip()}…"
    return Text(shown, full, bold, dim)


def whole(block: Block, sources: tuple[Source, ...] = ()) -> List:
    """A list of steps with all that is in it, `sources` above it."""
    shapes = {f"!{source.name}": _source(source) for source in sources}  # no step is called so
    shapes |= {box.name: _box(box) for box in block.boxes}
    links = [Link(f"!{source.name}", box.name) for source in sources for box in block.first]
    for arrow in block.arrows:
        size = Size(width(arrow.label) + 2 * PAD, LINE + 4) if arrow.label else None
        links.append(Link(arrow.source, arrow.target, arrow.label, size))
    layout = layered({name: shape.size for name, shape in shapes.items()}, links)
    inner = layout.size
    if not block.label:
        return List(None, inner, 0.0, 0.0, layout, shapes)
    label = fitted(block.label, dim=True)
    across = max(inner.width, label.width)
    size = Size(across + 2 * PAD, inner.height + LINE + 3 * PAD)
    return List(label, size, PAD + (across - inner.width) / 2, LINE + 2 * PAD, layout, shapes)


def _box(box: Box) -> Shape:
    lines = [fitted(box.label, bold=True)]
    lines.append(fitted(box.what if box.label == box.name else f"{box.name}: {box.what}", dim=True))
    lines += [fitted(f"when {box.when}", dim=True)] if box.when else []
    lines += [_outcome(box)] if box.outcome is not None else []
    head = _around(lines)
    if not box.blocks:
        return Shape(box, tuple(lines), replace(head, width=max(head.width, NARROWEST)))
    return _container(box, tuple(lines), head)


def _outcome(box: Box) -> Text:
    """What became of a step: its mark and words, its time and tries."""
    assert box.outcome is not None
    effort = box.outcome.effort
    tail = f" · {effort}" if effort else ""
    text = fitted(f"{MARKS[box.outcome.status]} {box.outcome.words}", WIDEST - width(tail))
    return Text(text.shown + tail, text.full + tail)


def _around(lines: list[Text], margin: float = PAD) -> Size:
    return Size(max(line.width for line in lines) + 2 * margin, len(lines) * LINE + 1.5 * PAD)


def _container(box: Box, lines: tuple[Text, ...], head: Size) -> Shape:
    """A box around lists: side by side as far as they fit, in rows that are centred."""
    rows: list[list[List]] = [[]]
    across = PAD
    for inner in map(whole, box.blocks):
        if rows[-1] and across + inner.size.width > WIDEST_ROW:
            rows.append([])
            across = PAD
        rows[-1].append(inner)
        across += inner.size.width + PAD
    widths = [sum(inner.size.width + PAD for inner in row) + PAD for row in rows]
    full = max(head.width, *widths)
    placed, y = [], head.height
    for row, taken in zip(rows, widths, strict=True):
        x = PAD + (full - taken) / 2
        for inner in row:
            placed.append((x, y, inner))
            x += inner.size.width + PAD
        y += max(inner.size.height for inner in row) + PAD
    return Shape(box, lines, Size(full, y), tuple(placed))


def _source(source: Source) -> Shape:
    lines = [fitted(source.name, bold=True), fitted(source.what, dim=True)]
    lines += [fitted(f"when {source.when}", dim=True)] if source.when else []
    return Shape(source, tuple(lines), _around(lines, 2 * PAD))
