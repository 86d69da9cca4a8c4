"""The images of the operator and of the order example."""

import compileall
import shutil
from pathlib import Path

from clusters import cache, images

ROOT = Path(__file__).parents[2]
OPERATOR = "asyncflow/operator:dev"
ORDERS = "asyncflow/orders:dev"


def build_operator() -> str:
    """Build the operator's image and return its tag. The build itself needs no network."""
    context = ROOT / "build" / "image"
    cache.remove(context)
    context.mkdir(parents=True)
    packages = images.site_packages(ROOT / "requirements.lock")
    shutil.copytree(packages, context / "site-packages", symlinks=True)
    source = ROOT / "operator" / "asyncflow"
    shutil.copytree(source, context / "asyncflow", ignore=shutil.ignore_patterns("__pycache__"))
    # Compiled here: the container's file system is read-only, and compiling at each start takes seconds.
    for directory in ("site-packages", "asyncflow"):
        inside = "/opt/asyncflow" + ("/asyncflow" if directory == "asyncflow" else "")
        compileall.compile_dir(
            context / directory,
            quiet=2,
            workers=0,
            ddir=inside,
            invalidation_mode=compileall.py_compile.PycInvalidationMode.UNCHECKED_HASH,  # type: ignore[attr-defined]
        )
    return images.build(OPERATOR, ROOT / "Dockerfile", context)


def build_orders() -> str:
    """Build the image of the order example and return its tag."""
    directory = ROOT / "examples" / "orders"
    return images.build(ORDERS, directory / "Dockerfile", directory)
