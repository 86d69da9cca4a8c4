"""Performance: `bench` measures asyncflow beside bare Jobs, `scale` runs thousands of tasks and judges each.

Both run on a control plane of their own (`environment`), learn from the API server alone what came of Jobs
and tasks (`observer`), and are started, written down and ended by one runner (`runner`, with the commands of
``python -m performance`` in `__main__`). `ranges.toml` has the range of each figure that is accepted.
"""
