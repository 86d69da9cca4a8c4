"""The reconcilers, the cluster state that they read, and what a leader does besides: governors, deletions."""
