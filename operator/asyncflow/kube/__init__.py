"""Communication with the API server: connection, client, reflector, work queue, leader election, events.

This layer has no rules, and `asyncflow.core` does not import it.
"""
