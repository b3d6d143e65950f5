"""`python -m tuning.search`: looks for a variant's best hyperparameters, by scores of the validation films."""

import dataclasses
import json
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from mmfusion.config import VARIANTS, Config
from mmfusion.config.flags import add_config_flags, configure, flags_of, say_which_films, settled
from mmfusion.config.idle import refuse_idle
from mmfusion.data.recognition import forget
from mmfusion.errors import ArgumentParser, UserError, run_command
from mmfusion.files import make_folder, only_one, write_atomically
from mmfusion.startup import begin_command, import_tensorflow
from tuning import OBJECTIVES, TUNERS, workers

EPOCHS = 12  # at most, of a trial
TRIALS = 20
FILE = "search.json"


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
    p.add_argument("--workers", type=int, metavar="N", help="so many trials at a time, on this machine")
    p.add_argument("--seed", type=int, metavar="N", help="of what is drawn, and of the trials' training")
    add_config_flags(p)
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
    for name in ("max_trials", "budget_minutes", "workers"):
        value = getattr(args, name)
        if value is not None and not value > 0:
            raise UserError(f"--{name.replace('_', '-')} must be greater than 0")
    cache = begin_command(args.cache_dir)
    if args.epochs is None and "training.epochs" not in settled(args):
        args.epochs = EPOCHS
    config = configure(args, args.variant, args.seed)
    start = {name: configure(args, name, args.seed) for name in config.parts} | {args.variant: config}
    refuse_idle(flags_of(args), start.values())
    role = workers.role()
    if args.rehash and role != workers.WORKER:
        forget(cache)
    if role != workers.WORKER:
        say_which_films(config, args.dataset)

    import_tensorflow()
    workers.share_cores()
    from mmfusion.data.films import has_table, load_films
    from mmfusion.data.splits import split_hash
    from mmfusion.models import model_class
    from tuning import spaces
    from tuning.oracles import ORACLES
    from tuning.trials import FilmTuner, prepared

    for variant in start:
        model_class(variant).check(start[variant])
    space = spaces.declare(start, _names(args, list(spaces.space_of(start))))
    names = tuple(hyperparameter.name for hyperparameter in space.space)
    films = prepared(config, cache)
    source = " ".join(filter(None, (films.films.fingerprint, films.films.table_hash, split_hash(films.split))))
    search = Search(args.variant, args.tuner, args.objective, config.seed, names, start, source)
    if role == workers.WORKER:
        workers.wait_for(args.out / FILE)
    _keep(search, args.out)
    oracle = _oracle(ORACLES[args.tuner], search, space, args)
    resumed = args.tuner == "hyperband"
    tuner = FilmTuner(oracle, start, args.objective, args.out, cache, resumed=resumed)
    if role == workers.WORKER:
        workers.work(tuner, args.out)
        return

    def prepare_all() -> None:  # by the chief, once, and not by all workers at the same time
        for size in _poster_sizes(space):
            load_films(config.data, cache, poster_size=size, with_table=has_table(config))

    counted = args.max_trials is not None or args.budget_minutes is None
    busy = f"another process is searching in {args.out}; wait for it, or name another --out"
    with only_one(args.out / ".lock", busy):
        _run(tuner, search, args, len(films.split["validation"]), prepare_all, counted=counted)


def _run(tuner, search: Search, args, films: int, prepare_all, *, counted: bool) -> None:
    """Goes on with the search to its end, in this process or as a chief, and says what it gave."""
    import keras_tuner

    from tuning import summary

    oracle, served = tuner.oracle, args.workers or workers.role() == workers.CHIEF
    if any((args.out / "trials").glob("trial_*/trial.json")):
        oracle.reload()
    progress = summary.Progress(search, oracle, args.out, counted=counted)
    oracle.on_end = progress.ended
    progress.begin(films)
    try:
        if served:
            workers.serve(tuner, args.workers, args.out, prepare_all)
        else:
            tuner.search(verbose=0)
    except KeyboardInterrupt:
        oracle.interrupted()
        raise
    except keras_tuner.errors.FatalError as error:
        oracle.interrupted()
        raise UserError(f"{error}; the same command goes on with the search") from error
    if oracle.fault:
        oracle.interrupted()
        raise oracle.fault
    print(summary.write(search, oracle, args.out))
    if oracle.exhausted:
        print(
            f"It stopped before --max-trials: all that the tuner proposed was among the {len(oracle.trials)} tried "
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


def _oracle(kind, search: Search, space, args):
    import keras_tuner

    options = {"epochs": search.start[search.variant].training.epochs} if args.tuner == "hyperband" else {}
    many = 10_000 if args.budget_minutes else TRIALS
    return kind(
        keras_tuner.Objective(search.objective, OBJECTIVES[search.objective]),
        args.max_trials or many,
        search.seed,
        space,
        minutes=args.budget_minutes,
        **options,
    )


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
        found = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {error}; name another --out") from error
    wanted = search.to_dict()
    for key, value in wanted.items():
        if found.get(key) != value:
            what = {"fingerprint": "films", "names": "hyperparameters", "start": "settings"}.get(key, key)
            differ = ", ".join(_differences(found.get(key), value))
            raise UserError(
                f"{out} holds a search with another {what}; name another --out (there and now: {differ})"
            )


def _differences(there, now, name: str = "", most: int = 3) -> list[str]:
    """Words for what differs, at most so many: of tables their keys, of lists their entries."""
    if isinstance(there, dict) and isinstance(now, dict):
        keys = [key for key in {**there, **now} if there.get(key) != now.get(key)]
        parts = [_differences(there.get(key), now.get(key), f"{name}.{key}".strip("."), most) for key in keys]
        return [word for part in parts for word in part][:most]
    if isinstance(there, list) and isinstance(now, list) and not name:
        only = [f"{one} only there" for one in there if one not in now]
        only += [f"{one} only now" for one in now if one not in there]
        return only[:most] or ["another order"]
    return [f"{name} {there} and {now}".strip()]


def _poster_sizes(space) -> list[int]:
    return [size for one in space.space if one.name.endswith(".poster_size") for size in one.values]


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a cluster's time limit is no fault of the trial
    sys.exit(run_command(main))
