"""The functions of the expression language: Workflow Definition Language's under their own names, and a few of ours.

Source: Microsoft, "Reference guide to functions in expressions for workflows in Azure Logic Apps and Power Automate".
"""

from collections.abc import Mapping

from engine.expressions import Function
from engine.functions import (
    conversion,
    dates,
    jsonpaths,
    lists,
    logic,
    maths,
    objects,
    text,
    uris,
    xmltexts,
    xmltrees,
)

# By name, in the order of the reference: module by module, each from its top.
FUNCTIONS: Mapping[str, Function] = {
    function.name: function
    for module in (text, lists, objects, logic, maths, conversion, xmltrees, xmltexts, dates, uris, jsonpaths)
    for function in vars(module).values()
    if isinstance(function, Function)
}

__all__ = ["FUNCTIONS"]
