"""The way to the API server and back: connection, client, reflector, work queue, leader election, events.

Nothing here knows a rule; nothing in `asyncflow.core` knows that this layer exists.
"""
