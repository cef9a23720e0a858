"""Reads a page as its reader would: saves what it shows, runs it, and compares.

Each page has a folder of its own with a copy of flows/. Blocks are taken in the order of the page:

- A block whose first line is a comment with a path (`# flows/mine.yaml`) is saved there.
- ```yaml: a whole flow passes `flowrun check`, a connections.yaml is loaded and its settings are read, a test file
  passes `flowrun test` (unless it is called wrong). Anything else is a part of a flow: of flows/examples.yaml where the
  page shows that, else of the flow that ships. Keys of a document replace its own; steps are put behind its own, and
  the whole is run. A comment `# → JSON` says what the step that it stands in gives. `<!-- only checked … -->` above it:
  it isn't run. `<!-- wrong on purpose -->`: the check has to find something.
- ```console: each line with `$ ` is run and has to end with exit code 0, or with the one in `# exit code N`. What
  stands below it is compared with what it says; `…` stands for anything, a line of its own for any lines. Times and ids
  don't count. `&` leaves a server running until the end of the page.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from terminal import Said, flowrun

BIN = Path(sys.executable).parent

# Commands that no page's folder can run: they set up and test the repository itself.
NOT_RUN = {"make demo", "make test"}


@dataclass(frozen=True)
class Block:
    """A fenced block; `line` is the first one inside, `note` the comment right above the fence."""

    line: int
    language: str
    text: str
    note: str

    @property
    def file(self) -> str | None:
        """Where a reader would save it."""
        found = re.match(r"# ([\w./-]+\.(?:yaml|py|toml|json))\n", self.text)
        return found[1] if found else None


def blocks(page: Path) -> list[Block]:
    out, lines = [], page.read_text(encoding="utf-8").splitlines()
    start = None
    for number, line in enumerate(lines):
        if not line.startswith("```"):
            continue
        if start is None:
            start = number
            continue
        above = re.fullmatch(r"<!-- (.*) -->", lines[start - 1]) if start else None
        text = "\n".join(lines[start + 1 : number]) + "\n"
        out.append(Block(start + 2, lines[start].removeprefix("```"), text, above[1] if above else ""))
        start = None
    assert start is None, f"{page.name}: a block isn't closed"
    return out


@dataclass
class Reader:
    """Somebody who does what a page says, in a folder of their own."""

    folder: Path
    ports: dict[str, str] = field(default_factory=dict)  # a port of the page → one that is free here
    servers: list[subprocess.Popen[str]] = field(default_factory=list)

    def follow(self, block: Block) -> None:
        text = self.here(block.text)
        if block.file is not None:
            file = self.folder / block.file
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        match block.language:
            case "yaml":
                self.yaml(block, text)
            case "console":
                for command, code, said in commands_of(text):
                    if command.removeprefix("$ ") not in NOT_RUN:
                        self.run(command, code, said)
            case "python" | "toml":
                assert block.file is not None, "code that nobody runs: say where it is saved"

    def here(self, text: str) -> str:
        """The text with the ports of servers that run here."""
        for port in re.findall(r"(?:127\.0\.0\.1:|--port |, )(89\d\d)\b", text):
            if port not in self.ports:
                with socket.socket() as free:
                    free.bind(("127.0.0.1", 0))
                    self.ports[port] = str(free.getsockname()[1])
        for port, mine in self.ports.items():
            text = text.replace(port, mine)
        return text

    # YAML

    def yaml(self, block: Block, text: str) -> None:
        from engine.loader import load

        document = load(text, "page")
        if "wrong on purpose" in block.note:
            assert self.flowrun("check", str(block.file)).code == 2
            return
        assert not document.findings, document.findings
        data: Any = document.data
        if "environments" in data:
            self.connections(text)
        elif "cases" in data:
            said = self.flowrun("test", str(block.file))
            assert said.code == (1 if "wrong" in str(block.file) else 0), said.all
        elif "flow" in data:
            name = block.file or "flows/whole.yaml"
            (self.folder / name).write_text(text, encoding="utf-8")
            self.checked(name)
        else:
            base = self.folder / "flows/examples.yaml"
            base = base if base.exists() else self.folder / "flows/referral_to_dynamics.yaml"
            whole = load(base.read_text(encoding="utf-8"), base.name).data
            of_document = data.keys() <= {"connections", "triggers", "parameters", "variables", "outputs"}
            whole = {**whole, **data} if of_document else {**whole, "steps": whole["steps"] | data}
            part = self.folder / "flows/part.yaml"
            part.write_text(json.dumps(whole), encoding="utf-8")
            self.checked("flows/part.yaml")
            if "only checked" not in block.note:
                self.gives(text)

    def checked(self, file: str) -> None:
        said = self.flowrun("check", file)
        assert said.code == 0, said.all
        assert said.out.count("\n") == 1, said.all  # no warning either

    def gives(self, text: str) -> None:
        """Runs the part; every `# → JSON` has to be the body of the step that it stands in."""
        said = self.flowrun("flows/part.yaml", "--json")
        assert said.code == 0, said.all
        bodies = {line["name"]: line["output"] for line in self.flowrun("runs", "show", "last", "--json").lines[1:]}
        step = ""
        for line in text.splitlines():
            if begins := re.match(r"(\w+):", line):
                step = begins[1]
            if promised := re.search(r"# → (.*)$", line):
                assert bodies[step] == json.loads(promised[1]), f"{step}: {bodies[step]!r}"

    def connections(self, text: str) -> None:
        """Every environment is fit, and every connection's settings are those of its connector."""
        from engine.connections.config import Project, TransportEntry
        from engine.connections.secrets import REFERENCE, Mask
        from engine.types import convert, fields

        file = self.folder / "flows/shown.yaml"
        file.write_text(text, encoding="utf-8")
        project = Project(file, file.parent, {}, Mask())
        samples = {"URL": "https://contoso.crm.dynamics.com"}
        guid = "00000000-0000-4000-8000-000000000000"

        def filled(value: Any) -> Any:
            if isinstance(value, dict):
                return {k: filled(v) for k, v in value.items()}
            if not isinstance(value, str):
                return value
            return REFERENCE.sub(lambda found: samples.get(found[2].rpartition("_")[2], guid), value)

        for name in project.document.data["environments"]:
            environment = project.environment(name)
            if environment.emulate is not None:
                project.sandbox(environment)
            for entry, given in environment.connections.items():
                kind = project.connector(project.connector_name(environment, entry))
                left = {"connector"} | (fields(TransportEntry).keys() - fields(kind.Settings).keys())
                settings = {k: filled(v) for k, v in given.items() if k not in left}
                if environment.emulate is None:
                    convert(kind.Settings, settings, entry)

    # Commands

    def run(self, command: str, code: int, expected: str) -> None:
        said = self.typed(command)
        assert said.code == code, f"$ {command}\nexit code {said.code}\n{said.all}"
        if expected:
            forms = (said.out, said.err, said.err + said.out, said.out + said.err)
            fits = pattern(expected)
            assert any(fits.fullmatch(plain(form)) for form in forms), f"$ {command}\n{said.err}{said.out}"

    def typed(self, command: str) -> Said:
        """One line of a shell, as far as pages use it: VARIABLE=value, a pipe into flowrun, > FILE, & at the end."""
        command, background = command.removesuffix(" &"), command.endswith(" &")
        left, piped, right = command.rpartition(" | ")
        if piped and right.startswith("flowrun"):
            fed = subprocess.run(["bash", "-c", left], cwd=self.folder, capture_output=True, check=True).stdout
            return self.flowrun(*shlex.split(right)[1:], stdin=fed)
        words = shlex.split(command)
        env = {}
        while re.match(r"[A-Z_]+=", words[0]):
            name, _, env[name] = words.pop(0).partition("=")
        if background:
            self.serve(words)
            return Said(0, "", "")
        if words[0] != "flowrun":
            return self.shell(words, env)
        target = words[-1] if words[-2:-1] == [">"] else None
        said = self.flowrun(*(words[1:-2] if target else words[1:]), env=env)
        if target:
            (self.folder / target).write_text(said.out, encoding="utf-8")
            return Said(said.code, "", said.err)
        return said

    def flowrun(self, *args: str, env: dict[str, str] | None = None, stdin: bytes = b"") -> Said:
        return flowrun(*args, cwd=self.folder, env=env, stdin=stdin)

    def shell(self, words: list[str], env: dict[str, str]) -> Said:
        done = subprocess.run(
            words, cwd=self.folder, env=self.variables(env), capture_output=True, text=True, check=False
        )
        return Said(done.returncode, done.stdout, done.stderr)

    def serve(self, words: list[str]) -> None:
        """Starts a server and waits for its first line."""
        server = subprocess.Popen(
            words, cwd=self.folder, env=self.variables({}), stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.servers.append(server)
        assert server.stdout is not None
        assert server.stdout.readline()

    def variables(self, more: dict[str, str]) -> dict[str, str]:
        return {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "HOME": str(self.folder), **more}

    def leave(self) -> None:
        for server in self.servers:
            server.kill()
            server.communicate()


def commands_of(text: str) -> Iterator[tuple[str, int, str]]:
    """Command, wanted exit code and what it says, for each `$ ` line; a comment behind a command is for people."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        line, _, said = part.partition("\n")
        command, _, comment = line.partition("  #")
        wanted = re.search(r"exit code (\d+)", comment)
        yield command.strip().replace(".venv/bin/", ""), int(wanted[1]) if wanted else 0, said


def plain(text: str) -> str:
    """Output without what differs from run to run."""
    text = re.sub(r"\b[0-9a-f]{32}\b|\b[0-9a-f]{8}\b(?!-)", "ID", text)
    text = re.sub(r"\b\d+(\.\d+)? (ms|s)\b", "TIME", text)
    text = re.sub(r"valid until \d\d:\d\d", "valid until NOW", text)
    return re.sub(r" +", " ", re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE))


def pattern(expected: str) -> re.Pattern[str]:
    lines = [
        r"(?:.*\n)*?" if line.strip() == "…" else re.escape(line).replace("…", ".*") + r"[ \t]*\n"
        for line in plain(expected.strip("\n")).split("\n")
    ]
    return re.compile(r"\n*" + "".join(lines) + r"\n*")
