"""Authentication: decides who a request comes from.

People log in on a page (`ui.web.login`), which gives them a signed cookie for a week (`ui.web.sessions`). Programs send
`Authorization`: Bearer with the token, or Basic with a name and a password. The users file (`ui.service.users`) is read
once, when the server starts. `ui.web.guard` puts this in front of everything that is served.
"""

import asyncio
import base64
import hmac
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from starlette.requests import HTTPConnection

from retrieval.errors import FolioscopeError
from ui.service.users import (
    LONGEST_NAME,
    LONGEST_PASSWORD,
    NEW_LINE,
    TOKEN_USER,
    matches,
    read_users,
    unknown_hash,
)
from ui.web.connection import client_address, is_loopback
from ui.web.failures import Failures, TooManyAttempts
from ui.web.sessions import Sessions, digest, read_secret

SHORTEST_TOKEN = 20  # characters
KNOWN = 300.0  # seconds for which a correct password is cached, so that its hash is not computed again
WAITING = 32  # passwords that wait for their hash to be computed; further logins are rejected
PAUSE = 3  # seconds after which a rejected login may try again
NEW_TOKEN = 'python -c "import secrets; print(secrets.token_urlsafe(24))"'


class Authentication:
    """Decides who a request comes from. Everything it remembers is bounded; it stores no password."""

    def __init__(
        self, secret: bytes, token: str, users: Mapping[str, str], clock: Callable[[], float] = time.time
    ) -> None:
        """secret: 32 bytes that sign the sessions. users: hashes by name. clock: seconds since 1970."""
        self.has_token = bool(token)
        self.sessions = Sessions(secret, self._credential, clock)
        self._secret = secret
        self._token = token
        self._users = users
        # Checked for unknown names, so that they take as long as known ones; no password matches this hash.
        self._unknown = unknown_hash()
        self._clock = clock
        self._failures = Failures(clock)
        self._known: dict[str, tuple[bytes, float]] = {}  # by user: digest of the right password, until when
        self._waiting = 0
        # One hash at a time: each needs 16 MiB of memory and a core.
        self._hashing = ThreadPoolExecutor(1, thread_name_prefix="password")

    async def user(self, connection: HTTPConnection) -> str:
        """Returns the name of the user who sent the request, "" for a stranger. Raises TooManyAttempts.

        The session is read first: a proxy may ask for a Basic password of its own, which browsers then send
        here with every request.
        """
        if user := self.sessions.user(connection):
            return user
        headers = connection.headers.getlist("authorization")
        scheme, _, value = headers[0].partition(" ") if len(headers) == 1 else ("", "", "")
        match scheme.lower():
            case "bearer":
                return await self.check("", value.strip(), client_address(connection))
            case "basic":
                pair = _name_and_password(value.strip())
                return await self.check(*pair, client_address(connection)) if pair else ""
            case _:
                return ""

    async def check(self, name: str, password: str, address: str) -> str:
        """Returns the user's name if the password is right, else "". Without a name, the password is the token.

        Raises TooManyAttempts if this address has failed too often, or if too many passwords wait. The right token is
        rejected then as well: accepting it would let a blocked address go on guessing.
        """
        self._failures.check(address)
        if not name:
            return self._counted(TOKEN_USER if self._is_token(password) else "", address)
        if len(name) > LONGEST_NAME or len(password) > LONGEST_PASSWORD:
            return self._counted("", address)
        if self._is_known(name, password):
            return name
        if self._waiting >= WAITING:
            raise TooManyAttempts(f"Too many logins at the same time: try again in {PAUSE} seconds.", PAUSE)
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._hashing, self._check_hash, name, password, address)
        finally:
            self._waiting -= 1

    def _check_hash(self, name: str, password: str, address: str) -> str:
        # Check both again: while this login waited, others may have failed, or confirmed the same password.
        self._failures.check(address)
        if self._is_known(name, password):
            return name
        is_right = matches(password, self._users.get(name, self._unknown))
        if is_right:
            self._known[name] = self._digest("known", password), self._clock() + KNOWN
        return self._counted(name if is_right else "", address)

    def _counted(self, user: str, address: str) -> str:
        """Returns `user`; counts a failure of the address if it is ""."""
        if not user:
            self._failures.add(address)
        return user

    def _is_known(self, name: str, password: str) -> bool:
        known, until = self._known.get(name, (b"", 0.0))
        return self._clock() < until and hmac.compare_digest(known, self._digest("known", password))

    def _is_token(self, text: str) -> bool:
        is_same = hmac.compare_digest(self._digest("token", text), self._digest("token", self._token))
        return is_same and self.has_token

    def _credential(self, user: str) -> str:
        """Returns a text that changes with the user's password; "" for a user who does not exist (any more)."""
        stored = self._token if user == TOKEN_USER else self._users.get(user, "")
        return self._digest("credential", stored).hex()[:32] if stored else ""

    def _digest(self, purpose: str, text: str) -> bytes:
        return digest(self._secret, purpose, text.encode())


def open_authentication(
    folder: Path, *, token: str = "", users: Path | None = None, clock: Callable[[], float] = time.time
) -> Authentication | None:
    """Returns None without a token and without a users file: then the server has no login.

    folder: where the secret that signs the sessions is stored, so that sessions survive a restart of the server.
    Raises FolioscopeError if the token is too short or a file is invalid.
    """
    if not token and users is None:
        return None
    if token and (
        len(token) < SHORTEST_TOKEN or not (token.isascii() and token.isprintable()) or " " in token
    ):
        raise FolioscopeError(
            f"the token must have {SHORTEST_TOKEN} or more ASCII letters, digits or punctuation marks, and no "
            f"spaces: create one with {NEW_TOKEN}"
        )
    accounts = {} if users is None else read_users(users)
    if not accounts and not token:
        raise FolioscopeError(f"{users} names no user, so nobody could log in: add one with '{NEW_LINE}'")
    return Authentication(read_secret(folder), token, accounts, clock)


def require_authentication(host: str, authentication: Authentication | None) -> None:
    """Raise FolioscopeError if other machines can reach `host` and the server has no login."""
    if authentication is None and not is_loopback(host):
        raise FolioscopeError(
            f"refuses to listen on {host or 'every address'} without a login: everyone on the network could "
            "read and delete the documents; give --users FILE or --token TOKEN, or bind 127.0.0.1"
        )


def _name_and_password(value: str) -> tuple[str, str] | None:
    """Returns the name and password in the value of a Basic header, None if it is malformed."""
    try:
        raw = base64.b64decode(value, validate=True)
    except ValueError:
        return None
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode("latin-1")  # some programs encode it this way
    name, colon, password = text.partition(":")
    return (name, password) if colon else None
