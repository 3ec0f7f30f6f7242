"""Which addresses the service may call: a URL of a client's must not reach into the service's own network.

A name is resolved once, every address that it stands for is judged, and the connection goes to the very address
that was judged: a name that answers differently the second time (DNS rebinding) gains nothing.
"""

import ipaddress
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

from app.errors import ServiceError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_URL = 1000
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class AddressRefusedError(ServiceError):
    """The service does not call this address."""

    status, slug, title = 422, "webhook-url-refused", "Webhook URL refused"


def check_url(url: str, allowed: Sequence[Network]) -> None:
    """Refuse a URL that the service would not call as things are now.

    Args:
        url: `https://…`; `http://…` is for addresses in `allowed` alone.
        allowed: Networks that may be called although they are not public.

    Raises:
        AddressRefusedError: It is malformed, cannot be resolved, or leads to an address that is not public.
    """
    if len(url) > MAX_URL or not url.isascii() or not url.isprintable() or " " in url:
        raise AddressRefusedError(f"A webhook URL has at most {MAX_URL} printable ASCII characters.")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise AddressRefusedError("The webhook URL is malformed.") from None
    if parts.scheme not in {"https", "http"} or not host:
        raise AddressRefusedError("A webhook URL begins with https:// and names a host.")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise AddressRefusedError("A webhook URL holds neither credentials nor a fragment.")
    address = resolve(host, port or (443 if parts.scheme == "https" else 80), allowed)
    if parts.scheme == "http" and not _within(address, allowed):
        raise AddressRefusedError("A webhook URL begins with https://.")


def resolve(host: str, port: int, allowed: Sequence[Network]) -> Address:
    """Return an address of `host` that may be called.

    Raises:
        AddressRefusedError: There is none, or one of its addresses must not be called.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise AddressRefusedError(f"The webhook's host {host} cannot be resolved.") from None
    addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    if not all(is_callable(address, allowed) for address in addresses):
        raise AddressRefusedError(
            f"The webhook's host {host} leads to an address that is not public; "
            "EXPUNGE_WEBHOOK_ALLOWED_NETWORKS names networks that may be called all the same."
        )
    return addresses[0]


def is_callable(address: Address, allowed: Sequence[Network]) -> bool:
    """Tell whether an address is public, or in one of the allowed networks.

    >>> judge = lambda text: is_callable(ipaddress.ip_address(text), [])
    >>> [judge(text) for text in ("93.184.215.14", "10.0.0.1", "127.0.0.1", "169.254.169.254", "0.0.0.0")]
    [True, False, False, False, False]

    IPv6 addresses that wrap an IPv4 address are judged by what they wrap.

    >>> [judge(text) for text in ("::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "fd00::1")]
    [False, False, False, False, False]
    """
    inner = _wrapped(address)
    return _within(inner, allowed) or (inner.is_global and not inner.is_multicast)


def _wrapped(address: Address) -> Address:
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    teredo = address.teredo[1] if address.teredo is not None else None
    return address.ipv4_mapped or address.sixtofour or teredo or address


def _within(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)
