"""Sessions: a signed cookie that is valid for a week, and the secret that signs it.

The cookie holds the user's name, its expiry and a digest of the user's credential, so that another password, another
token or a deleted user ends the session. The server stores nothing for each session.
"""

import hmac
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

from starlette.requests import HTTPConnection

from retrieval.errors import FolioscopeError

COOKIE = "folioscope"
SESSION = 7 * 24 * 3600  # seconds
COOKIES_READ = 4  # cookies of our name in one request: other sites of the same domain may add some


class Sessions:
    """Issues and reads session cookies.

    secret: 32 bytes. credential: returns a text that changes with the user's password, "" for an unknown user.
    clock: seconds since 1970.
    """

    def __init__(self, secret: bytes, credential: Callable[[str], str], clock: Callable[[], float]) -> None:
        self._secret = secret
        self._credential = credential
        self._clock = clock

    def issue(self, user: str) -> str:
        """Returns the value of the cookie: signed, valid for SESSION seconds from now."""
        expiry = int(self._clock()) + SESSION
        text = f"{user}|{expiry}|{self._credential(user)}".encode()
        return f"{text.hex()}.{digest(self._secret, 'session', text).hex()}"

    def user(self, connection: HTTPConnection) -> str:
        """Returns the user of the request's session, "" without a valid session."""
        pairs = (pair.partition("=") for pair in ";".join(connection.headers.getlist("cookie")).split(";"))
        cookies = [value.strip() for name, _, value in pairs if name.strip() == COOKIE]
        return next(filter(None, map(self._user_of, cookies[:COOKIES_READ])), "")

    def _user_of(self, cookie: str) -> str:
        try:
            text, signature = (bytes.fromhex(half) for half in cookie.split("."))
        except ValueError:
            return ""
        if not hmac.compare_digest(signature, digest(self._secret, "session", text)):
            return ""
        user, expiry, credential = text.decode().rsplit("|", 2)
        is_valid = credential and credential == self._credential(user) and int(expiry) > self._clock()
        return user if is_valid else ""


def digest(secret: bytes, purpose: str, data: bytes) -> bytes:
    """Returns the keyed SHA-256 digest of `data`; a digest made for one purpose is useless for another."""
    return hmac.digest(secret, purpose.encode() + b"|" + data, "sha256")


def read_secret(folder: Path) -> bytes:
    """Returns the 32 bytes in `folder`/.secret, which are created if missing. Raises FolioscopeError."""
    path = folder / ".secret"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            with NamedTemporaryFile(dir=folder, prefix=".secret-") as file:  # created with mode 0600
                file.write(secrets.token_bytes(32))
                file.flush()
                os.fsync(file.fileno())
                with suppress(FileExistsError):  # another server that started at the same time was first
                    path.hardlink_to(file.name)  # the file appears complete, or not at all
        secret = path.read_bytes()
    except OSError as error:
        raise FolioscopeError(
            f"cannot create or read {path}, which signs the sessions ({error.strerror}): "
            "put its folder on a local disk and make it writable for this user"
        ) from error
    if len(secret) != 32:
        raise FolioscopeError(
            f"{path} has {len(secret)} bytes, not 32: delete it; the server creates a new one, and everyone has to "
            "log in again"
        )
    return secret
