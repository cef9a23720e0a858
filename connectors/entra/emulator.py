"""Microsoft Entra ID of the sandbox: the token endpoint of the v2.0 protocol, discovery, device code sign-in.

Strict as the real one: each refusal has its AADSTS code. Access tokens are `sign_token` texts with aud, exp, tid,
appid, oid, and scp and amr (user) or roles (application), which other emulators verify by `read_token`. Refresh tokens
rotate: each use issues a new one, the old stays valid (as Entra has it), and both are on record. The store keeps
digests of secrets, passwords and codes.

Device code: see `device_sign_in` in seed.yaml. With `automatic` the sign-in confirms itself after the first poll;
without, somebody opens the page named in the message and confirms, or POSTs `user_code` to it.

Sources: Microsoft identity platform, OAuth 2.0 flows and AADSTS error codes; RFC 6749, 7523, 8628.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, NoReturn
from urllib.parse import unquote_plus
from uuid import NAMESPACE_OID, uuid4, uuid5

import yaml

from connectors.entra.pages import page, sign_in
from connectors.entra.refusals import REFUSALS
from engine import JSON
from engine.sandbox import Emulator, Incoming, Refusal, Reply, route, sign_token

LIFETIME = 3599  # seconds of an access token, as Entra states it
REFRESH_LIFETIME = 90 * 24 * 3600
OPENID_SCOPES = frozenset({"openid", "profile", "email", "offline_access"})
ANY_TENANT = frozenset({"common", "organizations"})
DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class Entra(Emulator):
    """login.microsoftonline.com with one tenant."""

    hosts: ClassVar[tuple[str, ...]] = ("login.microsoftonline.com",)

    def seed(self) -> None:
        seed = _seed()
        for kind in ("tenant", "resources", "device_sign_in"):
            self.store.put("entra", kind, seed[kind])
        for client_id, app in seed["apps"].items():
            self.store.put("entra.app", client_id, {**app, "secrets": [digest(s) for s in app["secrets"]]})
        for name, user in seed["users"].items():
            self.store.put("entra.user", name, {**user, "password": digest(user["password"])})
        for token, grant in seed["refresh_tokens"].items():
            self._remember(grant["app"], grant["user"], self._methods(grant["user"]), token)

    # Discovery

    @route("GET", "/{tenant}/v2.0/.well-known/openid-configuration")
    def openid_configuration(self, request: Incoming, tenant: str) -> Reply:
        real, shared = self._tenant(tenant), tenant.lower() in ANY_TENANT
        base = f"https://{request.host}/{tenant.lower() if shared else real}"
        return Reply(
            body={
                "issuer": f"https://{request.host}/{'{tenantid}' if shared else real}/v2.0",
                "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                "token_endpoint": f"{base}/oauth2/v2.0/token",
                "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
                "token_endpoint_auth_methods_supported": [
                    "client_secret_post",
                    "private_key_jwt",
                    "client_secret_basic",
                ],
                "scopes_supported": sorted(OPENID_SCOPES),
            }
        )

    @route("GET", "/common/discovery/instance")
    def instance_discovery(self, request: Incoming) -> Reply:
        asked = request.query.get("authorization_endpoint") or self._missing("authorization_endpoint")
        if not asked.startswith(f"https://{request.host}/"):
            self._refuse(50049)
        tenant = asked.partition("/oauth2/")[0]
        aliases = [request.host, "login.windows.net", "login.microsoft.com", "sts.windows.net"]
        return Reply(
            body={
                "tenant_discovery_endpoint": f"{tenant}/v2.0/.well-known/openid-configuration",
                "api-version": request.query.get("api-version", "1.0"),
                "metadata": [{"preferred_network": aliases[0], "preferred_cache": aliases[1], "aliases": aliases}],
            }
        )

    @route("GET", "/common/userrealm/{username}")
    def user_realm(self, request: Incoming, username: str) -> Reply:
        domain = self.store.get("entra", "tenant")["domain"]
        known = username.lower().endswith(f"@{domain}")
        return Reply(body={"ver": "1.0", "account_type": "Managed" if known else "Unknown", "domain_name": domain})

    # Tokens

    @route("POST", "/{tenant}/oauth2/v2.0/token")
    def token(self, request: Incoming, tenant: str) -> Reply:
        form = self._form(request)
        real = self._tenant(tenant)
        grant, client_id = (form.get(name) or self._missing(name) for name in ("grant_type", "client_id"))
        app = self._app(client_id, real)
        proven = self._authenticate(
            form, app, {f"https://{request.host}/{t}/oauth2/v2.0/token" for t in (tenant, real)}
        )
        if grant == "client_credentials":
            if not proven:
                self._refuse(7000216)
            if tenant.lower() in ANY_TENANT:
                self._refuse(50059)
            return self._by_client(form, app)
        by_user = {
            "refresh_token": self._by_refresh_token,
            "password": self._by_password,
            DEVICE_CODE: self._by_device_code,
        }
        if grant not in by_user:
            self._refuse(70003, grant)
        if not proven and not app.get("public"):
            self._refuse(7000218)
        return by_user[grant](form, app)

    def _by_client(self, form: Mapping[str, str], app: Any) -> Reply:
        scope = form.get("scope") or self._missing("scope")
        resource = scope.removesuffix("/.default")
        if resource == scope or " " in scope:
            self._refuse(1002012, scope)
        self._known(resource)
        if not _fits(resource, app.get("application", ())):
            self._refuse(501051, form["client_id"], resource)
        principal = str(uuid5(NAMESPACE_OID, form["client_id"]))
        claims = {"oid": principal, "idtyp": "app", "roles": ["Application.All"]}
        token = self._access_token(resource, form["client_id"], claims)
        return Reply(
            body={"token_type": "Bearer", "expires_in": LIFETIME, "ext_expires_in": LIFETIME, "access_token": token}
        )

    def _by_refresh_token(self, form: Mapping[str, str], app: Any) -> Reply:
        token = form.get("refresh_token") or self._missing("refresh_token")
        grant = self.store.get("entra.refresh", digest(token))
        if grant is None:
            self._refuse(9002313)
        if grant["client_id"] != form["client_id"].lower():
            self._refuse(70000)
        if grant.get("revoked"):
            self._refuse(50173)
        if self._now() - grant["issued_at"] > REFRESH_LIFETIME:
            self._refuse(700082)
        body = self._user_token(form, app, grant["username"], grant["amr"])
        body["refresh_token"] = self._remember(form["client_id"], grant["username"], grant["amr"])
        grant.update(uses=grant["uses"] + 1, replaced_by=digest(str(body["refresh_token"])))
        self.store.put("entra.refresh", digest(token), grant)
        return Reply(body=body)

    def _by_password(self, form: Mapping[str, str], app: Any) -> Reply:
        name, password = (form.get(field) or self._missing(field) for field in ("username", "password"))
        user = self.store.get("entra.user", name.lower())
        if user is None:
            self._refuse(50034, name)
        if not hmac.compare_digest(user["password"], digest(password)):
            self._refuse(50126)
        if user["mfa"]:
            self._refuse(50076)
        return Reply(body=self._user_token(form, app, name.lower(), ["pwd"]))

    # Device code

    @route("POST", "/{tenant}/oauth2/v2.0/devicecode")
    def devicecode(self, request: Incoming, tenant: str) -> Reply:
        form = self._form(request)
        real = self._tenant(tenant)
        client_id, scope = (form.get(name) or self._missing(name) for name in ("client_id", "scope"))
        self._resource(scope, self._app(client_id, real), client_id)
        settings = self.store.get("entra", "device_sign_in")
        code = secrets.token_urlsafe(32)
        user_code = "".join(secrets.choice("BCDFGHJKLMNPQRSTVWXZ23456789") for _ in range(9))
        page = f"https://{request.host}/common/oauth2/deviceauth"
        flow = {"user_code": user_code, "client_id": client_id, "scope": scope, "interval": settings["interval"]}
        flow |= {"expires_at": self._now() + settings["expires_in"], "state": "pending"}
        self.store.put("entra.device", digest(code), flow)
        return Reply(
            body={
                "user_code": user_code,
                "device_code": code,
                "verification_uri": page,
                "expires_in": settings["expires_in"],
                "interval": settings["interval"],
                "message": f"To sign in, open {page}?user_code={user_code} and confirm the code {user_code}.",
            }
        )

    def _by_device_code(self, form: Mapping[str, str], app: Any) -> Reply:
        """Replies instead of refusing where the poll has to be remembered: a refusal undoes what was stored."""
        code = digest(form.get("device_code") or self._missing("device_code"))
        flow = self.store.get("entra.device", code)
        if flow is None or flow["client_id"] != form["client_id"]:
            self._refuse(70018)
        now = self._now()
        if now >= flow["expires_at"]:
            self._refuse(70020)
        if flow["state"] == "used":
            self._refuse(54005)
        too_soon = now < flow.get("polled_at", 0) + flow["interval"]
        answer = None
        if too_soon:
            flow["interval"] += 5
            answer = self._error(70016, "slow_down")
        elif flow["state"] == "declined":
            answer = self._error(70016, "authorization_declined")
        elif flow["state"] == "pending":
            settings = self.store.get("entra", "device_sign_in")
            if settings["automatic"]:
                flow |= {"state": "approved", "username": settings["user"]}
            answer = self._error(70016)
        else:
            flow["state"] = "used"
        self.store.put("entra.device", code, {**flow, "polled_at": now})
        if answer is not None:
            return answer
        amr = self._methods(flow["username"])
        return Reply(body=self._user_token({**form, "scope": flow["scope"]}, app, flow["username"], amr))

    @route("GET", "/common/oauth2/deviceauth")
    def device_page(self, request: Incoming) -> Reply:
        return sign_in(request.query.get("user_code", ""), [name for name, _ in self.store.all("entra.user")])

    @route("POST", "/common/oauth2/deviceauth")
    def device_answer(self, request: Incoming) -> Reply:
        form = {**request.query, **self._form(request)}
        username = form.get("username") or self.store.get("entra", "device_sign_in")["user"]
        if self.store.get("entra.user", username) is not None:
            for code, flow in self.store.all("entra.device"):
                open_still = flow["state"] == "pending" and flow["expires_at"] > self._now()
                if open_still and flow["user_code"] == form.get("user_code", "").strip().upper():
                    state = "declined" if form.get("action") == "decline" else "approved"
                    self.store.put("entra.device", code, {**flow, "state": state, "username": username})
                    return page(f"<p>{state.capitalize()}. You may close this window.</p>")
        return page("<p>That didn't work: the code is unknown, used or expired.</p>", 400)

    # What the grants share

    def _user_token(self, form: Mapping[str, str], app: Any, username: str, amr: list[str]) -> dict[str, JSON]:
        resource, asked = self._resource(form.get("scope") or self._missing("scope"), app, form["client_id"])
        user, tenant = self.store.get("entra.user", username), self.store.get("entra", "tenant")["id"]
        person = {"oid": user["oid"], "name": user["name"], "preferred_username": username}
        claims = {**person, "upn": username, "idtyp": "user", "scp": "user_impersonation", "amr": amr}
        body: dict[str, JSON] = {
            "token_type": "Bearer",
            "scope": f"{resource}/user_impersonation {resource}/.default",
            "expires_in": LIFETIME,
            "ext_expires_in": LIFETIME,
            "access_token": self._access_token(resource, form["client_id"], claims),
        }
        if "offline_access" in asked and form["grant_type"] != "refresh_token":
            body["refresh_token"] = self._remember(form["client_id"], username, amr)
        if "openid" in asked:  # unsigned: it is read where it came from, and verified by nobody
            about = {"iss": f"https://{self.hosts[0]}/{tenant}/v2.0", "aud": form["client_id"], "tid": tenant}
            payload = {**about, **self._times(), **person, "sub": user["oid"], "ver": "2.0"}
            body["id_token"] = f"{_base64({'alg': 'none', 'typ': 'JWT'})}.{_base64(payload)}."
        if form.get("client_info"):
            body["client_info"] = _base64({"uid": user["oid"], "utid": tenant})
        return body

    def _access_token(self, resource: str, client_id: str, claims: Mapping[str, JSON]) -> str:
        tenant = self.store.get("entra", "tenant")["id"]
        about = {"iss": f"https://sts.windows.net/{tenant}/", "aud": resource, "tid": tenant, "appid": client_id}
        return sign_token({**about, **self._times(), **claims, "uti": str(uuid4())})

    def _remember(self, client_id: str, username: str, amr: list[str], token: str = "") -> str:
        """Issues a refresh token."""
        token = token or f"1.{secrets.token_urlsafe(48)}"
        grant = {"client_id": client_id.lower(), "username": username, "amr": amr}
        self.store.put("entra.refresh", digest(token), {**grant, "issued_at": self._now(), "uses": 0})
        return token

    def _methods(self, username: str) -> list[str]:
        """How a user signs in at a browser (RFC 8176)."""
        return ["pwd", "mfa"] if self.store.get("entra.user", username)["mfa"] else ["pwd"]

    def _tenant(self, tenant: str) -> str:
        """The GUID of a tenant given as GUID, domain or `common`."""
        known = self.store.get("entra", "tenant")
        if tenant.lower() not in {known["id"], known["domain"], *ANY_TENANT}:
            self._refuse(90002, tenant)
        return str(known["id"])

    def _app(self, client_id: str, tenant: str) -> Any:
        app = self.store.get("entra.app", client_id.lower())
        if app is None:
            self._refuse(700016, client_id, tenant)
        return app

    def _authenticate(self, form: Mapping[str, str], app: Any, endpoints: set[str]) -> bool:
        """Whether the client has proven who it is; a wrong proof is refused, none is not."""
        if form.get("client_assertion"):
            if form.get("client_assertion_type") != JWT_BEARER:
                self._missing("client_assertion_type")
            from connectors.entra.assertion import assertion_fault  # noqa: PLC0415 - slow to import, seldom needed

            fault = assertion_fault(form["client_assertion"], app["certificates"], form["client_id"], endpoints)
            if fault:
                self._refuse(fault)
            return True
        secret = form.get("client_secret")
        if secret and not any(hmac.compare_digest(digest(secret), known) for known in app["secrets"]):
            self._refuse(7000215, form["client_id"])
        return bool(secret)

    def _resource(self, scope: str, app: Any, client_id: str) -> tuple[str, frozenset[str]]:
        """The one resource that scopes of a user's sign-in are about, and those scopes."""
        asked = frozenset(scope.split())
        found = {text.rpartition("/")[0] for text in asked - OPENID_SCOPES}
        known = all(text.endswith(("/.default", "/user_impersonation")) for text in asked - OPENID_SCOPES)
        if len(found) != 1 or not known:
            self._refuse(70011, scope)
        (resource,) = found
        self._known(resource)
        if not _fits(resource, app.get("delegated", ())):
            self._refuse(65001, client_id)
        return resource, asked

    def _known(self, resource: str) -> None:
        if not _fits(resource, self.store.get("entra", "resources")):
            self._refuse(500011, resource)

    def _form(self, request: Incoming) -> dict[str, str]:
        """The form of a request, with credentials of HTTP Basic (RFC 6749 §2.3.1) put into it."""
        try:
            form = request.form()
            scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
            if scheme.lower() == "basic":
                client_id, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
                form |= {"client_id": unquote_plus(client_id), "client_secret": unquote_plus(secret)}
        except (UnicodeDecodeError, binascii.Error):
            self._refuse(9002313)
        return form

    def _now(self) -> float:
        return self.clock.now().timestamp()

    def _times(self) -> dict[str, JSON]:
        now = int(self._now())
        return {"iat": now, "nbf": now, "exp": now + LIFETIME}

    # Refusals

    def not_found(self, request: Incoming) -> Reply:
        return Reply(404)

    def wrong_method(self, request: Incoming) -> Reply:
        return self._error(900561, None, request.method)

    def _missing(self, name: str) -> NoReturn:
        self._refuse(900144, name)

    def _refuse(self, number: int, *values: str) -> NoReturn:
        raise Refusal(self._error(number, None, *values))

    def _error(self, number: int, code: str | None = None, *values: str) -> Reply:
        status, error, text = REFUSALS[number]
        trace, correlation = str(uuid4()), str(uuid4())
        at = self.clock.now().strftime("%Y-%m-%d %H:%M:%SZ")
        ids = f"Trace ID: {trace} Correlation ID: {correlation} Timestamp: {at}"
        body = {
            "error": code or error,
            "error_description": f"AADSTS{number}: {text.format(*values)} {ids}",
            "error_codes": [number],
            "timestamp": at,
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": f"https://{self.hosts[0]}/error?code={number}",
        }
        return Reply(status, body, {"Cache-Control": "no-store"})


@cache
def _seed() -> Any:
    folder = Path(__file__).parent
    seed = yaml.safe_load((folder / "seed.yaml").read_text("utf-8"))
    for app in seed["apps"].values():
        files = ((folder / name).read_text("utf-8") for name in app.get("certificates", ()))
        app["certificates"] = [text[text.index("-----BEGIN CERTIFICATE") :] for text in files]
    return seed


def digest(secret: str) -> str:
    """What the store keeps of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _fits(resource: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(resource, pattern) for pattern in patterns)


def _base64(value: Mapping[str, JSON]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")
