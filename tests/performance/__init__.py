"""asyncflow beside bare Jobs, on one control plane, in one run: ratios, not absolute times."""
