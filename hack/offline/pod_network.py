"""The pod network of a kind cluster whose node image lacks kind's own: a bridge on each node, and routes."""

from __future__ import annotations

import json
import time

from clusters.engine import Engine
from clusters.errors import ClusterError
from clusters.kubectl import Kubectl

READY_SECONDS = 120.0

# Written to each node, with its own range of addresses.
CNI_FILE = "/etc/cni/net.d/10-bridge.conflist"


def connect(engine: Engine, kubectl: Kubectl, count: int) -> None:
    """Give each of `count` nodes a bridge for its own range of pod addresses, and routes to the others'.

    Raises ClusterError when a node was not given its range within two minutes.
    """
    limit = time.monotonic() + READY_SECONDS
    while True:
        nodes = json.loads(kubectl("get", "nodes", "--output=json"))["items"]
        ranges = {node["metadata"]["name"]: node["spec"].get("podCIDR") for node in nodes}
        if len(ranges) == count and all(ranges.values()):
            break
        if time.monotonic() > limit:
            raise ClusterError(f"not every node was given a range of pod addresses: {ranges}")
        time.sleep(0.2)
    addresses = {
        node["metadata"]["name"]: address["address"]
        for node in nodes
        for address in node["status"]["addresses"]
        if address["type"] == "InternalIP" and ":" not in address["address"]
    }
    for name, subnet in ranges.items():
        engine.run("exec", "-i", name, "sh", "-c", f"cat > {CNI_FILE}", stdin=json.dumps(_cni(subnet)))
        for other in ranges.keys() - {name}:
            engine.run("exec", name, "ip", "route", "replace", ranges[other], "via", addresses[other])


def _cni(subnet: str) -> dict[str, object]:
    """A bridge for the pods of one node, which reach all else from the node's address; and hostPort."""
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "isDefaultGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": {"type": "host-local", "ranges": [[{"subnet": subnet}]]},
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge, portmap]}
