"""Findings as SARIF 2.1.0, the form in which code hosts and editors take the results of checks (OASIS standard)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from engine.loader.findings import Finding
from engine.loader.rules import RULES

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def sarif(findings: Iterable[Finding], version: str) -> dict[str, Any]:
    """One run of the check, with the rule of each code that occurs. Columns count characters."""
    found = list(findings)
    codes = sorted({finding.code for finding in found})
    driver = {"name": "flowrun", "semanticVersion": version, "rules": [_rule(code) for code in codes]}
    results = [_result(finding, codes.index(finding.code)) for finding in found]
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(code: str) -> dict[str, Any]:
    text = RULES.get(code, code)
    page = f"docs/findings/{code}.md"
    help_ = {"text": f"{text} See {page}.", "markdown": f"{text} See [{page}]({page})."}
    return {"id": code, "shortDescription": {"text": text}, "help": help_}


def _result(finding: Finding, rule: int) -> dict[str, Any]:
    words = [finding.message]
    words += [f"{label}: {text}" for label, text in finding.details()]
    region: dict[str, Any] = {"startLine": finding.place.line, "startColumn": finding.place.column}
    if finding.source:
        region |= {"snippet": {"text": finding.source}}
    place: dict[str, Any] = {
        "physicalLocation": {"artifactLocation": {"uri": _uri(finding.place.file)}, "region": region}
    }
    if finding.step:
        place["logicalLocations"] = [{"name": finding.step, "kind": "member"}]
    return {
        "ruleId": finding.code,
        "ruleIndex": rule,
        "level": finding.severity,
        "message": {"text": "\n".join(words)},
        "locations": [place],
    }


def _uri(file: str) -> str:
    """A relative or absolute file name as a URI reference."""
    safe = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/"
    path = file.replace("\\", "/")
    text = "".join(c if c in safe else "".join(f"%{byte:02X}" for byte in c.encode()) for c in path)
    return f"file://{text}" if text.startswith("/") else text
