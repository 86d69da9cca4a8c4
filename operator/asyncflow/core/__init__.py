"""Every rule, pure: functions and data, without clock, network or kopf.

`attempt` is about one attempt, `views` what the rules may see of the cluster; `scheduling` says who may
start; `tasktype` has the rules of a type; `lifecycle` those of a task, with `decide` above all. Each knows
only those before it; `scheduling` and `tasktype` do not know each other.
"""
