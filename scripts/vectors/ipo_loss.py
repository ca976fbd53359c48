"""Vectors of identity preference optimization, from the log-probabilities of tokens."""

from vectors.dpo_loss import gap
from vectors.family import Argument, Axis, Case, Family, Group, numbers, star
from vectors.witness import chosen, mean, total

NAN, HUGE = float("nan"), 1e30
SIDES = (("chosen", "chosen_mask"), ("rejected", "rejected_mask"),
         ("ref_chosen", "chosen_mask"), ("ref_rejected", "rejected_mask"))


def ipo_loss(x, c, target=lambda beta: 1 / (2 * beta)):
    of_reply = total if c["ipo.len"] == "sum" else mean
    sides = [[of_reply(chosen(row, m)) for row, m in zip(x[name], x[mask], strict=True)]
             for name, mask in SIDES]
    return {"loss": mean((gap(*pair) - target(x["beta"])) ** 2
                         for pair in zip(*sides, strict=True))}


def mask_ignored(x, c):
    return ipo_loss(x | {mask: [[True] * len(m) for m in x[mask]] for _, mask in SIDES}, c)


MISTAKES = {
    "preference-swapped": lambda x, c: ipo_loss(x | {
        "chosen": x["rejected"], "rejected": x["chosen"], "ref_chosen": x["ref_rejected"],
        "ref_rejected": x["ref_chosen"], "chosen_mask": x["rejected_mask"],
        "rejected_mask": x["chosen_mask"]}, c),
    "reference-missing": lambda x, c: ipo_loss(x | {
        name: [[0 * v if ok else v for v, ok in zip(row, m, strict=True)]
               for row, m in zip(x[name], x[mask], strict=True)]
        for name, mask in SIDES[2:]}, c),
    "beta-for-its-inverse": lambda x, c: ipo_loss(x, c, target=lambda beta: beta / 2),
    "half-missing": lambda x, c: ipo_loss(x, c, target=lambda beta: 1 / beta),
    "mask-ignored": mask_ignored,
}
AXES = (Axis("ipo.len", "the log-probability of a reply", {
    "sum": "summed over its tokens", "mean": "averaged over its tokens"}),)
BASE = {"ipo.len": "sum"}
GROUPS = (
    Group("sum", "", BASE, ("openrlhf", "summarize-from-feedback-details")),
    star(BASE, "mean", "log-probabilities are averaged over tokens", ("trl-dpo",), ipo__len="mean"),
)


def batch(chosen_tokens, rejected_tokens, ref_chosen, ref_rejected, lengths, beta=0.1):
    width = len(chosen_tokens[0])
    return {"chosen": chosen_tokens, "rejected": rejected_tokens, "ref_chosen": ref_chosen,
            "ref_rejected": ref_rejected, "beta": beta,
            "chosen_mask": [[t < a for t in range(width)] for a, _ in lengths],
            "rejected_mask": [[t < b for t in range(width)] for _, b in lengths]}


FIVE = [numbers(f"ipo {name}", 3, 5, low=-4, high=0)
        for name in ("chosen", "rejected", "ref chosen", "ref rejected")]
CASES = (
    Case("worked", "sums of 3 and -2 nats above the reference reach the target of 5 exactly", batch(
        [[-1.0] * 10], [[-2.0] * 10], [[-1.3] * 10], [[-1.6] * 10], [(10, 5)]),
        ("half-missing", "beta-for-its-inverse", "mask-ignored"),
        laws={"mean": "means of 0.3 and -0.4 nats are far from a target of 5"},
        given="ten tokens against five"),
    Case("arbitrary", "every token of a reply adds to its log-probability", batch(*FIVE, [(5, 3),
         (2, 4), (5, 5)]),
         ("preference-swapped", "reference-missing", "mask-ignored", "half-missing"),
         given="three pairs of unequal lengths"),
    Case("beta-half", "a larger beta asks for less", batch(*FIVE, [(5, 3), (2, 4), (5, 5)], 0.5),
         ("beta-for-its-inverse", "preference-swapped"),
         given="a beta of one half"),
    Case("at-the-reference", "a policy that is the reference misses the whole target", batch(
        [FIVE[0][0]], [FIVE[1][0]], [FIVE[0][0]], [FIVE[1][0]], [(5, 2)]),
        ("reference-missing",),
        given="at the reference"),
    Case("beyond", "a preference beyond the target is pulled back", batch(
        [[-0.1] * 5], [[-6.0] * 5], [[-2.0] * 5], [[-2.0] * 5], [(5, 5)]),
        ("preference-swapped", "half-missing"),
        given="a preference beyond the target"),
)
FAMILY = Family(
    function="ipo_loss",
    says="The squared distance of the preference from a fixed target.",
    equation=("h = (chosen − ref_chosen) − (rejected − ref_rejected), each summed over tokens",
              "L = mean of (h − 1/(2β))²"),
    sources=({"paper": "Azar et al. 2023, arXiv 2310.12036", "where": "IPO"},),
    arguments=(
        Argument("chosen", "(N, R)", "log-probabilities of the tokens of the preferred replies",
                 differentiated=True),
        Argument("rejected", "(N, R)", "of the others", differentiated=True),
        Argument("ref_chosen", "(N, R)", "the same under the reference"),
        Argument("ref_rejected", "(N, R)", "the same under the reference"),
        Argument("chosen_mask", "(N, R)", "True where the token is real", "bool"),
        Argument("rejected_mask", "(N, R)", "True where the token is real", "bool"),
        Argument("beta", "()", "the price of a nat")),
    results=(Argument("loss", "()", "to be minimised"),),
    axes=AXES, groups=GROUPS, cases=CASES, formula=ipo_loss, mistakes=MISTAKES)
