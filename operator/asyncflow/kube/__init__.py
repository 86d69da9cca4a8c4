"""The way to the API server and back: connection, client, state, work queue, alarms, events.

Nothing here knows a rule of a task's life; nothing in `asyncflow.core` knows that this layer exists.
"""
