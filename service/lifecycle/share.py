"""Which users belong to a share of the traffic: the same ones on every replica, every time."""

from __future__ import annotations

import hashlib


def in_share(user_id: str | None, *, percent: float, salt: str) -> bool:
    """Whether this user is among `percent` (0 to 100) of all users.

    Depends on user and salt alone, so a user stays in while the percentage rises. A caller
    without a user id is in only where everybody is.
    """
    if percent >= 100:
        return True
    if percent <= 0 or user_id is None:
        return False
    digest = hashlib.blake2b(f"{salt}\0{user_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") * 100 < percent * 2**64
