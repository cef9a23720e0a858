"""`flowrun check`: its forms of output, its exit codes, what it looks at beside the document."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from terminal import flowrun

DOCUMENTS = Path(__file__).parent / "documents"
GOOD = "flow: good\nsteps:\n  a: {compose: 1}\n"
WARNED = "flow: warned\nsteps:\n  a: {terminate: succeeded}\n  b: {compose: 1}\n"
WRONG = 'flow: wrong\ntitel: Größe\nsteps:\n  a: {compose: "{{ steps.b.body }}"}\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in (("good", GOOD), ("warned", WARNED), ("wrong", WRONG)):
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    return tmp_path


def test_exit_codes(folder: Path) -> None:
    """0 where nothing is wrong or there are warnings alone, 2 where something is."""
    codes = {name: flowrun("check", f"{name}.yaml", cwd=folder).code for name in ("good", "warned", "wrong")}
    assert codes == {"good": 0, "warned": 0, "wrong": 2}
    assert flowrun("check", "good.yaml", "wrong.yaml", cwd=folder).code == 2
    assert flowrun("check", "nowhere.yaml", cwd=folder).code == 2


def test_text(folder: Path) -> None:
    said = flowrun("check", "good.yaml", "warned.yaml", "wrong.yaml", cwd=folder)
    assert said.out.startswith("good.yaml: 1 steps, fine\nwarned.yaml:4:3: warning[Unreachable]: ")
    assert "warned.yaml: 2 steps, fine\nwrong.yaml:2:1: error[UnknownKey]: unknown key 'titel'\n" in said.out
    assert said.err == "wrong.yaml: 2 errors\n"


@pytest.mark.parametrize("option", [["--json"], ["--format", "json"]])
def test_json_is_one_object_a_line(folder: Path, option: list[str]) -> None:
    said = flowrun("check", "wrong.yaml", *option, cwd=folder)
    first, second = said.lines
    assert first == {
        "file": "wrong.yaml",
        "line": 2,
        "column": 1,
        "code": "UnknownKey",
        "message": "unknown key 'titel'",
        "severity": "error",
        "found": "'titel'",
        "hint": "did you mean 'title'?",
        "source": "titel: Größe",
    }
    assert (second["code"], second["step"], second["line"], second["column"]) == ("UnknownStep", "a", 4, 26)
    assert said.err == ""


def test_sarif_is_valid_and_complete(folder: Path) -> None:
    """Against the standard's own schema (OASIS, SARIF 2.1.0)."""
    from jsonschema import Draft7Validator, FormatChecker

    (folder / "Größe & co.yaml").write_text(WRONG, encoding="utf-8")
    files = ["good.yaml", "warned.yaml", "wrong.yaml", "Größe & co.yaml", str(folder / "wrong.yaml")]
    said = flowrun("check", *files, "--format", "sarif", cwd=folder)
    assert said.code == 2
    log = json.loads(said.out)
    schema = json.loads((DOCUMENTS / "sarif-2.1.0.json").read_text(encoding="utf-8"))
    Draft7Validator(schema, format_checker=FormatChecker()).validate(log)
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["UnknownKey", "UnknownStep", "Unreachable"]
    assert all(rules[result["ruleIndex"]]["id"] == result["ruleId"] for result in run["results"])
    places = [result["locations"][0]["physicalLocation"] for result in run["results"]]
    assert [place["artifactLocation"]["uri"] for place in places[:4]] == [
        "warned.yaml",
        "wrong.yaml",
        "wrong.yaml",
        "Gr%C3%B6%C3%9Fe%20%26%20co.yaml",
    ]
    assert places[-1]["artifactLocation"]["uri"] == f"file://{folder}/wrong.yaml"
    assert [result["level"] for result in run["results"][:2]] == ["warning", "error"]
    region = places[2]["region"]
    assert (region["startLine"], region["startColumn"]) == (4, 26)
    assert region["snippet"]["text"] == '  a: {compose: "{{ steps.b.body }}"}'
    assert "fix: did you mean 'title'?" in run["results"][1]["message"]["text"]


def test_sarif_of_nothing(folder: Path) -> None:
    said = flowrun("check", "good.yaml", "--format", "sarif", cwd=folder)
    assert said.code == 0 and json.loads(said.out)["runs"][0]["results"] == []


def test_a_sample_has_to_be_there(folder: Path) -> None:
    trigger = "triggers: {hand: {manual: {}, sample: samples/one.json}}\n"
    (folder / "good.yaml").write_text(GOOD.replace("steps:", f"{trigger}steps:"), encoding="utf-8")
    said = flowrun("check", "good.yaml", "--json", cwd=folder)
    assert [line["code"] for line in said.lines] == ["NoFile"] and said.code == 2
    (folder / "samples").mkdir()
    (folder / "samples" / "one.json").write_text("{}", encoding="utf-8")
    assert flowrun("check", "good.yaml", cwd=folder).code == 0
    (folder / "samples" / "one.json").rename(folder / "samples" / "once.json")
    assert flowrun("check", "good.yaml", "--json", cwd=folder).lines[0]["hint"] == "did you mean 'samples/once.json'?"


def test_a_file_that_is_no_utf_8(folder: Path) -> None:
    (folder / "good.yaml").write_bytes("flow: good\ntitle: Größe\n".encode("latin-1"))
    (line,) = flowrun("check", "good.yaml", "--json", cwd=folder).lines
    assert (line["code"], line["line"], line["column"]) == ("Encoding", 2, 10)
