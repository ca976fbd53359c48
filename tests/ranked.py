"""What the tests let several ranks do: python ranked.py FOUND.npz FUNCTION [ARGUMENT …].

Every rank calls the function; what it returns to the first, named arrays, goes to FOUND.npz.
"""

import os
import signal
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import every_stage
import numpy as np
import pytest
from every_stage import STAGES, steps_of
from models import random_model, random_rows
from mpi import key_biases_of
from rollouts import PROMPTS, four_models
from runs import TINY
from strict import STRICT, playing_cupy

from minirlhf import checkpoint, cli, dealing, host, parallel, run_folder, sampling, step_log
from minirlhf.arrays import NUMPY, to_host
from minirlhf.checkpoint import Checkpoint
from minirlhf.dealing import (
    by_the_first,
    dealt,
    first_says,
    rows_together,
    same_everywhere,
    wait,
)
from minirlhf.parallel import alone, ranks
from minirlhf.parameters import leaves
from minirlhf.rollout import collect
from minirlhf.run import Run
from minirlhf.sampling import sample
from minirlhf.stages import group_relative, ppo, reward_model, supervised, training
from minirlhf.stages.training import Stage
from minirlhf.tokens import WordTokenizer

# --- parallel.py and dealing.py ------------------------------------------------------------------

def numbers(rank: int, dtype: str = "float32") -> np.ndarray:
    """(1001,) of a rank, of all sizes, so that their sum depends on its order."""
    rng = np.random.default_rng(rank)
    return (rng.standard_normal(1001) * 10.0 ** rng.integers(-6, 6, 1001)).astype(dtype)


def sums():
    here = ranks()
    assert here.neighbours == here.size                          # on one machine
    found = {}
    for dtype in ("float32", "float64"):
        mine = numbers(here.rank, dtype)
        here.all_sum(mine)
        same_everywhere("the sums", mine)
        found[dtype] = mine
    counts = np.array([[1, here.rank], [here.rank ** 2, 0]])
    kept = counts
    here.all_sum(counts)
    assert counts is kept
    found["counts"] = counts
    board = np.zeros((4, 4))
    here.all_sum(board[:, 1])                                    # no copy that is forgotten
    board[:, 2] = 1
    here.all_sum(board[:, 2])
    found["board"] = board
    on_device = STRICT.asarray(numbers(here.rank))
    here.all_sum(on_device)
    found["device"] = to_host(on_device)
    return found


def laws():
    """Those of acting as one, in one start of all ranks."""
    for law in (agreements, shares, texts, first_alone, apart):
        law()


def agreements():
    here = ranks()
    for answer in (True, False):
        assert first_says(answer) is answer
        assert first_says(answer if here.rank == 0 else not answer) is answer
    with alone():
        assert (ranks().size, ranks().rank, ranks().started) == (1, here.rank, here.size)
        for answer in (True, False):                             # each one's own
            assert first_says(answer if here.rank else not answer) is (
                answer if here.rank else not answer)
        if here.rank == 0:
            wait()                                               # for nobody
        mine = numbers(here.rank)
        ranks().all_sum(mine)
        assert (mine == numbers(here.rank)).all()
    assert ranks() is here


def shares():
    """Each row is computed by one rank, and is the same bits on all; also where ranks have none."""
    here = ranks()
    rng = np.random.default_rng(0)
    for n in range(1, 12):
        wanted = (rng.standard_normal((n, 3)).astype("float32"), rng.random((n, 2)) < 0.5,
                  np.arange(n), np.where(rng.random((n, 2)) < 0.5, -0.0, np.nan))
        for asarray in (np.asarray, STRICT.asarray):
            asked = []

            def compute(rows, wanted=wanted, asarray=asarray, asked=asked):
                asked.append(rows)
                return [asarray(array[rows]) for array in wanted]

            for found, array in zip(dealt(compute, n), wanted, strict=True):
                assert found.dtype == array.dtype and to_host(found).tobytes() == array.tobytes()
            [rows] = asked
            assert rows.stop - rows.start <= max(1, -(-n // here.size))
            if n >= here.size:
                computed = np.zeros(n, int)
                computed[rows] += 1
                here.all_sum(computed)
                assert (computed == 1).all()


def texts():
    here = ranks()
    own = [{"rank": here.rank, "said": "µ<eos>\n" * i, "x": [i / 7, None]}
           for i in range(here.rank)]                            # rank 0 has none
    wanted = [{"rank": rank, "said": "µ<eos>\n" * i, "x": [i / 7, None]}
              for rank in range(here.size) for i in range(rank)]
    assert rows_together(own) == wanted
    assert rows_together([]) == []


def first_alone():
    done = []
    by_the_first(done.append)(1)
    with alone():
        by_the_first(done.append)(2)
    assert done == ([1, 2] if ranks().rank == 0 else [])


def apart():
    """One bit of one rank is told, and the rank named, on every rank."""
    here = ranks()
    for wrong in range(1, here.size):
        x = numbers(0)
        same_everywhere("the numbers", x)
        if here.rank == wrong:
            x[500] = np.nextafter(x[500], np.float32(9))
        with pytest.raises(RuntimeError, match=f"the numbers: rank {wrong} does not hold"):
            same_everywhere("the numbers", x)


# --- wrong ways ----------------------------------------------------------------------------------

def wrong_gather(mistake: str):
    """`shares`, where rows are put together wrongly: it must not go through, on any rank."""
    def at_the_beginning(own, start, n):
        return right(own, 0, n) if len(own) < n else right(own, start, n)

    def not_summed(own, start, n):
        with alone():
            return right(own, start, n)

    def as_floats(own, start, n):
        return right(own.astype("float16"), start, n).astype(own.dtype)

    right = dealing.in_place
    dealing.in_place = {"at the beginning": at_the_beginning, "not summed": not_summed,
                        "as floats": as_floats}[mistake]
    noticed = 0
    try:
        shares()
    except AssertionError:
        noticed = 1
    return {"noticed": np.array(noticed)}


# --- the stages ----------------------------------------------------------------------------------

def after_two_steps(stage: str, shards: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of two steps, and all parameters after them as one vector."""
    models, model = four_models(NUMPY, dtype, apart=0.05)
    with pytest.MonkeyPatch.context() as patch:                  # a β that adapts itself
        patch.setattr(every_stage, "RL", replace(every_stage.RL, target_kl=0.21, kl_horizon=20))
        rows = [list(row.values()) for row in steps_of(stage, models, model, shards)]
    return np.array(rows, float), np.concatenate([params.flat for params in models])


def key_biases() -> np.ndarray:
    """The same for the four models of `after_two_steps`."""
    models, model = four_models(NUMPY)
    return np.concatenate([key_biases_of(params, model) for params in models])


def stages(shards: str, dtype: str, *mistake: str):
    """{stage, rows or parameters: array} of two steps of every stage; with a mistake, perhaps, that
    is a function of this file."""
    found = {}
    for stage in STAGES:
        with pytest.MonkeyPatch.context() as patch:
            for name in mistake:
                globals()[name](patch)
            rows, params = after_two_steps(stage, int(shards), dtype)
        if not mistake:
            same_everywhere("all of it", rows)
            same_everywhere("all of it", params)
        found |= {f"{stage}, rows": rows, f"{stage}, parameters": params}
    return found


def steps_of_a_whole(stage: str, models, model, shards: int):
    """The steps of a stage of some length; what it changes is among the models."""
    rl = replace(every_stage.RL, steps=8, target_kl=0.21, kl_horizon=100)
    given = dict(seed=0, shards=shards)
    if stage == "SFT":
        return supervised.train(models.policy, model, every_stage.DEMONSTRATIONS,
                                supervised.SFTConfig(steps=40, batch_size=5), **given)
    if stage == "reward model":
        return reward_model.train(models.reward, model, every_stage.GROUPS,
                                  reward_model.RewardModelConfig(steps=40, batch_size=3), **given)
    if stage == "PPO":
        return ppo.train(models, model, every_stage.draw_prompts, rl, **given)
    return group_relative.train(models, model, every_stage.draw_prompts, rl, every_stage.GROUPED,
                                algorithm="grpo", **given)


def whole_stages(shards: str):
    """{stage, rows or parameters: array}, in float64."""
    found = {}
    for stage in ("SFT", "reward model", "PPO", "GRPO"):
        models, model = four_models(NUMPY, "float64", apart=0.05)
        rows = [list(row.values()) for row in steps_of_a_whole(stage, models, model, int(shards))]
        found |= {f"{stage}, rows": np.array(rows, float),
                  f"{stage}, parameters": np.concatenate([params.flat for params in models])}
    return found


def mean_of_means(patch):
    """Each rank takes the mean over its own tokens, pairs or prompts, then the ranks' mean."""
    right_gradient, right_sum, own = training.loss_and_gradient, training.summed, {}

    def gradient(loss, params, parts):
        here = ranks()
        mine = parts[here.rank::here.size]
        own["factor"] = whole_count(parts) / sum(map(part_count, mine)) / here.size
        return right_gradient(loss, params, parts)

    def mean(value, grads):
        grads.flat[...] *= own["factor"]
        return right_sum(value * own["factor"], grads)

    patch.setattr(training, "loss_and_gradient", gradient)
    patch.setattr(training, "summed", mean)


def whole_count(parts) -> int:
    """The tokens or prompts of the whole step, which each part is told."""
    [count] = {x for part in parts for x in part if type(x) is int}
    return count


def part_count(part) -> int:
    """Those of a part."""
    for x in part:
        if hasattr(x, "scores"):
            return int(x.mask.sum())
        if isinstance(x, dict):                                  # pairs by the prompt's number
            return sum(len(pairs) // n for n, pairs in x.items())
    return int(part[3].sum()) if len(part) > 3 else part[1].size - len(part[1])


def a_parameter_left_out(patch):
    """The last leaf's gradient stays each rank's own."""
    right = training.summed

    def left_out(value, grads):
        *_, (_, last) = leaves(grads)
        own = last.copy()
        value, grads = right(value, grads)
        last[...] = own
        return value, grads

    patch.setattr(training, "summed", left_out)


def no_sum(patch):
    patch.setattr(training, "summed", lambda value, grads: (value, grads))


def every_rank_all_parts(patch):
    """Parts are computed by all ranks, and then added up as if they were shares."""
    right = training.loss_and_gradient

    def gradient(loss, params, parts):
        here, training.ranks = training.ranks, lambda: parallel.Ranks()
        try:
            value, grads = right(loss, params, parts)
        finally:
            training.ranks = here
        return training.summed(value, grads)

    patch.setattr(training, "loss_and_gradient", gradient)


def whitening_of_its_own(patch):
    """Each rank whitens the advantages of its own rows by their own moments."""
    right = ppo.whiten
    patch.setattr(ppo, "whiten", lambda advantages, mask: dealt(
        lambda rows: (right(advantages[rows], mask[rows]),), len(mask))[0])


def kl_of_its_own(patch):
    """Each rank gives the controller of β the mean KL of its own rows."""
    for stage in {ppo, STAGES["GRPO"]}:
        right_numbers, right_beta, seen = stage.rollout_numbers, stage.next_beta, {}

        def numbers(rollout, *more, right=right_numbers, seen=seen):
            half = len(rollout) // ranks().size
            own = rollout[half * ranks().rank:half * (ranks().rank + 1)]
            seen["kl"] = float(right(own, 0.0)["kl"])
            return right(rollout, *more)

        def beta(before, kl, *more, right=right_beta, seen=seen):
            return right(before, seen["kl"], *more)

        patch.setattr(stage, "rollout_numbers", numbers)
        patch.setattr(stage, "next_beta", beta)


def prompts_that_repeat(patch):
    """Each rank draws its share of the prompts from one seed, so that all draw the same."""
    right = every_stage.draw_prompts
    patch.setattr(every_stage, "draw_prompts",
                  lambda n, rng: right(n // ranks().size, rng) * ranks().size)


def luck_that_repeats(patch):
    """Each rank samples its rows with the first numbers of one seed."""
    right = sampling._continue

    def continued(params, config, tokens, mask, uniforms, *more):
        first = np.random.default_rng(0).random(uniforms.shape)
        return right(params, config, tokens, mask, 1 - first, *more)

    patch.setattr(sampling, "_continue", continued)


def rollouts(dtype: str):
    """{case, array: …} of rollouts and samples: more rows than ranks and fewer, drawn and chosen,
    with ends and without; rows that have ended leave a batch at other times than among all."""
    found = {}
    models, model = four_models(NUMPY, dtype, apart=0.05)
    for n in (1, 2, 3, 5, 8):
        rollout = collect(models, model, PROMPTS[:n], 8, rng=np.random.default_rng(n),
                          temperature=0.7)
        found |= {f"{n} prompts, {field.name}": getattr(rollout, field.name)
                  for field in fields(rollout)}
    params, config = random_model(dtype=dtype, spread=0.2)
    prompts = random_rows(np.random.default_rng(1), [3, 1, 5, 2, 4, 4, 1, 2, 6])
    for name, ways in {"drawn": {}, "greedy": {"temperature": 0}, "top k": {"top_k": 3},
                       "top p": {"top_p": 0.7}}.items():
        for eos in (config.eos_id, None):
            samples = sample(params, replace(config, eos_id=eos), prompts, 10,
                             rng=np.random.default_rng(4), **ways)
            case = name + ", endless" * (eos is None)
            found |= {f"{case}, {field.name}": getattr(samples, field.name)
                      for field in fields(samples)}
    for array in found.values():
        same_everywhere("the rollouts", array)
    return found


def parameters_that_came_apart():
    """A sum that leaves something out is told at the next comparison, by every rank."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "CHECKED_EVERY", 1)
        a_parameter_left_out(patch)
        for stage in ("SFT", "reward model", "PPO", "GRPO"):
            with pytest.raises(RuntimeError, match="the parameters: rank 1 does not hold"):
                after_two_steps(stage, 2, "float64")


def data_of_its_own():
    """What one rank learns from is not what the others do, though the gradients' sum is."""
    for stage in ("SFT", "reward model", "DPO"):
        after_two_steps(stage, 2, "float64")
        with pytest.MonkeyPatch.context() as patch:
            if ranks().rank == 1:
                patch.setattr(every_stage, "DEMONSTRATIONS", [
                    (prompt, [9, *reply[1:]]) for prompt, reply in every_stage.DEMONSTRATIONS])
                patch.setattr(every_stage, "GROUPS", [
                    replace(group, rows=[[*row[:3], 9, *row[4:]] for row in group.rows])
                    for group in every_stage.GROUPS])
            with pytest.raises(RuntimeError, match="the batch: rank 1 does not hold"):
                after_two_steps(stage, 2, "float64")


# --- whole commands ------------------------------------------------------------------------------

def gathered(items: str, mistake: str = ""):
    """What Run.gather makes of so many items, whose rows are random numbers."""
    kept = Run(Path("gathered"), TINY)
    if ranks().rank == 0:
        kept.folder.mkdir(exist_ok=True)
    if mistake:
        numbers_of_its_own(kept)

    def luck(batch, *, rng):
        assert ranks().size == 1                                 # nobody is to be asked within
        return [{"item": item, "luck": rng.random(), "text": f"<{item}>"} for item in batch]

    rows = kept.gather("luck", list(range(int(items))), luck, Stage.EVALUATE, replies=16)
    same_everywhere("the rows", np.array([[row["item"], row["luck"]] for row in rows]))
    assert [row["text"] for row in rows] == [f"<{i}>" for i in range(int(items))]
    return {"luck": np.array([row["luck"] for row in rows])}


def numbers_of_its_own(kept):
    """Each rank counts its own batches, and so draws the same numbers as the others."""
    right, size = kept.rng, ranks().size
    kept.rng = lambda stage, number: right(stage, number // size)


def workers(granted: str, given: str = ""):
    """How many threads a rank has for the parts of a step, where BLAS would use so many; perhaps
    because that was given."""
    for name in host.THREADS:
        os.environ.pop(name, None)
    if given:
        os.environ["OMP_NUM_THREADS"] = given
    limits = []
    host.openblas = {"get_num_threads": lambda: int(granted),
                     "set_num_threads": limits.append}.get
    host.make_ready(ranks().neighbours)
    assert limits == [1] * (int(granted) > 1)                    # and BLAS has one core in each
    return {"workers": np.array(host._workers._max_workers if host._workers else 1)}


def bound(*cores: str):
    """How many ranks share each one's cores, where a launcher has bound it to one of these."""
    every = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {every[int(cores[ranks().rank])]})
    parallel._ranks = parallel.Ranks()
    parallel.join()
    found = np.zeros(ranks().size, int)
    found[ranks().rank] = ranks().neighbours
    ranks().all_sum(found)
    return {"neighbours": found}


WRITING = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.link", "os.symlink",
           "shutil.copyfile", "shutil.rmtree", "shutil.move"}


def watched_command(*argv):
    """A command; of what the ranks but the first do, nothing may open or change a file."""
    touched = []

    def hook(event, args):
        if event == "open" and isinstance(args[0], str) and args[0] != os.devnull:
            if args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
                touched.append((event, *args))
        elif event in WRITING:
            touched.append((event, *args))

    sys.addaudithook(hook)
    sys.dont_write_bytecode = True
    if "every rank logs" in argv:
        step_log.append_jsonl = step_log.append_jsonl.__wrapped__
    with playing_cupy():
        assert cli.main(list(argv)) == 0
    if ranks().rank > 0:
        assert touched == [], touched
    elif argv[0] == "run":
        assert touched                                           # the hook does see


# --- ends ----------------------------------------------------------------------------------------

class Broken(Exception):
    """A mistake of ours, which no command expects."""


def speechless():
    """An end of which nothing can be reported."""
    sys.stderr = open(os.devnull)                                # which is not to be written to
    raise Broken("and dumb")


ENDS = {"killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "raises": lambda: (_ for _ in ()).throw(ValueError("the moon is wrong")),
        "is broken": lambda: (_ for _ in ()).throw(Broken("by a bug")),
        "exits": lambda: sys.exit(3),
        "cannot say why": speechless,
        "interrupted": lambda: (_ for _ in ()).throw(KeyboardInterrupt)}


def dying_command(rank: str, how: str, place: str, after: str, *argv):
    """A command in which one rank comes to its end: at its so many-th piece of work, a step or a
    batch of replies that is done ("piece"), or at a gradient, while the others wait for it."""
    holder, name = {"piece": (Checkpoint, "tick"),
                    "gradient": (training, "loss_and_gradient")}[place]
    right, done = getattr(holder, name), [0]

    def counted(*args):
        done[0] += 1
        if ranks().rank == int(rank) and done[0] == int(after):
            Path("died").write_text(repr(time.time()))
            ENDS[how]()
        return right(*args)

    setattr(holder, name, counted)
    checkpoint.INTERVAL = checkpoint.WORTH = 0.0                 # every piece is saved
    sys.exit(cli.main(list(argv)))


def odd_command(what: str, *argv):
    """A command of which the second rank has something of its own."""
    if ranks().rank == 1:
        if what == "settings":
            argv += ("--ppo.beta", "0.08")
        elif what == "data files":
            right = run_folder.digest
            run_folder.digest = lambda path: right(Path("others.jsonl"))
        else:
            definition = WordTokenizer.definition
            WordTokenizer.definition = lambda self: definition(self) | {"of": "mine"}
    sys.exit(cli.main(list(argv)))


def forgetful_command(*argv):
    """A command of which only the first rank reads the checkpoint."""
    right = Checkpoint.read
    Checkpoint.read = lambda self: right(self) if ranks().rank == 0 else None
    sys.exit(cli.main(list(argv)))


if __name__ == "__main__":
    parallel.join()
    path, name, *given = sys.argv[1:]
    result = globals()[name](*given)
    if ranks().rank == 0:
        np.savez(path, **(result or {}))
