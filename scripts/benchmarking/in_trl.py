"""TRL's side: its PPO trainer, of release 1.9.2, held still between two iterations."""

import tempfile
import threading
from pathlib import Path

import torch
import transformers
import trl
from benchmarking import tasks
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    TrainerCallback,
)
from trl.experimental.ppo import PPOConfig, PPOTrainer


class Gate(TrainerCallback):
    """Lets the trainer do one iteration each time it is opened; start-up comes before the first."""

    def __init__(self):
        self.go, self.done = threading.Semaphore(0), threading.Semaphore(0)
        self.problem: Exception | None = None

    def on_train_begin(self, args, state, control, **_):
        self.go.acquire()

    def on_step_end(self, args, state, control, **_):
        self.done.release()
        self.go.acquire()

    def through(self) -> None:
        """One iteration.  Raises what the trainer raised."""
        self.go.release()
        self.done.acquire()
        if self.problem is not None:
            raise self.problem

    def guarded(self, train) -> None:
        """train() in a thread of its own; where it ends early, whoever waits is told why."""
        try:
            train()
            self.problem = RuntimeError("the trainer came to its end")
        except Exception as problem:
            self.problem = problem
        self.done.release()


def vocabulary(size: int) -> PreTrainedTokenizerFast:
    """Words for the ids of the model; pad and end lie beyond them, so that nobody samples one."""
    words = {f"w{i}": i for i in range(size)} | {"<pad>": size, "<eos>": size + 1}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel(words, unk_token="w0")),
                                   pad_token="<pad>", eos_token="<eos>", padding_side="left")


def settings(task: dict) -> PPOConfig:
    """Equal work: one micro-batch, float32, nothing recomputed, saved or shown."""
    return PPOConfig(
        output_dir=tempfile.mkdtemp(), use_cpu=True, bf16=False, gradient_checkpointing=False,
        per_device_train_batch_size=task["batch"], gradient_accumulation_steps=1,
        num_ppo_epochs=tasks.PPO_EPOCHS, num_mini_batches=tasks.PPO_MINIBATCHES,
        local_rollout_forward_batch_size=task["batch"], total_episodes=task["batch"] * 10**6,
        response_length=tasks.PPO_NEW, temperature=1.0, learning_rate=tasks.LR,
        cliprange=tasks.CLIP, cliprange_value=tasks.CLIP, gamma=tasks.GAMMA, lam=tasks.LAM,
        kl_coef=tasks.BETA, num_sample_generations=0, save_strategy="no", report_to=[],
        disable_tqdm=True)


def ppo(task: dict):
    """An iteration of `PPOTrainer.train`; returns how many updates it made, and how long replies
    were."""
    policy, reference = (GPT2LMHeadModel.from_pretrained(Path(task["folder"], "policy"))
                         for _ in range(2))
    critic, reward = (GPT2ForSequenceClassification.from_pretrained(Path(task["folder"], "value"))
                      for _ in range(2))
    data = Dataset.from_dict({"input_ids": tasks.prompts(
        task | {"batch": 8 * task["batch"]}).tolist()})
    lengths = []
    reward.transformer.register_forward_pre_hook(
        lambda _, given, named: lengths.append(named["attention_mask"].sum(1).float().mean().item()
                                               - tasks.PROMPT), with_kwargs=True)
    gate = Gate()
    trainer = PPOTrainer(
        args=settings(task), processing_class=vocabulary(task["vocab"]), model=policy,
        ref_model=reference, reward_model=reward, value_model=critic, train_dataset=data,
        eval_dataset=data.select(range(1)), callbacks=[gate])
    threading.Thread(target=gate.guarded, args=(trainer.train,), daemon=True).start()

    def updates() -> int:
        states = trainer.optimizer.state
        return int(next(iter(states.values()))["step"]) if states else 0

    def once():
        before = updates()
        gate.through()
        return {"updates": updates() - before, "length": lengths[-1]}
    return once


def versions() -> dict[str, str]:
    return {"TRL": trl.__version__, "its PyTorch": torch.__version__,
            "its transformers": transformers.__version__}
