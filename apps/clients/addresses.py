"""Keeps outgoing calls away from private networks, checked on the address being connected to."""

import errno
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from yarl import URL

SCHEMES = ("http", "https")

# 64:ff9b::a.b.c.d is how a network without IPv4 spells a.b.c.d.
NAT64 = ip_network("64:ff9b::/96")

# Ranges that Python 3.11 takes for public, in some patch release or in all.
NOT_PUBLIC = (
    ip_network("168.63.129.16/32"),  # the host behind an Azure machine
    ip_network("192.0.0.0/24"),  # protocol assignments, Oracle's metadata server among them
    ip_network("192.88.99.0/24"),  # relays of 6to4
    ip_network("64:ff9b:1::/48"),  # NAT64 for private use
)


class AddressRefused(OSError):
    """The peer's address is not public.

    An OSError, so that it travels like any other reason not to connect; it does not name the
    address, so that nobody can map a private network by asking.
    """

    def __init__(self) -> None:
        super().__init__(errno.EACCES, "the address is not public")


class UrlRefused(ValueError):
    """A URL that can never be called, whatever its host resolves to."""


def check_url(url: str) -> URL:
    """Parse an http(s) URL with a host and without credentials, or raise UrlRefused."""
    try:
        parsed = URL(url)
        port = parsed.port
        (parsed.host or "").encode("idna")  # a name that cannot be looked up
    except ValueError:
        raise UrlRefused("This is not a URL.") from None
    if parsed.scheme not in SCHEMES:
        raise UrlRefused("The URL must begin with http:// or https://.")
    if not parsed.raw_host or not port:
        raise UrlRefused("The URL must name a host.")
    if parsed.raw_user is not None or parsed.raw_password is not None:
        raise UrlRefused("The URL must not hold a user name or password.")
    return parsed


def is_public(address: str) -> bool:
    """Return whether `address`, a literal in any spelling, lies in the public internet."""
    ip = ip_address(address)
    if isinstance(ip, IPv6Address):
        ip = _embedded(ip) or ip
    return (
        ip.is_global
        and not (ip.is_multicast or ip.is_reserved or ip.is_link_local)
        and not getattr(ip, "is_site_local", False)
        and not any(ip in network for network in NOT_PUBLIC)
    )


def _embedded(ip: IPv6Address) -> IPv4Address | None:
    if ip in NAT64:
        return IPv4Address(ip.packed[-4:])
    return ip.ipv4_mapped or ip.sixtofour
