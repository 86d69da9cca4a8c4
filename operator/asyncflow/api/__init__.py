"""The Kubernetes API of asyncflow: the models that the CRDs are generated from.

This layer knows nothing of the others: no clock, no network, no rule of a task's life.
"""
