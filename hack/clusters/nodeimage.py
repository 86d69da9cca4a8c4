"""The image of kind's nodes: the published one where it can be pulled, else what `offline` builds."""

from __future__ import annotations

from dataclasses import dataclass

from clusters import versions
from clusters.engine import Engine
from offline import node_image


@dataclass(frozen=True)
class NodeImage:
    """An image for kind's nodes; `has_network` tells whether it brings kind's own pod network."""

    tag: str
    has_network: bool


def ensure(engine: Engine) -> NodeImage:
    """The node image, pulled or built unless it is there."""
    ours = node_image.tag()
    if not engine.has_image(ours):
        published = f"kindest/node:{versions.kubernetes()}"
        if engine.can_pull(published):
            return NodeImage(published, has_network=True)
        node_image.build(engine)
    return NodeImage(ours, has_network=False)
