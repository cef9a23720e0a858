"""Client assertions (RFC 7523 §2.2): a JWT signed with the private key of a registered certificate."""

from __future__ import annotations

import base64
import json
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1, SHA256

from engine import SystemClock


def assertion_fault(assertion: str, certificates: list[str], client_id: str, endpoints: set[str]) -> int | None:
    """The AADSTS number of what is wrong with an assertion, None when it proves the client.

    RS256 with `x5t` (SHA-1) or PS256 with `x5t#S256`; iss and sub are the client, aud the token endpoint. Its times
    are the machine's, because msal takes no other clock.
    """
    try:
        signed, _, signature = assertion.rpartition(".")
        header, claims = (json.loads(_decoded(part)) for part in signed.split("."))
        certificate = _certificate(header, certificates)
        key = certificate.public_key() if certificate else None
        if not isinstance(key, RSAPublicKey):
            return 700027
        scheme = padding.PKCS1v15() if header["alg"] == "RS256" else padding.PSS(padding.MGF1(SHA256()), 32)
        key.verify(_decoded(signature), signed.encode(), scheme, SHA256())
        begins, ends = float(claims.get("nbf", 0)), float(claims["exp"])
    except InvalidSignature:
        return 700027
    except (ValueError, KeyError, TypeError, AttributeError):
        return 50027
    if not begins - 300 <= SystemClock().now().timestamp() <= ends + 300:
        return 700024
    if claims.get("aud") not in endpoints:
        return 700023
    return None if claims.get("iss") == claims.get("sub") == client_id else 700021


def _certificate(header: dict[str, Any], certificates: list[str]) -> x509.Certificate | None:
    name, algorithm = {
        "RS256": ("x5t", SHA1()),  # noqa: S303 - the thumbprint that Entra names certificates by
        "PS256": ("x5t#S256", SHA256()),
    }[header["alg"]]
    wanted = _decoded(header[name])
    loaded = (x509.load_pem_x509_certificate(text.encode()) for text in certificates)
    return next((c for c in loaded if c.fingerprint(algorithm) == wanted), None)


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
