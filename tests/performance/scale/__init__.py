"""Thousands of tasks on a real control plane: what is measured there, and how it is judged.

`workload` says which tasks there are and how each has to end; `operators` runs the operator and kills it at
times; `execution` is one run; `timeline` has its Jobs in the API server's order, with the limit of each time;
`verdict` judges the objects; `runs` has both runs, and what is written down of them.
"""
