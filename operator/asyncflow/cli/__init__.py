"""The command line: run the operator, print the manifests, watch tasks come to their end."""

from asyncflow.cli.app import app

__all__ = ["app"]
