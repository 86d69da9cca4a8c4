"""The reconcilers, the cluster state that they read, the governors, and garbage collection."""
