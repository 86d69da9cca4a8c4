"""The one exception of `clusters` and `offline`."""

from __future__ import annotations


class ClusterError(Exception):
    """Something a person has to look at. The message says what was wrong, where, and what to do."""
