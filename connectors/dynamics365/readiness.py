"""`flowrun connections check` for an environment: what is wrong, and what an administrator does about it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Literal

from connectors.dynamics365.webapi import TRACK_CHANGES, Row, WebApi
from engine import Finding, FlowrunError, Place

LEAD = "EntityDefinitions(LogicalName='lead')"
PRIVILEGES = ("prvCreateLead", "prvReadLead", "prvWriteLead", "prvAppendLead")


def definition(api: WebApi) -> Row:
    """The lead table's definition: its alternate keys, and whether changes are tracked."""
    keys = "Keys($select=LogicalName,KeyAttributes,EntityKeyIndexStatus)"
    return api.find(LEAD, {"$select": "LogicalName,ChangeTrackingEnabled", "$expand": keys}) or {}


def key_status(api: WebApi, lead: Row) -> str | None:
    """The alternate key's status, Active being the only one that serves; None without such a key."""
    for key in lead.get("Keys") or []:
        if key.get("KeyAttributes") == [api.settings.key_column]:
            return str(key.get("EntityKeyIndexStatus"))
    return None


def findings(api: WebApi) -> Iterator[Finding]:
    """Token, reach, alternate key, rights, change tracking; the first two end the check where they fail."""
    try:
        api.token()
        user = api.find("WhoAmI") or {}
    except FlowrunError as error:
        yield _found(error.code, error.message, error.hint)
        return
    try:
        lead = definition(api)
        yield from _key(api, key_status(api, lead))
        yield from _rights(api, str(user.get("UserId")))
    except FlowrunError as error:
        yield _found("NotChecked", f"the set-up can't be looked at: {error.message}", error.hint, "warning")
        return
    if lead.get("ChangeTrackingEnabled") is False:
        yield _found(
            "NoChangeTracking",
            "change tracking is off for lead: list_changes won't work",
            TRACK_CHANGES,
            "warning",
        )


def _key(api: WebApi, status: str | None) -> Iterator[Finding]:
    column = api.settings.key_column
    if status == "Active":
        return
    if status in ("Pending", "InProgress"):
        yield _found("KeyNotReady", f"the alternate key on {column} is being built ({status})", "wait, and check again")
    elif status == "Failed":
        yield _found(
            "KeyFailed",
            f"the alternate key on {column} couldn't be built: most likely two leads hold the same value",
            "clear the doubles, then reactivate the key: Power Apps → Tables → Lead → Keys",
        )
    elif api.find(f"{LEAD}/Attributes(LogicalName='{column}')", {"$select": "LogicalName"}) is None:
        remedy = f"add a text column (100) with the schema name {column}: Power Apps → Tables → Lead → Columns; then "
        yield _found("NoKeyColumn", f"lead has no column {column}", remedy + api.key_remedy())
    else:
        yield _found("NoKey", f"{column} is no alternate key of lead", api.key_remedy())


def _rights(api: WebApi, user: str) -> Iterator[Finding]:
    path = f"systemusers({user})/Microsoft.Dynamics.CRM.RetrieveUserSetOfPrivilegesByNames(PrivilegeNames=@names)"
    body = api.find(path, {"@names": json.dumps(PRIVILEGES)}) or {}
    held = {each.get("PrivilegeName") for each in body.get("RolePrivileges") or []}
    if missing := [name for name in PRIVILEGES if name not in held]:
        yield _found(
            "MissingPrivilege",
            f"the application user has no {', '.join(missing)}",
            "give it a security role with these: Power Platform admin center → the environment → Application users",
        )


def _found(code: str, message: str, hint: str, severity: Literal["error", "warning"] = "error") -> Finding:
    return Finding(Place(), code, message, severity=severity, hint=hint)
