"""The state of one run: its lists of steps, the steps in them, results by name, variables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from engine import model as m
from engine.contract import Effect as OperationEffect
from engine.effects import Program, Record
from engine.errors import DataError
from engine.expressions import to_text
from engine.types import JSON, type_name

CHANGES = (m.Set, m.Append, m.Increment)  # the steps that change a variable


class Names(Mapping[str, Any]):
    """What `steps` shows: this loop pass's results over those of the passes and lists around it."""

    __slots__ = ("outer", "own")

    def __init__(self, outer: Names | None = None) -> None:
        self.own: dict[str, Any] = {}
        self.outer = outer

    def __getitem__(self, name: str) -> Any:
        names: Names | None = self
        while names is not None:
            if name in names.own:
                return names.own[name]
            names = names.outer
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        yield from self.own
        if self.outer is not None:
            yield from self.outer

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Variables(Mapping[str, Any]):
    """The variables. Recorded changes are folded in the order of the journal before the first look at them."""

    def __init__(self, flow: m.Flow) -> None:
        self._values = flow.initial_variables()
        self._texts = {name for name, given in flow.variables.items() if given == {"type": "string"}}
        self._private: dict[str, list[Any]] = {}  # lists that nobody else has seen: appended to in place
        self._recorded: list[tuple[int, str, str, JSON]] = []

    def replay(self, order: int, operation: str, name: str, value: JSON) -> None:
        self._recorded.append((order, operation, name, value))

    def _fold(self) -> None:
        recorded, self._recorded = sorted(self._recorded, key=lambda r: r[0]), []
        for _, operation, name, value in recorded:
            self.change(operation, name, value)

    def __getitem__(self, name: str) -> JSON:
        if self._recorded:
            self._fold()
        if name in self._private:
            self._values[name] = self._private.pop(name)
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def change(self, operation: str, name: str, value: JSON) -> None:
        """Raises DataError where the value doesn't fit the variable."""
        if self._recorded:
            self._fold()
        now = self._values.get(name)
        if operation == "set":
            self._private.pop(name, None)
            self._values[name] = value
        elif operation == "increment":
            base = 0 if now is None else now
            if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in (base, value)):
                raise DataError(f"variable {name}: {type_name(now)} can't be increased by {type_name(value)}")
            self._values[name] = base + value
        elif isinstance(now, str) or (now is None and name in self._texts):
            self._values[name] = (now or "") + to_text(value)
        elif now is None or isinstance(now, list):
            if name not in self._private:
                self._private[name] = list(now or [])
            self._private[name].append(value)
        else:
            raise DataError(f"variable {name}: can't append to {type_name(now)}")


@dataclass(eq=False, slots=True)
class Execution:
    """One flow under way: the run's own, or one that a `run` step (`owner`) holds. Paths of its steps begin alike."""

    program: Program
    owner: Node | None
    prefix: str
    variables: Variables
    response: JSON = None
    secret: bool = False  # what it was given is secure, so all that it does is
    responded: int = -1  # place of that response in the journal, as far as it was read there

    def holds(self, path: str) -> bool:
        """Whether a record's step is one of this flow, and not of one that it runs."""
        steps = self.program.flow.all_steps
        return path.startswith(self.prefix) and not any(
            isinstance(steps.get(name), m.Run) for name in map(name_of, ancestors(path[len(self.prefix) :]))
        )


@dataclass(eq=False, slots=True)
class Frame:
    """One execution of one list of steps."""

    owner: Node | None
    prefix: str
    names: Names
    scope: dict[str, Any]
    plan: Plan
    execution: Execution
    nodes: dict[str, Node] = field(default_factory=dict)
    pending: dict[str, int] = field(default_factory=dict)
    open: int = 0
    index: int = 0
    settled: bool = False  # its container's recorded end stands, so every record in it stands
    dropped: bool = False  # what its container rests on was done anew, so no record in it stands
    dead: bool = False


@dataclass(eq=False, slots=True)
class Node:
    """One execution of one step."""

    name: str
    step: m.Step
    path: str
    frame: Frame
    attempt: int = 1
    tries: int = 1
    status: str | None = None
    code: str = ""
    error: Mapping[str, JSON] | None = None
    started: datetime | None = None
    deadline: datetime | None = None
    inputs: JSON = None
    effect: OperationEffect = "read"
    state: str = ""  # running, retry, wait; of an uncertain write: probing, probe_retry, person
    probes: int = 0
    lost: bool = False  # an earlier try may have changed something: its answer was lost
    # How a container ends once its writes are certain: status, error, body.
    verdict: tuple[str, Mapping[str, JSON] | None, JSON] | None = None
    ended: Record | None = None  # a container's recorded end, which stands
    fresh: bool = False  # done anew although there is a record of it
    dropped: bool = False  # that because what it rests on was done anew
    inner: set[Frame] = field(default_factory=set)
    items: list[JSON] = field(default_factory=list)
    results: list[JSON] = field(default_factory=list)
    next: int = 0
    broken: Mapping[str, JSON] | None = None  # a loop's first error

    @property
    def program(self) -> Program:
        return self.frame.execution.program

    @property
    def secure(self) -> frozenset[str]:
        """Which of inputs and outputs stay out of the journal."""
        if not self.frame.execution.secret:
            return self.program.secure.get(self.name, frozenset())
        return frozenset({"inputs"} if self.effect == "write" else {"inputs", "outputs"})


class Plan:
    """The order in one list of steps, computed once."""

    def __init__(self, block: Mapping[str, m.Step]) -> None:
        self.block = block
        self.after = m.predecessors(block)
        self.followers: dict[str, list[str]] = {name: [] for name in block}
        for name, preds in self.after.items():
            for pred in preds:
                self.followers[pred].append(name)
        self.leaves = [name for name, followers in self.followers.items() if not followers]


def ancestors(path: str) -> list[str]:
    """The containers around a path: `a[0]/b/c` is in `a` and in `a[0]/b`."""
    parts = path.split("/")
    return ["/".join(parts[:n]).removesuffix(f"[{parts[n - 1].partition('[')[2]}") for n in range(1, len(parts))]


def name_of(path: str) -> str:
    """The name of the step at a path."""
    return path.rpartition("/")[2].partition("[")[0]
