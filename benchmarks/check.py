"""How long a document of 2,000 steps is checked: .venv/bin/python benchmarks/check.py

Nested (branches, loops, run_after, several expressions a step) and flat; loading, checking, and the whole command in a
process of its own. Ends with 1 if the check of either takes a second or more.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from connectors.partner_center.connector import PartnerCenter
from engine.functions import FUNCTIONS
from engine.loader import Catalog, check, load

STEPS = 2000
LIMIT = 1.0  # seconds
TIMES = 5
ID = "8f3c1a52-6b7d-4e9f-a1b2-c3d4e5f60718"
HEAD = f"""flow: large
connections: {{partner_center: partner_center}}
parameters: {{p: {{type: string, default: {ID}}}}}
variables: {{n: 0, rows: []}}
steps:
"""
SEVEN = """  get_#:
    call: partner_center.get_referral
    with: {id: "{{ parameters.p }}"}
    retry: {count: 3, interval: 2s}
    run_after: @
  if_#:
    if: steps.get_#.body.name != null and length(steps.get_#.body.team) > #
    then:
      loop_#:
        foreach: steps.get_#.body.team
        as: person
        steps:
          one_#: {compose: "{{ person.email }} of {{ steps.get_#.body.name | concat('#') }}"}
          add_#: {append: {rows: {id: "{{ steps.one_#.body }}", n: "{{ index + # }}"}}}
        result: "{{ steps.one_#.body }}"
    else:
      none_#: {set: {n: "{{ variables.n + # }}"}}
  end_#:
    compose: {a: "{{ steps.if_#.status }}", b: "{{ steps.get_#.body.id }}", c: [1, 2, "x {{ steps.get_#.status }}"]}
"""


def nested(steps: int) -> str:
    out, after = [HEAD], "{}"
    for number in range(0, steps, 7):
        out.append(SEVEN.replace("#", str(number)).replace("@", after))
        after = f"{{end_{number}: [succeeded, failed]}}"
    return "".join(out)


def flat(steps: int) -> str:
    call = "  s#:\n    call: partner_center.get_referral\n    with: {id: @}\n"
    ids = [ID, *(f'"{{{{ steps.s{n}.body.id }}}}"' for n in range(steps - 1))]
    return HEAD + "".join(call.replace("#", str(n)).replace("@", ids[n]) for n in range(steps))


def main() -> int:
    catalog = Catalog(FUNCTIONS, {"partner_center": PartnerCenter})
    slow = False
    for make in (nested, flat):
        text = make(STEPS)
        times = []
        for _ in range(TIMES):
            begin = time.perf_counter()
            document = load(text, "large.yaml")
            loaded = time.perf_counter()
            program, findings = check(document, catalog)
            times.append((loaded - begin, time.perf_counter() - loaded))
            assert program is not None and not findings, findings[:3]
        loading, checking = (statistics.median(part) for part in zip(*times, strict=True))
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "large.yaml"
            file.write_text(text, encoding="utf-8")
            begin = time.perf_counter()
            subprocess.run(
                [Path(sys.executable).parent / "flowrun", "check", file], check=True, stdout=subprocess.DEVNULL
            )
            whole = time.perf_counter() - begin
        count = len(program.flow.all_steps) if program else 0
        print(
            f"{make.__name__}: {count} steps, {len(text) // 1024} KiB: "
            f"load {loading:.2f} s, check {checking:.2f} s, whole command {whole:.2f} s"
        )
        slow = slow or loading + checking >= LIMIT
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
