"""The three steps: one update by PPO, of a reward model, and by GRPO.

Every formula stands in words beside the name of its array; functions.py has them as code.
"""

from minirlhf.autograd import value_and_grad
from minirlhf.conformance.trace import functions
from minirlhf.conformance.trace.rules import Given, Rule, Step
from minirlhf.kl_penalty import kl_estimate
from minirlhf.ops import mul, where
from minirlhf.ops import sum as sum_


def named(*names: str) -> dict:
    """Functions of functions.py by name."""
    return {name: getattr(functions, name) for name in names}


MODELS = named("backward_of", "norm_of", "clip_of", "adamw_of", "head_of", "scores_of")
POLICY = MODELS | named("logits_of", "logprobs_of", "entropy_of", "kl_of", "ratios_of",
                        "policy_loss_of")
OPTIMIZER = frozenset({"max_grad_norm", "beta1", "beta2", "eps", "weight_decay"})


def measured(name: str, model: str, function: str, shape: str, formula: str,
             mask: str | None = "mask") -> Rule:
    """What a model says of the sequences."""
    return Rule(name, shape, formula, lambda e: e[function](e, *e[model]), mask)


def policy_loss_rules(advantages: str) -> list[Rule]:
    """From ratios to the gradient of the loss for each log-prob."""
    def slope(e):
        return value_and_grad(lambda x: e["policy_loss_of"](e, x, e[advantages]))(e["logprobs"])[1]

    return [
        Rule("ratios", "(B, R)", "r_t = exp(logprobs_t − old_logprobs_t)",
             lambda e: e["ratios_of"](e), "mask"),
        Rule("policy_loss", "()",
             "−(1/n) Σ_mask min(r·A, clip(r, 1 − clip_ratio, 1 + clip_ratio)·A), n the unmasked "
             f"tokens of the batch, A the {advantages}",
             lambda e: e["policy_loss_of"](e, e["logprobs"], e[advantages]), through=("ratios",)),
        Rule("policy_loss_by_logprobs", "(B, R)",
             "∂policy_loss/∂logprobs_t = −r_t·A_t/n, 0 where the clip bites",
             slope, "mask", through=("ratios",))]


def update_rules(model: str, backward) -> list[Rule]:
    """From a model's gradient to its parameters after one AdamW step, trees of its names."""
    gradient, clipped = f"{model}_gradient", f"{model}_clipped_gradient"
    return [
        Rule(gradient, "each parameter's", f"∂loss/∂θ of every parameter θ of the {model} model",
             backward),
        Rule(f"{gradient}_norm", "()", f"√Σ g² over every entry of every {gradient}",
             lambda e: e["norm_of"](e, e[gradient])),
        Rule(clipped, "each parameter's",
             f"g·min(1, max_grad_norm/({gradient}_norm + 1e-6))",
             lambda e: e["clip_of"](e, e[gradient]), through=(f"{gradient}_norm",)),
        Rule(f"{model}_after", "each parameter's",
             "AdamW's first step: θ·(1 − lr·weight_decay) − lr·m̂/(√v̂ + eps), with "
             "m̂ = m/(1 − beta1), m = (1 − beta1)·g, v̂ = v/(1 − beta2), v = (1 − beta2)·g², g the "
             "clipped gradient",
             lambda e: e["adamw_of"](e, e[model].params, e[clipped], e[f"lr_{model}"]))]


def policy_backward(e):
    params, config = e["policy"]
    return e["backward_of"](e, lambda p: e["logprobs_of"](e, p, config), params,
                            e["policy_loss_by_logprobs"])


def value_backward(e):
    params, config = e["value"]
    return e["backward_of"](e, lambda p: e["values_of"](e, p, config), params,
                            e["value_loss_by_values"])


def reward_backward(e):
    params, config = e["reward"]

    def weighed(p):
        sides = (mul(e["scores_of"](e, p, config, e[side], e[f"{side}_mask"]),
                     e[f"loss_by_{side}_scores"]) for side in ("chosen", "rejected"))
        return sum(map(sum_, sides))
    return e["backward_of"](e, weighed, params, 1.0)


# --- the steps -----------------------------------------------------------------------------------

LOGPROBS = measured(
    "logprobs", "policy", "logprobs_of", "(B, R)",
    "log softmax(z_{t−1}/τ)[token t] of the policy in training: the logits one column before the "
    "token, divided by the temperature")
REFERENCE = measured("ref_logprobs", "reference", "logprobs_of", "(B, R)",
                     "the same of the reference model, at the same temperature")
ENTROPY = measured("entropy", "policy", "entropy_of", "()",
                   "−(1/n) Σ_mask Σ_v p_v log p_v, p = softmax(z_{t−1}/τ): watched, in no loss",
                   mask=None)
SCORES = Rule("scores", "(B,)",
              "the reward model's scalar head at the last real token of each row",
              lambda e: e["scores_of"](e, *e["reward"], e["sequences"], e["sequence_mask"]))
KL = Rule("kl", "(B, R)",
          "k1 of the policy that sampled: old_logprobs_t − ref_logprobs_t",
          lambda e: e["kl_of"](e), "mask")
SEQUENCES = {
    "sequences": Given("(B, P+R)", "int", "token ids: prompts padded on the left to P columns, "
                                          "responses from column P on, padded on the right"),
    "sequence_mask": Given("(B, P+R)", "bool", "True on real tokens"),
    "mask": Given("(B, R)", "bool", "True on the response's tokens, its end included: the last R "
                                    "columns of sequence_mask"),
    "old_logprobs": Given(
        "(B, R)", "float", "log-probs under the policy that sampled, a few updates earlier than "
        "the policy in training; where they are not given, the policy's own", optional=True)}

PPO = Step(
    "ppo_step", "one update of policy and value model by PPO on one batch",
    {"policy": "the policy in training", "reference": "the frozen reference",
     "value": "the value model in training", "reward": "the frozen reward model"},
    SEQUENCES | {"old_values": Given(
        "(B, R)", "float", "V before each token, by the value model when the policy sampled; "
        "where they are not given, the value model's own", optional=True)},
    POLICY | named("values_of", "rewards_of", "advantages_of", "returns_of", "whiten_of",
                   "value_loss_of"),
    OPTIMIZER | {"temperature", "beta", "gamma", "lam", "clip_ratio", "clip_value", "lr_policy",
                 "lr_value"},
    [LOGPROBS, REFERENCE, ENTROPY,
     measured("values", "value", "values_of", "(B, R)",
              "the value model's scalar head one column before the token: V of the state in which "
              "the token is about to be chosen"),
     SCORES, KL,
     Rule("rewards", "(B, R)", "r_t = [t is the reply's last token]·score − beta·kl_t",
          lambda e: e["rewards_of"](e), "mask", through=("kl",)),
     Rule("advantages", "(B, R)",
          "GAE: A_t = δ_t + gamma·lam·A_{t+1}, δ_t = r_t + gamma·V_{t+1} − V_t, V the old_values, "
          "0 after the last token",
          lambda e: e["advantages_of"](e), "mask"),
     Rule("returns", "(B, R)", "advantages_t + old_values_t", lambda e: e["returns_of"](e), "mask"),
     Rule("whitened_advantages", "(B, R)",
          "(A − μ)/√(σ² + 1e-8), μ and σ² = (1/n) Σ (A − μ)² over the unmasked tokens",
          lambda e: e["whiten_of"](e), "mask"),
     *policy_loss_rules("whitened_advantages"),
     *update_rules("policy", policy_backward),
     Rule("value_loss", "()",
          "½·(1/n) Σ_mask max((V − G)², (clip(V, V_old − clip_value, V_old + clip_value) − G)²), "
          "V the values, V_old the old_values, G the returns",
          lambda e: e["value_loss_of"](e, e["values"])),
     Rule("value_loss_by_values", "(B, R)",
          "∂value_loss/∂V_t = (V_t − G_t)/n, 0 where the clipped error is the larger",
          lambda e: value_and_grad(lambda x: e["value_loss_of"](e, x))(e["values"])[1], "mask"),
     *update_rules("value", value_backward)])

REWARD_MODEL = Step(
    "reward_model_step", "one update of a reward model on pairs, each of another prompt",
    {"reward": "the reward model in training"},
    {f"{side}{what}": Given("(N, T)", dtype, about)
     for side in ("chosen", "rejected")
     for what, dtype, about in (
         ("", "int", f"token ids of prompt and {side} reply, padded on the right"),
         ("_mask", "bool", "True on real tokens"))},
    MODELS | named("gaps_of", "pair_losses_of", "pair_loss_of"),
    OPTIMIZER | {"lr_reward"},
    [*(Rule(f"{side}_scores", "(N,)",
            f"the scalar head at the last real token of each {side} row",
            lambda e, side=side: e["scores_of"](e, *e["reward"], e[side], e[f"{side}_mask"]))
       for side in ("chosen", "rejected")),
     Rule("gaps", "(N,)", "chosen_scores − rejected_scores", lambda e: e["gaps_of"](e)),
     Rule("pair_losses", "(N,)", "−log σ(gap) = softplus(−gap)",
          lambda e: e["pair_losses_of"](e)),
     Rule("loss", "()", "the mean of the pair_losses",
          lambda e: e["pair_loss_of"](e, e["chosen_scores"], e["rejected_scores"]),
          through=("gaps", "pair_losses")),
     Rule("loss_by_chosen_scores", "(N,)", "∂loss/∂chosen_scores = −σ(−gap)/N",
          lambda e: value_and_grad(
              lambda s: e["pair_loss_of"](e, s, e["rejected_scores"]))(e["chosen_scores"])[1],
          through=("gaps",)),
     Rule("loss_by_rejected_scores", "(N,)", "∂loss/∂rejected_scores = σ(−gap)/N",
          lambda e: value_and_grad(
              lambda s: e["pair_loss_of"](e, e["chosen_scores"], s))(e["rejected_scores"])[1],
          through=("gaps",)),
     *update_rules("reward", reward_backward)])

GRPO = Step(
    "grpo_step", "one update of a policy by GRPO, with the KL penalty in the reward",
    {name: about for name, about in PPO.models.items() if name != "value"}, SEQUENCES,
    POLICY | named("objectives_of", "group_of", "spread_of"),
    OPTIMIZER | {"temperature", "beta", "clip_ratio", "group_size", "lr_policy"},
    [LOGPROBS, REFERENCE, ENTROPY, SCORES, KL,
     Rule("k3", "(B, R)",
          "e^−k − 1 + k, k = logprobs_t − ref_logprobs_t: for systems that have the KL in the "
          "loss; nothing here is computed from it",
          lambda e: where(e["mask"], kl_estimate(e["logprobs"], e["ref_logprobs"], "k3"), 0),
          "mask"),
     Rule("objectives", "(B,)", "scores − beta·Σ_mask kl_t, one number a reply",
          lambda e: e["objectives_of"](e)),
     Rule("group_advantages", "(B,)",
          "(s − mean)/(std + 1e-4) of the objectives s in each group of group_size rows, std with "
          "group_size − 1 below",
          lambda e: e["group_of"](e)),
     Rule("advantages", "(B, R)", "the group_advantages of the row, at each of its tokens",
          lambda e: e["spread_of"](e), "mask"),
     *policy_loss_rules("advantages"),
     *update_rules("policy", policy_backward)])

STEPS = {step.name: step for step in (PPO, REWARD_MODEL, GRPO)}
