"""What is secret: whatever reads a secure output or a secret parameter is secure itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from engine import model
from engine.calls import ALERT
from engine.contract import Operation
from engine.loader.order import Order
from engine.loader.references import Chain
from engine.state import CHANGES


def secured(
    flow: model.Flow, operations: Mapping[str, Operation], order: Order, chains: Mapping[str, Iterable[Chain]]
) -> dict[str, frozenset[str]]:
    """Step → which of inputs and outputs are secure. `chains` are the references by step, "" and ALERT the flow's."""
    secret = {name for name, p in flow.parameters.items() if p.hidden}
    variables: set[str] = set()
    tainted = {name: _own(step) for name, step in flow.all_steps.items()}
    for step in flow.all_steps.values():
        if step.secure and isinstance(step, CHANGES):
            variables |= set(getattr(step, step.kind))
    if not secret and not any(tainted.values()):
        return {}

    def reads_secret(holder: str) -> bool:
        loops = [(name, flow.all_steps[name]) for name in order.around.get(holder, ())]
        items = {s.as_ for name, s in loops if isinstance(s, model.Foreach) and "inputs" in tainted[name]}
        own = flow.all_steps.get(holder)
        if isinstance(own, model.Foreach) and "inputs" in tainted[holder]:
            items.add(own.as_)
        for chain in chains.get(holder, ()):
            first = chain.members[0] if chain.members else None
            known = {"parameters": secret, "variables": variables}.get(chain.root, set())
            if first in known or (first is None and known) or chain.root in items:
                return True
            if chain.root == "steps" and (
                "outputs" in tainted.get(str(first), ())
                if first is not None
                else any("outputs" in t for t in tainted.values())
            ):
                return True
        return False

    while True:
        before = (sum(map(len, tainted.values())), len(variables))
        for name, step in flow.all_steps.items():
            if {"inputs", "outputs"} <= tainted[name] and not isinstance(step, CHANGES):
                continue
            if reads_secret(name):
                op = operations.get(step.call) if isinstance(step, model.Call) else None
                tainted[name] |= {"inputs"} if op is not None and op.effect == "write" else {"inputs", "outputs"}
                if isinstance(step, CHANGES):
                    variables |= set(getattr(step, step.kind))
        if before == (sum(map(len, tainted.values())), len(variables)):
            break
    if reads_secret(""):
        tainted[""] = {"outputs"}
    if flow.alerts is not None and reads_secret(ALERT):
        tainted |= {ALERT + what: {"inputs", "outputs"} for what in flow.alerts.on}
    return {name: frozenset(parts) for name, parts in tainted.items() if parts}


def _own(step: model.Step) -> set[str]:
    """What a step itself says; of one that calls nothing, what goes in comes out."""
    if step.secure and not isinstance(step, model.Call):
        return {"inputs", "outputs"}
    return set(step.secure or ())
