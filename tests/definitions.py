"""Definitions for the tests of `flowrun import`: every type of action and trigger, as the two designers write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.loader import load

PACKAGES = Path(__file__).parent / "packages"


def operation(id: str, api: str = "shared_office365", **parameters: Any) -> dict[str, Any]:
    """The inputs of an operation of Power Automate's connectors."""
    api_id = f"/providers/Microsoft.PowerApps/apis/{api}"
    host = {"apiId": api_id, "connectionName": api, "operationId": id}
    return {"host": host, "parameters": parameters, "authentication": "@parameters('$authentication')"}


def definition(actions: dict[str, Any], triggers: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A definition of Power Automate."""
    return {
        "$schema": "https://schema.management.azure.com/providers/Microsoft.Logic/schemas/2016-06-01/workflowdefinition.json#",
        "contentVersion": "1.0.0.0",
        "parameters": {
            "$connections": {"defaultValue": {}, "type": "Object"},
            "$authentication": {"defaultValue": {}, "type": "SecureObject"},
            **more.pop("parameters", {}),
        },
        "triggers": {"manual": {"type": "Request", "kind": "Http", "inputs": {}}} if triggers is None else triggers,
        "actions": actions,
        **more,
    }


def after(*names: str, **statuses: list[str]) -> dict[str, Any]:
    return {"runAfter": {**{n: ["Succeeded"] for n in names}, **statuses}}


def everything() -> dict[str, Any]:
    """The definition with one of everything, in a chain."""
    given = load((PACKAGES / "everything.yaml").read_text(encoding="utf-8"), "everything.yaml").data
    actions: dict[str, Any] = {}
    before = None
    for name, action in given.items():
        actions[name] = {**action, "runAfter": {before: ["Succeeded"]} if before else {}}
        before = name
    return definition(actions)
