"""Views of Jobs, pods, nodes and Leases: the fields that the rules use."""
