"""docs/findings/: a page for each code, whose wrong example gives exactly what it shows and whose right one nothing."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from connectors.dynamics365.connector import Dynamics365
from connectors.partner_center.connector import PartnerCenter
from engine.errors import ConfigError
from engine.functions import FUNCTIONS
from engine.loader import Catalog, check, load
from engine.loader.findings import Finding
from engine.loader.rules import RULES

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "docs" / "findings"
LOADER = [p for p in sorted((ROOT / "engine" / "loader").glob("*.py")) if p.stem not in ("editor", "snippets", "rules")]


class Entries(Mapping[str, Any]):
    """The connections of the examples: `tasks` is a plugin that can't be loaded."""

    kinds: ClassVar = {"partner_center": PartnerCenter, "dynamics365": Dynamics365}

    def __getitem__(self, name: str) -> Any:
        if name == "tasks":
            raise ConfigError(
                "plugin 'tasks' can't be loaded: no module named 'todo'", hint="install it beside flowrun"
            )
        return self.kinds[name]

    def __iter__(self) -> Iterator[str]:
        return iter((*self.kinds, "tasks"))

    def __len__(self) -> int:
        return len(self.kinds) + 1


def findings_of(code: str, text: str, *, right: bool = False) -> list[Finding]:
    """What the check says of an example. That of Encoding is saved as Latin-1 where it is wrong."""
    flows = {"tell_desk": load("flow: tell_desk\nsteps: {a: {compose: 1}}\n", "tell_desk.yaml")}
    flows["example"] = load(text, "example.yaml")
    catalog = Catalog(FUNCTIONS, Entries(), flows, {"samples/referral.json"})
    saved = text.encode("latin-1" if code == "Encoding" and not right else "utf-8")
    return check(load(saved, "example.yaml"), catalog)[1]


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```\w*\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("code", RULES)
def test_a_page_shows_what_is_so(code: str) -> None:
    page = PAGES / f"{code}.md"
    assert page.read_text(encoding="utf-8").startswith(f"# {code}\n\n{RULES[code]}\n\n")
    wrong, said, right = blocks(page)
    findings = findings_of(code, wrong)
    assert [f.code for f in findings] == [code]
    assert said == f"{findings[0]}\n"
    assert [str(f) for f in findings_of(code, right, right=True)] == []


def test_every_code_has_its_page_and_every_page_its_code() -> None:
    assert {p.stem for p in PAGES.glob("*.md")} - {"README"} == RULES.keys()
    index = (PAGES / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| \[(\w+)\]\((\w+)\.md\) \| (.+?) \|$", index, re.MULTILINE) == [
        (code, code, text) for code, text in RULES.items()
    ]


def test_the_loader_reports_no_other_code() -> None:
    """Every text in its sources that has the form of a code, but for names of Python and of YAML's parser."""
    found = set()
    for path in LOADER:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        texts = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
        found |= {text for text in texts if re.fullmatch(r"[A-Z][a-z]+([A-Z][a-z]+)*", text)}
    unknown = {f"Unknown{what}" for what in ("Connection", "Operation", "Variable", "Flow", "Parameter", "Member")}
    words = {"False", "True", "None", "Catalog", "Document", "Report", "Invalid", "InvalidDocument", "Unknown"}
    assert found - words | unknown == RULES.keys() | unknown
    assert unknown <= RULES.keys()
