"""Nodes, as evidence about the processes that ran there."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from asyncflow.api import names


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node, as evidence about the processes that ran there."""

    name: str
    boot: str
    """Its machine and its boot: ``systemUUID/bootID``."""
    ready: bool
    out_of_service: bool
    seen: datetime
    """When it was looked at."""

    def rebooted_since(self, boot: str) -> bool:
        """Tell whether this is the same machine after another boot than that one."""
        machine, _, boot_id = self.boot.rpartition("/")
        before, _, boot_id_before = boot.rpartition("/")
        return (
            bool(machine and boot_id and boot_id_before) and machine == before and boot_id != boot_id_before
        )


def node_view(body: dict[str, Any], now: datetime) -> NodeView:
    """Read a node, as it is now."""
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
        seen=now,
    )
