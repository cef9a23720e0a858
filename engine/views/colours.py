"""The colours of statuses and of everything else that is drawn, for light and for dark pages, as CSS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Tint:
    """Fill and line of what has a status; its text has the page's ink. All pairs have a contrast of 4.5 or more."""

    fill: str
    line: str


GREEN, RED, AMBER, YELLOW, BLUE = "#d7f0dd", "#fbdad7", "#fbe7cc", "#fdf3c4", "#d9e8fb"
LIGHT: Mapping[str, Tint] = {
    "succeeded": Tint(GREEN, "#2c7a43"),
    "failed": Tint(RED, "#b3261e"),
    "timed_out": Tint(RED, "#b3261e"),
    "cancelled": Tint(AMBER, "#9a5b00"),
    "waiting": Tint(AMBER, "#9a5b00"),
    "interrupted": Tint(AMBER, "#9a5b00"),
    "retrying": Tint(YELLOW, "#806600"),
    "running": Tint(BLUE, "#1c5fa8"),
    "skipped": Tint("#ededed", "#777777"),
    "absent": Tint("#f8f8f8", "#bbbbbb"),
}
DARK: Mapping[str, Tint] = {
    "succeeded": Tint("#17341f", "#5fbf7c"),
    "failed": Tint("#46191a", "#ff8a80"),
    "timed_out": Tint("#46191a", "#ff8a80"),
    "cancelled": Tint("#40300f", "#e0a94a"),
    "waiting": Tint("#40300f", "#e0a94a"),
    "interrupted": Tint("#40300f", "#e0a94a"),
    "retrying": Tint("#38330f", "#d6c04a"),
    "running": Tint("#142c49", "#78b0f0"),
    "skipped": Tint("#2b2e33", "#8b9098"),
    "absent": Tint("#1d2024", "#4b5058"),
}


@dataclass(frozen=True)
class Paper:
    """Page, boxes, containers, lines, text, text of less weight, and what has the focus."""

    page: str
    box: str
    container: str
    line: str
    ink: str
    dim: str
    focus: str


DAY = Paper("#ffffff", "#f3f5f8", "#fbfcfd", "#8a93a0", "#1b1f24", "#515a66", "#1c5fa8")
NIGHT = Paper("#15181c", "#24282e", "#1b1f24", "#79828f", "#e8eaed", "#a9b1bc", "#9cc7ff")


def drawing_css() -> str:
    """The rules of a drawing: light, and dark for who prefers that."""
    return f"{_rules(DAY, LIGHT)}@media (prefers-color-scheme: dark) {{\n{_rules(NIGHT, DARK)}}}\n"


def _rules(paper: Paper, tints: Mapping[str, Tint]) -> str:
    rules = [
        f".flow .paper{{fill:{paper.page}}}",
        f".flow .box{{fill:{paper.box};stroke:{paper.line}}}",
        f".flow .list{{fill:none;stroke:{paper.line};stroke-dasharray:4 3}}",
        f".flow .arrow{{fill:none;stroke:{paper.line};stroke-width:1.4}}",
        f".flow .head{{fill:{paper.line}}}",
        f".flow text{{fill:{paper.ink}}}",
        f".flow .dim{{fill:{paper.dim}}}",
    ]
    rules += [f".flow .{status}>.box{{fill:{tint.fill};stroke:{tint.line}}}" for status, tint in tints.items()]
    rules += [
        f".flow .holds>.box{{fill:{paper.container};stroke-width:2}}",
        f".flow .step:focus>.box,.flow .step.shown>.box{{stroke:{paper.focus};stroke-width:3}}",
    ]
    return "".join(f"{rule}\n" for rule in rules)


PAGE = """
:root { color-scheme: light dark }
* { box-sizing: border-box }
body { margin: 0; font: 15px/1.45 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif;
  display: grid; grid-template: auto 1fr / minmax(0, 1fr) minmax(22rem, 34rem); height: 100vh }
header { grid-column: 1 / -1; padding: 0 1rem; border-bottom: 1px solid }
h1 { font-size: 1.25rem; margin: .6rem 0 } h2 { font-size: 1.1rem; margin: .2rem 0 .6rem } h3 { margin: 1rem 0 .3rem }
h2, dd, td { overflow-wrap: anywhere } td:first-child { overflow-wrap: normal }
main { overflow: auto; padding: .5rem } main svg { display: block; margin: 0 auto; max-width: none }
aside { overflow: auto; padding: 1rem; border-left: 1px solid }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .2rem 1rem; margin: 0 } dd { margin: 0 }
table { border-collapse: collapse; width: 100%; font-size: .9em }
td, th { text-align: left; vertical-align: top; padding: .2rem .5rem .2rem 0 }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .85rem; margin: .3rem 0; padding: .5rem }
summary { cursor: pointer; margin-top: .5rem } .status { padding: 0 .35rem; border-radius: .3rem; white-space: nowrap }
.flow .step { cursor: pointer; outline: none }
@media (max-width: 60rem) { body { display: block; height: auto }
  aside { position: sticky; bottom: 0; max-height: 50vh; border: 0; border-top: 1px solid } }
"""


def page_css() -> str:
    """The rules of a page around a drawing."""
    return f"{PAGE}{_page_rules(DAY, LIGHT)}@media (prefers-color-scheme: dark) {{\n{_page_rules(NIGHT, DARK)}}}\n"


def _page_rules(paper: Paper, tints: Mapping[str, Tint]) -> str:
    rules = [
        f"body,aside{{background:{paper.page};color:{paper.ink}}}",
        f"header,aside{{border-color:{paper.line}}}",
        f"dt,th,.hint{{color:{paper.dim}}}",
        f"pre{{background:{paper.box}}}",
        f"aside:focus,summary:focus{{outline:2px solid {paper.focus}}}",
    ]
    rules += [f".status.{status}{{background:{tint.fill}}}" for status, tint in tints.items()]
    return "".join(f"{rule}\n" for rule in rules)
