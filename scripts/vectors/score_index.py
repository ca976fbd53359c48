"""Vectors of the position at which the reward model's score is read."""

from vectors.family import Argument, Axis, Case, Family, Group, star


def read(tokens, mask, start, pad, how):
    """The index of one row."""
    width = len(tokens)
    if how == "row-end":
        return width - 1
    if how == "last-real":
        return max(t for t in range(width) if mask[t])
    if how == "last-nonpad":
        return max((t for t in range(width) if tokens[t] != pad), default=width - 1)
    if how == "before-the-first-pad-of-the-row":
        pads = [t for t in range(width) if tokens[t] == pad]
        return ((pads[0] if pads else 0) - 1) % width
    if how == "before-the-first-pad":
        return next((t for t in range(start, width) if tokens[t] == pad), width) - 1
    reply = [t for t in range(start, width) if tokens[t] != pad]
    return reply[-1] if reply else start


def score_index(x, c):
    return {"index": [read(tokens, mask, x["prompt_width"], x["pad_id"], c["rm.read"])
                      for tokens, mask in zip(x["tokens"], x["mask"], strict=True)]}


MISTAKES = {
    "token-after-the-last": lambda x, c: {"index": [
        min(i + 1, len(x["tokens"][0]) - 1) for i in score_index(x, c)["index"]]},
    "token-before-the-last": lambda x, c: {"index": [
        i - 1 for i in score_index(x, c)["index"]]},
    "counted-without-left-padding": lambda x, c: {"index": [sum(m) - 1 for m in x["mask"]]},
    "pad-id-unknown": lambda x, c: {"index": [len(m) - 1 for m in x["mask"]]},
}
AXES = (Axis("rm.read", "which position of a row of prompt and response holds its score", {
    "last-real": "the last token that the attention mask calls real",
    "last-nonpad": "the last token whose id is not that of the pad",
    "before-the-first-pad": "the position before the first pad of the response; the last of a "
                            "row without one",
    "before-the-first-pad-of-the-row": "the position before the first pad anywhere (modulo the "
                                       "width); the last of a row without one",
    "response-last-nonpad": "the last token of the response whose id is not that of the pad; "
                            "the first position of an empty response",
    "row-end": "the last position, whatever stands there"}),)
BASE = {"rm.read": "last-real"}
GROUPS = (
    Group("last-real", "", BASE, ("minirlhf", "openrlhf"), core=True),
    star(BASE, "last-nonpad", "the last token whose id is not the pad's", ("trl-reward",),
         rm__read="last-nonpad"),
    star(BASE, "before-the-first-pad", "the position before the response's first pad",
         ("trl-ppo", "summarize-from-feedback-details", "deepspeed-chat"),
         rm__read="before-the-first-pad"),
    star(BASE, "before-any-pad", "the position before the row's first pad",
         rm__read="before-the-first-pad-of-the-row"),
    star(BASE, "response", "the response's last token whose id is not the pad's",
         ("summarize-from-feedback",),
         rm__read="response-last-nonpad"),
    star(BASE, "row-end", "the last position",
         ("lm-human-preferences",), rm__read="row-end"),
)
EVERY = tuple(group.name for group in GROUPS)
EXACT = (1e-9, 1e-9, "an index is right or wrong")


def batch(tokens, mask, prompt_width, pad_id=0):
    return {"tokens": tokens, "mask": [[bool(m) for m in row] for row in mask],
            "prompt_width": prompt_width, "pad_id": pad_id}


def case(name, law, inputs, *mistakes, **more):
    return Case(name, law, inputs, mistakes, tolerance=EXACT, **more)


# ids: 0 pad, 1 end of sequence, from 5 on words
CASES = (
    case("padded", "a padded reply is scored at its end-of-sequence token", batch(
        [[5, 6, 7, 8, 1, 0, 0]], [[1, 1, 1, 1, 1, 0, 0]], 3),
        "token-after-the-last", "token-before-the-last", "pad-id-unknown",
        given="a padded reply"),
    case("full", "a row without padding is scored at its last position", batch(
        [[5, 6, 7, 8, 9, 9, 1]], [[1] * 7], 3), "token-before-the-last",
        given="a full row"),
    case("left-padded", "padding before the prompt does not move the score", batch(
        [[0, 0, 7, 8, 9, 1, 0]], [[0, 0, 1, 1, 1, 1, 0]], 3),
        "counted-without-left-padding", "token-after-the-last", "pad-id-unknown",
        groups=EVERY,
        given="a padded prompt"),
    case("pad-is-end", "where pad and end of sequence are one id, the mask tells them apart", batch(
        [[5, 6, 7, 8, 1, 1, 1]], [[1, 1, 1, 1, 1, 0, 0]], 3, 1),
        "token-after-the-last", "pad-id-unknown", groups=EVERY,
        given="pad and end of one id"),
    case("pad-is-end-of-turn", "an end of sequence inside the prompt is not the end", batch(
        [[5, 1, 7, 8, 1, 1, 1]], [[1, 1, 1, 1, 1, 0, 0]], 3, 1), "token-after-the-last",
        groups=EVERY,
        given="pad and end of one id, which the prompt has too"),
    case("no-end", "a reply that was cut is scored at the last token it has", batch(
        [[5, 6, 7, 8, 9, 9, 9]], [[1] * 7], 3, 1), "token-before-the-last",
        given="a row that was cut"),
    case("cut-and-padded", "a reply that was cut early is scored before its padding", batch(
        [[5, 6, 7, 8, 9, 0, 0]], [[1, 1, 1, 1, 1, 0, 0]], 3), "pad-id-unknown",
        given="a reply cut early"),
    case("empty", "a row without a response is scored at the end of its prompt", batch(
        [[5, 6, 7, 0, 0, 0, 0]], [[1, 1, 1, 0, 0, 0, 0]], 3), "token-after-the-last",
        groups=EVERY,
        given="an empty response"),
    case("empty-left-padded", "an empty response after a padded prompt is scored there too", batch(
        [[0, 0, 7, 0, 0, 0, 0]], [[0, 0, 1, 0, 0, 0, 0]], 3), "counted-without-left-padding",
        given="an empty response after a padded prompt"),
    case("batch", "every row has its own last token", batch(
        [[0, 6, 7, 8, 1, 0, 0], [5, 6, 7, 1, 0, 0, 0], [5, 6, 7, 8, 9, 9, 9]],
        [[0, 1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 0, 0, 0], [1] * 7], 3),
        "counted-without-left-padding", "pad-id-unknown", "token-before-the-last",
        given="three rows"),
    case("pad-in-the-reply", "a pad inside the response that counts does not end it", batch(
        [[5, 6, 7, 8, 0, 9, 1, 0]], [[1, 1, 1, 1, 1, 1, 1, 0]], 3), "token-after-the-last",
        groups=EVERY,
        given="a pad that counts, inside the response"),
)
FAMILY = Family(
    function="score_index",
    says="The position at which the reward model's score of a row is read.",
    equation=("index = max {t : mask_t}",),
    sources=({"paper": "Ouyang et al. 2022, arXiv 2203.02155",
              "where": "section 3.5, a scalar for prompt and response"},),
    arguments=(
        Argument("tokens", "(B, T)", "prompts, padded on the left, then responses, padded on the "
                 "right", "int"),
        Argument("mask", "(B, T)", "True where the token is real", "bool"),
        Argument("prompt_width", "()", "the column where responses begin", "int"),
        Argument("pad_id", "()", "the pad's id, perhaps also that of the end", "int")),
    results=(Argument("index", "(B)", "from 0", "int"),),
    axes=AXES, groups=GROUPS, cases=CASES, formula=score_index, mistakes=MISTAKES)
