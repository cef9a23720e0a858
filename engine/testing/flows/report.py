"""How outcomes are told: lines for people, JSON objects for programs, JUnit XML for build servers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from engine.effects import Record
from engine.testing.flows.matching import ABSENT, Mismatch

if TYPE_CHECKING:
    from engine.testing.flows.cases import Outcome
    from engine.testing.flows.coverage import Coverage
    from engine.testing.flows.suite import Suite

INDENT = "      "


def mismatch_lines(outcome: Outcome, mismatch: Mismatch) -> Iterator[str]:
    """A difference: where the expectation stands, what was expected, what was found."""
    place = outcome.place_of(mismatch)
    yield f"{place}: {mismatch.where}" if mismatch.where else str(place)
    yield from (f"  {line}" for line in mismatch.lines())


def failure(outcome: Outcome) -> str:
    """All differences of a case that failed, and what the run did."""
    lines = [line for mismatch in outcome.mismatches for line in mismatch_lines(outcome, mismatch)]
    if outcome.played:
        lines.append("the run:")
        lines += [f"  {_sentence(record)}" for record in outcome.played[-1].ended]
    return "\n".join(lines)


def _sentence(record: Record) -> str:
    from engine.cli.progress import MARKS, describe

    return f"{MARKS[record.status]} {record.path}  {describe(record)}".rstrip()


def case_json(outcome: Outcome) -> dict[str, Any]:
    """A case as `--json` prints it."""
    return {
        "type": "case",
        "file": str(outcome.suite.file),
        "line": outcome.place.line,
        "case": outcome.name,
        "status": "passed" if outcome.passed else "failed",
        "milliseconds": round(outcome.seconds * 1000, 1),
        "differences": [
            {
                "line": (place := outcome.place_of(one)).line,
                "column": place.column,
                "path": one.where,
                "expected": one.expected,
                "found": None if one.found is ABSENT else one.found,
                **({"note": one.note} if one.note else {}),
            }
            for one in outcome.mismatches
        ],
    }


def coverage_lines(coverage: Coverage) -> Iterator[str]:
    """How much of a flow was taken, and what was not."""
    taken = len(coverage.taken) - len(coverage.missed)
    yield f"{coverage.document.file}: {percent(coverage.percent)} % covered, {taken} of {len(coverage.taken)}"
    for way in coverage.missed:
        yield f"  {coverage.place(way)}: {way}: never"


def coverage_json(coverage: Coverage) -> dict[str, Any]:
    """A flow's coverage as `--json` prints it."""
    missed = [
        {"line": (place := coverage.place(way)).line, "column": place.column, "step": way.step, "way": way.what}
        for way in coverage.missed
    ]
    return {
        "type": "coverage",
        "file": coverage.document.file,
        "flow": coverage.program.flow.flow,
        "percent": round(coverage.percent, 2),
        "taken": len(coverage.taken) - len(missed),
        "ways": len(coverage.taken),
        "missed": missed,
    }


def percent(value: float) -> str:
    """Without decimals, and 100 only where nothing is missing."""
    return f"{int(value)}"


def junit(outcomes: Iterable[Outcome], wrong: Iterable[Suite]) -> str:
    """The outcomes as JUnit XML; a file that could not be read is an error."""
    from xml.etree.ElementTree import Element, SubElement, indent, tostring

    root = Element("testsuites", name="flowrun")
    suites: dict[str, Element] = {}

    def case(suite: Suite, name: str, seconds: float) -> Element:
        file = str(suite.file)
        if file not in suites:
            suites[file] = SubElement(root, "testsuite", name=file, tests="0", failures="0", errors="0", time="0")
        element = suites[file]
        element.set("tests", str(int(element.attrib["tests"]) + 1))
        element.set("time", f"{float(element.attrib['time']) + seconds:.3f}")
        return SubElement(element, "testcase", classname=file, name=name, time=f"{seconds:.3f}")

    def bad(suite: Suite, element: Element, kind: str, message: str, text: str) -> None:
        SubElement(element, kind, message=_xml(message)).text = _xml(text)
        of = suites[str(suite.file)]
        of.set(f"{kind}s", str(int(of.attrib[f"{kind}s"]) + 1))

    for outcome in outcomes:
        element = case(outcome.suite, outcome.name, outcome.seconds)
        if not outcome.passed:
            bad(outcome.suite, element, "failure", outcome.mismatches[0].where or "set-up", failure(outcome))
    for suite in wrong:
        bad(suite, case(suite, "the file", 0.0), "error", suite.findings[0].message,
            "\n".join(map(str, suite.findings)))  # fmt: skip
    indent(root)
    return tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _xml(text: str) -> str:
    """Text without the characters that XML 1.0 can't carry."""
    return "".join(c if c >= " " or c in "\n\t" else "?" for c in text)
