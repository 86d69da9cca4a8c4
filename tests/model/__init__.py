"""A model of a cluster in which anything may die at any moment, and what must hold all the same.

`world` is the cluster: the fake API server of `support.fake_api`, a Job controller, kubelets, garbage
collectors, and the processes that truly run. `operators` drives the operator's own code against it,
one request at a time. `explorer` chooses what happens next, and checks what must never happen.
"""
