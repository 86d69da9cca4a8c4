"""Entry point of ``python -m asyncflow``."""

from asyncflow.cli import app

app()
