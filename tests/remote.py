"""The services of the sandbox on loopback, in this process, for flowrun processes that come and go.

Their state is on disk and survives the callers. What an emulator really did is on record, also where its answer was
lost afterwards.
"""

from __future__ import annotations

import gc
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connectors.dynamics365.emulator import Dataverse
from connectors.entra.emulator import Entra
from connectors.partner_center.emulator import PartnerCenter
from engine.sandbox import WSGI, Emulator, Faults, Store, serve

LOGIN, REFERRALS, CRM = "login.microsoftonline.com", "api.partner.microsoft.com", "contoso.crm.dynamics.com"
MAIN = "8f3c1a52-6b7d-4e9f-a1b2-c3d4e5f60718"
# What the settings of `connections` refer to: the credentials that the emulators know.
VARIABLES = {
    "PC_TENANT": "5b0f4c1e-7d8a-4f1c-9a55-1d2e3f405060",
    "PC_CLIENT_ID": PartnerCenter.connections["partner_center"]["client_id"],
    "PC_SECRET": PartnerCenter.connections["partner_center"]["client_secret"],
    "PC_REFRESH_TOKEN": PartnerCenter.connections["partner_center"]["refresh_token"],
    "CRM_URL": Dataverse.connections["dynamics365"]["url"],
    "CRM_CLIENT_ID": Dataverse.connections["dynamics365"]["client_id"],
    "CRM_SECRET": Dataverse.connections["dynamics365"]["client_secret"],
}
CONNECTIONS = """\
      partner_center:
        tenant: "${env:PC_TENANT}"
        client_id: "${env:PC_CLIENT_ID}"
        client_secret: "${env:PC_SECRET}"
        refresh_token: "${env:PC_REFRESH_TOKEN}"
      dynamics365:
        url: "${env:CRM_URL}"
        tenant: "${env:PC_TENANT}"
        client_id: "${env:CRM_CLIENT_ID}"
        client_secret: "${env:CRM_SECRET}"
      sqlite: {path: leads.db}
"""


@dataclass(frozen=True)
class Exchange:
    """A request that an emulator handled, and its answer's status."""

    method: str
    host: str
    path: str
    status: int

    @property
    def wrote(self) -> bool:
        return self.method not in ("GET", "HEAD", "OPTIONS") and self.status < 300 and self.host != LOGIN


class Remote:
    """Entra ID, Partner Center and Dataverse behind one loopback address."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: list[Exchange] = []
        self.apps: dict[str, WSGI] = {}
        self._count = 0
        self._seed = folder / "seed.db"
        store = Store(self._seed)
        for kind in (Entra, PartnerCenter, Dataverse):
            kind(store)
        store.close()
        self.store = Store()
        self.renew()
        self.server = serve(self.apps)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def renew(self, rates: Mapping[str, float] | None = None, seed: int | None = None) -> None:
        """The seeded state again, failing at these rates."""
        self.store.close()
        (self.folder / f"{self._count}.db").unlink(missing_ok=True)
        self._count += 1
        path = self.folder / f"{self._count}.db"
        shutil.copy(self._seed, path)
        self.store = Store(path)
        self.entra, self.referrals, self.crm = Entra(self.store), PartnerCenter(self.store), Dataverse(self.store)
        self.seen.clear()
        emulators: tuple[Emulator, ...] = (self.entra, self.referrals, self.crm)
        for number, emulator in enumerate(emulators):
            app: WSGI = self._logged(emulator)
            if rates:
                app = Faults(app, rates, seed=None if seed is None else seed + number)
            self.apps |= dict.fromkeys(emulator.hosts, app)

    def _logged(self, emulator: Emulator) -> WSGI:
        def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            def started(status: str, headers: Any, error: Any = None) -> Any:
                what = (environ["REQUEST_METHOD"], environ["HTTP_HOST"], environ["RAW_URI"], int(status[:3]))
                self.seen.append(Exchange(*what))
                return start_response(status, headers, error)

            return emulator(environ, started)

        return app

    def settle(self) -> None:
        """Waits until what dead callers had sent is handled."""
        end = time.monotonic() + 10
        while time.monotonic() < end:
            busy = [t for t in threading.enumerate() if "process_request_thread" in t.name]
            if not busy:
                return
            for thread in busy:
                if thread.ident is not None:  # it has been started
                    thread.join(max(0.0, end - time.monotonic()))

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        gc.collect()  # callers in this process: their connections end with them
        self.settle()
        self.store.close()

    def connections(self, more: str = "") -> str:
        """A connections.yaml whose environment `lab` has the settings of production and is routed here."""
        routes = "".join(f'      {host}: "{self.url}"\n' for host in self.apps)
        return f"environments:\n  lab:\n    route:\n{routes}    connections:\n{CONNECTIONS}{more}"

    # What is there now

    def referral(self, id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.store.get("partner_center.referral", id)
        return found

    def edit_referral(self, id: str, details: Mapping[str, Any] | None = None, **properties: Any) -> None:
        """What a person changes in the portal."""
        before = self.referral(id)
        with self.store.transaction():
            details = {**(before["details"] or {}), **details} if details else before["details"]
            self.referrals._save({**before, "details": details, **properties}, touch=True)

    def leads(self, key: str | None = None) -> list[dict[str, Any]]:
        """The leads, or those of one referral."""
        return [row for row in self.crm.rows("leads") if key is None or row.get("new_referralid") == key]

    @property
    def writes(self) -> list[Exchange]:
        """The requests that changed something."""
        return [e for e in self.seen if e.wrote]


@contextmanager
def remote(folder: Path) -> Iterator[Remote]:
    """A Remote for as long as it is needed."""
    folder.mkdir(parents=True, exist_ok=True)
    found = Remote(folder)
    try:
        yield found
    finally:
        found.close()
