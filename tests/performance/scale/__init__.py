"""Thousands of tasks on a real control plane: what is measured there, and how it is judged.

`workload` says which tasks there are and how each has to end; `observer` keeps what the API server tells, in
its order; `verdict` judges that; `run` puts them together.
"""
