"""Ray, started on this machine or joined, and left again where it was not there before."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from twinlens.errors import ClusterError
from twinlens.results.base import optional

if TYPE_CHECKING:
    from twinlens.sweep.cluster import Cluster

_PATIENCE = 10.0  # seconds to reach a cluster


@contextlib.contextmanager
def joined_cluster(cluster: Cluster) -> Generator[Any]:
    """Ray, started or joined as the cluster says; left again where it was not there before.

    Raises `ClusterError` where there is none at the address."""
    ray: Any = optional("ray", "ray")
    mine = not ray.is_initialized()
    if mine:
        _join(ray, cluster)
    try:
        yield ray
    finally:
        if mine:
            ray.shutdown()


def _join(ray: Any, cluster: Cluster) -> None:
    """Start Ray here, or join the cluster. Raises `ClusterError` where that fails."""
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if cluster.address is None:
        options["include_dashboard"] = False
        if cluster.workers is not None:
            options["num_cpus"] = max(1, round(cluster.workers * cluster.cpus))
    else:
        _refuse_unreachable(cluster.address)
    try:
        ray.init(address=cluster.address or "local", **options)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = cluster.address or "this machine"
        raise ClusterError(f"no Ray cluster at {where}: {first_line(error)}") from error


def _refuse_unreachable(address: str) -> None:
    """Ray itself would wait for an address where nobody listens, and not even hear Ctrl-C."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not (colon and port.isdecimal()):
        return  # "auto", or a name that Ray knows how to read
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(f"no Ray cluster at {address}: {error}") from error


def first_line(error: BaseException) -> str:
    """What an error says, without the rest that Ray prints."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
