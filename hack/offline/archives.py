"""Container images written as archives (the format of ``docker save``), without an engine."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Image:
    """An image of one layer. `files` and `links` (symbolic) are by absolute path in it; `directories` are
    empty.
    """

    tag: str
    files: Mapping[str, Path]
    directories: Sequence[str] = ("/tmp", "/etc")
    links: Mapping[str, str] | None = None
    entrypoint: Sequence[str] = ()
    path: str = "/usr/local/bin"


def architecture() -> str:
    """This machine's architecture, as Go and OCI name it."""
    return MACHINES.get(platform.machine(), platform.machine())


def write(images: Sequence[Image], archive: Path) -> None:
    """Write all `images` to one archive."""
    with tarfile.open(archive, "w") as output:
        manifest = []
        for image in images:
            with tempfile.NamedTemporaryFile(dir=archive.parent) as layer:
                _write_layer(image, Path(layer.name))
                digest = hashlib.file_digest(layer, "sha256").hexdigest()
                output.add(layer.name, arcname=f"{digest}/layer.tar")
            config = _config(image, digest)
            name = f"{hashlib.sha256(config).hexdigest()}.json"
            _add_bytes(output, name, config)
            manifest.append({"Config": name, "RepoTags": [image.tag], "Layers": [f"{digest}/layer.tar"]})
        _add_bytes(output, "manifest.json", json.dumps(manifest).encode())


def _write_layer(image: Image, path: Path) -> None:
    with tarfile.open(path, "w", dereference=True) as layer:
        made: set[str] = set()

        def directory(name: str) -> None:
            if name in made or name == "/":
                return
            directory(str(Path(name).parent))
            made.add(name)
            entry = tarfile.TarInfo(name.strip("/"))
            entry.type = tarfile.DIRTYPE
            entry.mode = 0o1777 if name == "/tmp" else 0o755
            layer.addfile(entry)

        for name, target in (image.links or {}).items():
            directory(str(Path(name).parent))
            entry = tarfile.TarInfo(name.strip("/"))
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            layer.addfile(entry)
        for name in image.directories:
            directory(name)
        for name, source in image.files.items():
            directory(str(Path(name).parent))
            entry = layer.gettarinfo(str(source), arcname=name.strip("/"))
            # A file with several names on the host is a plain file here.
            entry.type, entry.size = tarfile.REGTYPE, source.stat().st_size
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            with source.open("rb") as content:
                layer.addfile(entry, content)


def _config(image: Image, digest: str) -> bytes:
    content = {
        "architecture": architecture(),
        "os": "linux",
        "config": {"Env": [f"PATH={image.path}"], "Entrypoint": list(image.entrypoint) or None},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    return json.dumps(content).encode()


def _add_bytes(output: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    output.addfile(entry, io.BytesIO(content))
