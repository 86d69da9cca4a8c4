"""Which tasks may start, and in which order: slots, lock queues, retry tokens."""
