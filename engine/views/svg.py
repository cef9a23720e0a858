"""A drawing as SVG: steps as boxes, containers as boxes around their lists, arrows between."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from xml.sax.saxutils import escape

from engine.views.colours import drawing_css
from engine.views.drawing import Box, Drawing, Source, printable
from engine.views.layout import Route, Size
from engine.views.shapes import FONT_SIZE, LINE, PAD, List, Shape, Text, whole, width

MARGIN = 16.0
FONT = "system-ui,'Segoe UI','Helvetica Neue',Arial,sans-serif"
HEAD = (
    '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
    '<path class="head" d="M0 0L8 4L0 8z"/></marker></defs>'
)


def svg(drawing: Drawing, *, interactive: bool = False) -> str:
    """The drawing as an SVG document. If `interactive`, its steps can have the focus and say what they are."""
    root = whole(drawing.block, drawing.sources)
    size = Size(root.size.width + 2 * MARGIN, root.size.height + 2 * MARGIN)
    across, down = f"{size.width:.0f}", f"{size.height:.0f}"
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="flow" width="{across}" height="{down}" '
        f'viewBox="0 0 {across} {down}" font-family="{FONT}" font-size="{FONT_SIZE:.0f}">',
        f"<title>{clean(drawing.title or drawing.name)}</title>",
        f"<style>{drawing_css()}</style>{HEAD}",
        f'<rect class="paper" width="{across}" height="{down}"/>',
        *_Pen(interactive, drawing.ran).list(root, MARGIN, MARGIN),
        "</svg>",
    ]
    return "\n".join(out) + "\n"


def clean(text: str) -> str:
    """Text for XML and HTML: escaped, without the characters that they can't hold."""
    return escape(printable(text), {'"': "&quot;", "'": "&#39;"})


@dataclass(frozen=True)
class _Pen:
    interactive: bool
    ran: bool

    def list(self, drawn: List, x: float, y: float) -> Iterator[str]:
        if drawn.label is not None:
            yield f'<rect class="list" {_rect(x, y, drawn.size)} rx="6"/>'
            yield _text(drawn.label, x + PAD, y + PAD + LINE - 5)
        x, y = x + drawn.left, y + drawn.top
        for route in drawn.layout.routes:
            yield from _arrow(route, x, y)
        for name, (left, top) in drawn.layout.places.items():
            yield from self.shape(drawn.shapes[name], x + left, y + top)

    def shape(self, shape: Shape, x: float, y: float) -> Iterator[str]:
        what = shape.what
        yield self._source(what) if isinstance(what, Source) else self._step(what, shape)
        indent, corner = (2 * PAD, 20) if isinstance(what, Source) else (PAD, 6)
        yield f'<rect class="box" {_rect(x, y, shape.size)} rx="{corner}"/>'
        for number, line in enumerate(shape.lines, 1):
            yield _text(line, x + indent, y + PAD + number * LINE - 6)
        for left, top, inner in shape.lists:
            yield from self.list(inner, x + left, y + top)
        yield "</g>"

    def _source(self, source: Source) -> str:
        return f'<g class="source{" absent" if source.began is False else ""}">'

    def _step(self, box: Box, shape: Shape) -> str:
        status = box.outcome.status if box.outcome else "absent" if self.ran else ""
        classes = " ".join(filter(None, ["step", status, "holds" if box.blocks else ""]))
        reach = ""
        if self.interactive:
            said = ": ".join(line.full for line in shape.lines)
            reach = f' tabindex="0" role="button" aria-controls="details" aria-label="{clean(said)}"'
        return f'<g class="{classes}" data-path="{box.path}"{reach}>'


def _text(text: Text, x: float, y: float) -> str:
    look = ' font-weight="600"' if text.bold else ' class="dim"' if text.dim else ""
    full = f"<title>{clean(text.full)}</title>" if text.full != text.shown else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{look}>{full}{clean(text.shown)}</text>'


def _rect(x: float, y: float, size: Size) -> str:
    return f'x="{x:.1f}" y="{y:.1f}" width="{size.width:.1f}" height="{size.height:.1f}"'


def _arrow(route: Route, x: float, y: float) -> Iterator[str]:
    """Straight down past the boxes of a row, bent between rows."""
    (across, start, bottom), *others = [(x + at, y + top, y + end) for at, top, end in route.points]
    path = f"M{across:.1f} {start:.1f}V{bottom:.1f}"
    for at, top, end in others:
        half = (bottom + top) / 2
        straight = abs(at - across) < 0.1
        path += f"V{top:.1f}" if straight else f"C{across:.1f} {half:.1f} {at:.1f} {half:.1f} {at:.1f} {top:.1f}"
        path += f"V{end:.1f}" if end != top else ""
        across, bottom = at, end
    yield f'<path class="arrow" d="{path}" marker-end="url(#head)"/>'
    if route.label is not None:
        middle, height = x + route.label[0], y + route.label[1]
        size = Size(width(route.link.text) + PAD, LINE)
        yield f'<rect class="paper label" {_rect(middle - size.width / 2, height - LINE / 2, size)}/>'
        text = clean(route.link.text)
        yield f'<text class="dim" text-anchor="middle" x="{middle:.1f}" y="{height + 4:.1f}">{text}</text>'
