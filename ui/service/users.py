"""The users file of `folioscope serve --users`, and its password hashes (scrypt, RFC 7914).

The file has one line for each user,

    name:scrypt$16384$8$1$salt$hash

with salt and hash in base64. Lines that begin with # are comments.
"""

import base64
import hashlib
import hmac
import os
import secrets
import unicodedata
from pathlib import Path

from retrieval.errors import FolioscopeError, NotFound

COST = {"n": 2**14, "r": 8, "p": 1}  # parameters of scrypt: 16 MiB and about 50 ms for each password
PREFIX = f"scrypt${COST['n']}${COST['r']}${COST['p']}$"
TOKEN_USER = "token"  # the user name of a client that sends the token; reserved
SHORTEST = 8  # characters of a password
LONGEST_NAME, LONGEST_PASSWORD = 64, 1024  # characters
NEW_LINE = "folioscope user NAME"


def set_password(users: Path, name: str, password: str) -> None:
    """Add the user, or change the password. All other lines stay. Raises FolioscopeError for an invalid value."""
    if len(password) < SHORTEST:
        raise FolioscopeError(
            f"the password has {len(password)} characters, {SHORTEST} are the least: choose a longer one"
        )
    if ":" in name or name.startswith("#") or name != name.strip():
        raise FolioscopeError(
            f"{name!r} cannot be a user name: it contains a colon, begins with #, or begins or ends with a space"
        )
    others = [line for line in _lines(users) if not line.startswith(f"{name}:")]
    _write(users, [*others, f"{name}:{hash_password(password)}"])


def remove_user(users: Path, name: str) -> None:
    """Remove the user's line. Raises NotFound."""
    lines = _lines(users)
    others = [line for line in lines if not line.startswith(f"{name}:")]
    if len(others) == len(lines):
        raise NotFound(f"{users} has no user {name!r}")
    _write(users, others)


def read_users(path: Path) -> dict[str, str]:
    """Returns the hashes by name. Errors give the number of the line, not its text, which may be a password.

    Raises FolioscopeError.
    """
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
            raise FolioscopeError(
                f"{where}: {name!r} is reserved for clients that send the token: choose another name"
            )
        if name in users:
            raise FolioscopeError(f"{where}: the user {name} has a line already: delete one of the two")
        if not _is_hash(stored):
            raise FolioscopeError(
                f"{where}: the text after the name is not a hash ({PREFIX}salt$hash): create the line with '{NEW_LINE}'"
            )
        users[name] = stored
    return users


def hash_password(password: str) -> str:
    """Returns the hash of a password for the users file. Raises FolioscopeError if it is empty or too long."""
    if not 1 <= len(password) <= LONGEST_PASSWORD:
        raise FolioscopeError(f"a password has 1 to {LONGEST_PASSWORD:,} characters, not {len(password):,}")
    salt = secrets.token_bytes(16)
    return _format(salt, _scrypt(password, salt))


def unknown_hash() -> str:
    """Returns a hash that no password matches. Checking it makes an unknown name take as long as a known one."""
    return _format(secrets.token_bytes(16), secrets.token_bytes(32))


def _lines(users: Path) -> list[str]:
    try:
        return users.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []


def _write(users: Path, lines: list[str]) -> None:
    """Replace the file atomically, readable by its owner only. Raises FolioscopeError for invalid lines."""
    part = users.with_name(f".{users.name}.part")
    part.unlink(missing_ok=True)  # left by an interrupted command, perhaps with another mode
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


def _format(salt: bytes, digest: bytes) -> str:
    return f"{PREFIX}{base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def _salt_and_digest(stored: str) -> tuple[bytes, bytes]:
    """Returns the decoded salt and hash. Raises ValueError."""
    salt, digest = stored.removeprefix(PREFIX).split("$")
    return base64.b64decode(salt, validate=True), base64.b64decode(digest, validate=True)


def matches(password: str, stored: str) -> bool:
    """Whether `password` belongs to the hash `stored`; compares in constant time."""
    salt, digest = _salt_and_digest(stored)
    return hmac.compare_digest(_scrypt(password, salt), digest)


def _scrypt(password: str, salt: bytes) -> bytes:
    plain = unicodedata.normalize("NFC", password)  # keyboards encode accents differently
    return hashlib.scrypt(plain.encode(), salt=salt, **COST, dklen=32)
