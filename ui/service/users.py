"""The users file of `folioscope serve --users`, and its password hashes (scrypt, RFC 7914).

The file has a line for each user,

    name:scrypt$16384$8$1$salt$hash

with salt and hash in base64, and comments that begin with #.
"""

import base64
import hashlib
import hmac
import os
import secrets
import unicodedata
from pathlib import Path

from retrieval.errors import FolioscopeError, NotFound

COST = {"n": 2**14, "r": 8, "p": 1}  # of scrypt: 16 MiB and some 50 ms for each password
PREFIX = f"scrypt${COST['n']}${COST['r']}${COST['p']}$"
TOKEN_USER = "token"  # the name of a client that sends the token; no user may have it
SHORTEST = 8  # characters of a password
LONGEST_NAME, LONGEST_PASSWORD = 64, 1024  # characters
NEW_LINE = "folioscope user NAME"


def set_password(users: Path, name: str, password: str) -> None:
    """Add the user, or change the password; everyone else's line stays. Raises FolioscopeError in words."""
    if len(password) < SHORTEST:
        raise FolioscopeError(
            f"the password has {len(password)} characters, {SHORTEST} are the least: take a longer one"
        )
    if ":" in name or name.startswith("#") or name != name.strip():
        raise FolioscopeError(
            f"{name!r} cannot be a user's name: it holds a colon, or begins with # or a space"
        )
    kept = [line for line in _lines(users) if not line.startswith(f"{name}:")]
    _write(users, [*kept, f"{name}:{hash_password(password)}"])


def remove_user(users: Path, name: str) -> None:
    """Raises NotFound."""
    lines = _lines(users)
    kept = [line for line in lines if not line.startswith(f"{name}:")]
    if len(kept) == len(lines):
        raise NotFound(f"{users} has no user {name!r}")
    _write(users, kept)


def read_users(path: Path) -> dict[str, str]:
    """Names and hashes. Raises FolioscopeError, with a line's number and not its text: it may be a password."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FolioscopeError(f"the users file {path} cannot be read: {error}") from error
    users: dict[str, str] = {}
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line or line.startswith("#"):
            continue
        name, _, stored = (part.strip() for part in line.partition(":"))
        where = f"line {number} of {path}"
        if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable():
            raise FolioscopeError(f"{where}: a user name has 1 to {LONGEST_NAME} characters: write name:hash")
        if name == TOKEN_USER:
            raise FolioscopeError(f"{where}: {name!r} is whoever comes with the token: choose another name")
        if name in users:
            raise FolioscopeError(f"{where}: the user {name} has a line already: delete one of the two")
        if not _is_hash(stored):
            raise FolioscopeError(
                f"{where}: what follows the name is not a hash ({PREFIX}salt$hash): make a line with '{NEW_LINE}'"
            )
        users[name] = stored
    return users


def hash_password(password: str) -> str:
    """What the users file holds for this password. Raises FolioscopeError if it is empty or too long."""
    if not 1 <= len(password) <= LONGEST_PASSWORD:
        raise FolioscopeError(f"a password has 1 to {LONGEST_PASSWORD:,} characters, not {len(password):,}")
    salt = secrets.token_bytes(16)
    return _written(salt, _scrypt(password, salt))


def unknown_hash() -> str:
    """A hash that no password matches: comparing with it takes as long for a name that nobody has."""
    return _written(secrets.token_bytes(16), secrets.token_bytes(32))


def _lines(users: Path) -> list[str]:
    try:
        return users.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []


def _write(users: Path, lines: list[str]) -> None:
    """Whole or not at all, and for its owner's eyes; what could not be read again is not written."""
    part = users.with_name(f".{users.name}.part")
    part.unlink(missing_ok=True)  # of a command that was interrupted: its mode would stay
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
    try:
        read_users(part)
    except FolioscopeError:
        part.unlink()
        raise
    part.replace(users)


def _is_hash(stored: str) -> bool:
    try:
        salt, digest = _salt_and_digest(stored)
    except ValueError:
        return False
    return stored.startswith(PREFIX) and len(salt) == 16 and len(digest) == 32


def _written(salt: bytes, digest: bytes) -> str:
    return f"{PREFIX}{base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def _salt_and_digest(stored: str) -> tuple[bytes, bytes]:
    """Raises ValueError."""
    salt, digest = stored.removeprefix(PREFIX).split("$")
    return base64.b64decode(salt, validate=True), base64.b64decode(digest, validate=True)


def matches(password: str, stored: str) -> bool:
    """Whether this is the password of the hash `stored`, compared in constant time."""
    salt, digest = _salt_and_digest(stored)
    return hmac.compare_digest(_scrypt(password, salt), digest)


def _scrypt(password: str, salt: bytes) -> bytes:
    plain = unicodedata.normalize("NFC", password)  # keyboards differ in how they write an accent
    return hashlib.scrypt(plain.encode(), salt=salt, **COST, dklen=32)
