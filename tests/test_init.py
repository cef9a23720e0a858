"""`flowrun init`: what it writes runs, is tested and checked, and nothing that was there is lost."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from terminal import FLOWS, flowrun

from engine.loader import load

ROOT = FLOWS.parent
FLOW = "flows/referral_to_crm.yaml"
CRMS = ("dynamics365", "sqlite")


def files(folder: Path) -> dict[str, str]:
    """Path → text, but for what runs leave behind."""
    found = [p for p in sorted(folder.rglob("*")) if p.is_file() and ".flowrun" not in p.parts]
    return {str(p.relative_to(folder)): p.read_text("utf-8") for p in found}


@pytest.mark.parametrize("crm", CRMS)
def test_the_new_project_runs_is_tested_and_checked(tmp_path: Path, crm: str) -> None:
    said = flowrun("init", "mine", "--crm", crm, cwd=tmp_path)
    assert said.code == 0, said.all
    folder = tmp_path / "mine"
    assert f"crm: {crm}\n" in (folder / FLOW).read_text("utf-8")
    assert not [name for name, text in files(folder).items() if "<<" in text]
    checked = flowrun("check", FLOW, cwd=folder)
    assert (checked.code, checked.out) == (0, f"{FLOW}: 4 steps, fine\n")
    tested = flowrun("test", "--json", "--fail-under", "100", cwd=folder)
    assert tested.code == 0, tested.all
    assert sum(line["type"] == "case" for line in tested.lines) >= 4
    first = flowrun(FLOW, "--json", cwd=folder)
    assert first.code == 0, first.all
    assert first.steps["upsert_lead"]["changed"]
    second = flowrun(FLOW, "--json", cwd=folder)
    assert not any(step["changed"] for step in second.steps.values())


def test_it_says_what_it_wrote_and_what_comes_next(tmp_path: Path) -> None:
    said = flowrun("init", "mine", cwd=tmp_path)
    made, _, coming = said.out.partition("next:\n")
    assert made.splitlines()[0] == "made in mine:"
    assert sorted(line.strip() for line in made.splitlines()[1:]) == sorted(files(tmp_path / "mine"))
    commands = [line.strip() for line in coming.splitlines()]
    assert commands[0] == "cd mine"
    for command in commands[1:]:
        words = command.split()
        assert words[0] == "flowrun"
        assert flowrun(*words[1:], cwd=tmp_path / "mine").code == 0
    here = tmp_path / "here"
    here.mkdir()
    assert "cd " not in flowrun("init", cwd=here).out
    assert files(here).keys() == files(tmp_path / "mine").keys()


def test_production_needs_every_setting_from_the_environment(tmp_path: Path) -> None:
    flowrun("init", cwd=tmp_path)
    said = flowrun("connections", "check", "--env", "production", cwd=tmp_path)
    assert said.code != 0
    data: Any = load((tmp_path / "flows/connections.yaml").read_text("utf-8"), "c").data
    production = data["environments"]["production"]
    assert production["production"] is True
    settings = production["connections"]
    assert settings.keys() == {"partner_center", "dynamics365"}
    for entry, given in settings.items():
        names = {key: f"{entry}_{key}".upper() for key in given}
        assert given == {key: f"${{env:{name}}}" for key, name in names.items()}
    assert {"url", "tenant", "client_id", "client_secret"} == settings["dynamics365"].keys()


def test_what_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "flows").mkdir()
    (tmp_path / "README.md").write_text("my own", "utf-8")
    (tmp_path / FLOW).write_text("my flow", "utf-8")
    before = files(tmp_path)
    said = flowrun("init", cwd=tmp_path)
    assert said.code == 2
    assert f"README.md, {FLOW}; nothing was written" in said.err
    assert files(tmp_path) == before
    said = flowrun("init", "--force", cwd=tmp_path)
    assert said.code == 0
    assert f"{FLOW} (written over)" in said.out
    assert "flows/connections.yaml\n" in said.out
    assert files(tmp_path)["README.md"] != "my own"
    assert flowrun("test", cwd=tmp_path).code == 0


def test_another_crm(tmp_path: Path) -> None:
    said = flowrun("init", "--crm", "sqllite", cwd=tmp_path)
    assert (said.code, "did you mean 'sqlite'?" in said.err) == (2, True)
    said = flowrun("init", "--crm", "http", cwd=tmp_path)
    assert said.code == 2
    assert "'http' is no CRM" in said.err
    assert "dynamics365" in said.err
    assert not files(tmp_path)


def test_a_place_that_can_t_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "flows").write_text("a file", "utf-8")
    said = flowrun("init", cwd=tmp_path)
    assert (said.code, "can't write" in said.err) == (2, True)


def test_an_environment_of_elsewhere_is_not_asked_for(tmp_path: Path) -> None:
    assert flowrun("init", cwd=tmp_path, env={"FLOWRUN_ENV": "staging"}).code == 0


# The editor


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    assert flowrun("init", cwd=folder).code == 0
    return folder


@pytest.mark.parametrize(
    ("schema", "file"),
    [("flow", FLOW), ("connections", "flows/connections.yaml"), ("tests", "flows/referral_to_crm.test.yaml")],
)
def test_the_editor_s_schemas_take_the_new_files(project: Path, schema: str, file: str) -> None:
    validator = Draft202012Validator(json.loads((project / f".vscode/{schema}.schema.json").read_text("utf-8")))
    data: Any = load((project / file).read_text("utf-8"), file).data
    assert not list(validator.iter_errors(data))
    assert list(validator.iter_errors({**data, "flwo": 1}))


def test_the_settings_name_the_schemas(project: Path) -> None:
    settings = json.loads((project / ".vscode/settings.json").read_text("utf-8"))["yaml.schemas"]
    assert {f"./.vscode/{n}.schema.json" for n in ("flow", "connections", "tests")} == settings.keys()
    for path in settings:
        assert (project / path).is_file()
    assert "!flows/**/*.test.yaml" in settings["./.vscode/flow.schema.json"]


def test_readme_renews_the_schemas(project: Path) -> None:
    """Its commands print what init has written."""
    readme = (project / "README.md").read_text("utf-8")
    commands = [line.strip() for line in readme.splitlines() if line.startswith("    flowrun schema")]
    assert len(commands) == 3
    for command in commands:
        words, _, target = command.partition(" > ")
        assert flowrun(*words.split()[1:], cwd=project).out == (project / target).read_text("utf-8")


# The package


def test_the_templates_are_in_the_package() -> None:
    """The wheel has every file under `engine` that git doesn't ignore."""
    import tomllib

    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel == {"packages": ["engine", "connectors"]}
    templates = [str(p) for p in (ROOT / "engine/cli/starter").rglob("*") if p.is_file()]
    assert len(templates) >= 8
    done = subprocess.run(["git", "check-ignore", "--no-index", *templates], cwd=ROOT, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, b"")  # none of them is ignored
