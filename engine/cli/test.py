"""`flowrun test`: the cases of test files, and how much of their flows they cover."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.cli.wiring import NO, WRONG, YES
from engine.errors import ConfigError

if TYPE_CHECKING:
    from engine.connections.secrets import Mask
    from engine.testing.flows import Outcome, Suite
    from engine.testing.flows.coverage import Coverage

LEFT_OUT = frozenset({"node_modules", "__pycache__", "venv"})


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option("-k", "word", default="", metavar="WORD", help="Only cases whose name or file holds this.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--junit", type=click.Path(path_type=Path, dir_okay=False), help="Also writes JUnit XML to this file.")
@click.option("--coverage", is_flag=True, help="Shows which ways through the flows no case has taken.")
@click.option("--fail-under", type=click.FloatRange(0, 100), metavar="PERCENT", help="Least coverage of each flow.")
@click.pass_obj
def test(
    mask: Mask,
    paths: tuple[Path, ...],
    word: str,
    as_json: bool,
    junit: Path | None,
    coverage: bool,
    fail_under: float | None,
) -> int:
    """Runs the tests in PATHS: `*.test.yaml` files, or folders of them (default: this folder).

    A case runs in memory, on emulated services and in virtual time: nothing outside is reached, nobody waits.

    Exit code: 0 all passed, 1 a case failed or too little is covered, 2 a test file is wrong.
    """
    from engine.testing.flows import Suite, run_case
    from engine.testing.flows.coverage import coverage_of
    from engine.testing.flows.report import junit as as_junit

    show = _Objects(mask) if as_json else _Lines(mask)
    wrong: list[Suite] = []
    outcomes: list[Outcome] = []
    for file in dict.fromkeys(file for path in paths or (Path(),) for file in _files(path)):
        suite = Suite.load(file, mask)
        names = [name for name in suite.cases if word.lower() in f"{file}: {name}".lower()]
        if not suite.cases:
            wrong.append(suite)
        if names or not suite.cases:
            show.suite(suite)
        for name in names:
            outcomes.append(run_case(suite, name))
            show.case(outcomes[-1])
    if not outcomes and not wrong:
        raise ConfigError(f"no case matches '{word}'" if word else "no *.test.yaml file there", code="NoTests")
    covered = coverage_of(outcomes) if coverage or fail_under is not None else []
    for one in covered:
        show.coverage(one)
    show.end(outcomes, wrong)
    if junit is not None:
        junit.write_text(mask(as_junit(outcomes, wrong)), encoding="utf-8")
    low = [one.program.flow.flow for one in covered if one.percent < (fail_under or 0)]
    if low:
        click.echo(f"less than {fail_under:g} % covered: {', '.join(low)}", err=True)
    if wrong:
        return WRONG
    return NO if low or not all(outcome.passed for outcome in outcomes) else YES


def _files(path: Path) -> Iterator[Path]:
    """The test files at a path: itself, or those below it, but for hidden folders and what is installed there."""
    from engine.testing.flows import SUFFIX

    if path.is_file():
        yield path
        return
    for inner in sorted(path.iterdir()):
        if inner.is_dir():
            if not inner.name.startswith(".") and inner.name not in LEFT_OUT:
                yield from _files(inner)
        elif inner.name.endswith(SUFFIX):
            yield inner


class _Lines:
    """For people: one line a case, and for one that failed how."""

    def __init__(self, mask: Callable[[str], str]) -> None:
        self.mask = mask

    def line(self, text: str) -> None:
        click.echo(self.mask(text))

    def suite(self, suite: Suite) -> None:
        """A file begins; what is wrong with it."""
        self.line(str(suite.file))
        for finding in suite.findings:
            self.line(str(finding))

    def case(self, outcome: Outcome) -> None:
        """A case has ended."""
        from engine.testing.flows.report import failure

        mark = click.style("✓", fg="green") if outcome.passed else click.style("✗", fg="red")
        self.line(f"  {mark} {outcome.name}")
        for line in [] if outcome.passed else failure(outcome).splitlines():
            self.line(f"      {line}")

    def coverage(self, coverage: Coverage) -> None:
        """What was taken of a flow."""
        from engine.testing.flows.report import coverage_lines

        for line in coverage_lines(coverage):
            self.line(line)

    def end(self, outcomes: list[Outcome], wrong: list[Suite]) -> None:
        """All in one sentence."""
        failed = sum(not outcome.passed for outcome in outcomes)
        parts = [f"{len(outcomes) - failed} passed"] + [f"{failed} failed"] * (failed > 0)
        parts += [f"{len(wrong)} file{'s' * (len(wrong) != 1)} wrong"] * bool(wrong)
        self.line(f"{', '.join(parts)} in {sum(outcome.seconds for outcome in outcomes):.1f} s")


class _Objects(_Lines):
    """For programs: one JSON object a line."""

    def object(self, of: dict[str, Any]) -> None:
        self.line(json.dumps(of, ensure_ascii=False, default=str))

    def suite(self, suite: Suite) -> None:
        for finding in suite.findings:
            self.object({"type": "finding", **finding.json()})

    def case(self, outcome: Outcome) -> None:
        from engine.testing.flows.report import case_json

        self.object(case_json(outcome))

    def coverage(self, coverage: Coverage) -> None:
        from engine.testing.flows.report import coverage_json

        self.object(coverage_json(coverage))

    def end(self, outcomes: list[Outcome], wrong: list[Suite]) -> None:
        passed = sum(outcome.passed for outcome in outcomes)
        self.object({"type": "end", "passed": passed, "failed": len(outcomes) - passed, "wrong": len(wrong)})
