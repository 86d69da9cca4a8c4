"""asyncflow beside bare Jobs, on one control plane, in one run: ratios, not absolute times.

`parts` measures what ``make bench`` is asked for; a part is in the module of its name, tuned and default in
`throughput`. `figures` computes the figures, `content` is what is written down of them, `report` renders the
page. `comparison` measures this operator beside that of another commit.
"""
