"""Types flowrun commands in this process: the command line's own `main`, with everything it says."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.cli import main

FLOWS = Path(__file__).parent.parent / "flows"
FLOW = FLOWS / "referral_to_dynamics.yaml"


@dataclass(frozen=True)
class Said:
    """What a command did: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The objects of --json."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def steps(self) -> dict[str, dict[str, Any]]:
        """The last line of each step, by name."""
        return {line["name"]: line for line in self.lines if line["type"] == "step"}

    @property
    def end(self) -> dict[str, Any]:
        return next(line for line in self.lines if line["type"] == "end")

    @property
    def all(self) -> str:
        return self.out + self.err


def flowrun(*args: str | Path, cwd: Path, env: Mapping[str, str] | None = None, stdin: bytes = b"") -> Said:
    """Runs `flowrun ARGS` in a folder; `env` is all of the environment but PATH and HOME."""
    out, err = io.StringIO(), io.StringIO()
    before = dict(os.environ), sys.argv, sys.stdin
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG")}
    os.environ.clear()
    os.environ.update({**kept, **(env or {})})
    sys.argv = ["flowrun", *map(str, args)]
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")
    code: Any = None
    try:
        with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as end:
        code = end.code
    finally:
        os.environ.clear()
        os.environ.update(before[0])
        sys.argv, sys.stdin = before[1:]
    return Said(code, out.getvalue(), err.getvalue())
