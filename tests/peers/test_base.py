"""A GPT-2 that `transformers` made and saved goes through `minirlhf run --base`, and everything
that comes out opens in `transformers` again: the same ids from the same text, the same numbers."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from foreign import EOS, byte_level
from helpers import assert_close, assert_same, pair, write_rows

from minirlhf import cli, transformer
from minirlhf.files import read_json
from minirlhf.parameters import leaves
from minirlhf.pretrained import CONVERT, open_base, open_tokenizer
from minirlhf.sampling import sample
from minirlhf.text import load_tokenizer
from minirlhf.tokens import pad_right
from minirlhf.world.prompts import SPLITS, prompts

os.environ["HF_HUB_OFFLINE"] = "1"                           # nothing is fetched
torch = pytest.importorskip("torch", reason="torch is not installed: nothing to compare with")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed: nothing to compare with")

FLAGS = """--backend numpy --world.demonstration-count 30 --sft.steps 3 --sft.batch-size 8
    --preferences.prompts 6 --preferences.replies 2 --reward.steps 2 --ppo.steps 2
    --ppo.batch-size 8 --ppo.minibatches 2 --ppo.max-new 8 --evaluation.samples 1""".split()
CONVERSATIONS = [("what color is the sky ?", "the sky is blue ."), ("größer ?", "☃ naïve, 1"),
                 ("how do i make tea ?\n\nAssistant: slowly .\n\nHuman: why ?", "no !"),
                 ("a", "")]
LANGUAGE_MODELS, SCORERS = ("base", "sft", "policy"), ("reward", "value")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """A folder as `transformers` writes it; no pad token, as in every GPT-2."""
    from tokenizers import Tokenizer
    folder = tmp_path_factory.mktemp("theirs")
    words = [p.text for split in SPLITS for p in prompts(split)]
    tokenizer = Tokenizer.from_str(json.dumps(byte_level(words, 500)))
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=EOS, eos_token=EOS, unk_token=EOS,
        ).save_pretrained(folder)
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(
        vocab_size=tokenizer.get_vocab_size(), n_positions=128, n_embd=12, n_layer=2, n_head=3,
        bos_token_id=0, eos_token_id=0))
    with torch.no_grad():
        for p in model.parameters():
            p += 0.3 * torch.randn_like(p)
    model.save_pretrained(folder)
    assert read_json(folder / "config.json").get("pad_token_id") is None
    return folder


@pytest.fixture(scope="module", params=["toy", "people"])
def run(request, theirs, tmp_path_factory):
    """A finished run from that folder, in both worlds."""
    out = tmp_path_factory.mktemp("runs")
    more = []
    if request.param == "people":
        rows = [pair(f"what is {i} ?", f"{i} it is , sure", "no") for i in range(30)]
        more = ["--preferences", str(write_rows(out / "people.jsonl", rows)),
                "--text.max-tokens", "100"]
    assert cli.main(["run", "--base", str(theirs), "--name", "own", "--out", str(out), *more,
                     *FLAGS]) == 0
    return out / "own"


def assert_close_to_scale(actual, wanted, name, tolerance=1e-10):
    assert_close(actual, wanted, rtol=0, atol=tolerance * abs(wanted).max(), message=name)


def our_batch(folder):
    """tokens, mask (B, T) of the conversations, as training and scoring see them."""
    ours = load_tokenizer(folder)
    return pad_right([ours.prompt(prompt) + ours.response(reply)
                      for prompt, reply in CONVERSATIONS], ours.pad_id)


def transcript(prompt, reply):
    return f"\n\nHuman: {prompt}\n\nAssistant:" + (f" {reply}" if reply else "") + EOS


def their_batch(folder):
    """The same from whole texts, by the tokenizer that was saved."""
    batch = transformers.AutoTokenizer.from_pretrained(folder)(
        [transcript(*both) for both in CONVERSATIONS], padding=True, return_tensors="pt")
    return batch["input_ids"], batch["attention_mask"]


def opened(auto_class, folder):
    return auto_class.from_pretrained(folder).double().eval()


@pytest.mark.parametrize("name", LANGUAGE_MODELS + SCORERS)
def test_the_same_text_has_the_same_ids_and_the_pad_is_known(name, run, theirs):
    ours = load_tokenizer(run / name)
    reopened = transformers.AutoTokenizer.from_pretrained(run / name)
    tokens, mask = our_batch(run / name)
    ids, attention = their_batch(run / name)
    assert_same(ids.numpy(), tokens)
    assert_same(attention.numpy() == 1, mask)
    V = len(transformers.AutoTokenizer.from_pretrained(theirs))
    config = read_json(run / name / "config.json")
    assert reopened.pad_token_id == config["pad_token_id"] == ours.pad_id == V
    assert reopened.eos_token_id == config["eos_token_id"] == ours.eos_id == 0
    assert len(reopened) == config["vocab_size"] == V + 1
    for prompt, reply in CONVERSATIONS:
        row = ours.prompt(prompt) + ours.response(reply)
        assert reopened.decode(row, skip_special_tokens=True) == transcript(
            prompt, reply).removesuffix(EOS)


@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_a_language_model_has_the_same_logits_from_the_same_text(name, run):
    model = opened(transformers.AutoModelForCausalLM, run / name)
    params, config = transformer.load(run / name, "float64")
    tokens, mask = our_batch(run / name)
    ids, attention = their_batch(run / name)
    with torch.no_grad():
        wanted = model(ids, attention_mask=attention).logits.numpy()
    assert_close_to_scale(transformer.logits(params, config, tokens, mask)[mask], wanted[mask],
                          name)


@pytest.mark.parametrize("name", SCORERS)
def test_a_scorer_has_the_same_scores_from_the_same_text(name, run):
    model = opened(transformers.AutoModelForSequenceClassification, run / name)
    params, config = transformer.load(run / name, "float64")
    ids, attention = their_batch(run / name)
    with torch.no_grad():
        wanted = model(ids, attention_mask=attention).logits[:, 0].numpy()
    assert_close_to_scale(transformer.scores(params, config, *our_batch(run / name)), wanted, name)


def test_the_base_has_the_logits_of_the_model_it_came_from_and_a_pad_that_nobody_says(run, theirs):
    before = opened(transformers.AutoModelForCausalLM, theirs)
    after = opened(transformers.AutoModelForCausalLM, run / "base")
    tokenizer = transformers.AutoTokenizer.from_pretrained(theirs)
    for both in CONVERSATIONS:
        ids = tokenizer(transcript(*both), return_tensors="pt")["input_ids"]
        with torch.no_grad():
            old, new = before(ids).logits, after(ids).logits
        assert_close_to_scale(new[..., :-1].numpy(), old.numpy(), "logits")
        assert float(new.softmax(-1)[..., -1].max()) <= (1 + 1e-6) / new.shape[-1]


def test_greedy_replies_are_the_same_and_end_at_the_folders_own_end(run):
    model = opened(transformers.AutoModelForCausalLM, run / "policy")
    params, config = transformer.load(run / "policy", "float64")
    tokenizer = load_tokenizer(run / "policy")
    for prompt, _ in CONVERSATIONS:
        ids = tokenizer.prompt(prompt)
        ours = sample(params, config, [ids], 12, rng=np.random.default_rng(0), temperature=0)
        reply = model.generate(torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)),
                               max_new_tokens=12, do_sample=False)
        assert reply[0, len(ids):].tolist() == ours.tokens[0].tolist()


# --- more of what transformers writes ------------------------------------------------------------

def test_the_old_pair_of_files_is_read_as_transformers_reads_it(theirs, tmp_path):
    fast = transformers.AutoTokenizer.from_pretrained(theirs)
    fast.backend_tokenizer.model.save(str(tmp_path))
    for name in ("config.json", "model.safetensors"):
        shutil.copy(theirs / name, tmp_path)
    assert {"vocab.json", "merges.txt"} <= {path.name for path in tmp_path.iterdir()}
    old, _ = open_tokenizer(tmp_path)
    for text in (*(prompt for prompt, _ in CONVERSATIONS), "tab\there  two", "🙂 ‰"):
        assert old.encode(text) == fast(text)["input_ids"]


@pytest.mark.parametrize("dtype, shards, told, error", [
    ("float32", "20KB", "model.safetensors.index.json; only whole", 0),
    ("bfloat16", "1GB", "has the dtype BF16", 1e-2)])
def test_what_is_refused_opens_after_the_conversion_that_is_told(dtype, shards, told, error,
                                                                 theirs, tmp_path):
    folder = tmp_path / "it"
    shutil.copytree(theirs, folder)
    (folder / "model.safetensors").unlink()
    model = transformers.AutoModelForCausalLM.from_pretrained(theirs)
    model.to(getattr(torch, dtype)).save_pretrained(folder, max_shard_size=shards)
    with pytest.raises((ValueError, FileNotFoundError), match=told):
        open_base(folder)
    code = CONVERT.format(folder).removeprefix('python -c "').removesuffix('"')
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    base, wanted = open_base(folder), open_base(theirs)
    for (name, x), (_, y) in zip(leaves(base.params), leaves(wanted.params), strict=True):
        assert_close(x, y, rtol=error, atol=error, message=name)
