"""What happens when something changed: the reconcilers, and kopf's part in calling them."""
