"""The one exception of this package."""

from __future__ import annotations


class ClusterError(Exception):
    """Something a person has to look at. The message says what was wrong, where, and what to do."""
