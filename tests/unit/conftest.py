"""How hypothesis runs here: each run makes the same examples, unless it is asked to search for new ones.

``--hypothesis-profile=search`` (``make faults``) looks for histories that nobody has seen yet.
"""

from hypothesis import HealthCheck, Phase, settings

settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=100)
settings.register_profile(
    "search", deadline=None, max_examples=5000, suppress_health_check=list(HealthCheck), print_blob=True
)
settings.register_profile(  # a break need only be found, not made small
    "find", derandomize=True, deadline=None, max_examples=100, phases=[Phase.explicit, Phase.generate]
)
settings.load_profile("repeatable")
