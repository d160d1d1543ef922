"""What a request says about itself: its path without the proxy's prefix, that prefix, and the client's address."""

import ipaddress

from starlette.requests import HTTPConnection
from starlette.types import Scope


def route_path(scope: Scope) -> str:
    """Returns the path that Starlette's router compares with its routes: without the prefix `root_path`, if present."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    if not root or not path.startswith(root) or path[len(root) : len(root) + 1] not in ("", "/"):
        return path
    return path[len(root) :]


def path_prefix(connection: HTTPConnection) -> str:
    """Returns the prefix under which a proxy serves this app, without a slash at its end; usually ""."""
    return str(connection.scope.get("root_path", "")).rstrip("/")


def client_address(connection: HTTPConnection) -> str:
    """Returns the address by which failed logins are counted: an IPv4 address, or the /64 network of an IPv6 client."""
    host = connection.client.host if connection.client else ""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host[:64]
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(address.ipv4_mapped or ipaddress.IPv6Network((address.packed, 64), strict=False))


def is_loopback(host: str) -> bool:
    """Returns True if only this machine can reach `host`. The host "" stands for every address."""
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
