"""What people get wrong, as a table: each gets one clear message, status 2, and nothing is touched.

A row says what is prepared, what is called, and what the message must tell: what was wanted, what
came (file and line, or value), or the likely fix.
"""

import contextlib
import errno
import gzip
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import FLAGS, call, files, one_line
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from minirlhf.arrays import cupy_problem
from minirlhf.files import (
    locked,
    read_json,
    read_jsonl,
    read_tensors,
    write_json,
    write_jsonl,
    write_tensors,
)

TEXT = ["--text.vocab-size", "270", "--text.max-tokens", "40"]
PAIR = {"prompt": "what is it ?", "chosen": "this", "rejected": "that"}


# --- what is prepared ----------------------------------------------------------------------------

def pairs(*rows, n=30, name="pairs.jsonl") -> None:
    """n good pairs, and then the rows: dicts, texts or bytes, each a line."""
    good = [PAIR | {"prompt": f"what is {i} ?"} for i in range(n)]
    lines = [row if isinstance(row, bytes) else (
        row if isinstance(row, str) else json.dumps(row)).encode() for row in (*good, *rows)]
    Path(name).write_bytes(b"".join(line + b"\n" for line in lines))


def packed(kept=None, damage=None) -> None:
    pairs()
    data = bytearray(gzip.compress(Path("pairs.jsonl").read_bytes()))
    if damage is not None:
        data[damage] ^= 0xFF
    Path("pairs.jsonl.gz").write_bytes(data[:kept])


def beside(name, *rows) -> None:
    pairs()
    pairs(*rows, n=0, name=name)


def damaged(name, content) -> None:
    path = Path("runs/old", name)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content(path.read_bytes()))


def setting(name, key, value) -> None:
    """Change one entry of a JSON file of the run; ... takes it out."""
    content = read_json(f"runs/old/{name}")
    content.pop(key) if value is ... else content.update({key: value})
    write_json(Path("runs/old", name), content)


def entry(name, number, key, value) -> None:
    """Change one entry of a row of a JSONL file of the run; ... takes it out."""
    rows = read_jsonl(f"runs/old/{name}")
    rows[number].pop(key) if value is ... else rows[number].update({key: value})
    write_jsonl(Path("runs/old", name), rows)


def hacked(key, value) -> None:
    """A run whose score rose from the first look to the last, which has a wrong entry."""
    looks = [number for number, row in enumerate(read_jsonl("runs/old/metrics.jsonl"))
             if row["stage"] == "PPO, validation"]
    for number, score in zip(looks, (0.0, 9.0), strict=True):
        entry("metrics.jsonl", number, "score", score)
    entry("metrics.jsonl", looks[-1], key, value)


def two_rounds(*missing) -> None:
    """A run of two rounds, as far as its models tell, without some of its files."""
    setting("config.json", "rounds", 2)
    for number in ("01", "02"):
        for name in ("preferences.jsonl", "reward", "value", "policy-best", "policy"):
            path = Path("runs/old", name)
            (shutil.copytree if path.is_dir() else copied)(path, Path("runs/old/rounds", number,
                                                                      name))
    without(*missing)


def copied(path, target) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)


def tensors(name, change) -> None:
    path = Path("runs/old", name, "model.safetensors")
    found = read_tensors(path)
    change(found)
    write_tensors(path, found)


def without(*names) -> None:
    for name in names:
        path = Path("runs/old", name)
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def checkpoint(size=8, note='{"logged": 0, "values": {"PPO.state.step": 1}}') -> None:
    """A checkpoint of PPO in a run that has not finished it."""
    without("policy", "samples.jsonl", "report.html")
    path = Path("runs/old/checkpoint/state.safetensors")
    write_tensors(path, {"PPO.policy": np.zeros(size, "float32"),
                         "json": np.frombuffer(note.encode(), np.uint8)})


PREFERENCES = ["run", "--preferences", "pairs.jsonl", *FLAGS, *TEXT]
GRPO, ROUNDS = ["run", "--algorithm", "grpo"], ["run", "--rounds", "2"]
TABLE = {
    # --- commands, names, numbers
    "an unknown command": (None, ["rum"], "unknown command 'rum'; choose run, pretrain"),
    "an unknown flag": (None, ["run", "--ppo.bata", "1"], "--ppo.beta"),
    "a number that is none": (None, ["run", "--seed", "one"], "--seed"),
    "a flag without its value": (None, ["run", "--seed"], "--seed"),
    "an empty name": (None, ["run", "--name", ""], "one folder name, such as toy"),
    "a name that is a path": (None, ["run", "--name", "a/b"], "got 'a/b'"),
    "a name that is the folder above": (None, ["run", "--name", ".."], "got '..'"),
    "a name too long for a file": (None, ["run", "--name", "n" * 300], "File name too long"),
    "a negative seed": (None, ["run", "--seed", "-1"], "seed must not be negative"),
    "a seed beyond a generator's word": (None, ["run", "--seed", str(2**32)], "be below 2**32"),
    "an unknown backend": (None, ["run", "--backend", "tpu"], "choose auto, numpy or cupy"),
    "a clip ratio of 0": (None, ["run", "--ppo.clip-ratio", "0"], "clip_ratio must be positive"),
    "a negative β": (None, ["run", "--ppo.beta", "-0.1"], "beta must be 0 or more, got -0.1"),
    "a β that is no number": (None, ["run", "--ppo.beta", "nan"], "beta must be 0 or more"),
    "an infinite β": (None, ["run", "--ppo.beta", "inf"], "beta must be 0 or more, got inf"),
    "a target KL of 0": (None, ["run", "--ppo.target-kl", "0"], "target_kl must be positive"),
    "a γ above 1": (None, ["run", "--ppo.gamma", "1.5"], "gamma and lam must lie in [0, 1]"),
    "a temperature of 0": (None, ["run", "--ppo.temperature", "0"], "temperature must be positive"),
    "zero steps": (None, ["run", "--sft.steps", "0"], "steps must be positive, got 0"),
    "a negative learning rate": (None, ["run", "--sft.lr", "-1"], "SFTConfig.lr must be positive"),
    "an infinite learning rate": (None, ["run", "--sft.lr", "inf"], "lr must be finite"),
    "a learning rate that is no number": (None, ["run", "--reward.lr", "nan"], "must be positive"),
    "zero prompts to compare": (None, ["run", "--preferences.prompts", "0"], "at least 1 prompt"),
    "one reply to compare": (None, ["run", "--preferences.replies", "1"], "2 replies"),
    "zero samples": (None, ["run", "--evaluation.samples", "0"], "at least 1 sample"),
    "heads that do not share": (None, ["run", "--model.heads", "5"], "multiple of model.heads (5)"),
    "minibatches that do not share": (None, ["run", "--ppo.minibatches", "5"],
                                      "multiple of minibatches (5)"),
    "a window of one token": (None, ["run", "--pretraining.window", "1"], "must be at least 2"),
    "a window beyond the context": (None, ["run", "--pretraining.window", "99"],
                                    "pretraining.window (99 tokens) must fit model.context (48)"),
    "a corpus within a window": (None, ["run", "--world.corpus-words", "9"],
                                 "world.corpus_words (9) must be at least"),
    "replies beyond the context": (None, ["run", "--ppo.max-new", "40"], "model.context (48)"),
    "an even panel": (None, ["run", "--world.panel", "careful", "rushed"], "odd number of"),
    "an unknown labeler": (None, ["run", "--world.panel", "nobody"], "got nobody"),
    "a habit above 1": (None, ["run", "--world.habits.comply", "1.5"], "between 0 and 1, not 1.5"),
    "a vocabulary below the bytes": (pairs, [*PREFERENCES, "--text.vocab-size", "100"],
                                     "vocab_size must be at least 260"),
    "a held-out share of everything": (pairs, [*PREFERENCES, "--text.held-out", "1"],
                                       "held_out must lie in (0, 0.5], got 1"),
    "rows beyond the context": (pairs, [*PREFERENCES, "--text.max-tokens", "999"],
                                "text.max_tokens + ppo.max_new"),
    # --- labelers
    "guidelines that nobody wrote": (None, ["run", "--world.guidelines", "none"],
                                     "--world.guidelines"),
    "a weighting that nobody knows": (None, ["run", "--world.weighting", "best"],
                                      "--world.weighting"),
    "an even number of votes": (None, ["run", "--world.votes-per-pair", "2"],
                                "odd number up to the size of the panel (3)"),
    "more votes than labelers": (None, ["run", "--world.votes-per-pair", "5"], "got 5"),
    "reliability of a panel of one": (None, [
        "run", "--world.weighting", "reliability", "--world.panel", "careful"],
        "reliability wants at least 3 votes a pair"),
    "a share above 1": (None, ["run", "--world.safety-share", "1.5"],
                        "world.safety_share must be in [0, 1]"),
    "a share that is no number": (None, ["run", "--world.safety-share", "nan"], "got nan"),
    # --- algorithms, baselines, looks, rounds
    "an unknown algorithm": (None, ["run", "--algorithm", "trpo"], "('ppo', 'grpo', 'rloo')"),
    "a group of one": (None, [*GRPO, "--group.size", "1"], "group.size must be at least 2, got 1"),
    "groups that are not whole": (None, [*GRPO, "--group.size", "3"],
                                  "ppo.batch_size (8) must be a multiple of group.size (3)"),
    "a KL that is nowhere": (None, [*GRPO, "--group.kl", "none"], "--group.kl"),
    "groups beside PPO": (None, ["run", "--group.size", "2"],
                          "--group.size would change nothing: PPO compares no groups"),
    "GAE beside GRPO": (None, [*GRPO, "--ppo.lam", "0.5"],
                        "--ppo.lam would change nothing: grpo has no value model"),
    "another algorithm than the command's": (
        "old", ["grpo", "old", "--name", "new", "--algorithm", "ppo"],
        "--algorithm: the command says it"),
    "an unknown baseline": (None, ["run", "--baselines", "ppo"], "('best-of-n', 'dpo')"),
    "a baseline twice": (None, ["run", "--baselines", "dpo", "dpo"],
                         "baselines names one thing twice: dpo, dpo"),
    "a DPO that holds to nothing": (None, ["run", "--dpo.beta", "0"], "beta must be positive"),
    "a warm-up of negative length": (None, ["run", "--dpo.warmup", "-1"], "got -1"),
    "the best of one": (None, ["run", "--evaluation.best-of", "1"],
                        "evaluation.best_of must be at least 2, got 1"),
    "no steps between looks": (None, ["run", "--watch.every", "0"],
                               "watch.every must be at least 1, got 0"),
    "looks at no prompts": (None, ["run", "--watch.prompts", "0"], "at least 1, got 0"),
    "no rounds": (None, ["run", "--rounds", "0"], "rounds must be from 1 to 99, got 0"),
    "rounds without end": (None, ["run", "--rounds", "1000000000"], "from 1 to 99"),
    "settings of further rounds without one": (None, ["run", "--iteration.best-of", "3"],
                                               "there is one round; give --rounds 2 or more"),
    "the best of one in a further round": (None, [*ROUNDS, "--iteration.best-of", "1"],
                                           "iteration.best_of must be at least 2, got 1"),
    "an unknown opponent": (None, [*ROUNDS, "--iteration.opponents", "me"],
                            "('sft', 'last', 'best-of-n')"),
    "an opponent twice": (None, [*ROUNDS, "--iteration.opponents", "sft", "sft"],
                          "iteration.opponents names one thing twice: sft, sft"),
    "no opponent": (None, [*ROUNDS, "--iteration.opponents"], "must name at least one"),
    "rounds beside people's comparisons": (pairs, [*PREFERENCES, "--rounds", "2"],
                                           "minirlhf label RUN --split train"),
    "rounds stage by stage": (None, ["pretrain", *FLAGS, "--rounds", "2"],
                              "minirlhf rounds RUN"),
    "rounds from a stage on": ("old", ["ppo", "old", "--name", "new", "--rounds", "2"],
                               "minirlhf rounds RUN --name NEW --rounds N"),
    "rounds in place": ("old", ["rounds", "old", "--rounds", "2"], "give --name NEW"),
    "not one round more": ("old", ["rounds", "old", "--name", "new", "--rounds", "1"],
                           "has had 1 round; give --name NEW, and --rounds 2 or more, how many"),
    "rounds after a policy that is not there": (
        lambda: without("policy"), ["rounds", "old", "--name", "new", "--rounds", "2"],
        "no policy/ model yet; run the stage that makes it first (ppo)"),
    "rounds of a run that is not there": (None, ["rounds", "none", "--rounds", "2"],
                                          "there is no run runs/none"),
    "rounds with another β": ("old", ["rounds", "old", "--name", "new", "--rounds", "2",
                                      "--ppo.beta", "0.5"], "ppo cannot change here"),
    "a stage of a run with rounds": (two_rounds, ["ppo", "old", "--name", "new"],
                                     "has 2 rounds, of which no stage can be done by itself"),
    "a round that is missing": (lambda: two_rounds("rounds/01"), [
        "evaluate", "old", "--name", "new"], "rounds/01 has no reward/ model yet"),
    "a policy that one round misses": (lambda: two_rounds("rounds/02/policy"), [
        "rounds", "old", "--name", "new", "--rounds", "3"], "rounds/02 has no policy/ model yet"),
    "as many rounds as there were": (two_rounds, ["rounds", "old", "--name", "new"],
                                     "has had 2 rounds; give --name NEW, and --rounds 3 or more"),
    "rounds into another run": ("old", ["rounds", "old", "--name", "old", "--rounds", "2"],
                                "old exists already"),
    "rounds with another algorithm": (
        "old", ["rounds", "old", "--name", "new", "--rounds", "2", "--algorithm", "grpo"],
        "algorithm cannot change here: ppo has already used it"),
    "rounds with groups that PPO has not": (
        "old", ["rounds", "old", "--name", "new", "--rounds", "2", "--group.size", "2"],
        "--group.size would change nothing"),
    "a third round with another way for the second": (
        two_rounds, ["rounds", "old", "--name", "new", "--rounds", "3", "--iteration.policy-from",
                     "sft"], "iteration cannot change here: round 2 has already used it"),
    "more rounds for an evaluation": ("old", ["evaluate", "old", "--name", "new", "--rounds", "2"],
                                      "by minirlhf rounds RUN --name NEW --rounds N"),
    "a group for PPO's command": ("old", ["ppo", "old", "--name", "new", "--group.size", "2"],
                                  "--group.size would change nothing"),
    "DPO of a run of rounds": (two_rounds, ["dpo", "old"], "has 2 rounds, of which no stage"),
    "DPO too early": (lambda: without("sft"), ["dpo", "old"], "no sft/ model yet"),
    "DPO that changes PPO": ("old", ["dpo", "old", "--ppo.beta", "0.9"],
                             "ppo cannot change here: ppo has already used it"),
    "a best policy cut short": (
        lambda: damaged("policy-best/model.safetensors", lambda data: data[:-50]),
        ["chat", "old", "--models", "sft,policy-best"], "model.safetensors: not a whole"),
    "an unknown baseline of a run": (
        lambda: setting("config.json", "baselines", ["luck"]), [
            "evaluate", "old", "--name", "new"], "one of best-of-n, dpo, got 'luck'"),
    # --- people's data
    "a missing file": (None, ["run", "--preferences", "none.jsonl"], "none.jsonl"),
    "a folder instead of a file": (lambda: Path("pairs.jsonl").mkdir(), PREFERENCES, "pairs.jsonl"),
    "an empty file": (lambda: pairs(n=0), PREFERENCES, "pairs.jsonl: the file is empty"),
    "a file of blank lines": (lambda: pairs("", "  ", n=0), PREFERENCES, "the file is empty"),
    "a line that is not JSON": (lambda: pairs("{oops"), PREFERENCES, "pairs.jsonl:31: not JSON"),
    "a line cut short": (lambda: pairs('{"prompt": "a", "cho'), PREFERENCES, ":31: not JSON"),
    "a table instead of JSON": (lambda: pairs("prompt,chosen,rejected", n=0), PREFERENCES,
                                "pairs.jsonl:1: not JSON"),
    "a list instead of an object": (lambda: pairs("[1, 2]"), PREFERENCES,
                                    ":31: wanted a JSON object, got [1, 2]"),
    "nothing instead of an object": (lambda: pairs("null"), PREFERENCES, ":31: wanted a JSON"),
    "JSON nested without end": (lambda: pairs('{"a":' * 100_000), PREFERENCES, ":31: not JSON"),
    "a missing field": (lambda: pairs({"prompt": "a", "chosen": "b"}), PREFERENCES,
                        '"rejected" is missing or no text (the row has "prompt", "chosen")'),
    "a number for a text": (lambda: pairs(PAIR | {"chosen": 7}), PREFERENCES,
                            ':31: wanted the text fields "prompt", "chosen", "rejected"; "chosen"'),
    "a list for a text": (lambda: pairs(PAIR | {"chosen": ["x"]}), PREFERENCES, '"chosen" is'),
    "nothing for a text": (lambda: pairs(PAIR | {"chosen": None}), PREFERENCES, '"chosen" is'),
    "half a character": (lambda: pairs('{"prompt": "\\ud83d", "chosen": "a", "rejected": "b"}'),
                         PREFERENCES, '"prompt" holds half a surrogate pair'),
    "a byte that is not UTF-8": (lambda: pairs(b'{"prompt": "\xff"}'), PREFERENCES,
                                 "pairs.jsonl:31: not UTF-8"),
    "UTF-16": (lambda: Path("pairs.jsonl").write_text(json.dumps(PAIR), encoding="utf-16"),
               PREFERENCES, "pairs.jsonl:1: not UTF-8"),
    "a gzip file cut short": (lambda: packed(kept=-20), ["run", "--preferences", "pairs.jsonl.gz"],
                              "pairs.jsonl.gz: not a whole gzip file"),
    "a gzip file with a wrong byte": (lambda: packed(damage=30), [
        "run", "--preferences", "pairs.jsonl.gz"], "pairs.jsonl.gz: not a whole gzip file"),
    "a gzip file that is none": (lambda: pairs(name="pairs.jsonl.gz"), [
        "run", "--preferences", "pairs.jsonl.gz"], "pairs.jsonl.gz: not a whole gzip file"),
    "nothing but equal sides": (lambda: pairs(*[PAIR | {"rejected": "this"}] * 9, n=0),
                                PREFERENCES, "left out: 9 (equal replies)"),
    "nothing but empty replies": (lambda: pairs(*[PAIR | {"chosen": " "}] * 9, n=0), PREFERENCES,
                                  "left out: 9 (no reply)"),
    "transcripts of two prompts": (lambda: pairs(*[{
        "chosen": "Human: a\n\nAssistant: x", "rejected": "Human: b\n\nAssistant: y"}] * 9, n=0),
        PREFERENCES, "9 (two transcripts that differ before their last replies)"),
    "too few prompts": (lambda: pairs(n=3), PREFERENCES, "3 distinct prompts with a usable pair"),
    "nothing but long rows": (pairs, [*PREFERENCES, "--text.max-tokens", "4"],
                              "0 fit into 4 tokens, none of them for train"),
    "a demonstration without response": (lambda: beside("own.jsonl", {"prompt": "a"}), [
        *PREFERENCES, "--demonstrations", "own.jsonl"], 'own.jsonl:1: wanted the text fields'),
    "a prompt without prompt": (lambda: beside("own.jsonl", {"text": "a"}), [
        *PREFERENCES, "--prompts", "own.jsonl"], 'own.jsonl:1: wanted the text field "prompt"'),
    "a document without text": (lambda: beside("own.jsonl", {"prompt": "a"}), [
        *PREFERENCES, "--corpus", "own.jsonl"], 'own.jsonl:1: wanted the text field "text"'),
    "a corpus within a window of text": (lambda: beside("own.jsonl", {"text": "a b"}), [
        *PREFERENCES, "--corpus", "own.jsonl"], "the corpus has only"),
    "nothing but empty demonstrations": (lambda: beside("own.jsonl", {
        "prompt": "a", "response": ""}), [*PREFERENCES, "--demonstrations", "own.jsonl"],
        "no usable row is left for the demonstrations; left out: 1 (no prompt or no response)"),
    "prompts without comparisons": (lambda: beside("own.jsonl", {"prompt": "a"}), [
        "run", "--prompts", "own.jsonl"], "--prompts: only beside --preferences FILE"),
    # --- runs
    "a run that is there": ("old", ["run", "--name", "old", *FLAGS], "old exists already"),
    "a file where runs should lie": (lambda: Path("runs").write_text(""), ["run", *FLAGS], "runs"),
    "a run that is not there": (None, ["sft", "none"], "there is no run runs/none"),
    "resuming what is not there": (None, ["run", "--resume", *FLAGS], "there is no run runs/toy"),
    "resuming with another flag": ("old", ["run", "--name", "old", *FLAGS, "--seed", "4",
                                           "--resume"], "seed is 0 there, 4 here"),
    "a stage before its run": ("old", ["ppo", "--ppo.beta", "1", "old"], "minirlhf ppo RUN"),
    "a run that is a path": ("old", ["ppo", "../runs/old"], "one folder name"),
    "a stage too early": (lambda: without("sft"), ["ppo", "old", "--name", "new"],
                          "no sft/ model yet; run the stage that makes it first (sft)"),
    "a stage again": ("old", ["ppo", "old"], "already has policy; give --name NEW"),
    "a stage into another run": ("old", ["ppo", "old", "--name", "old"], "old exists already"),
    "a setting used before": ("old", ["ppo", "old", "--name", "new", "--sft.lr", "0.5"],
                              "sft cannot change here: sft has already used it"),
    "two at a time": ("locked", ["run", "--name", "old", *FLAGS, "--resume"],
                      "another minirlhf is at work in runs/old"),
    # --- damaged run folders
    "settings that are not JSON": (lambda: damaged("config.json", b"{oops"), ["ppo", "old"],
                                   "config.json: not JSON"),
    "settings of a later version": (lambda: setting("config.json", "sead", 1), ["ppo", "old"],
                                    "config.json: RunConfig has no setting sead"),
    "a setting of another type": (lambda: setting("config.json", "seed", "0"), ["ppo", "old"],
                                  "config.json: RunConfig.seed must be int, got '0'"),
    "a model cut short": (lambda: damaged("sft/model.safetensors", lambda data: data[:-50]),
                          ["ppo", "old", "--name", "new"], "sft/model.safetensors: not a whole"),
    "a model without a tensor": (lambda: tensors("sft", lambda found: found.pop(
        "transformer.wpe.weight")), ["ppo", "old", "--name", "new"],
        "wpe.weight should have shape (48, 8), is missing"),
    "a model with a tensor of another shape": (lambda: tensors("sft", lambda found: found.update({
        "transformer.wpe.weight": np.zeros((3, 8), "float32")})), ["ppo", "old", "--name", "new"],
        "wpe.weight should have shape (48, 8), has (3, 8)"),
    "a model with a hole": (lambda: tensors("sft", lambda found: found.update({
        "transformer.wpe.weight": np.full((48, 8), np.nan, "float32")})),
        ["ppo", "old", "--name", "new"], "wpe.weight has entries that are not finite"),
    "a model without its sizes": (lambda: setting("sft/config.json", "n_head", ...),
                                  ["ppo", "old", "--name", "new"], "n_head is missing"),
    "a model of another kind": (lambda: setting("sft/config.json", "model_type", "llama"),
                                ["ppo", "old", "--name", "new"], "model_type is 'llama'"),
    "a size that is no number": (lambda: setting("sft/config.json", "n_head", "two"),
                                 ["ppo", "old", "--name", "new"], "sft/config.json: n_head"),
    "a vocabulary that is not JSON": (lambda: damaged("base/tokenizer.json", b"\x00"),
                                      ["ppo", "old", "--name", "new"], "tokenizer.json: not JSON"),
    "a vocabulary of nothing": (lambda: damaged("base/tokenizer.json", b"{}"),
                                ["ppo", "old", "--name", "new"], "base/tokenizer.json"),
    "a checkpoint cut short": (lambda: (checkpoint(), damaged(
        "checkpoint/state.safetensors", lambda data: data[:20])), [
        "ppo", "old", "--resume"], "state.safetensors: not a whole safetensors file"),
    "a checkpoint that is none": (lambda: checkpoint(note="{}"), ["ppo", "old", "--resume"],
                                  "is no checkpoint of a run; remove it"),
    "a checkpoint of another shape": (checkpoint, ["ppo", "old", "--resume"],
                                      "PPO is not made of what this run's settings want"),
    "a comparison without a field": (lambda: (without("reward"), damaged(
        "preferences.jsonl", b'{"prompt": "a"}\n')), ["reward-model", "old"], "a row lacks chosen"),
    "a comparison that is not JSON": (lambda: (without("reward"), damaged(
        "preferences.jsonl", b"{oops\n")), ["reward-model", "old"], "s.jsonl:1: not JSON"),
    "an algorithm of a later version": (lambda: setting("config.json", "algorithm", "trpo"),
                                        ["evaluate", "old", "--name", "new"],
                                        "algorithm must be one of ppo, grpo, rloo, got 'trpo'"),
    "an algorithm that is a number": (lambda: setting("config.json", "algorithm", 3), [
        "ppo", "old", "--name", "new"], "RunConfig.algorithm must be str, got 3"),
    "baselines that are no list": (lambda: setting("config.json", "baselines", "dpo"), [
        "evaluate", "old", "--name", "new"], "RunConfig.baselines must be a list of str, got 'dpo"),
    "a number of rounds in words": (lambda: setting("config.json", "rounds", "two"), [
        "evaluate", "old", "--name", "new"], "RunConfig.rounds must be int, got 'two'"),
    "a best look that is not JSON": (lambda: damaged("policy-best/best.json", b"{oops"),
                                     ["report", "old"], "best.json: not JSON"),
    "a best look without its step": (lambda: setting("policy-best/best.json", "step", ...),
                                     ["report", "old"], "best.json wants step, by and value"),
    "a best look at no step": (lambda: setting("policy-best/best.json", "step", "last"),
                               ["report", "old"], "best.json wants step, by and value"),
    "a look without its KL": (lambda: hacked("kl", ...), ["report", "old"],
                              "metrics.jsonl: PPO, validation, step 1 lacks kl"),
    "a look without its fall of gold": (lambda: hacked("gold_fall", ...), ["report", "old"],
                                        "PPO, validation, step 1 lacks gold_fall"),
    "a look whose KL is a text": (lambda: hacked("kl", "far"), ["report", "old"],
                                  "step 1: kl must be a finite number, got 'far'"),
    "a look whose KL is no number": (lambda: hacked("kl", float("nan")), ["report", "old"],
                                     "step 1: kl must be a finite number, got nan"),
    "a step whose loss is nothing": (lambda: entry("metrics.jsonl", 0, "loss", None), [
        "report", "old"], "pretraining, step 0: loss must be a finite number, got None"),
    "an accuracy in words": (lambda: setting("reward/accuracy.json", "all", {
        "accuracy": "good", "standard_error": 0.1, "pairs": 3}), ["report", "old"],
        "accuracy.json: all wants accuracy, standard_error and pairs, all numbers"),
    "a sample without words": (lambda: entry("samples.jsonl", 40, "prompt", None), [
        "report", "old"], "samples.jsonl: prompt of row 41 must be text, got None"),
    "a sample without a part of its gold": (lambda: entry("samples.jsonl", 3, "finished", ...), [
        "report", "old"], "samples.jsonl: finished of row 4 must be a number, got None"),
    # --- what other commands read
    "labelers of a run that is not there": (None, ["agreement", "none"], "no run runs/none"),
    "votes of a file of another form": (lambda: pairs({"text": "a"}, n=0),
                                        ["agreement", "pairs.jsonl"],
                                        "pairs.jsonl:1: holds no votes"),
    "replies of a run that is not there": (None, ["refusals", "none"], "no run runs/none"),
    "replies of a file that is not there": (None, ["refusals", "none.csv"], "no file none.csv"),
    "replies of a file of another form": (lambda: pairs({"text": "a"}, n=0),
                                          ["refusals", "pairs.jsonl"],
                                          "pairs.jsonl:1: a row wants prompt and reply"),
    "a log with a broken line": (lambda: damaged("metrics.jsonl", b"{oops\n{}\n"),
                                 ["ppo", "old", "--name", "new"], "metrics.jsonl:1: not JSON"),
}
@pytest.fixture
def here(tmp_path, monkeypatch, made_once):
    """An empty folder to work in; calling it makes runs/old, a whole run, in it."""
    monkeypatch.chdir(tmp_path)
    return lambda: shutil.copytree(made_once, "runs/old")


def needs_run(argv) -> bool:
    return "old" in argv or "../runs/old" in argv


@pytest.mark.parametrize("case", TABLE)
def test_a_mistake_gets_one_clear_message_and_nothing_is_touched(case, here, capsys):
    prepare, argv, told = TABLE[case]
    if "--preferences" in argv and not case.startswith(("a missing file", "a gzip")):
        pytest.importorskip("tokenizers", reason="byte pairs want the extra: text")
    if needs_run(argv):
        here()
    if callable(prepare):
        prepare()
    if argv[0] == "run" and "--name" not in argv:        # what is not refused is at least short
        argv = ["run", *FLAGS, *argv[1:]]
    with locked(Path("runs/old")) if prepare == "locked" else contextlib.nullcontext():
        assert told in one_line(capsys, *argv)


def test_the_table_is_long_and_no_two_rows_are_the_same():
    calls = [(str(prepare and getattr(prepare, "__code__", prepare)), *argv)
             for prepare, argv, _ in TABLE.values()]
    assert len(TABLE) >= 150 and len(set(calls)) == len(calls)
    assert all(len(told) >= 4 for _, _, told in TABLE.values())


# --- what no table can prepare -------------------------------------------------------------------

@pytest.mark.skipif(cupy_problem() is None, reason="CuPy computes here")
def test_a_gpu_that_is_not_there_is_explained(here, capsys):
    message = one_line(capsys, "run", "--backend", "cupy")
    assert f"the cupy backend cannot compute here: {cupy_problem()}" in message


def test_a_folder_that_may_not_be_written_to_is_named(here, capsys):
    Path("runs").mkdir(mode=0o500)
    if os.access("runs", os.W_OK):
        pytest.skip("this user may write everywhere")
    assert "Permission denied: 'runs/toy'" in one_line(capsys, "run", *FLAGS)


@pytest.mark.parametrize("writes, begun", [(0, False), (2, False), (5, False), (7, True),
                                           (9, True), (10, True), (11, True)])
def test_a_full_disk_keeps_all_that_was_there_and_tells_how_to_go_on(writes, begun, here, capsys,
                                                                     monkeypatch):
    """After some files more: what was whole before is as it was, and what is new is whole."""
    here()
    without("sft", "preferences.jsonl", "reward", "value", "policy", "samples.jsonl")
    before, real, left = files(), os.fsync, [writes]

    def full(file):
        if left[0] == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        left[0] -= 1
        real(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        capsys.readouterr()
        assert call("sft", "old") == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("minirlhf: ") and "No space left on device: '" in told
    assert told.endswith("; make room, then go on with: minirlhf sft old --resume") == begun
    after = files()
    changed = {name for name in before if after.get(name) != before[name]}
    assert changed <= {"runs/old/metrics.jsonl", "runs/old/checkpoint/state.safetensors",
                       "runs/old/config.json", "runs/old/demonstrations.jsonl"}
    assert not [name for name in after if name.endswith(".tmp")]
    assert call("sft", "old", "--resume") == 0


@pytest.mark.parametrize("stage, module", [("pretrain", "pretraining"), ("sft", "supervised"),
                                           ("reward-model", "reward_model"), ("ppo", "ppo"),
                                           ("grpo", "group_relative"), ("rloo", "group_relative"),
                                           ("dpo", "direct_preference")])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_any_stage_by_name_and_step(stage, module, number, here,
                                                                  capsys, monkeypatch):
    here()
    made = {"pretrain": "base", "sft": "sft", "reward-model": "reward", "dpo": "dpo"}.get(
        stage, "policy")
    if made != "dpo":                                                   # which has not run
        without(made)
    monkeypatch.setattr(f"minirlhf.stages.{module}.train",
                        lambda *_, **__: iter([{"loss": number}]))
    argv = ["run", "--name", "old", *FLAGS, "--resume"] if stage == "pretrain" else [stage, "old"]
    capsys.readouterr()
    assert call(*argv) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"minirlhf: .*, step 0: loss is not finite; try a smaller learning", told)
    assert not Path("runs/old", made).exists()


# --- damage of any kind --------------------------------------------------------------------------

DAMAGED = ["policy-best/best.json", "rounds/02/reward/accuracy.json",
           "config.json", "environment.json", "memory.json", "metrics.jsonl", "preferences.jsonl",
           "demonstrations.jsonl", "samples.jsonl", "checkpoint/state.safetensors",
           "base/config.json", "base/tokenizer.json", "sft/model.safetensors", "sft/config.json",
           "reward/accuracy.json", "reward/config.json", "reward/model.safetensors"]
COMMANDS = [["sft", "old", "--name", "new"], ["reward-model", "old", "--name", "new"],
            ["ppo", "old", "--name", "new"], ["evaluate", "old", "--name", "new"],
            ["grpo", "old", "--name", "new"], ["dpo", "old"],
            ["rounds", "old", "--name", "new", "--rounds", "3"],
            ["run", "--name", "old", *FLAGS, "--resume"], ["report", "old"]]


@pytest.mark.parametrize("name", DAMAGED)
@settings(max_examples=6, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(data=st.data())
def test_a_damaged_file_is_a_message_or_makes_no_difference(name, made_once, tmp_path_factory,
                                                            data):
    """Bytes cut off, changed or put in, and JSON of another shape: never a traceback."""
    folder = tmp_path_factory.mktemp("damage")
    shutil.copytree(made_once, folder / "runs" / "old")
    with contextlib.chdir(folder):
        if name.startswith("rounds"):
            two_rounds()
    path = folder / "runs" / "old" / name
    content = path.read_bytes()
    place = data.draw(st.integers(0, min(len(content), 400)))
    path.write_bytes(data.draw(st.sampled_from([
        content[:place], content[:place] + b"\x00\xff" + content[place:],
        content[:place] + b"}" + content[place + 1:], b"", b"null", b"[]", b"{}", b'{"model": 1}',
        b'"text"', b"7\n", content + content])))
    argv = data.draw(st.sampled_from(COMMANDS))
    with contextlib.chdir(folder):
        assert call(*argv) in (0, 2)
