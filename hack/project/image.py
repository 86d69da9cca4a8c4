"""Builds the images of the operator and of the order example."""

import compileall
import shutil
from pathlib import Path

from clusters import cache, images

ROOT = Path(__file__).parents[2]
OPERATOR = "asyncflow/operator:dev"
ORDERS = "asyncflow/orders:dev"


def build_operator() -> str:
    """Build the image of the operator and return its tag. The Docker build needs no network."""
    context = ROOT / "build" / "image"
    cache.remove(context)
    context.mkdir(parents=True)
    packages = images.site_packages(ROOT / "requirements.lock")
    shutil.copytree(packages, context / "site-packages", symlinks=True)
    source = ROOT / "operator" / "asyncflow"
    shutil.copytree(source, context / "asyncflow", ignore=shutil.ignore_patterns("__pycache__"))
    # The root file system of the container is read-only: without bytecode, each start takes seconds longer.
    for directory in ("site-packages", "asyncflow"):
        container_path = "/opt/asyncflow" + ("/asyncflow" if directory == "asyncflow" else "")
        compileall.compile_dir(
            context / directory,
            quiet=2,
            workers=0,
            ddir=container_path,
            invalidation_mode=compileall.py_compile.PycInvalidationMode.UNCHECKED_HASH,  # type: ignore[attr-defined]
        )
    return images.build(OPERATOR, ROOT / "Dockerfile", context)


def build_orders() -> str:
    """Build the image of the order example and return its tag."""
    directory = ROOT / "examples" / "orders"
    return images.build(ORDERS, directory / "Dockerfile", directory)
