"""One attempt: its identity, settings, manifest, lease, deadlines and backoff."""
