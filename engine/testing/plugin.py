"""Lets pytest collect tests of flows: each case of a `*.test.yaml` file is an item.

pytest loads this by its entry point; only where there is such a file is anything more imported. A file of another
program that happens to be named like that (docker-compose.test.yaml) has no `flow:` and is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from engine.testing.flows import Suite

OURS = re.compile(r"^[\"']?flow[\"']?\s*:", re.MULTILINE)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """pytest's hook: a test file, if it is one of ours."""
    if not file_path.name.endswith(".test.yaml") or not OURS.search(file_path.read_text("utf-8", "replace")):
        return None
    collected: FlowTestFile = FlowTestFile.from_parent(parent, path=file_path)
    return collected


class FlowTestFile(pytest.File):
    """A test file; what is wrong with it is an error of the collection."""

    def collect(self) -> Iterator[pytest.Item]:
        from engine.connections.secrets import Mask
        from engine.errors import FlowrunError
        from engine.testing.flows import Suite

        mask = Mask()
        try:
            suite = Suite.load(self.path, mask)
        except FlowrunError as error:
            raise self.CollectError(mask(error.message)) from error
        if not suite.cases:
            raise self.CollectError(mask("\n".join(map(str, suite.findings))))
        for name in suite.cases:
            yield FlowCase.from_parent(self, name=name, suite=suite)


class FlowCase(pytest.Item):
    """One case."""

    def __init__(self, *, suite: Suite, **more: Any) -> None:
        super().__init__(**more)
        self.suite = suite

    def runtest(self) -> None:
        from engine.testing.flows import run_case
        from engine.testing.flows.report import failure

        outcome = run_case(self.suite, self.name)
        if not outcome.passed:
            assert self.suite.project is not None
            raise CaseFailed(self.suite.project.mask(failure(outcome)))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Our own words for a case that failed; a traceback for anything else."""
        return str(excinfo.value) if isinstance(excinfo.value, CaseFailed) else super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        line = self.suite.document.place(("cases", self.name), key=True).line
        return self.path, line - 1, self.name


class CaseFailed(Exception):  # noqa: N818 - not an error of the program: the case has failed
    """What came differs from what was expected."""
