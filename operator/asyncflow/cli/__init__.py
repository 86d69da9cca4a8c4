"""The command line: run the operator, print the manifests, watch tasks, show the history of a task."""

from asyncflow.cli.app import app

__all__ = ["app"]
