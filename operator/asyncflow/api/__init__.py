"""The Kubernetes API of asyncflow: the models from which the CRDs are generated.

This layer imports no other layer and has no clock, no I/O and no rules.
"""
