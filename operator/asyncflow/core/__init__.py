"""The rules of a task's life: pure functions and data, without clock, network or kopf.

`decide` is the place where every rule stands; the modules beside it are its parts.
"""
