"""The file of users that `folioscope serve --users` reads: a line `name:hash` each."""

import os
from pathlib import Path

from retrieval.errors import FolioscopeError, NotFound
from ui.web.auth import hash_password, read_users

SHORTEST = 8  # characters of a password


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
