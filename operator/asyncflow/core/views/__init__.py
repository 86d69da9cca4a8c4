"""What the rules may see of Jobs, pods, nodes and Leases."""
