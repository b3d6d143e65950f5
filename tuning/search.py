"""`python -m tuning.search`: looks for a variant's best hyperparameters, by scores of the validation films."""

import argparse
import os
import signal
import sys
from pathlib import Path

from mmfusion import cluster, jobs
from mmfusion.config import VARIANTS
from mmfusion.config.flags import add_config_flags, configure, flags_of, say_which_films, settled
from mmfusion.config.idle import refuse_idle
from mmfusion.data.recognition import forget
from mmfusion.errors import ArgumentParser, UserError, run_command
from mmfusion.files import only_one
from mmfusion.startup import begin_command, import_tensorflow
from tuning import OBJECTIVES, TUNERS
from tuning.records import Search, Trial, keep

EPOCHS = 12  # at most, of a trial
TRIALS = 20


def parser() -> ArgumentParser:
    """The command's flags."""
    p = ArgumentParser(prog="python -m tuning.search", description=__doc__)
    p.add_argument("--variant", choices=list(VARIANTS), required=True, help="what to search for")
    p.add_argument("--tuner", choices=TUNERS, default="bayesian", help="how (default: bayesian)")
    p.add_argument(
        "--max-trials", type=int, metavar="N", help=f"besides the start (default: {TRIALS}, or by the minutes)"
    )
    p.add_argument("--budget-minutes", type=float, metavar="M", help="begin no trial after M minutes")
    p.add_argument("--objective", choices=list(OBJECTIVES), default="ap_micro", help="default: ap_micro")
    p.add_argument("--only", nargs="+", metavar="NAME", help="search these alone, such as late.combiner")
    p.add_argument("--workers", help=argparse.SUPPRESS)  # what several trials at a time were called
    p.add_argument("--seed", type=int, metavar="N", help="of what is drawn, and of the trials' training")
    add_config_flags(p)
    cluster.add_flags(p)
    p.add_argument("--out", type=Path, required=True, metavar="DIR", help="the search's folder")
    return p


def main() -> None:
    """Runs trials until there have been enough, then says what they gave."""
    args = parser().parse_args()
    for name in ("max_trials", "budget_minutes"):
        if (value := getattr(args, name)) is not None and not value > 0:
            raise UserError(f"--{name.replace('_', '-')} must be greater than 0")
    if args.workers:
        raise UserError("--workers: several trials at a time, on this machine or on many, are --on ray now")
    # Its variables for several machines; under one of them it would wait for a process that is not there.
    if named := [name for name, value in os.environ.items() if name.startswith("KERASTUNER_") and value]:
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
    space = spaces.declare(start, _names(args, list(spaces.space_of(start)))).space
    names = tuple(one.name for one in space)
    films = prepare_once(config, cache)
    source = " ".join(filter(None, (films.films.fingerprint, films.films.table_hash, split_hash(films.split))))
    search = Search(args.variant, args.tuner, args.objective, config.seed, names, start, source)
    keep(search, args.out)
    busy = f"another process is searching in {args.out}; wait for it, or name another --out"
    with only_one(args.out / ".lock", busy), place:
        print(
            f"{args.variant}: {args.tuner} search of {len(names)} hyperparameters for the best {args.objective} of "
            f"{len(films.split['validation'])} validation films, into {args.out}",
            flush=True,
        )
        _run(search, place, args, cache)


def _run(search: Search, place: jobs.Place, args, cache: Path) -> None:
    """Goes on with the search to its end, and says what it gave."""
    from tuning import driver, spaces, summary
    from tuning.oracles import ORACLES
    from tuning.trials import Runner

    counted = args.max_trials or (None if args.budget_minutes else TRIALS)
    most, config = counted or 10_000, search.start[search.variant]
    space = spaces.declare(search.start, search.names)
    oracle = ORACLES[search.tuner](search.objective, space, search.seed, trials=most, epochs=config.training.epochs)
    clock = driver.Clock(args.out, args.budget_minutes)
    trials = driver.Trials(oracle, args.out, clock)
    if trials.ended:
        print(f"{len(trials.ended)} trials are finished", flush=True)

    def on_end(trial: Trial) -> None:
        found = summary.table_of(search, trials.ended)
        summary.write_trials(found, args.out)
        lefts = [] if clock.left is None else [clock.left]
        if counted:
            lefts.append((1 + counted - len(found)) * sum(found["seconds"]) / len(found) / max(1, place.capacity))
        left = f"; about {jobs.minutes(min(lefts))} left" if min(lefts) else ""
        print(summary.line_of(trial, found, search, counted) + left, flush=True)

    place.expect(counted and 1 + counted - len(trials.ended), config.paths)
    try:
        trials.run(1 + most, place, Runner(search, args.out, cache).job, on_end)
    except UserError as error:
        raise UserError(f"{error}; the same command goes on with the search") from error
    print(summary.write(search, trials.ended, args.out), end="")
    if len(trials.all) <= most and clock.left != 0:
        tried = f"all that the tuner proposed was among the {len(trials.all)} tried already"
        print(f"It stopped before --max-trials: {tried}; search more hyperparameters, or with another --seed")


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


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a cluster's time limit is no fault of the trial
    sys.exit(run_command(main))
