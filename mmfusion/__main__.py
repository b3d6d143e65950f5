"""`python -m mmfusion`: lists the commands."""

COMMANDS = {
    "mmfusion.train": "trains one variant into a run folder and reports on it",
    "mmfusion.evaluate": "reports on one finished run, or on several side by side",
    "mmfusion.predict": "tells the genres of one film",
    "mmfusion.export": "writes a run's model in a format that needs no mmfusion",
    "tuning.search": "looks for a variant's best hyperparameters",
    "benchmarks.run": "trains all variants and baselines over several seeds",
    "benchmarks.table": "makes tables, figures and a report of them",
    "benchmarks.tuned": "puts two such sweeps side by side, by default and by tuned settings",
    "benchmarks.throughput": "measures how fast training is",
    "benchmarks.options": "measures what else could make it faster",
}

if __name__ == "__main__":
    print("mmfusion's commands; each answers --help:\n")
    for command, what in COMMANDS.items():
        print(f"    python -m {command:22} {what}")
