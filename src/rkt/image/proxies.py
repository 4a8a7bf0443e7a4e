"""Which proxy a URL is fetched through: ``HTTP_PROXY``, ``HTTPS_PROXY`` and ``NO_PROXY``, as Go reads them.

The lower-case spellings count too, the upper-case one first.  ``NO_PROXY`` is a list, separated by commas, of
``*``, host names (with all names below them; with a leading dot only those), IP addresses and networks
(``10.0.0.0/8``), each with an optional port.  The machine itself is never asked through a proxy.
"""

from __future__ import annotations

import ipaddress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_PORTS = {"http": 80, "https": 443}


def proxy_for(scheme: str, host: str, port: int, environment: Mapping[str, str]) -> str:
    """The URL of the proxy for a host, without brackets around an IPv6 address; "" for a direct way."""
    name = f"{scheme.upper()}_PROXY"
    # In a CGI program HTTP_PROXY is a header of the request (CVE-2016-5385).
    cgi = scheme == "http" and "REQUEST_METHOD" in environment
    proxy = ("" if cgi else environment.get(name, "")) or environment.get(name.lower(), "")
    if not proxy or _is_local(host):
        return ""
    exceptions = environment.get("NO_PROXY", "") or environment.get("no_proxy", "")
    if any(_matches(pattern.strip(), host, port) for pattern in exceptions.split(",")):
        return ""
    return proxy if "://" in proxy else f"http://{proxy}"


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def _matches(pattern: str, host: str, port: int) -> bool:
    if not pattern:
        return False
    if pattern == "*":
        return True
    address = _address(host)
    if "/" in pattern:
        try:
            network = ipaddress.ip_network(pattern, strict=False)
        except ValueError:
            return False
        return address is not None and address in network
    name, wanted_port = _split_port(pattern)
    if wanted_port and wanted_port != str(port):
        return False
    other = _address(name)
    if other is not None or address is not None:
        return other == address
    name, host = name.lower().removeprefix("*"), host.lower().rstrip(".")
    if name.startswith("."):
        return host.endswith(name)
    return host == name or host.endswith("." + name)


def _split_port(pattern: str) -> tuple[str, str]:
    if pattern.startswith("["):
        name, _, rest = pattern[1:].partition("]")
        return name, rest.removeprefix(":")
    if pattern.count(":") == 1:
        name, _, port = pattern.partition(":")
        return name, port
    return pattern, ""


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
