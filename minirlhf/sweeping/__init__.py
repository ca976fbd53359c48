"""Sweeps: many runs of many settings and seeds, each made once, on one machine or on several.

    grid.py       the combinations of settings that a sweep is over
    settings.py   settings of runs, and which of them a stage has read
    sources.py    the digest of the modules that decide what a run ends with
    store.py      the runs, each made once, by the command line
    locks.py      one process at a time for a run
    workers.py    processes of this machine for whatever computes
    cluster.py    those of a Dask cluster
    table.py      what came of it, a line a combination
    command.py    all of it in order: `minirlhf sweep`
"""
