"""Known defects of flows, by name: what is wrong, and what is other after an import that mends it.

Where nothing is said of mending, what is right isn't for an import to say. Most were found in Microsoft's own package
that brings Partner Center's referrals into Dynamics 365.
"""

from __future__ import annotations

from collections.abc import Mapping

DEFECTS: Mapping[str, tuple[str, str]] = {
    "BlankInUrl": ("has a blank beside the address", "the blank is left out"),
    "CallerChoosesAudience": (
        "asks for a token for whatever host the event names, and sends it there: a forged event gets a token",
        "the connection sends its token to Partner Center alone",
    ),
    "CommonTenant": (
        "asks for the tenant's ID, and signs in at `common`",
        "the tenant is a setting of the connection",
    ),
    "FormByHand": (
        "builds a form by hand: a value with & or % in it breaks it",
        "its fields are sent escaped, or not at all",
    ),
    "LastContact": ("takes the last contact; without one the names stay as they were initialised", ""),
    "LeadIdNotStored": (
        "creates a lead whose ID isn't put into {variable}: the old one goes back to the referral",
        "the new ID is stored",
    ),
    "MissingRowFails": (
        "fails where the row is gone, so the branch that creates a new one never runs",
        "a row that isn't there gives null, and that branch runs",
    ),
    "NullTest": (
        "tests variable {variable} for null, but it holds text made by @{{…}}: never null",
        "it is tested for being empty",
    ),
    "PasswordGrant": (
        "signs in by a person's password, which can't satisfy MFA",
        "the connection signs in by app and refresh token",
    ),
    "QuotedText": ("compares with {text}, quotes included: never equal", "it is compared without the quotes"),
    "RebuiltReferral": (
        "puts a referral that is rebuilt by hand: what it doesn't name (statusReason, direction …) gets lost",
        "only what differs is written, as a patch",
    ),
    "StaleTag": (
        "fails where the referral was changed since it was read",
        "it is read and changed anew, up to 3 times",
    ),
    "SyncLoop": (
        "writes the referral each time, and each write is an event again",
        "nothing is written where nothing differs",
    ),
    "UnverifiedEvent": (
        "has the signature checked without the event that was signed, after a token was asked for",
        "the connection verifies an event before a run starts",
    ),
    "UpdatesNothing": ("writes no value at all: the row stays as it is", ""),
}
