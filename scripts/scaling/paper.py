"""The same design on many GPUs, reckoned: the tables of the second part of docs/scale.md.

A rank that takes part in a ring's sum sends, and receives,

    2·(N−1)/N · 4·P bytes           P parameters in float32, N ranks

(Patarasu & Yuan 2009): for each of N − 1 partners a part of 1/N, once to be summed and once to be
passed on.  It hardly grows with N; it takes that many bytes over the slowest link's bandwidth.  A
step computes 6·P FLOPs a token, 2 forward and 4 backward (Kaplan et al. 2020), divided among the
ranks.
"""

from minirlhf.memory import bytes_text

FLOPS = 0.4 * 495e12                     # of an H100 in TF32, 495 TFLOP/s dense, 40 % of them used
NVLINK, NETWORK = 450e9, 50e9            # bytes a second, one way: within 8 GPUs; 400 Gbit/s a GPU
MEMORY = 80e9                            # bytes of a GPU
PPO_BYTES = 40                           # a parameter: ten times its 4 bytes (minirlhf/memory.py)
TOKENS = 2**20                           # of a global batch: 1024 replies of 1024 tokens
PARAMETERS = (125_000_000, 1_000_000_000, 7_000_000_000)
RANKS = (8, 64, 512)


def sent(parameters: int, ranks: int) -> float:
    """Bytes that each rank sends for one sum of a gradient."""
    return 2 * (ranks - 1) / ranks * 4 * parameters


def seconds(parameters: int, ranks: int) -> tuple[float, float]:
    """Of one optimizer step on the whole batch: to compute, and to sum."""
    bandwidth = NVLINK if ranks <= 8 else NETWORK
    return 6 * parameters * TOKENS / ranks / FLOPS, sent(parameters, ranks) / bandwidth


def table() -> str:
    """What a step takes, and whether the models fit."""
    lines = ["| parameters | models of PPO | ranks | sent a rank and step | to compute | to sum | "
             "share of the sum |", "|---:|---|" + "---:|" * 5]
    for parameters in PARAMETERS:
        held = PPO_BYTES * parameters
        fits = "fit" if held < MEMORY else "**do not fit**"
        for ranks in RANKS:
            compute, sums = seconds(parameters, ranks)
            lines.append(
                f"| {parameters / 1e9:g} billion | {bytes_text(held)}, {fits} | {ranks} "
                f"| {bytes_text(sent(parameters, ranks))} | {compute:.3g} s | {sums:.2g} s "
                f"| {100 * sums / (sums + compute):.0f} % |")
    return "\n".join(lines)
