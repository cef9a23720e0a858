"""The referral resource of the Partner Center referrals API v1.0, as far as it is documented.

Every part is open (unknown properties are kept) and nearly everything may be null: see the referral resource page.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeAlias, TypedDict, get_args, get_type_hints, is_typeddict

from engine import JSON, Doc

Text: TypeAlias = str | None
Amount: TypeAlias = float | str | None
Status: TypeAlias = Literal["New", "Active", "Closed"]

# Status → where it may go; and the substatus words of each status. Closed is the end: no edit at all afterwards.
TRANSITIONS: dict[str, tuple[str, ...]] = {"New": ("New", "Active", "Closed"), "Active": ("Active", "Closed")}
SUBSTATUS: dict[str, tuple[str, ...]] = {
    "New": ("Pending", "Received"),
    "Active": ("Accepted",),
    "Closed": ("Won", "Lost", "Declined", "Expired"),
}


class Address(TypedDict, total=False):
    addressLine1: Text
    addressLine2: Text
    city: Text
    state: Text
    postalCode: Text
    country: Annotated[Text, Doc("ISO 3166 alpha-2")]
    region: Text


class Contact(TypedDict, total=False):
    firstName: Text
    lastName: Text
    phoneNumber: Text
    email: Text
    contactPreference: JSON


class CustomerProfile(TypedDict, total=False):
    name: Text
    address: Address | None
    size: Text
    team: Annotated[list[Contact] | None, Doc("The customer's contacts")]
    ids: JSON


class Consent(TypedDict, total=False):
    consentToToShareInfoWithOthers: Annotated[bool | None, Doc("The double To is the property's real name")]
    consentToContact: bool | None


class Requirements(TypedDict, total=False):
    industries: JSON
    products: JSON
    services: JSON
    solutions: JSON


class Details(TypedDict, total=False):
    notes: Text
    dealValue: Annotated[Amount, Doc("In `currency`")]
    currency: Annotated[Text, Doc("ISO 4217")]
    closingDateTime: Annotated[Text, Doc("Expected close, UTC, up to 7 digits of fraction")]
    requirements: Requirements | None
    additionalRequirements: JSON


class InvitedBy(TypedDict, total=False):
    organizationId: Annotated[Text, Doc("`msft` for Microsoft")]
    organizationName: Text


class InviteContext(TypedDict, total=False):
    notes: Text
    invitedBy: InvitedBy | None


class Referral(TypedDict, total=False):
    id: Text
    engagementId: Annotated[Text, Doc("Several referrals may share one engagement")]
    organizationId: Text
    organizationName: Text
    name: Text
    externalReferenceId: Annotated[
        Text, Doc("The partner's own id for it, such as the CRM's lead; unset is '' or null")
    ]
    createdDateTime: Text
    updatedDateTime: Text
    expirationDateTime: Text
    acceptedDateTime: Text
    status: Text
    substatus: Text
    statusReason: Text
    type: Annotated[Text, Doc("Independent or Shared")]
    qualification: Text
    direction: Annotated[Text, Doc("Incoming or Outgoing")]
    referralSource: Text
    callToAction: Text
    customerMarketplaceIntent: Text
    customerProfile: CustomerProfile | None
    consent: Consent | None
    details: Details | None
    team: Annotated[list[Contact] | None, Doc("The partner's own people")]
    target: JSON
    inviteContext: InviteContext | None
    partnerRole: Text
    solutionArea: Text
    solutionPlay: Text
    eTag: Annotated[Text, Doc('Quoted inside the text: "\\"2500ec5a-…\\""')]
    links: JSON


def paths(kind: Any = Referral) -> Iterator[str]:
    """The dotted path of every property that is documented, but for those in lists."""
    for name, hint in get_type_hints(kind).items():
        yield name
        for part in (hint, *get_args(hint)):
            if is_typeddict(part):
                yield from (f"{name}.{inner}" for inner in paths(part))


def contact(referral: JSON) -> Contact:
    """The customer's contact to talk to: the first one with a name, else the first; an empty object without any."""
    profile = referral.get("customerProfile") if isinstance(referral, dict) else None
    team: list[Any] = [p for p in (profile or {}).get("team") or [] if isinstance(p, dict)]
    named = [person for person in team if person.get("lastName") or person.get("firstName")]
    first: Contact = (named or team or [{}])[0]
    return first
