"""The rules of a TaskType: readiness, counts, shards, error policy, retention."""
