"""Connection to a Ray cluster: one of this machine's own for as long as a command runs, or one that is there."""

import contextlib
import logging
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmfusion.errors import UserError, first_line
from mmfusion.startup import held_back

HOW_TO_TOKEN = (
    "`ray get-auth-token --generate` makes a token, and RAY_AUTH_MODE=token switches it on, on every node"
)
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_STORE = 80 * 2**20  # bytes, nearly the least that Ray takes: results are small


def check_address(address: str) -> None:
    """Refuses a cluster at which anybody could run code, before anything is sent there.

    Raises:
        UserError: it is not on the loopback address, and Ray's token authentication is off or has no token.
    """
    if not is_loopback(address) and not _has_token():
        raise UserError(f"{address}: a Ray cluster runs what anybody sends it; {HOW_TO_TOKEN}")


def is_loopback(address: str) -> bool:
    """Tells if only this machine reaches an address such as "127.0.0.1:6379"."""
    return address.removeprefix("ray://").rpartition(":")[0].strip("[]") in _LOOPBACK


def _has_token() -> bool:
    """Tells if Ray's token authentication is on, and where it looks for the token there is one."""
    if os.environ.get("RAY_AUTH_MODE") != "token":
        return False
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    file = Path(named) if named else Path.home() / ".ray" / "auth_token"
    return bool(os.environ.get("RAY_AUTH_TOKEN")) or file.is_file()


@contextlib.contextmanager
def own_cluster() -> Iterator[Any]:
    """Starts a cluster that nobody else reaches and gives the module `ray`; it ends with the block."""
    # Ray's name for a cluster of one machine: without it every process listens on all of its addresses.
    settled = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token"}
    ray = _import_ray({**settled, "RAY_AUTH_TOKEN": secrets.token_hex(32)})
    # Ray lets everybody read and write in its own folder, so it is in one that is ours alone. The name is short:
    # paths of sockets must be.
    folder = tempfile.mkdtemp(prefix="ray-")
    print("Starting a Ray cluster on this machine ...", file=sys.stderr, flush=True)
    try:
        ray.init(
            address="local",
            num_cpus=os.cpu_count(),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=_STORE,
            _node_ip_address="127.0.0.1",
            _temp_dir=f"{folder}/r",
        )
        yield ray
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def given_cluster(address: str) -> Iterator[Any]:
    """Connects to a cluster that somebody has started and gives the module `ray`; it stays when the block is left.

    Raises:
        UserError: none can be reached there.
    """
    ray = _import_ray({})
    try:
        with held_back(shown=False):  # what Ray's own processes say of it, at length
            ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
    except Exception as error:  # Ray's and gRPC's, of many kinds
        which = "that takes our token " if _has_token() else ""
        raise UserError(f"{address}: no Ray cluster {which}can be reached there: {first_line(error)}") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _import_ray(settled: dict[str, str]) -> Any:
    os.environ.update(settled)
    # No statistics of use are sent, and a job without a GPU sees none.
    os.environ.update({"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1"})
    try:
        import ray
    except ImportError as error:
        raise UserError("--on ray needs Ray: pip install -e '.[cluster]'") from error
    return ray
