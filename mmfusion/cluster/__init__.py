"""Jobs on a Ray cluster: a process each, on whichever node has room, begun again elsewhere when it dies.

Only Ray's core is used. The nodes share a folder, at the same path, and nothing else.
"""

import argparse
import os
from pathlib import Path

from mmfusion.errors import UserError
from mmfusion.jobs import Here, Place


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that say where jobs run."""
    group = parser.add_argument_group("many at a time")
    group.add_argument("--on", choices=("here", "ray"), default="here", help="in this process (default), or on Ray")
    group.add_argument("--address", help="of a Ray cluster (default: $RAY_ADDRESS, else one of this machine's own)")
    group.add_argument("--cpus-per-run", type=int, metavar="N", help="processors of each, and threads (default: 1)")
    group.add_argument("--gpus-per-run", type=float, metavar="G", help="GPUs, or a part of one (default: 0)")


def place_of(args: argparse.Namespace, cache: Path) -> Place:
    """Gives the place that the flags name; on Ray the folder of `args.out` is named from the root.

    Args:
        args: with the flags of `add_flags`, and `out`.
        cache: where prepared films are kept.

    Raises:
        UserError: a flag does nothing, or makes no sense; or whoever reaches the cluster could run code on it.
    """
    for name in ("address", "cpus_per_run", "gpus_per_run"):
        flag, value = f"--{name.replace('_', '-')}", getattr(args, name)
        if value is not None and args.on == "here":
            raise UserError(f"{flag} does nothing without --on ray; leave it out")
        if name != "address" and value is not None and not value > 0:
            raise UserError(f"{flag} must be greater than 0")
    if args.on == "here":
        return Here()
    from mmfusion.cluster.place import OnRay

    args.out = args.out.resolve()  # other processes may have another working folder
    address = args.address or os.environ.get("RAY_ADDRESS")
    return OnRay(address, args.out, cache, cpus=args.cpus_per_run or 1, gpus=args.gpus_per_run or 0.0)
