"""What stands in for Docker and for a container registry on a machine that has neither.

`dockerd` starts a Docker engine of our own on Debian and stops it again; `fence` keeps its packets on the
machine, `hoststate` and `restoration` put the machine back, `oci_runtime` stands in for runc. `node_image`
(with `node_rootfs`, `preloaded_images`, `archives`) and `base_image` build what would be pulled, from Debian
packages (`debian`) and Go modules. `pod_network` connects the pods of nodes without a network of kind's own.

Only `docker`, `nodeimage`, `images` and `kindcluster` of `clusters` import this package, each where it falls
back. It builds on the modules of `clusters` below those (cache, processes, versions, engine, gobuild,
kubectl); an import-linter contract in pyproject.toml holds that direction.
"""
