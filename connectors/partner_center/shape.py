"""What a referral may hold and how it may change, as the service sees it. For the emulator.

Apart from the connector's own tables on purpose: the emulator is there to catch their mistakes. Lengths are generous
guesses, for none are published.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, TypeAlias

from engine import JSON

Leaf: TypeAlias = Callable[[JSON], bool]
Shape: TypeAlias = Any  # a Leaf, a dict of shapes, or a list of one shape


class ShapeError(ValueError):
    """What is wrong, as a sentence."""


def text(most: int) -> Leaf:
    return lambda v: isinstance(v, str) and len(v) <= most


def words(*allowed: str) -> Leaf:
    return lambda v: v in allowed


def matching(pattern: str) -> Leaf:
    return lambda v: isinstance(v, str) and re.fullmatch(pattern, v) is not None


def flag(value: JSON) -> bool:
    return isinstance(value, bool)


def anything(_: JSON) -> bool:
    return True


def amount(value: JSON) -> bool:
    """A number, or text that is one (the documented sample patches dealValue with text)."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return False
    try:
        return Decimal(str(value)).is_finite() and Decimal(str(value)) >= 0
    except InvalidOperation:
        return False


def time(value: JSON) -> bool:
    if not isinstance(value, str) or "T" not in value:
        return False
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


CONTACT: Shape = {
    "firstName": text(256),
    "lastName": text(256),
    "phoneNumber": text(128),
    "email": text(320),
    "contactPreference": {"locale": text(32), "disableNotifications": flag},
}
NAMED: Shape = [
    {"id": text(256), "name": text(512), "type": text(64), "publisherName": text(512), "solutionType": text(64)}
]
SIZES = [
    "1to50employees",
    "51to500employees",
    "Morethan500employees",
    "1to9employees",
    "10to50employees",
    "51to250employees",
    "251to1000employees",
    "1001to5000employees",
    "5001to10000employees",
    "10001to20000employees",
    "Morethan20000employees",
]
SHAPE: Shape = {
    "name": text(1000),
    "externalReferenceId": text(1000),
    "status": words("New", "Active", "Closed"),
    "substatus": words("Pending", "Received", "Accepted", "Won", "Lost", "Declined", "Expired"),
    "statusReason": text(4000),
    "type": words("Independent", "Shared"),
    "qualification": words("None", "Direct", "MarketingQualified", "SalesQualified"),
    "referralSource": text(256),
    "callToAction": text(256),
    "customerMarketplaceIntent": text(256),
    "partnerRole": text(256),
    "solutionArea": text(256),
    "solutionPlay": text(256),
    "engagementId": text(64),
    "customerProfile": {
        "name": text(1000),
        "address": {
            "addressLine1": text(1000),
            "addressLine2": text(1000),
            "city": text(256),
            "state": text(256),
            "postalCode": text(64),
            "country": matching(r"[A-Z]{2}"),
            "region": text(256),
        },
        "size": words(*SIZES),
        "team": [CONTACT],
        "ids": [{"id": text(256), "profileType": words("Duns", "External")}],
    },
    "consent": {
        "consentToToShareInfoWithOthers": flag,
        "consentToContact": flag,
        "consentToMicrosoftToContactSpecificPartners": flag,
        "consentToShareReferralWithMicrosoftSellers": flag,
    },
    "details": {
        "notes": text(500_000),
        "dealValue": amount,
        "currency": matching(r"[A-Z]{3}"),
        "closingDateTime": time,
        "requirements": {"industries": NAMED, "products": NAMED, "services": NAMED, "solutions": NAMED},
        "additionalRequirements": anything,
    },
    "team": [CONTACT],
    "target": [{"id": text(256), "type": words("None", "BusinessProfileLocation", "SolutionProfile")}],
    "inviteContext": {
        "notes": text(500_000),
        "invitedBy": {"organizationId": text(64), "organizationName": text(1000)},
    },
}
READ_ONLY = frozenset(
    [
        "id",
        "organizationId",
        "organizationName",
        "createdDateTime",
        "updatedDateTime",
        "expirationDateTime",
        "acceptedDateTime",
        "direction",
        "eTag",
        "links",
    ]
)
AT_CREATION = frozenset({"type", "target", "engagementId"})  # fixed from then on
NEXT = {"New": {"New", "Active", "Closed"}, "Active": {"Active", "Closed"}}
SUBSTATUS = {
    "New": {"Pending", "Received"},
    "Active": {"Accepted"},
    "Closed": {"Won", "Lost", "Declined", "Expired"},
}


def hold(value: JSON, shape: Shape, path: str) -> None:
    """Raises ShapeError where a value doesn't have the shape. Null is allowed everywhere."""
    if value is None:
        return
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            raise ShapeError(f"{path or 'the referral'} must be an object")
        for key, part in value.items():
            if key not in shape:
                raise ShapeError(f"unknown property {path}/{key}")
            hold(part, shape[key], f"{path}/{key}")
    elif isinstance(shape, list):
        if not isinstance(value, list):
            raise ShapeError(f"{path} must be an array")
        for number, part in enumerate(value):
            hold(part, shape[0], f"{path}/{number}")
    elif not shape(value):
        raise ShapeError(f"{path} has a value that it can't have")


def patched(referral: Mapping[str, JSON], operations: JSON) -> dict[str, JSON]:
    """A referral after a JSON Patch (RFC 6902) of `add` and `replace`, all or nothing."""
    if not isinstance(operations, list) or not operations:
        raise ShapeError("the body must be an array of patch operations")
    after = deepcopy(dict(referral))
    for step in operations:
        if not isinstance(step, dict) or step.get("op") not in ("add", "replace"):
            raise ShapeError("only the operations add and replace are supported")
        if not isinstance(step.get("path"), str) or "value" not in step:
            raise ShapeError("an operation needs path and value")
        _apply(after, step["op"], step["path"], step["value"])
    return after


def _apply(node: Any, verb: str, pointer: str, value: JSON) -> None:
    first, *keys = (key.replace("~1", "/").replace("~0", "~") for key in pointer.split("/"))
    if first or not keys:
        raise ShapeError(f"'{pointer}' is no path")
    if keys[0] in READ_ONLY or keys[0] in AT_CREATION:
        raise ShapeError(f"/{keys[0]} can't be changed")
    shape = SHAPE
    for key in keys[:-1]:
        shape = _inside(shape, key, pointer)
        node = node[_index(node, key, pointer)] if isinstance(node, list) else node.get(key)
        if not isinstance(node, dict | list):
            raise ShapeError(f"'{pointer}': its parent is null")
    last = keys[-1]
    hold(value, _inside(shape, last, pointer), pointer)
    if isinstance(node, dict):
        node[last] = value
    elif last == "-" and verb == "add":
        node.append(value)
    elif verb == "add":
        node.insert(_index(node, last, pointer), value)
    else:
        node[_index(node, last, pointer)] = value


def _inside(shape: Shape, key: str, pointer: str) -> Shape:
    if isinstance(shape, dict) and key in shape:
        return shape[key]
    if isinstance(shape, list) and (key == "-" or key.isdigit()):
        return shape[0]
    if shape is anything:
        return anything
    raise ShapeError(f"unknown path '{pointer}'")


def _index(node: list[JSON], key: str, pointer: str) -> int:
    if not key.isdigit() or int(key) >= len(node):
        raise ShapeError(f"'{pointer}': no such item")
    return int(key)


def step_allowed(before: Mapping[str, JSON], after: Mapping[str, JSON]) -> None:
    """The state machine: where a status may go, and which substatus goes with it."""
    was, now = before.get("status"), after.get("status")
    if now not in NEXT.get(str(was), ()):
        raise ShapeError(f"a referral can't go from {was} to {now}")
    if after.get("substatus") not in SUBSTATUS[str(now)]:
        raise ShapeError(f"substatus {after.get('substatus')} isn't one of status {now}")
