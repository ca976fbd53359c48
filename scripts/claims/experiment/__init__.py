"""What the claims share: intervals, one rule of decision, figures, pages.

Their runs are made by minirlhf/sweeping/, each once for all claims.

    claim.py        what a claim file states, and how it is found
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

from experiment.claim import Claim, Effect, by_prompt, of_pairs, side_by_side
from experiment.command import main
from experiment.reading import by_gold
from minirlhf.sweeping.store import Wanted

__all__ = ["Claim", "Effect", "Wanted", "by_gold", "by_prompt", "main", "of_pairs", "side_by_side"]
