"""Vectors of the positions that a padded row's tokens are given."""

from vectors.family import Argument, Axis, Case, Family, Group, star
from vectors.witness import over


def position_ids(x, c, start=0):
    """How many real tokens stand before each, or its column."""
    counted = c["pos.ids"] == "real"
    return {"ids": [over(mask, [sum(mask[:t]) + start if counted else t
                                for t in range(len(mask))]) for mask in x["mask"]]}


MISTAKES = {
    "counted-from-one": lambda x, c: position_ids(x, c, start=1),
    "positions-of-columns": lambda x, c: position_ids(x, {"pos.ids": "column"}),
    "pads-counted-in-front": lambda x, c: {"ids": [over(mask, [
        t - mask.index(True) if True in mask else t for t in range(len(mask))])
        for mask in x["mask"]]},
}
AXES = (Axis("pos.ids", "the position of a token in a padded row", {
    "real": "how many real tokens stand before it", "column": "its column, whatever the padding"}),)
BASE = {"pos.ids": "real"}
GROUPS = (
    Group("real", "", BASE, ("minirlhf", "trl-ppo", "openrlhf", "rloo-openrlhf", "trlx",
                             "lm-human-preferences", "torchtune"), core=True),
    star(BASE, "column", "a position is a column", ("summarize-from-feedback-details",),
         pos__ids="column"),
)
EXACT = (1e-9, 1e-9, "a position is right or wrong")


def case(name, law, rows, *mistakes, given=""):
    mask = {"mask": [[bool(m) for m in row] for row in rows]}
    return Case(name, law, mask, mistakes, given=given, tolerance=EXACT)


CASES = (
    case("right-padded", "padding behind a reply leaves its positions alone",
         [[1, 1, 1, 0, 0]], "counted-from-one"),
    case("left-padded", "padding in front of a prompt is not counted", [[0, 0, 1, 1, 1]],
         "positions-of-columns", "counted-from-one", given="padding in front"),
    case("both-sides", "a prompt padded in front and its reply padded behind are one sequence",
         [[0, 1, 1, 1, 0, 0]], "positions-of-columns", given="padding on both sides"),
    case("between", "padding between a prompt and its reply is not counted either",
         [[1, 1, 0, 0, 1, 1]], "positions-of-columns", "pads-counted-in-front",
         given="padding between prompt and reply"),
    case("rollout-and-loss", "a row has the same positions however it is padded",
         [[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0], [0, 1, 1, 1, 1, 0]], "positions-of-columns",
         given="one row padded in three ways"),
    case("empty-row", "a row without a token has no positions, and harms no other",
         [[0, 0, 0], [0, 1, 1]], "positions-of-columns", "counted-from-one",
         given="a row without a token"),
)
FAMILY = Family(
    function="position_ids",
    says="The positions of tokens, which learned position embeddings are looked up by.",
    equation=("ids_t = Σ_{s<t} mask_s, where mask_t",),
    sources=({"paper": "openai/lm-human-preferences", "where": "policy.py, positions of padded "
              "queries"},),
    arguments=(Argument("mask", "(B, T)", "True where the token is real", "bool"),),
    results=(Argument("ids", "(B, T)", "from 0", "int"),),
    axes=AXES, groups=GROUPS, cases=CASES, formula=position_ids, mistakes=MISTAKES)
