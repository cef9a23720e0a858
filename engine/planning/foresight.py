"""A decider that goes on where a value isn't known yet, and says which steps rest on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from engine import model as m
from engine.decider import Decider
from engine.effects import Program
from engine.state import Frame, Node
from engine.types import JSON, UNKNOWN, NotKnownError

NOT_KNOWN = "rests on what isn't known yet"


class Foresight(Decider):
    """One run, foreseen. What comes after a step that can't be told is told as if the step had succeeded."""

    def _begin(self, node: Node) -> None:
        self._unless_unknown(node, lambda: super(Foresight, self)._begin(node))

    def _end_of_item(self, node: Node, frame: Frame, status: str, error: Mapping[str, JSON] | None) -> None:
        self._unless_unknown(node, lambda: super(Foresight, self)._end_of_item(node, frame, status, error))

    def _end_of_pass(self, node: Node, frame: Frame, status: str, error: Mapping[str, JSON] | None) -> None:
        self._unless_unknown(node, lambda: super(Foresight, self)._end_of_pass(node, frame, status, error))

    def _unless_unknown(self, node: Node, do: Callable[[], None]) -> None:
        try:
            do()
        except NotKnownError:
            for _, block in node.step.blocks():
                self._unknown_block(node.frame, block)
            self._settle(node, "succeeded", body=UNKNOWN, outputs=UNKNOWN, summary=NOT_KNOWN)

    def _unknown_block(self, frame: Frame, block: Mapping[str, m.Step]) -> None:
        for name, step in block.items():
            frame.names.own[name] = UNKNOWN
            for _, inner in step.blocks():
                self._unknown_block(frame, inner)

    def _list(self, node: Node, source: JSON, key: str) -> list[JSON]:
        items = self._evaluate(node, source, node.frame.scope)
        if items is UNKNOWN:
            raise NotKnownError
        return super()._list(node, source, key)

    def _change(self, node: Node, operation: str, given: Mapping[str, JSON]) -> None:
        ((name, value),) = given.items()
        variables = node.frame.execution.variables
        known = operation == "set" or (self._render(node, value) is not UNKNOWN and variables[name] is not UNKNOWN)
        if known or isinstance(variables[name], list):
            super()._change(node, operation, given)
            return
        variables.change("set", name, UNKNOWN)
        node.inputs = {name: UNKNOWN}
        self._settle(node, "succeeded")

    def _outputs(self, program: Program, scope: Mapping[str, Any], path: str) -> dict[str, JSON]:
        try:
            return super()._outputs(program, scope, path)
        except NotKnownError:
            return dict.fromkeys(program.flow.outputs, UNKNOWN)
