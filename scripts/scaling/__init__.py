"""How training over ranks scales: docs/scale.md, made by scripts/scale.py.

    work.py       steps of every stage at size *small*, on made-up data
    ranks.py      the program that mpiexec starts: steps of one stage, timed
    turns.py      starts it with one rank, with two, and as one process with two threads, by turns
    paper.py      the same design on many GPUs, reckoned
    page.py       docs/scale.md, of what was measured, what was reckoned and
    on_paper.md   what is said about it
"""
