"""Supervised fine-tuning: imitate demonstrations, token by token.

From the article: "We show the model many examples of "this is a good question, and this is a good
answer", and we train it to imitate that style."

A language model gives every next token a probability.  Imitation is to make the tokens that the
human wrote probable, and the loss is how improbable they still are: −log p, averaged over the
tokens of the responses.  Tokens of the prompt are context, not something to learn to say, so the
mask leaves them out; so it does padding.  The end-of-sequence token counts: stopping is learnt too.
"""

from typing import Any

from minirlhf.arrays import Array, check_mask, check_ndim, check_same_shape
from minirlhf.ops import masked_mean


def sft_loss(logprobs: Any, mask: Array, count: int | None = None) -> Any:
    """The mean negative log-likelihood of the demonstrated tokens.

        L = −(1/n) Σ_{b,t in the mask} log p(token[b,t] | token[b,<t])

    The mean surprise at the human's tokens, in nats a token: the cross-entropy between the
    demonstrations and the model, whose minimum is the maximum-likelihood estimate.

    logprobs  (B, R)  log-probability of each token given those before it
    mask      (B, R)  boolean, True where a response token counts; masked slots may hold anything
    count             n, the unmasked tokens of the whole optimizer step; by default those given
    returns   ()

    Closed-form gradient: ∂L/∂logprobs = −1/n where the mask is True, else 0.

    Convention: a mean over all tokens of the optimizer step, so a long reply weighs more than a
    short one.  (Others first average within each reply, or within each micro-batch; these differ
    as soon as lengths do.)  With `count` the losses of micro-batches add up to the step's loss.

    Raises TypeError if the mask is not boolean; ValueError if shapes differ or are not (B, R), if
    nothing is unmasked and no `count` is given, or if `count` is not positive.
    """
    check_mask(mask)
    check_ndim(2, "(B, R)", logprobs=logprobs, mask=mask)
    check_same_shape(logprobs=logprobs, mask=mask)
    return -masked_mean(logprobs, mask, count)
