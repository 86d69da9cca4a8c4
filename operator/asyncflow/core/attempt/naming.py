"""Names of the Leases that serve as locks."""

from hashlib import blake2b


def lock_name(lock_key: str) -> str:
    """Return the name of the Lease for a lock key: a hash, because a key may be any text."""
    return f"asyncflow-lock-{blake2b(lock_key.encode(), digest_size=16).hexdigest()}"
