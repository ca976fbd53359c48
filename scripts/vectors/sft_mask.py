"""Vectors of which tokens of a demonstration are learnt."""

from vectors.family import Argument, Axis, Case, Family, Group, star


def counted(tokens, mask, prompt, pad, how):
    """Which tokens count, the first one too."""
    if how == "nonpad":
        return [token != pad for token in tokens]
    return [real and (how == "real" or t >= prompt) for t, real in enumerate(mask)]


def sft_mask(x, c, shift=1, more=0):
    return {"counts": [counted(tokens, mask, prompt + more, x["pad_id"], c["sft.mask"])[
        shift:len(tokens) - 1 + shift] for tokens, mask, prompt in zip(
        x["tokens"], x["mask"], x["prompt_lengths"], strict=True)]}


def end_left_out(x, c):
    return {"counts": [[real and any(row[t + 1:]) for t, real in enumerate(row)]
                       for row in sft_mask(x, c)["counts"]]}


MISTAKES = {
    "mask-shifted-by-one": lambda x, c: sft_mask(x, c, shift=0),
    "first-response-token-left-out": lambda x, c: sft_mask(x, c, more=1),
    "prompt-learnt": lambda x, c: sft_mask(x, {"sft.mask": "real"}),
    "last-token-left-out": end_left_out,
}
AXES = (Axis("sft.mask", "which tokens are learnt", {
    "completion": "the real tokens of the response", "real": "all real tokens, the prompt's too",
    "nonpad": "all tokens whose id is not the pad's"}),)
BASE = {"sft.mask": "completion"}
GROUPS = (
    Group("completion", "", BASE, ("minirlhf", "openrlhf", "trl-sft")),
    star(BASE, "real", "the prompt is learnt too", ("deepspeed-chat",), sft__mask="real"),
    star(BASE, "nonpad", "what is not a pad by its id is learnt",
         ("summarize-from-feedback-details", "trlx"),
         sft__mask="nonpad"),
)
EXACT = (1e-9, 1e-9, "a token counts or does not")


def batch(tokens, lengths, prompts, pad_id=0):
    return {"tokens": tokens, "mask": [[t < n for t in range(len(tokens[0]))] for n in lengths],
            "prompt_lengths": prompts, "pad_id": pad_id}


def case(name, law, inputs, *mistakes, **more):
    return Case(name, law, inputs, mistakes, tolerance=EXACT, **more)


CASES = (
    case("worked", "the response and its end are learnt, prompt and padding are not", batch(
        [[5, 6, 7, 8, 1, 0, 0]], [5], [3]),
        "mask-shifted-by-one", "first-response-token-left-out", "prompt-learnt",
        "last-token-left-out",
        given="prompt, response and padding"),
    case("two-rows", "each row has its own prompt and its own end", batch(
        [[5, 6, 7, 8, 9, 1], [5, 9, 1, 0, 0, 0]], [6, 3], [2, 1]),
        "mask-shifted-by-one", "prompt-learnt", "last-token-left-out",
        given="two rows"),
    case("pad-is-end", "where pad and end are one id the end is still learnt", batch(
        [[5, 6, 7, 1, 1, 1]], [4], [2], 1), "last-token-left-out", "first-response-token-left-out",
        groups=("completion", "real", "nonpad"),
        laws={"nonpad": "where pad and end are one id the end is not learnt"},
        given="pad and end of one id"),
    case("prompt-of-one", "the first token is never learnt", batch([[5, 6, 1]], [3], [1]),
         "first-response-token-left-out",
         given="a prompt of one token"),
    case("cut", "a response that was cut is learnt to its last token", batch(
        [[5, 6, 7, 8]], [4], [2]), "last-token-left-out", "prompt-learnt",
        given="a response that was cut"),
)
FAMILY = Family(
    function="sft_mask",
    says="Which of the log-probabilities of tokens 1 … T−1 count in the supervised loss.",
    equation=("counts[:, t−1] = token t is real and belongs to the response, t = 1 … T−1",),
    sources=({"paper": "huggingface/trl", "where": "trl/trainer/sft_trainer.py, "
              "completion_only_loss"},),
    arguments=(
        Argument("tokens", "(B, T)", "prompt and response, padded on the right", "int"),
        Argument("mask", "(B, T)", "True where the token is real", "bool"),
        Argument("prompt_lengths", "(B)", "tokens of each prompt", "int"),
        Argument("pad_id", "()", "the pad's id, perhaps also that of the end", "int")),
    results=(Argument("counts", "(B, T-1)", "aligned with the log-probabilities", "bool"),),
    axes=AXES, groups=GROUPS, cases=CASES, formula=sft_mask, mistakes=MISTAKES)
