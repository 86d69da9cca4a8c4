"""The pause before a retry."""

from hashlib import blake2b

from asyncflow.api.limits import Backoff


def pause_seconds(backoff: Backoff, retries: int, seed: str) -> float:
    """Return how long to wait before the next attempt, in seconds.

    Exponential with an upper limit and jitter (AWS Architecture Blog, "Exponential Backoff And Jitter"). The
    jitter is derived from the seed, so the pause before a given attempt is always the same.

    Args:
        backoff: the settings.
        retries: how many retries were made before this one, from 0.
        seed: identifies the attempt uniquely.
    """
    maximum = float(backoff.maximum_seconds)
    try:
        pause = min(maximum, backoff.initial_seconds * backoff.multiplier**retries)
    except OverflowError:
        pause = maximum
    draw = int.from_bytes(blake2b(seed.encode(), digest_size=8).digest(), "big") / 2**64
    spread = backoff.jitter_percent / 100
    return pause * (1 - spread + 2 * spread * draw)
