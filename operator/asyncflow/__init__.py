"""asyncflow: asynchronous tasks on Kubernetes with hard deadlines, retry budgets and leases."""

__version__ = "0.1.0"
