"""Shards: the tasks of a type, grouped by the time of their first status write.

A task belongs to the shard that was the last one when its status was first written. The split governor opens
the next shard when the last one is full; the roll governor retires the first one when all its tasks have
ended. Retired shards are not visited again, except to delete their tasks.
"""

from asyncflow.api.tasktype import Shards
from asyncflow.core.tasktype.census import Tally

FIRST = Shards(begin=1, end=1)


def split(shards: Shards, tally: Tally, limit: int) -> Shards:
    """Open the next shard if the last one is full.

    Args:
        shards: the open ones.
        tally: the tasks of the type.
        limit: how many tasks a shard takes.
    """
    if tally.members.get(shards.end, 0) < limit:
        return shards
    return shards.model_copy(update={"end": shards.end + 1})


def roll(shards: Shards, tally: Tally) -> Shards:
    """Retire the first shards as long as all their tasks have ended; the last shard stays open."""
    begin = shards.begin
    while begin < shards.end and begin not in tally.unfinished_shards:
        begin += 1
    return shards.model_copy(update={"begin": begin})
