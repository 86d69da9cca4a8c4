"""The view of a node."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from asyncflow.api import names


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node, as evidence about the processes that ran on it."""

    name: str
    boot: str
    """``systemUUID/bootID``: the machine, and its boot."""
    ready: bool
    out_of_service: bool
    read_at: datetime
    """When it was read."""
    exists: bool = True
    """Whether there is a Node of this name."""

    def rebooted_since(self, boot: str) -> bool:
        """Return whether the same machine has been rebooted since a boot (``systemUUID/bootID``)."""
        machine, _, boot_id = self.boot.rpartition("/")
        before, _, boot_id_before = boot.rpartition("/")
        return (
            bool(machine and boot_id and boot_id_before) and machine == before and boot_id != boot_id_before
        )


def missing_node(name: str, now: datetime) -> NodeView:
    """Return the view of a Node that does not exist: its kubelet reports to nobody."""
    return NodeView(name, boot="", ready=False, out_of_service=False, read_at=now, exists=False)


def node_view(body: dict[str, Any], now: datetime) -> NodeView:
    """Read a node.

    Args:
        body: the Node, as the API server has it now.
        now: when it was read.
    """
    status = body.get("status") or {}
    info = status.get("nodeInfo") or {}
    return NodeView(
        name=body["metadata"]["name"],
        boot=f"{info.get('systemUUID', '')}/{info.get('bootID', '')}",
        ready=any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or ()),
        out_of_service=any(
            taint["key"] == names.OUT_OF_SERVICE_TAINT
            for taint in (body.get("spec") or {}).get("taints") or ()
        ),
        read_at=now,
    )
