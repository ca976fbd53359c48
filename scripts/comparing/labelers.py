"""The numbers of docs/labelers.md: labelers on the pairs of replies that a run compared.

    python scripts/comparing/labelers.py runs/toy

Needs `minirlhf preferences` of a run of the toy world.  "Gold" is how often a vote goes to the
reply with the higher gold score, over the pairs that differ in it.  All chances are exact, a mean
over the run's pairs; only the tables of weights draw votes, under 20 seeds: ± of an estimate is its
deviation between them, ± of a difference its 95 % interval.
"""

import sys
from itertools import combinations
from pathlib import Path

import numpy as np

from minirlhf.aggregation import reliability_of, winning_probability
from minirlhf.evaluation import interval, with_gold
from minirlhf.files import read_jsonl
from minirlhf.rollout import Reply
from minirlhf.sources import ToyWorld
from minirlhf.world.labelers import PERSONAS, QUESTIONS
from minirlhf.world.prompts import find

FACTS = ("color", "live", "eat")


def pairs_of(path: Path) -> list[tuple]:
    """(prompt, reply, reply, gold of both, content of both); the reply better by gold first."""
    rows = read_jsonl(path, "prompt", "chosen", "rejected")
    sides = [with_gold([{"prompt": row["prompt"], "kind": row["kind"], "group": row["group"],
                         "reply": row[side], "ended": row[f"{side}_ended"]} for row in rows])
             for side in ("chosen", "rejected")]
    return [tuple(sorted(pair, key=lambda side: -side["gold"]))
            for pair in zip(*sides, strict=True)]


def reply(side: dict) -> Reply:
    return Reply(side["reply"], side["ended"])


def chances(labelers, pairs) -> np.ndarray:
    """P(the first reply is preferred), (labelers, pairs)."""
    return np.array([[labeler.preference_probability(find(a["prompt"]), reply(a), reply(b))
                      for a, b in pairs] for labeler in labelers])


def agreement(p: np.ndarray) -> float:
    """P(two labelers say the same), over every two of them and the pairs."""
    return float(np.mean([a * b + (1 - a) * (1 - b) for a, b in combinations(p, 2)]))


def majority(p: np.ndarray, drawn: int | None = None) -> np.ndarray:
    return np.array([winning_probability(column, [1.0] * len(column), drawn) for column in p.T])


def people(pairs, differ):
    other = np.array([a["content"] != b["content"] for a, b in pairs])
    courteous = [a["courtesy"] != b["courtesy"] for a, b in pairs]
    print(f"\n{(differ & ~other).sum()} pairs of equal content, of which in courtesy differ "
          f"{np.mean(np.array(courteous)[differ & ~other]):.2f}\nlabeler   gold clear, on the "
          f"{(other & differ).sum()} pairs of other content, gold unclear, clear at time 1")
    for name, labeler in PERSONAS.items():
        clear, unclear, late = chances([labeler, labeler.under("unclear"), labeler.at(1.0)], pairs)
        shares = (clear[differ], clear[differ & other], unclear[differ], late[differ])
        print(f"{name:10}" + "".join(f"{share.mean():10.3f}" for share in shares))


def guidelines(pairs, differ):
    print("\nguidelines  agreement of two  gold of one  gold of the majority  best")
    for kind in ("all", "facts", "make", "scary", "harm", "unknown"):
        here = [kind in ("all", a["kind"]) or kind == "facts" and a["kind"] in FACTS
                for a, _ in pairs]
        for told in ("clear", "unclear"):
            p = chances([PERSONAS[name].under(told) for name in ToyWorld().panel], pairs)[:, here]
            apart, most = differ[here], majority(p)
            print(f"{kind:8} {told:9} {agreement(p):.3f} {p[:, apart].mean():.3f} "
                  f"{most[apart].mean():.3f} {np.maximum(most, 1 - most).mean():.3f}")


def votes(pairs, differ):
    print("\nvotes a pair  gold  best")
    panel = ("default", "careful", "rushed", "cautious", "tiring")
    p = chances([PERSONAS[name] for name in panel], pairs)
    for drawn in (1, 3, 5):
        most = majority(p, drawn)
        print(f"{drawn} {most[differ].mean():.3f} {np.maximum(most, 1 - most).mean():.3f}")


def weights(pairs):
    groups = {}
    for a, b in pairs:
        groups.setdefault((a["group"], a["prompt"]), {}).update({reply(a): a, reply(b): b})
    audit(groups)
    five = ("default", "careful", "rushed", "tiring", "careless")
    for panel, drawn in ((five[:3], None), (("careful", "tiring", "careless"), None), (five, None),
                         (five, 3)):
        settle(groups, panel, drawn)


def collect(world, groups, seed):
    rng = np.random.default_rng(seed)
    return [row for i, ((group, prompt), replies) in enumerate(groups.items())
            for row in world.compare(prompt, list(replies), group=group, rng=rng,
                                     time=i / len(groups))]


def audit(groups):
    rows = collect(ToyWorld(guidelines="unclear"), groups, 0)
    harm = [row for row in rows if row["kind"] == "harm"]
    for what, some in (("all", rows), ("harm", harm)):
        print(f"\nunclear, {what}: " + ", ".join(
            f"{name} {p:.3f}" for name, p in reliability_of(some).items()))


def settle(groups, panel, drawn):
    found = {"majority": [], "reliability": []}
    estimates, truths = [], []
    for seed in range(20):
        world = ToyWorld(panel=panel, votes_per_pair=drawn, weighting="reliability")
        rows = collect(world, groups, seed)
        gold = [[groups[row["group"], row["prompt"]][Reply(row[side], row[f"{side}_ended"])]["gold"]
                 for side in ("chosen", "rejected")] for row in rows]
        for name, settled in (("majority", rows), ("reliability", world.settle(rows))):
            right = [(now["chosen"] == row["chosen"] and now["chosen_ended"] == row["chosen_ended"])
                     == (c > r) for now, row, (c, r) in zip(settled, rows, gold, strict=True)
                     if c != r]
            found[name].append((np.mean(right), np.mean([row["best"] for row in settled])))
        estimates.append(reliability_of(rows))
        truths.append({name: np.mean([(c > r) == vote for row, (c, r) in zip(rows, gold,
                                      strict=True) if c != r for who, vote in
                                      zip(row["labelers"], row["votes"], strict=True)
                                      if who == name]) for name in panel})
    print(f"\n{', '.join(panel)}; {drawn or 'all'} vote")
    for name in panel:
        p, t = ([one[name] for one in many] for many in (estimates, truths))
        print(f"  {name:10} estimated {np.mean(p):.3f} ± {np.std(p):.3f}   gold {np.mean(t):.3f}")
    for name, both in found.items():
        print("  {:12} gold {:.4f} best {:.4f}".format(name, *np.mean(both, axis=0)))
    gains = np.subtract(found["reliability"], found["majority"])
    for what, (mean, half) in zip(("gold", "best"), map(interval, gains.T), strict=True):
        print(f"  reliability − majority, {what}: {mean:+.4f} ± {half:.4f}")


CONTENTS = [("harm", "refusal", "harmful_howto"), ("harm", "refusal", "wrong"),
            ("harm", "refusal", "other"), ("scary", "right", "refusal"),
            ("scary", "wrong", "refusal"), ("scary", "right", "wrong"), ("facts", "right", "wrong"),
            ("facts", "right", "refusal"), ("facts", "wrong", "dont_know"),
            ("facts", "right", "dont_know"), ("unknown", "dont_know", "wrong"),
            ("unknown", "refusal", "wrong"), ("unknown", "dont_know", "refusal")]


def questions(pairs):
    panels = {"default": ToyWorld().panel, "one cautious": ("default", "careful", "cautious"),
              "all cautious": ("cautious",)}
    for who, panel in panels.items():
        print(f"\n{who}: {', '.join(panel)}\nkind     content over content   pairs  "
              + "  ".join(QUESTIONS))
        for kind, x, y in CONTENTS:
            chosen = [(a, b) if a["content"] == x else (b, a) for a, b in pairs
                      if {a["content"], b["content"]} == {x, y}
                      and (a["kind"] == kind or kind == "facts" and a["kind"] in FACTS)]
            if chosen:
                said = [majority(chances([PERSONAS[name].asked(question) for name in panel],
                                         chosen)).mean() for question in QUESTIONS]
                print(f"{kind:8} {x:10} over {y:14} {len(chosen):4} "
                      + "  ".join(f"{share:.2f}" for share in said))


def main(folder: str) -> None:
    pairs = pairs_of(Path(folder) / "preferences.jsonl")
    differ = np.array([a["gold"] > b["gold"] for a, b in pairs])
    print(f"{len(pairs)} pairs, {differ.sum()} of them with different gold scores")
    people(pairs, differ)
    guidelines(pairs, differ)
    votes(pairs, differ)
    questions(pairs)
    weights(pairs)


if __name__ == "__main__":
    main(*sys.argv[1:])
