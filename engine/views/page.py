"""One self-contained HTML page of a flow or a run: the drawing, and beside it what there is to say of a step.

It loads nothing: style and script are in it, and a policy lets no other script run. Everything out of documents and
records is escaped. Secure parts are not in it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import datetime

from engine.effects import FINAL, SECURED, Record
from engine.types import JSON
from engine.views.colours import page_css
from engine.views.drawing import Box, Drawing
from engine.views.outcome import MARKS, STATUSES, Execution, moment, sentence, span
from engine.views.svg import clean, svg

MOST_ROWS = 200  # executions of a step that are listed: those that need a look come first
MOST_TEXT = 20_000  # characters of a value
SCRIPT = """
"use strict";
const steps = Array.from(document.querySelectorAll(".flow .step"));
const parts = Array.from(document.querySelectorAll("#details > section"));
const show = (path) => {
  for (const part of parts) part.hidden = (part.dataset.of || "") !== path;
  for (const step of steps) step.classList.toggle("shown", step.dataset.path === path);
};
const at = (event) => event.target.closest(".step");
document.addEventListener("focusin", (event) => { if (at(event)) show(at(event).dataset.path); });
document.addEventListener("click", (event) => { if (at(event)) at(event).focus(); });
document.addEventListener("keydown", (event) => {
  const step = at(event), details = document.getElementById("details");
  const back = steps.find((one) => one.classList.contains("shown"));
  if (event.key === "Escape") {
    if (step) step.blur(); else if (back && details.contains(event.target)) { back.focus(); return; }
    show("");
  } else if (step) {
    const here = steps.indexOf(step), last = steps.length - 1;
    const next = {ArrowDown: Math.min(here + 1, last), ArrowUp: Math.max(here - 1, 0), Home: 0, End: last}[event.key];
    if (next !== undefined) steps[next].focus();
    else if (event.key === "Enter" || event.key === " ") details.focus();
    else return;
    event.preventDefault();
  }
});
""".strip()


def page(drawing: Drawing, facts: Mapping[str, JSON], places: Mapping[str, str]) -> str:
    """The page. `facts` is what its overview says (of the run), `places` tells by path where a step is written."""
    name = drawing.title or drawing.name
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'"
    sections = [f"<section><h2>{clean(drawing.name)}</h2>{_facts(facts)}<p class=hint>{HINT}</p></section>"]
    sections += [_section(box, places.get(box.path, "")) for box in drawing.boxes()]
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width">\n<meta name="color-scheme" content="light dark">',
            f"<title>{clean(name)}</title>\n<style>{page_css()}</style>\n</head>\n<body>",
            f"<header><h1>{clean(name)}</h1></header>\n<main>\n{svg(drawing, interactive=True)}</main>",
            '<aside id="details" tabindex="-1" aria-label="Details">',
            *sections,
            f"</aside>\n<script>{SCRIPT}</script>\n</body>\n</html>\n",
        ]
    )


HINT = "Choose a step: click it, or go there with Tab and the arrow keys. Enter leads to its details, Escape back."


def _section(box: Box, place: str) -> str:
    facts: dict[str, JSON] = {"step": box.name, "does": box.what, "when": box.when, "note": box.note, "written": place}
    more = ""
    if box.outcome is not None:
        status = f"{MARKS[box.outcome.status]} {box.outcome.status.replace('_', ' ')}"
        facts |= {"status": status, "so far" if box.outcome.status not in FINAL else "outcome": box.outcome.words}
        if box.outcome.many:
            more = "".join(_executions(box.outcome.executions))
        else:
            more = "".join(_execution(box.outcome.executions[0]))
    return f'<section data-of="{clean(box.path)}" hidden><h2>{clean(box.label)}</h2>{_facts(facts)}{more}</section>'


def _facts(facts: Mapping[str, JSON]) -> str:
    rows = [
        f"<dt>{clean(name)}</dt><dd>{_value(value) if isinstance(value, dict | list) else clean(str(value))}</dd>"
        for name, value in facts.items()
        if value not in (None, "", {}, [])
    ]
    return f"<dl>{''.join(rows)}</dl>"


def _value(value: JSON) -> str:
    text = json.dumps(value, ensure_ascii=False, indent=2)
    cut = f"\n… {len(text) - MOST_TEXT} more characters" if len(text) > MOST_TEXT else ""
    return f"<pre>{clean(text[:MOST_TEXT] + cut)}</pre>"


def _executions(executions: tuple[Execution, ...]) -> Iterator[str]:
    """Those of a step in a loop."""
    first = sorted(executions, key=lambda e: STATUSES.index(e.status))[:MOST_ROWS]
    yield "<h3>Passes</h3><table><tr><th>step</th><th>status</th><th>took</th><th></th></tr>"
    for e in first:
        took = span(e.took) if e.took is not None else ""
        yield f"<tr><td>{clean(e.path)}</td><td>{_status(e.status)}</td><td>{took}</td><td>{clean(e.words)}</td></tr>"
    yield "</table>"
    if left := len(executions) - len(first):
        yield f"<p>… and {left} more</p>"


def _execution(execution: Execution) -> Iterator[str]:
    """The one of any other step: every try, and what went in and came out in the last one."""
    tries = [r for r in execution.records if r.status != "decided"]
    if tries:
        yield "<h3>Tries</h3><table><tr><th>try</th><th>status</th><th>until</th><th>took</th><th></th></tr>"
        for number, record in enumerate(tries, 1):
            cells = [str(number), _status(record.status), _time(record.ended), _took(record), clean(sentence(record))]
            yield f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
        yield "</table>"
    for record in execution.records[-1:]:
        if record.error is not None:
            yield f"<h3>Error</h3>{_facts(record.error)}"
        for title, part, value in (("Inputs", "inputs", record.inputs), ("Result", "outputs", record.output)):
            if value is not None:
                shown = SECURED if part in record.secure else value
                yield f"<details><summary>{title}</summary>{_value(shown)}</details>"


def _status(status: str) -> str:
    known = {"started": "running", "uncertain": "waiting"}.get(status, status)
    return f'<span class="status {known}">{MARKS.get(known, "")} {clean(status.replace("_", " "))}</span>'


def _time(time: datetime | None) -> str:
    return f'<time datetime="{time.isoformat()}">{moment(time)}</time>' if time else ""


def _took(record: Record) -> str:
    if record.started is None or record.ended is None or record.status == "skipped":
        return ""
    return span((record.ended - record.started).total_seconds())
