"""A drawing as Mermaid text: `flowchart TD`, containers as subgraphs."""

from __future__ import annotations

from collections.abc import Iterator

from engine.views.colours import LIGHT
from engine.views.drawing import Block, Box, Drawing, Source, printable
from engine.views.outcome import MARKS

# What Mermaid would read as its own: quotes, entities, markup, formulas.
ESCAPES = {ord(c): f"#{ord(c)};" for c in '"#&<>`$\\'}


def mermaid(drawing: Drawing) -> str:
    """The text. Ids begin with a letter for their sort, so that no name is one of Mermaid's own words."""
    sources = {f"t{number}": source for number, source in enumerate(drawing.sources)}
    lines = ["flowchart TD"]
    lines += [f'  {id}(["{_text(_said(source))}"])' for id, source in sources.items()]
    lines += [f"  {line}" for line in _block(drawing.block)]
    lines += [f"  {id} --> {_id(box)}" for id in sources for box in drawing.block.first]
    classes: dict[str, list[str]] = {}
    for box in drawing.boxes():
        if box.outcome is not None:
            classes.setdefault(box.outcome.status, []).append(_id(box))
        elif drawing.ran:
            classes.setdefault("absent", []).append(_id(box))
    for status, ids in classes.items():
        tint = LIGHT[status]
        lines.append(f"  classDef {status} fill:{tint.fill},stroke:{tint.line},color:#000")
        lines.append(f"  class {','.join(ids)} {status}")
    return "\n".join(lines) + "\n"


def _block(block: Block) -> Iterator[str]:
    for box in block.boxes:
        if not box.blocks:
            yield f'{_id(box)}["{_label(box)}"]'
            continue
        yield f'subgraph {_id(box)}["{_label(box)}"]'
        for number, inner in enumerate(box.blocks):
            if inner.label:
                yield f'  subgraph b{number}_{_id(box)}["{_text(inner.label)}"]'
                yield from (f"    {line}" for line in _block(inner))
                yield "  end"
            else:
                yield from (f"  {line}" for line in _block(inner))
        yield "end"
    ids = {box.name: _id(box) for box in block.boxes}
    for arrow in block.arrows:
        label = f'|"{_text(arrow.label)}"|' if arrow.label else ""
        yield f"{ids[arrow.source]} -->{label} {ids[arrow.target]}"


def _id(box: Box) -> str:
    return "s_" + box.path.replace("/", ".")


def _said(source: Source) -> str:
    return f"{source.name}: {source.what}" + (f"\nwhen {source.when}" if source.when else "")


def _label(box: Box) -> str:
    lines = [box.label, box.what if box.label == box.name else f"{box.name}: {box.what}"]
    lines += [f"when {box.when}"] if box.when else []
    if box.outcome is not None:
        said = box.outcome.counts or box.outcome.status.replace("_", " ")
        lines.append(" ".join(filter(None, [MARKS[box.outcome.status], said, box.outcome.effort])))
    return _text("\n".join(lines))


def _text(text: str) -> str:
    return printable(text).translate(ESCAPES).replace("\n", "<br>")
