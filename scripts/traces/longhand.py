"""The three steps of a trace in longhand: loops over rows and tokens, one row of a model at a time.

Written from the formulas in trace.json, apart from the package's functions (a model's forward pass
is the package's, on single rows without padding), and apart from the table of known mistakes.
`wrong` names one thing that is done otherwise: WRONG and WRONG_UPDATES list all.
"""

from math import exp, log

import numpy as np

from minirlhf.transformer import logits, values

WRONG = {
    "ppo_step": [
        "no temperature", "no shift", "no attention mask", "raw entropy", "values one late",
        "score at a pad", "score before the end", "score at the first eos", "kl sign",
        "kl of the new policy", "score at the first pad", "score at every token", "score first",
        "no lambda", "no next value", "mask after GAE", "returns after whitening", "ddof 1",
        "whitening over pads", "whitening by row", "ratio inverted", "ratio to the reference",
        "mean of row means", "sum of tokens", "no clip", "max for min", "no half",
        "no value clip"],
    "grpo_step": ["kl sign", "ddof 0", "no deviation", "strided groups", "max for min"],
    "reward_model_step": ["score at a pad", "score at the first eos", "pairs swapped",
                          "sum of pairs"]}
WRONG_UPDATES = ["norms added", "clip by tensor", "clip by value", "TensorFlow's epsilon",
                 "no bias correction", "L2"]


def row_logits(params, config, row) -> np.ndarray:
    """The logits (T, V) of one row alone."""
    return logits(params, config, np.array([row]))[0]


def row_of(base, b) -> tuple[list[int], int]:
    """The real tokens of a row, and how many of them are the reply."""
    return base["sequences"][b][base["sequence_mask"][b]].tolist(), int(base["mask"][b].sum())


def grid(base, rows) -> np.ndarray:
    """Rows of unequal length as (B, R), 0 where masked."""
    out = np.zeros(base["mask"].shape)
    for b, row in enumerate(rows):
        out[b, :len(row)] = row
    return out


def log_softmax(z) -> np.ndarray:
    return z - z.max() - log(np.exp(z - z.max()).sum())


def logprobs(base, model, wrong=None) -> np.ndarray:
    params, config = base[model]
    tau = 1.0 if wrong == "no temperature" else base["temperature"]
    rows = []
    for b in range(len(base["mask"])):
        row, n = row_of(base, b)
        z = row_logits(params, config, row)
        if wrong == "no attention mask":
            whole = logits(params, config, base["sequences"][b:b + 1])[0]
            z = whole[base["sequence_mask"][b]]
        shift = 0 if wrong == "no shift" else 1
        rows.append([log_softmax(z[t - shift] / tau)[row[t]]
                     for t in range(len(row) - n, len(row))])
    return grid(base, rows)


def entropy(base, wrong=None) -> float:
    total, count = 0.0, 0
    tau = 1.0 if wrong == "raw entropy" else base["temperature"]
    for b in range(len(base["mask"])):
        row, n = row_of(base, b)
        for z in row_logits(*base["policy"], row)[len(row) - n - 1:-1]:
            log_p = log_softmax(z / tau)
            total, count = total - (np.exp(log_p) * log_p).sum(), count + 1
    return total / count


def head(model, row) -> np.ndarray:
    return values(*model, np.array([row]))[0]


def token_values(base, wrong=None) -> np.ndarray:
    rows = []
    for b in range(len(base["mask"])):
        row, n = row_of(base, b)
        v = head(base["value"], row)
        rows.append(v[-n:] if wrong == "values one late" else v[-n - 1:-1])
    return grid(base, rows)


def score(model, row, wrong=None, padded=False) -> float:
    if wrong == "score at a pad" and padded:
        tokens = np.array([[*row, 0]])
        return values(*model, tokens, np.array([[True] * len(row) + [False]]))[0, -1]
    v = head(model, row)
    if wrong == "score at the first eos" and 1 in row:
        return v[row.index(1)]
    return v[-2 if wrong == "score before the end" else -1]


def rollout(base, wrong) -> dict:
    new = logprobs(base, "policy", wrong)
    reference = logprobs(base, "reference", wrong if wrong != "no shift" else None)
    old = {"kl of the new policy": new}.get(wrong, base["old_logprobs"])
    sign = -1 if wrong == "kl sign" else 1
    return {
        "logprobs": new, "ref_logprobs": reference, "entropy": entropy(base, wrong),
        "scores": np.array([score(base["reward"], row_of(base, b)[0], wrong,
                                  not base["sequence_mask"][b, -1])
                            for b in range(len(base["mask"]))]),
        "kl": np.where(base["mask"], sign * (old - reference), 0)}


def rewards(base, a, wrong) -> np.ndarray:
    out = -base["beta"] * a["kl"]
    R = out.shape[1]
    for b, n in enumerate(base["mask"].sum(axis=1)):
        at = {"score at the first pad": min(n, R - 1), "score at every token": slice(0, n),
              "score first": 0}.get(wrong, n - 1)
        out[b, at] += a["scores"][b]
    return out


def gae(base, r, wrong) -> np.ndarray:
    lam = 1.0 if wrong == "no lambda" else base["lam"]
    gamma, v, rows = base["gamma"], base["old_values"], []
    for b, n in enumerate(base["mask"].sum(axis=1)):
        last = v.shape[1] if wrong in ("mask after GAE", "score at the first pad") else n
        row, ahead, value_ahead = [], 0.0, 0.0
        for t in reversed(range(last)):
            now = v[b, t] if t < n or wrong == "mask after GAE" else 0.0
            delta = r[b, t] + gamma * value_ahead * (wrong != "no next value") - now
            ahead, value_ahead = delta + gamma * lam * ahead, now
            row.insert(0, ahead)
        rows.append(row[:n])
    return grid(base, rows)


def whitened(base, x, wrong) -> np.ndarray:
    mask = base["mask"]
    if wrong == "whitening by row":
        return np.vstack([whitened(base | {"mask": m[None]}, row[None], None)
                          for row, m in zip(x, mask, strict=True)])
    counted = [x[b, t] for b, t in np.argwhere(mask)]
    if wrong == "whitening over pads":
        counted += [0.0] * int((~mask).sum())
    n = len(counted)
    mean = sum(counted) / n
    variance = sum((y - mean) ** 2 for y in counted) / (n - (wrong == "ddof 1"))
    return np.where(mask, (x - mean) / (variance + 1e-8) ** 0.5, 0)


def policy_part(base, a, advantages, wrong) -> dict:
    """Ratios, the loss and its slope, token by token."""
    mask, eps = base["mask"], base["clip_ratio"]
    new = a["logprobs"]
    old = a["ref_logprobs"] if wrong == "ratio to the reference" else base["old_logprobs"]
    ratios, slope, gains = np.ones(mask.shape), np.zeros(mask.shape), np.zeros(mask.shape)
    weight = np.where(mask, 1 / mask.sum(), 0)
    if wrong == "mean of row means":
        weight = np.where(mask, 1 / (len(mask) * mask.sum(axis=1, keepdims=True)), 0)
    if wrong == "sum of tokens":
        weight = np.where(mask, 1.0, 0)
    for b, t in np.argwhere(mask):
        A = advantages[b, t]
        sign = -1 if wrong == "ratio inverted" else 1
        r = ratios[b, t] = exp(sign * (new[b, t] - old[b, t]))
        bounded = min(max(r, 1 - eps), 1 + eps)
        pick = max if wrong == "max for min" else min
        gains[b, t] = r * A if wrong == "no clip" else pick(r * A, bounded * A)
        if gains[b, t] == r * A:
            slope[b, t] = -sign * r * A * weight[b, t]
    return {"ratios": ratios, "policy_loss": -(gains * weight).sum(),
            "policy_loss_by_logprobs": slope}


def value_part(base, a, wrong) -> dict:
    mask, c, n = base["mask"], base["clip_value"], base["mask"].sum()
    total, slope = 0.0, np.zeros(mask.shape)
    for b, t in np.argwhere(mask):
        v, old, G = a["values"][b, t], base["old_values"][b, t], a["returns"][b, t]
        error, bounded = v - G, min(max(v, old - c), old + c) - G
        if wrong == "no value clip":
            bounded = error
        total += max(error ** 2, bounded ** 2)
        if error ** 2 >= bounded ** 2:
            slope[b, t] = error / n
    half = 1.0 if wrong == "no half" else 0.5
    return {"value_loss": half * total / n, "value_loss_by_values": 2 * half * slope}


def ppo(base, wrong=None) -> dict:
    """Every array up to the gradients."""
    a = rollout(base, wrong) | {"values": token_values(base, wrong)}
    a["rewards"] = rewards(base, a, wrong)
    a["advantages"] = gae(base, a["rewards"], wrong)
    a["whitened_advantages"] = whitened(base, a["advantages"], wrong)
    a["returns"] = np.where(base["mask"], base["old_values"] + a[
        "whitened_advantages" if wrong == "returns after whitening" else "advantages"], 0)
    return a | policy_part(base, a, a["whitened_advantages"], wrong) | value_part(base, a, wrong)


def grpo(base, wrong=None) -> dict:
    a, mask = rollout(base, wrong), base["mask"]
    k = np.where(mask, a["logprobs"] - a["ref_logprobs"], 0)
    a["k3"] = np.exp(-k) - 1 + k
    a["objectives"] = a["scores"] - base["beta"] * a["kl"].sum(axis=1)
    size, s = base["group_size"], a["objectives"]
    found = np.zeros(len(s))
    for i in range(len(s)):
        group = s[i // size * size:][:size]
        if wrong == "strided groups":
            group = s[i % (len(s) // size)::len(s) // size]
        mean = sum(group) / size
        deviation = (sum((x - mean) ** 2 for x in group) / (size - (wrong != "ddof 0"))) ** 0.5
        found[i] = (s[i] - mean) / (1.0 if wrong == "no deviation" else deviation + 1e-4)
    a["group_advantages"] = found
    a["advantages"] = np.where(mask, found[:, None], 0)
    return a | policy_part(base, a, a["advantages"], wrong)


def pairs(base, wrong=None) -> dict:
    sides = {}
    for side in ("chosen", "rejected"):
        sides[side] = np.array([score(base["reward"], row[real].tolist(), wrong, not real[-1])
                                for row, real in zip(base[side], base[f"{side}_mask"],
                                                     strict=True)])
    c, r = sides["chosen"], sides["rejected"]
    gaps = r - c if wrong == "pairs swapped" else c - r
    sign = -1 if wrong == "pairs swapped" else 1
    losses = np.log1p(np.exp(-gaps))
    n = 1 if wrong == "sum of pairs" else len(gaps)
    slope = sign / (1 + np.exp(gaps)) / n
    return {"chosen_scores": c, "rejected_scores": r, "gaps": gaps, "pair_losses": losses,
            "loss": losses.sum() / n, "loss_by_chosen_scores": -slope,
            "loss_by_rejected_scores": slope}


def updated(base, model, gradient: dict, wrong=None) -> dict:
    """From {parameter: gradient} to the parameters after, under the trace's names."""
    most, lr = base["max_grad_norm"], base[f"lr_{model}"]
    b1, b2, eps, decay = (base[name] for name in ("beta1", "beta2", "eps", "weight_decay"))

    def length(arrays):
        return sum(float((g ** 2).sum()) for g in arrays) ** 0.5
    norm = length(gradient.values())
    out = {f"{model}_gradient.{name}": g for name, g in gradient.items()}
    out[f"{model}_gradient_norm"] = np.array(
        sum(length([g]) for g in gradient.values()) if wrong == "norms added" else norm)
    params = dict(parameters(base[model].params))
    for name, g in gradient.items():
        n = length([g]) if wrong == "clip by tensor" else norm
        clipped = g * min(1.0, most / (n + 1e-6))
        if wrong == "clip by value":
            clipped = np.clip(g, -most, most)
        out[f"{model}_clipped_gradient.{name}"] = clipped
        theta = params[name]
        used = clipped + decay * theta if wrong == "L2" else clipped
        m, v = (1 - b1) * used, (1 - b2) * used ** 2
        if wrong == "TensorFlow's epsilon":
            step = m / (1 - b1) * (1 - b2) ** 0.5 / (v ** 0.5 + eps)
        elif wrong == "no bias correction":
            step = m / (v ** 0.5 + eps)
        else:
            step = (m / (1 - b1)) / ((v / (1 - b2)) ** 0.5 + eps)
        kept = theta if wrong == "L2" else theta - lr * decay * theta
        out[f"{model}_after.{name}"] = kept - lr * step
    return out


def parameters(tree, prefix=""):
    """(dotted name, array) of every parameter."""
    for key, branch in tree.items() if isinstance(tree, dict) else enumerate(tree):
        if isinstance(branch, np.ndarray):
            yield f"{prefix}{key}", branch
        else:
            yield from parameters(branch, f"{prefix}{key}.")


LONGHAND = {"ppo_step": ppo, "grpo_step": grpo, "reward_model_step": pairs}
