"""Findings: what is wrong with a document or a connection, with the place, what to expect there and the likely fix."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from engine.errors import ConfigError


@dataclass(frozen=True, order=True)
class Place:
    """A place in a document; line and column count from 1."""

    file: str = ""
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth a look, in a document or a connection."""

    place: Place
    code: str
    message: str
    severity: Literal["error", "warning"] = "error"
    expected: str = ""
    found: str = ""
    hint: str = ""
    step: str = ""
    source: str = ""  # the line of the document that it points at

    def json(self) -> dict[str, Any]:
        """As `flowrun check --json` prints it."""
        fields = {k: v for k, v in asdict(self).items() if v and k != "place"}
        return {"file": self.place.file, "line": self.place.line, "column": self.place.column, **fields}

    def details(self) -> list[tuple[str, str]]:
        """What was expected and found, and the fix, as far as they are known."""
        said = (("expected", self.expected), ("found", self.found), ("fix", self.hint))
        return [(label, text) for label, text in said if text]

    def __str__(self) -> str:
        lines = [f"{self.place}: {self.severity}[{self.code}]: {self.message}"]
        if self.source:
            margin = f"{self.place.line:>5} | "
            lines += [margin + self.source, " " * (len(margin) + self.place.column - 1) + "^"]
        lines += [f"      {label}: {text}" for label, text in self.details()]
        return "\n".join(lines)


class DocumentError(ConfigError):
    """A document or configuration file with findings; none of it has run."""

    def __init__(self, findings: list[Finding]) -> None:
        errors = sum(f.severity == "error" for f in findings)
        super().__init__(f"{errors} error{'s' * (errors != 1)} found", code="InvalidDocument")
        self.findings = findings
