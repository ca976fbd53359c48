"""What the claims share: runs that are made once, intervals, one rule of decision, figures, pages.

    claim.py        what a claim file states, and how it is found
    settings.py     settings of runs, and which of them a stage has read
    sources.py      the digest of the modules that decide what a run ends with
    store.py        the runs, each made once, by the command line
    workers.py      two processes for whatever computes
    reading.py      a finished run: its replies, its looks, how likely it finds a reply
    measuring.py    one seed of a claim
    statistics.py   intervals by a bootstrap clustered by seed, and the rule of decision
    results.py      numbers of all seeds -> what docs/claims/NN-name.json holds
    figures.py      its figure, by matplotlib
    afterwards.py   what people make of a result, written after it
    pages.py        its page, and the index of all
    gallery.py      all of them on one page to be looked at
    command.py      all of it in order
"""

from experiment.claim import Claim, Effect, Wanted, by_prompt, side_by_side
from experiment.command import main
from experiment.reading import by_gold

__all__ = ["Claim", "Effect", "Wanted", "by_gold", "by_prompt", "main", "side_by_side"]
