"""Shards: tasks of a type by the time when they were begun, closed one after the other.

A task belongs to the shard that was the last when its status was first written. The split governor opens the
next when the last is full; the roll governor moves on from the first when all of its tasks have ended. What
is before the first is retired, as a whole: nobody looks at it again, but for its deletion.
"""

from asyncflow.api.tasktype import Shards
from asyncflow.core.tasktype.census import Census

FIRST = Shards(begin=1, end=1)


def split(shards: Shards, census: Census, most: int) -> Shards:
    """Open the next shard if the last one has its number of tasks.

    Args:
        shards: those that are open.
        census: the tasks of the type.
        most: how many tasks a shard takes.
    """
    if census.members(shards.end) < most:
        return shards
    return shards.model_copy(update={"end": shards.end + 1})


def roll(shards: Shards, census: Census) -> Shards:
    """Retire the first shards, as far as all tasks of theirs have ended; the last one stays open."""
    begin = shards.begin
    while begin < shards.end and not census.open_members(begin):
        begin += 1
    return shards.model_copy(update={"begin": begin})
