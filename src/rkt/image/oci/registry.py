"""A registry's side of the OCI distribution specification 1.1, which is Docker's registry API version 2.

One object asks for one image.  It goes through the places ``registries.conf`` names, mirrors first; the one
that has the manifest is asked for the rest, and the others where it fails.  Answers are not believed: whoever
asks checks digests (``rkt.store.digest``).
"""

from __future__ import annotations

from rkt.errors import RktError
from rkt.image.http import Access, Client, HttpError, TransferError
from rkt.image.oci import documents, registries
from rkt.image.oci.authentication import Authenticator
from rkt.image.oci.source import Document, Source
from rkt.store import digest as digests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from rkt.config import Config
    from rkt.image.connections import Tls
    from rkt.image.http import Response
    from rkt.image.insecure import InsecureOptions
    from rkt.image.oci.documents import Descriptor
    from rkt.image.oci.names import ContainerName
    from rkt.image.oci.registries import Endpoint

_ACCEPT = ", ".join((*documents.INDEXES, *documents.MANIFESTS))
_RESUMPTIONS = 5


class RegistryAccess(Access):
    """Which hosts may be reached by http or with any certificate, and which certificates are theirs."""

    __slots__ = ("_insecure_hosts",)

    def __init__(self, insecure: InsecureOptions, hosts: set[str]) -> None:
        super().__init__(insecure)
        self._insecure_hosts = hosts

    def plain(self, host: str) -> bool:
        return host in self._insecure_hosts or super().plain(host)

    def tls(self, host: str) -> Tls:
        from rkt.image.connections import Tls

        found = registries.certificates(host)
        tls = super().tls(host)
        verify = tls.verify and host not in self._insecure_hosts
        if found is None:
            return Tls(verify=verify)
        return Tls(verify=verify, authorities=found.authorities, certificate=found.certificate, key=found.key)


class Registry(Source):
    """The registry of one image; a context manager."""

    __slots__ = ("_access", "_authenticator", "_bases", "_client", "_endpoints", "_name", "_notify")

    remote = True

    def __init__(
        self,
        name: ContainerName,
        insecure: InsecureOptions,
        config: Callable[[], Config] | None,
        notify: Callable[[str], object],
    ) -> None:
        """Raises RktError for a registry that is blocked."""
        self._name = name
        self._endpoints = registries.load().endpoints(name)
        hosts = {endpoint.host for endpoint in self._endpoints if endpoint.insecure}
        self._access = RegistryAccess(insecure, hosts)
        self._client = Client(self._access, notify)
        self._notify = notify
        self._authenticator = Authenticator(self._client, config().docker_auth if config else {})
        # host -> https://HOST or http://HOST, once that is known
        self._bases: dict[str, str] = {}

    def document(self, reference: str) -> Document | None:
        failure: RktError | None = None
        for endpoint in list(self._endpoints):
            try:
                found = self._document(endpoint, reference)
            except RktError as error:
                failure = failure or error
                self._notify(f"{endpoint.host}: {error}")
                continue
            if found is not None:
                # The place that has the image is asked first from now on.
                self._endpoints.remove(endpoint)
                self._endpoints.insert(0, endpoint)
                return found
        if failure is not None:
            raise failure
        return None

    def _document(self, endpoint: Endpoint, reference: str) -> Document | None:
        path = f"manifests/{reference}"
        with self._request(endpoint, path, {"Accept": _ACCEPT}) as response:
            if response.status == 404:
                return None
            _require(response, endpoint, 200)
            data = response.read_all(documents.MAX_DOCUMENT)
            media_type = response.header("Content-Type")
            said = response.header("Docker-Content-Digest")
        if ":" in reference:
            digests.verify(data, digests.check(reference), f"manifest {reference}")
            return Document(data, media_type, reference)
        digest = digests.of(data)
        if said.startswith("sha256:") and said != digest:
            raise RktError(
                f"the manifest of {endpoint}:{reference} has the digest {digest} instead of {said}"
            )
        return Document(data, media_type, digest)

    def open(self, descriptor: Descriptor) -> Blob:
        failure: RktError | None = None
        for endpoint in list(self._endpoints):
            try:
                return Blob(self, endpoint, descriptor)
            except RktError as error:
                failure = failure or error
        assert failure is not None
        raise failure

    def lookaside(self, digest: str) -> list[bytes]:
        """The OpenPGP signatures that ``registries.d`` says are kept elsewhere."""
        from rkt.image.oci import lookaside

        return lookaside.signatures(self._client, self._name, digest)

    def request_blob(self, endpoint: Endpoint, digest: str, offset: int) -> Response:
        """A blob from ``offset`` on.  Raises RktError unless that is what the registry gives."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        response = self._request(endpoint, f"blobs/{digest}", headers)
        try:
            _require(response, endpoint, 206 if offset else 200)
            if offset and not response.header("Content-Range").startswith(f"bytes {offset}-"):
                raise RktError(f"registry {endpoint.host} gave another part than was asked for")
        except BaseException:
            response.close()
            raise
        return response

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Asking

    def _request(self, endpoint: Endpoint, path: str, headers: dict[str, str]) -> Response:
        """Ask, with a token or password once the registry wants one."""
        base = self._base(endpoint)
        url = f"{base}/v2/{endpoint.repository}/{path}"
        identity = self._authenticator.headers(base, endpoint)
        response = self._client.request("GET", url, headers={**headers, **identity})
        if response.status != 401:
            return response
        challenge = response.header("WWW-Authenticate")
        response.close()
        identity = self._authenticator.answer(challenge, base, endpoint, stale=identity)
        return self._client.request("GET", url, headers={**headers, **identity})

    def _base(self, endpoint: Endpoint) -> str:
        """https, or http where that is allowed and there is no https."""
        base = self._bases.get(endpoint.host)
        if base is None:
            base = f"https://{endpoint.host}"
            if self._access.plain(endpoint.host):
                try:
                    self._client.request("GET", f"{base}/v2/").close()
                except HttpError as error:
                    if error.status:
                        raise
                    base = f"http://{endpoint.host}"
            self._bases[endpoint.host] = base
        return base


class Blob:
    """The bytes of a blob as they arrive; a connection that breaks off is made again from there on."""

    __slots__ = ("_at", "_descriptor", "_endpoint", "_left", "_registry", "_response")

    def __init__(self, registry: Registry, endpoint: Endpoint, descriptor: Descriptor) -> None:
        self._registry = registry
        self._endpoint = endpoint
        self._descriptor = descriptor
        self._at = 0
        self._left = _RESUMPTIONS
        self._response = registry.request_blob(endpoint, descriptor.digest, 0)
        length = self._response.length
        if length is not None and length != descriptor.size:
            self._response.close()
            raise RktError(f"blob {descriptor.digest} has {length} bytes instead of {descriptor.size}")

    def read(self, size: int, /) -> bytes:
        while True:
            try:
                data = self._response.read(size)
            except TransferError:
                if not self._left or not self._at:
                    raise
                self._left -= 1
                self._response.close()
                self._response = self._registry.request_blob(
                    self._endpoint, self._descriptor.digest, self._at
                )
                continue
            self._at += len(data)
            return data

    def __enter__(self) -> Blob:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._response.close()


def _require(response: Response, endpoint: Endpoint, status: int) -> None:
    if response.status == status:
        return
    if response.status in (401, 403):
        raise RktError(
            f"registry {endpoint.host} refuses access to {endpoint.repository}",
            hint="credentials belong into the auth.d directory of the configuration, or are kept by: "
            f"podman login {endpoint.host}",
        )
    if response.status == 404:
        raise HttpError(f"registry {endpoint.host} does not have what its manifest names", status=404)
    raise HttpError(f"registry {endpoint.host} answered {response.status}", status=response.status)
