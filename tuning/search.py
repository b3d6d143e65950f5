"""`python -m tuning.search`: looks for a variant's best hyperparameters, by scores of the validation films."""

import argparse
import dataclasses
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from mmfusion import cluster, jobs
from mmfusion.config import VARIANTS, Config
from mmfusion.config.flags import add_config_flags, configure, flags_of, say_which_films, settled
from mmfusion.config.idle import flat, refuse_idle
from mmfusion.data.recognition import forget
from mmfusion.errors import ArgumentParser, UserError, run_command
from mmfusion.files import make_folder, only_one, write_atomically
from mmfusion.startup import begin_command, import_tensorflow
from tuning import OBJECTIVES, TUNERS

EPOCHS = 12  # at most, of a trial
TRIALS = 20
FILE = "search.json"
# KerasTuner's variables for several machines; under one of them it would wait for a process that is not there.
_OF_BEFORE = ("KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT")


def parser() -> ArgumentParser:
    """The command's flags."""
    p = ArgumentParser(prog="python -m tuning.search", description=__doc__)
    p.add_argument("--variant", choices=list(VARIANTS), required=True, help="what to search for")
    p.add_argument("--tuner", choices=TUNERS, default="bayesian", help="how (default: bayesian)")
    p.add_argument(
        "--max-trials",
        type=int,
        metavar="N",
        help=f"how many, besides the starting configuration (default: {TRIALS}, or as many as the minutes allow)",
    )
    p.add_argument("--budget-minutes", type=float, metavar="M", help="begin no trial after M minutes")
    p.add_argument(
        "--objective", choices=list(OBJECTIVES), default="ap_micro", help="of validation films (default: ap_micro)"
    )
    p.add_argument(
        "--only", nargs="+", metavar="NAME", help="search only these hyperparameters, such as late.combiner"
    )
    p.add_argument("--workers", help=argparse.SUPPRESS)  # what several trials at a time were called
    p.add_argument("--seed", type=int, metavar="N", help="of what is drawn, and of the trials' training")
    add_config_flags(p)
    cluster.add_flags(p)
    p.add_argument("--out", type=Path, required=True, metavar="DIR", help="the search's folder")
    return p


@dataclasses.dataclass(frozen=True)
class Search:
    """A search's decisions; kept in its folder as `search.json`."""

    variant: str
    tuner: str
    objective: str
    seed: int
    names: tuple[str, ...]  # of the hyperparameters
    start: Mapping[str, Config]  # of the variant, and for late fusion before it of its parts
    fingerprint: str  # of the films, and their split

    def to_dict(self) -> dict:
        """Plain dicts, lists and scalars, ready for JSON."""
        start = {name: config.to_dict() for name, config in self.start.items()}
        return json.loads(json.dumps({**vars(self), "start": start}))


def main() -> None:
    """Runs trials until there have been enough, then says what they gave."""
    args = parser().parse_args()
    for name in ("max_trials", "budget_minutes"):
        value = getattr(args, name)
        if value is not None and not value > 0:
            raise UserError(f"--{name.replace('_', '-')} must be greater than 0")
    if args.workers:
        raise UserError("--workers: several trials at a time, on this machine or on many, are --on ray now")
    if named := [name for name in _OF_BEFORE if os.environ.get(name)]:
        raise UserError(f"{named[0]}: a search on several machines is --on ray now; unset it")
    cache = begin_command(args.cache_dir)
    place = cluster.place_of(args, cache)
    if args.epochs is None and "training.epochs" not in settled(args):
        args.epochs = EPOCHS
    config = configure(args, args.variant, args.seed)
    start = {name: configure(args, name, args.seed) for name in config.parts} | {args.variant: config}
    refuse_idle(flags_of(args), start.values())
    if args.rehash:
        forget(cache)
    say_which_films(config, args.dataset)

    import_tensorflow()
    from mmfusion.data.splits import split_hash
    from mmfusion.models import model_class
    from mmfusion.training.preparation import prepare_once
    from tuning import spaces

    for variant in start:
        model_class(variant).check(start[variant])
    space = spaces.declare(start, _names(args, list(spaces.space_of(start))))
    names = tuple(hyperparameter.name for hyperparameter in space.space)
    films = prepare_once(config, cache)
    source = " ".join(filter(None, (films.films.fingerprint, films.films.table_hash, split_hash(films.split))))
    search = Search(args.variant, args.tuner, args.objective, config.seed, names, start, source)
    _keep(search, args.out)
    busy = f"another process is searching in {args.out}; wait for it, or name another --out"
    with only_one(args.out / ".lock", busy), place:
        _run(search, space, place, args, cache, len(films.split["validation"]))


def _run(search: Search, space, place: jobs.Place, args, cache: Path, films: int) -> None:
    """Goes on with the search to its end, and says what it gave."""
    from tuning import driver, records, summary
    from tuning.trials import Runner

    oracle = _oracle(search, space, args)
    trials = driver.Trials(oracle, args.out)
    clock = driver.Clock(args.out, args.budget_minutes)
    most = _trials(args)
    counted = most if args.max_trials is not None or args.budget_minutes is None else None
    went = f"; {len(trials.ended)} trials are finished" if trials.ended else ""
    print(
        f"{search.variant}: {search.tuner} search of {len(search.names)} hyperparameters for the best "
        f"{search.objective} of {films} validation films, into {args.out}{went}",
        flush=True,
    )

    def on_end(trial: records.Trial) -> None:
        found = summary.table_of(search, trials.ended)
        summary.write_trials(found, args.out)
        lefts = [] if clock.left is None else [clock.left]
        if counted is not None:
            lefts.append((1 + counted - len(found)) * sum(found["seconds"]) / len(found) / place.capacity)
        left = f"; about {max(1, round(min(lefts) / 60))} min left" if min(lefts) else ""
        print(summary.line_of(trial, found, search, counted) + left, flush=True)

    reads = search.start[search.variant].paths
    place.expect(None if counted is None else 1 + counted - len(trials.ended), reads)
    # Hyperband goes on with what it has trained.
    run = Runner(search.start, search.objective, args.out, cache, resumed=args.tuner == "hyperband")
    try:
        driver.conduct(trials, place, args.out, run.job, most=1 + most, clock=clock, on_end=on_end)
    except UserError as error:
        raise UserError(f"{error}; the same command goes on with the search") from error
    print(summary.write(search, trials.ended, args.out), end="")
    if oracle.exhausted:
        print(
            f"It stopped before --max-trials: all that the tuner proposed was among the {len(trials.all)} tried "
            "already; search more hyperparameters, or with another --seed"
        )


def _names(args, known: list[str]) -> list[str]:
    """The hyperparameters to search: all, or those asked for, without what the command line has settled."""
    for name in args.only or ():
        if name not in known:
            raise UserError(f"--only {name}: {args.variant}'s hyperparameters are {', '.join(known)}")
    given = settled(args)
    names = [name for name in args.only or known if name not in given and name.partition(".")[2] not in given]
    if not names:
        raise UserError("nothing is left to search: the command line settles every hyperparameter")
    return names


def _trials(args) -> int:
    """How many there are at most, besides the starting configuration."""
    return args.max_trials or (10_000 if args.budget_minutes else TRIALS)


def _oracle(search: Search, space, args):
    import keras_tuner

    from tuning.oracles import ORACLES

    options = {"epochs": search.start[search.variant].training.epochs} if search.tuner == "hyperband" else {}
    objective = keras_tuner.Objective(search.objective, OBJECTIVES[search.objective])
    return ORACLES[search.tuner](objective, _trials(args), search.seed, space, **options)


def _keep(search: Search, out: Path) -> None:
    """Writes what the search is, or makes sure that the folder holds the same one."""
    file = out / FILE
    if not file.is_file():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"{out} exists already and holds no search; name another --out")
        make_folder(out)
        write_atomically(file, json.dumps(search.to_dict(), indent=2) + "\n")
        return
    try:
        there = json.loads(file.read_bytes())
        found, wanted = flat(there), flat(search.to_dict())
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{file} cannot be read: {error}; name another --out") from error
    differing = [key for key in {**found, **wanted} if found.get(key) != wanted.get(key)]
    if differing:
        section = differing[0].partition(".")[0]
        what = {"fingerprint": "films", "names": "hyperparameters", "start": "settings"}.get(section, section)
        said = [f"{key.removeprefix('start.')} {found.get(key)} and {wanted.get(key)}" for key in differing]
        if section == "names":
            said = sorted({*there["names"]} ^ {*search.names}) or ["another order"]
        raise UserError(
            f"{out} holds a search with another {what}; name another --out (there and now: {', '.join(said[:3])})"
        )


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a cluster's time limit is no fault of the trial
    sys.exit(run_command(main))
