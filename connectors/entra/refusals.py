"""Entra's refusals: AADSTS number → HTTP status, OAuth error, text ({} is filled in where it is raised)."""

from __future__ import annotations

from collections.abc import Mapping

REFUSALS: Mapping[int, tuple[int, str, str]] = {
    50027: (401, "invalid_client", "JWT token is invalid or malformed."),
    50034: (400, "invalid_grant", "The user account {} does not exist in the directory."),
    50049: (400, "invalid_instance", "Unknown or invalid instance."),
    50059: (400, "invalid_request", "No tenant-identifying information found in the request or in its credentials."),
    50076: (400, "invalid_grant", "You must use multi-factor authentication to access this resource."),
    50126: (400, "invalid_grant", "Error validating credentials due to invalid username or password."),
    50173: (400, "invalid_grant", "The provided grant has expired due to it being revoked."),
    54005: (400, "invalid_grant", "The code was already redeemed, please retry with a new one."),
    65001: (400, "invalid_grant", "The user or administrator has not consented to use the application with ID '{}'."),
    70000: (400, "invalid_grant", "Provided grant is invalid or malformed."),
    70003: (400, "unsupported_grant_type", "The app requested an unsupported grant type '{}'."),
    70011: (400, "invalid_scope", "The provided value for the input parameter 'scope' is not valid: '{}'."),
    70016: (
        400,
        "authorization_pending",
        "OAuth 2.0 device flow error. Continue polling while authorization is pending.",
    ),
    70018: (400, "bad_verification_code", "The device code sent to the token endpoint wasn't recognized."),
    70020: (400, "expired_token", "The provided value for the input parameter 'device_code' has expired."),
    90002: (400, "invalid_request", "Tenant '{}' not found. Check that the tenant ID is correct and exists."),
    500011: (400, "invalid_resource", "The resource principal named {} was not found in the tenant."),
    501051: (400, "invalid_grant", "Application '{}' is not assigned to a role for the application '{}'."),
    700016: (400, "unauthorized_client", "Application with identifier '{}' was not found in the directory '{}'."),
    700021: (401, "invalid_client", "Client assertion application identifier doesn't match 'client_id' parameter."),
    700023: (401, "invalid_client", "Client assertion audience claim does not match Realm issuer."),
    700024: (401, "invalid_client", "Client assertion is not within its valid time range."),
    700027: (
        401,
        "invalid_client",
        "The certificate used to sign the client assertion is not registered, or didn't sign.",
    ),
    700082: (400, "invalid_grant", "The refresh token has expired due to inactivity."),
    900144: (400, "invalid_request", "The request body must contain the following parameter: '{}'."),
    900561: (405, "invalid_request", "The endpoint doesn't accept {} requests."),
    1002012: (
        400,
        "invalid_scope",
        "The provided value for scope {} is not valid. Client credential flows must have a scope value with /.default "
        "suffixed to the resource identifier.",
    ),
    7000215: (
        401,
        "invalid_client",
        "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not "
        "the client secret ID, for a secret added to app '{}'.",
    ),
    7000216: (401, "invalid_client", "'client_assertion' or 'client_secret' is required for this grant type."),
    7000218: (401, "invalid_client", "The request must contain 'client_assertion' or 'client_secret'."),
    9002313: (400, "invalid_grant", "Invalid request. Request is malformed or invalid."),
}
