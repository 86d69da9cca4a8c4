"""Local clusters for tests: an integration control plane on loopback, and a kind cluster, built from source.

Both need nothing but package mirrors (Debian, Go modules, PyPI): no container registry and no binary
download; what a machine without Docker or a registry needs for that is in `offline`. Run it by hand with
``PYTHONPATH=hack python -m clusters --help``.
"""
