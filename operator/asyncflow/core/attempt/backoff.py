"""The pause before a retry."""

from hashlib import blake2b

from asyncflow.api.limits import Backoff


def pause_seconds(backoff: Backoff, retries: int, seed: str) -> float:
    """Return how long to wait before the next attempt, in seconds.

    Exponential with a ceiling and jitter (AWS Architecture Blog, "Exponential Backoff And Jitter"). The
    jitter is drawn from the seed, so that the same attempt always waits the same time, whoever computes it.

    Args:
        backoff: the settings.
        retries: how many retries were made before this one, from 0.
        seed: what tells this attempt from all others.
    """
    longest = float(backoff.maximum_seconds)
    try:
        pause = min(longest, backoff.initial_seconds * backoff.multiplier**retries)
    except OverflowError:
        pause = longest
    draw = int.from_bytes(blake2b(seed.encode(), digest_size=8).digest(), "big") / 2**64
    spread = backoff.jitter_percent / 100
    return pause * (1 - spread + 2 * spread * draw)
