"""How the API server is reached: address, trust, identity, and one shared HTTP session."""

import logging
import math
import os
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from kubernetes import config as kubeconfig
from kubernetes.client import Configuration

logger = logging.getLogger(__name__)

SERVICE_ACCOUNT_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
USER_AGENT = "asyncflow"

TOKEN_SECONDS = 10.0
"""How long a token is used before it is asked for again: that costs as much as the rest of a request."""


class ConnectionFailed(Exception):
    """No way to an API server was found, or nothing to say who asks; the message says what was looked for."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits of one request, in seconds."""

    total: float = 30
    connect: float = 5


class Connection:
    """One API server, and HTTP sessions to it: ours, and one for kopf's watches.

    A token that expires is reloaded in time: the configuration's own hook is asked every ten seconds (the
    kubelet renews a projected token's file long before its end). A session that was closed is replaced at its
    next use.
    """

    def __init__(
        self,
        settings: Configuration,
        timeouts: Timeouts | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._timeouts = timeouts or Timeouts()
        self._session: aiohttp.ClientSession | None = None
        self._tls = _tls_context(settings)
        self._clock = clock
        self._identity: Mapping[str, str] = {}
        self._identity_until = -math.inf

    @property
    def server(self) -> str:
        """The API server's base address."""
        return str(self._settings.host).rstrip("/")

    @property
    def read_timeout(self) -> aiohttp.ClientTimeout:
        """How long a request may take that changes nothing."""
        return aiohttp.ClientTimeout(total=self._timeouts.total, sock_connect=self._timeouts.connect)

    @property
    def session(self) -> aiohttp.ClientSession:
        """The open session: each request brings the headers of `identity`. Needs a running event loop."""
        if self._session is None or self._session.closed:
            self._session = self._open()
        return self._session

    def new_session(self, *middlewares: aiohttp.ClientMiddlewareType) -> aiohttp.ClientSession:
        """Return another session to the same server, which authenticates by itself; the caller closes it.

        Args:
            middlewares: what each request passes through before it is sent.
        """
        return self._open(*middlewares, self._authenticate)

    def _open(self, *middlewares: aiohttp.ClientMiddlewareType) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, limit_per_host=0, ssl=self._tls or True),
            timeout=self.read_timeout,
            headers={"User-Agent": USER_AGENT},
            middlewares=middlewares,
        )

    def identity(self) -> Mapping[str, str]:
        """Return the headers that say who asks, as they are now.

        A token that can't be read for a moment is used on as it was.

        Raises:
            ConnectionFailed: there is none yet.
        """
        if (now := self._clock()) < self._identity_until:
            return self._identity
        try:
            token = self._settings.get_api_key_with_prefix("BearerToken", alias="authorization") or ""
        except (kubeconfig.ConfigException, OSError) as error:
            if not self._identity:
                raise ConnectionFailed(f"failed to read bearer token: {error}") from error
            logger.warning("failed to reload bearer token, using the cached one: %s", error)
        else:
            token = token.split(" ", 1)[-1].strip()
            self._identity = {"Authorization": f"Bearer {token}"} if token else {}
            self._identity_until = now + TOKEN_SECONDS
        return self._identity

    async def close(self) -> None:
        """Close the session; without effect if it is closed."""
        if self._session is not None:
            await self._session.close()

    async def _authenticate(
        self, request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        request.headers.update(self.identity())
        return await send(request)


def connect(*, kubeconfig_file: str | None = None, context: str | None = None) -> Connection:
    """Find the API server: the pod's own service account, or else a kubeconfig.

    Args:
        kubeconfig_file: a kubeconfig to use whatever else there is.
        context: the context in it.

    Raises:
        ConnectionFailed: neither leads anywhere.
    """
    settings: Any = Configuration()
    loaders: Any = kubeconfig  # untyped
    try:
        if kubeconfig_file is None and context is None and SERVICE_ACCOUNT_TOKEN.exists():
            loaders.load_incluster_config(client_configuration=settings)
        else:
            loaders.load_kube_config(kubeconfig_file, context, client_configuration=settings)
    except (kubeconfig.ConfigException, OSError) as error:
        problem = str(error).rstrip(".")
        where = kubeconfig_file or os.environ.get("KUBECONFIG") or "~/.kube/config"
        raise ConnectionFailed(
            f"no API server found: not in a pod, and {where}: {problem}. "
            "Name a kubeconfig with --kubeconfig or KUBECONFIG, and a context in it with --context"
        ) from error
    return Connection(settings)


def _tls_context(settings: Configuration) -> ssl.SSLContext | None:
    if not str(settings.host).startswith("https://"):
        return None
    context = ssl.create_default_context(cafile=settings.ssl_ca_cert)
    if settings.cert_file:
        context.load_cert_chain(settings.cert_file, settings.key_file)
    if not settings.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
