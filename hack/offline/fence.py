"""Keeps the packets of our own Docker engine's containers on this machine.

Containers reach each other and the host. Packets to the outside are rejected, pod and service addresses are
unreachable from the host (a Service without rules would otherwise be sent to the default gateway).
"""

from __future__ import annotations

import ipaddress
import json
import subprocess
from collections.abc import Iterator

from clusters import processes
from clusters.engine import POD_NETWORK, SERVICE_NETWORK
from clusters.errors import ClusterError


def put_up() -> None:
    """See to it that no packet of a container, pod or Service leaves this machine. May be called again.

    Raises ClusterError where a route of this machine overlaps the cluster's networks.
    """
    for command, chain, rule in _rules():
        there = subprocess.run([command, "-w", "-C", chain, *rule], capture_output=True).returncode == 0
        if not there:
            try:
                processes.run([command, "-w", "-I", chain, *rule])
            except ClusterError as error:
                raise ClusterError(
                    f"{error}\nOur engine's rules were removed: run `docker down`, and again"
                ) from error
    taken = {str(route["dst"]) for route in _routes("-4")} - {"default", POD_NETWORK, SERVICE_NETWORK}
    for network in (POD_NETWORK, SERVICE_NETWORK):
        for other in taken:
            if ipaddress.ip_network(other).overlaps(ipaddress.ip_network(network)):
                raise ClusterError(
                    f"this machine has a route to {other}, which overlaps the cluster's {network}"
                )
        processes.run(["ip", "route", "replace", "unreachable", network])


def take_down() -> None:
    """Remove the rules and routes of `put_up`; what is not there is fine."""
    for command, chain, rule in _rules():
        subprocess.run([command, "-w", "-D", chain, *rule], capture_output=True)
    for network in (POD_NETWORK, SERVICE_NETWORK):
        subprocess.run(["ip", "route", "del", "unreachable", network], capture_output=True)


def _rules() -> Iterator[tuple[str, str, list[str]]]:
    """The rules that keep containers' packets in: command, chain, rule."""
    for link in _outer_links():
        yield "iptables", "DOCKER-USER", ["-o", link, "-j", "REJECT"]
        yield "ip6tables", "FORWARD", ["-o", link, "-j", "REJECT"]


def _outer_links() -> list[str]:
    """The links of the default routes: what goes there leaves the machine."""
    routes = [*_routes("-4", "default"), *_routes("-6", "default")]
    return sorted({str(route["dev"]) for route in routes if "dev" in route})


def _routes(family: str, *selector: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(
        processes.run(["ip", family, "-json", "route", "show", *selector]) or "[]"
    )
    return found
