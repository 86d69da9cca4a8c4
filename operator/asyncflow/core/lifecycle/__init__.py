"""The lifecycle of a task: what to do for it now, and what its status shows."""
