"""Our models against Hugging Face's GPT-2, and our optimizer and losses against PyTorch's.

What `save` writes opens in `transformers` and computes the same numbers from the same text, and
what `transformers` saves opens in `load`.  All in float64; both sides add in their own order, so
a tensor may differ by 1e-10 of its largest entry.
"""

import os

import numpy as np
import pytest
from helpers import assert_close, assert_same
from models import random_model

from minirlhf.autograd import value_and_grad
from minirlhf.ops import mul
from minirlhf.ops import sum as sum_
from minirlhf.optimizer import adamw_state, adamw_step, clip_by_global_norm
from minirlhf.parameters import leaves, pack
from minirlhf.rollout import score_replies
from minirlhf.sampling import sample
from minirlhf.sft import sft_loss
from minirlhf.stages.reward_model import normalize
from minirlhf.tokens import BOT, EOS, PAD, USER, WordTokenizer, pad_right, token_logprobs
from minirlhf.transformer import load, logits, save, scores

os.environ["HF_HUB_OFFLINE"] = "1"                           # nothing is fetched
torch = pytest.importorskip("torch", reason="torch is not installed: nothing to compare with")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed: nothing to compare with")

WORDS = ["what", "color", "is", "the", "sky", "?", "blue", ".", "a", "red", "box", "big", "yes",
         "no", "tell", "me"]
CONVERSATIONS = [("what color is the sky ?", "the sky is blue ."),
                 ("is the box big ?", "yes ."),
                 ("tell me .", ""),
                 ("what color is a big red box ? tell me .", "red . is the sky red ? no .")]
SIZES = [{"channels": 8, "heads": 2, "layers": 2}, {"channels": 32, "heads": 4, "layers": 3},
         {"channels": 12, "heads": 1, "layers": 1}]


def assert_close_to_scale(actual, wanted, name, tolerance=1e-10):
    """|actual − wanted| ≤ tolerance · the largest |wanted| of the whole tensor."""
    wanted = np.asarray(wanted)
    assert_close(actual, wanted, rtol=0, atol=tolerance * abs(wanted).max(), message=name)


def open_in_transformers(auto_class, folder):
    model = auto_class.from_pretrained(folder, torch_dtype="auto").double().eval()
    assert model.dtype == torch.float64
    return model


def saved_model(folder, scalar_head, sizes):
    """A random model in a folder with its tokenizer; every parameter is far from its start."""
    tokenizer = WordTokenizer(WORDS)
    params, config = random_model(scalar_head=scalar_head, vocab=tokenizer.vocab_size, context=32,
                                  seed=sizes["channels"], **sizes)
    save(folder, params, config, tokenizer)
    return params, config, tokenizer


def our_batch(tokenizer):
    """tokens, mask (B, T) of the conversations, padded on the right."""
    return pad_right([tokenizer.prompt(prompt) + tokenizer.response(reply)
                      for prompt, reply in CONVERSATIONS])


def their_batch(folder):
    """The same from text: ids and attention mask, by the tokenizer that was saved."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = [f"<user> {prompt} <bot> {reply} <eos>" for prompt, reply in CONVERSATIONS]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    return batch["input_ids"], batch["attention_mask"]


def their_gradients(model, loss) -> dict[str, np.ndarray]:
    loss.backward()
    return {name.removeprefix("transformer."): p.grad.numpy()
            for name, p in model.named_parameters()}


def assert_same_gradients(ours, theirs, unused=()):
    ours = dict(leaves(ours))
    assert theirs.keys() == ours.keys() - set(unused)
    for name, gradient in theirs.items():
        assert_close_to_scale(ours[name], gradient, name)


# --- the tokenizer -------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def folder_and_tokenizers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    _, _, ours = saved_model(folder, False, SIZES[0])
    return folder, ours, transformers.AutoTokenizer.from_pretrained(folder)


def test_the_saved_tokenizer_knows_pad_eos_and_the_size_of_the_vocabulary(folder_and_tokenizers):
    _, ours, theirs = folder_and_tokenizers
    assert (theirs.pad_token_id, theirs.eos_token_id) == (PAD, EOS) == (0, 1)
    assert len(theirs) == ours.vocab_size == theirs.vocab_size
    assert theirs.convert_tokens_to_ids(["<user>", "<bot>", "sky"]) == [USER, BOT, ours.ids["sky"]]
    assert theirs.padding_side == "right"


@pytest.mark.parametrize("text", [
    "what color is the sky ?", "the  sky\tis\n blue", " no", "yes\n", ""])
def test_the_saved_tokenizer_gives_our_ids(text, folder_and_tokenizers):
    _, ours, theirs = folder_and_tokenizers
    assert theirs(text)["input_ids"] == ours.encode(text)
    assert (theirs(text)["input_ids"] == []) == (text == "")


@pytest.mark.parametrize("prompt, reply", CONVERSATIONS)
@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize("spaced", [True, False])
def test_the_saved_tokenizer_gives_our_ids_of_a_prompt_and_a_reply_spelled_out(
        prompt, reply, ended, spaced, folder_and_tokenizers):
    _, ours, theirs = folder_and_tokenizers
    ids = ours.prompt(prompt) + ours.response(reply, ended)
    between = " " if spaced else ""
    text = between.join(["<user>", prompt, "<bot>", reply, *(["<eos>"] if ended else [])])
    assert theirs(text)["input_ids"] == ids
    assert theirs.decode(ids, skip_special_tokens=True) == ours.decode(ids)


def test_the_saved_tokenizer_pads_as_we_do(folder_and_tokenizers):
    folder, ours, _ = folder_and_tokenizers
    tokens, mask = our_batch(ours)
    their_tokens, their_mask = their_batch(folder)
    assert_same(their_tokens.numpy(), tokens)
    assert_same(their_mask.numpy() == 1, mask)


def test_an_unknown_word_is_an_error_on_both_sides(folder_and_tokenizers):
    _, ours, theirs = folder_and_tokenizers
    with pytest.raises(ValueError, match="'green'"):
        ours.encode("the sky is green")
    with pytest.raises(Exception, match="(?i)unk"):
        theirs("the sky is green")


# --- our models in transformers ------------------------------------------------------------------

@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_a_saved_language_model_has_our_logits_and_gradients_from_the_same_text(
        sizes, tmp_path, rng):
    params, config, tokenizer = saved_model(tmp_path, False, sizes)
    model = open_in_transformers(transformers.AutoModelForCausalLM, tmp_path)
    assert type(model).__name__ == "GPT2LMHeadModel"
    tokens, mask = our_batch(tokenizer)
    their_tokens, their_mask = their_batch(tmp_path)
    theirs = model(their_tokens, attention_mask=their_mask).logits
    assert_close_to_scale(logits(params, config, tokens, mask)[mask],
                          theirs.detach().numpy()[mask], "logits")

    u = np.where(mask[..., None], rng.standard_normal(theirs.shape), 0)
    _, gradient = value_and_grad(
        lambda p: sum_(mul(logits(p, config, tokens, mask), u)))(params)
    assert_same_gradients(gradient, their_gradients(model, (theirs * torch.from_numpy(u)).sum()))


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_a_saved_reward_model_has_our_scores_and_gradients_from_the_same_text(
        sizes, tmp_path, rng):
    params, config, tokenizer = saved_model(tmp_path, True, sizes)
    model = open_in_transformers(transformers.AutoModelForSequenceClassification, tmp_path)
    assert type(model).__name__ == "GPT2ForSequenceClassification"
    assert model.config.num_labels == 1 and model.config.pad_token_id == PAD
    tokens, mask = our_batch(tokenizer)
    their_tokens, their_mask = their_batch(tmp_path)
    theirs = model(their_tokens, attention_mask=their_mask).logits[:, 0]
    assert_close_to_scale(scores(params, config, tokens, mask), theirs.detach().numpy(), "scores")

    u = rng.standard_normal(len(theirs))
    _, gradient = value_and_grad(
        lambda p: sum_(mul(scores(p, config, tokens, mask), u)))(params)
    assert_same_gradients(gradient, their_gradients(model, (theirs * torch.from_numpy(u)).sum()))


@pytest.mark.parametrize("scalar_head", [False, True])
def test_a_saved_model_opens_with_the_bits_that_were_saved(scalar_head, tmp_path):
    params, _, _ = saved_model(tmp_path, scalar_head, SIZES[0])
    auto_class = (transformers.AutoModelForSequenceClassification if scalar_head
                  else transformers.AutoModelForCausalLM)
    theirs = {name.removeprefix("transformer."): p.detach().numpy()
              for name, p in open_in_transformers(auto_class, tmp_path).named_parameters()}
    assert theirs.keys() == dict(leaves(params)).keys()
    for name, leaf in leaves(params):
        assert_same(theirs[name], leaf, name)


def test_a_language_models_loss_is_the_mean_of_our_logprobs(tmp_path):
    params, config, tokenizer = saved_model(tmp_path, False, SIZES[0])
    model = open_in_transformers(transformers.AutoModelForCausalLM, tmp_path)
    tokens, mask = our_batch(tokenizer)
    labels = torch.from_numpy(np.where(mask, tokens, -100))
    wanted = model(torch.from_numpy(tokens), attention_mask=torch.from_numpy(mask).long(),
                   labels=labels).loss
    ours = sft_loss(token_logprobs(logits(params, config, tokens, mask), tokens), mask[:, 1:])
    assert_close(ours, wanted.item(), rtol=1e-6)             # transformers takes it in float32


def test_greedy_replies_are_those_of_generate(tmp_path):
    params, config, tokenizer = saved_model(tmp_path, False, SIZES[1])
    model = open_in_transformers(transformers.AutoModelForCausalLM, tmp_path)
    for prompt, _ in CONVERSATIONS:
        ids = tokenizer.prompt(prompt)
        ours = sample(params, config, [ids], 12, rng=np.random.default_rng(0), temperature=0)
        theirs = model.generate(torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)),
                                max_new_tokens=12, do_sample=False)
        assert theirs[0, len(ids):].tolist() == ours.tokens[0].tolist()


def test_the_normalisation_of_a_reward_model_is_baked_into_what_is_saved(tmp_path):
    params, config, tokenizer = saved_model(tmp_path, True, SIZES[1])
    rows = [tokenizer.prompt(prompt) + tokenizer.response(reply)
            for prompt, reply in CONVERSATIONS]
    before = score_replies(params, config, rows)
    mean, deviation = before.mean(), before.std()
    assert abs(mean) > 0.1 and abs(deviation - 1) > 0.1
    normalize(params, mean, deviation)
    save(tmp_path, params, config, tokenizer)
    model = open_in_transformers(transformers.AutoModelForSequenceClassification, tmp_path)
    tokens, mask = their_batch(tmp_path)
    with torch.no_grad():
        theirs = model(tokens, attention_mask=mask).logits[:, 0].numpy()
    assert_close(theirs, (before - mean) / deviation, rtol=0, atol=1e-12)
    assert_close(theirs.mean(), 0.0, atol=1e-12)
    assert_close(theirs.std(), 1.0)


# --- their models here ---------------------------------------------------------------------------

def their_config(**changes):
    return transformers.GPT2Config(**{
        "vocab_size": 21, "n_positions": 14, "n_embd": 12, "n_layer": 3, "n_head": 3,
        "bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0, "num_labels": 1} | changes)


def perturbed(model):
    torch.manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.3 * torch.randn_like(p)
    return model.double().eval()


def test_a_language_model_that_transformers_saved_has_the_same_logits_here(tmp_path, rng):
    model = perturbed(transformers.GPT2LMHeadModel(their_config()))
    model.save_pretrained(tmp_path)
    params, config = load(tmp_path, "float64")
    assert (config.vocab_size, config.context, config.channels, config.heads, config.layers,
            config.pad_id, config.eos_id) == (21, 14, 12, 3, 3, 0, 1)
    tokens, mask = pad_right([rng.integers(1, 21, n).tolist() for n in (14, 3, 8)])
    with torch.no_grad():
        theirs = model(torch.from_numpy(tokens),
                       attention_mask=torch.from_numpy(mask).long()).logits.numpy()
    assert_close_to_scale(logits(params, config, tokens, mask)[mask], theirs[mask], "logits")


def test_a_classifier_with_one_label_that_transformers_saved_has_the_same_scores_here(
        tmp_path, rng):
    model = perturbed(transformers.GPT2ForSequenceClassification(their_config()))
    model.save_pretrained(tmp_path)
    params, config = load(tmp_path, "float64")
    tokens, mask = pad_right([rng.integers(1, 21, n).tolist() for n in (14, 3, 8)])
    with torch.no_grad():
        theirs = model(torch.from_numpy(tokens),
                       attention_mask=torch.from_numpy(mask).long()).logits[:, 0].numpy()
    assert_close_to_scale(scores(params, config, tokens, mask), theirs, "scores")


def test_a_bare_trunk_that_transformers_saved_loads_as_a_language_model(tmp_path, rng):
    trunk = perturbed(transformers.GPT2Model(their_config()))
    trunk.save_pretrained(tmp_path)                          # its names have no prefix
    params, config = load(tmp_path, "float64")
    tokens = rng.integers(1, 21, (2, 9))
    with torch.no_grad():
        hidden = trunk(torch.from_numpy(tokens)).last_hidden_state
        theirs = (hidden @ trunk.wte.weight.T).numpy()
    assert_close_to_scale(logits(params, config, tokens), theirs, "logits")


@pytest.mark.parametrize("name, setting", [
    ("activation_function", "relu"), ("layer_norm_epsilon", 1e-6), ("scale_attn_weights", False),
    ("scale_attn_by_inverse_layer_idx", True), ("tie_word_embeddings", False)])
def test_a_saved_model_that_computes_something_else_is_refused_by_name(name, setting, tmp_path):
    transformers.GPT2LMHeadModel(their_config(**{name: setting})).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"{name} is {setting!r}"):
        load(tmp_path)


def test_a_classifier_with_two_labels_is_refused(tmp_path):
    transformers.GPT2ForSequenceClassification(their_config(num_labels=2)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"score.weight should have shape \(1, 12\), has \(2, 12"):
        load(tmp_path)


# --- PyTorch's optimizer, clipping and loss ------------------------------------------------------

@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("settings", [
    {}, {"weight_decay": 0.0, "eps": 1e-5}, {"beta1": 0.8, "beta2": 0.95, "weight_decay": 0.3}],
    ids=str)
def test_ten_steps_of_adamw_are_pytorchs_for_gradients_of_any_size(settings, packed, rng):
    start = {"a": rng.standard_normal(30), "b": rng.standard_normal((5, 6))}
    gradients = [{name: x_sign * 10.0 ** rng.uniform(-8, 0, x.shape)
                  for name, x in start.items()
                  for x_sign in [rng.choice([-1.0, 1.0], x.shape)]} for _ in range(10)]
    theirs = {name: torch.tensor(x, requires_grad=True) for name, x in start.items()}
    keywords = {"eps": 1e-8, "weight_decay": 0.01} | {
        k: v for k, v in settings.items() if k in ("eps", "weight_decay")}
    optimizer = torch.optim.AdamW(
        theirs.values(), lr=0.02, betas=(settings.get("beta1", 0.9), settings.get("beta2", 0.999)),
        **keywords)
    ours = pack(start) if packed else {name: x.copy() for name, x in start.items()}
    state = adamw_state(ours)
    for g in gradients:
        adamw_step(ours, pack(g) if packed else g, state, 0.02, **settings)
        for name, p in theirs.items():
            p.grad = torch.from_numpy(g[name].copy())
        optimizer.step()
        for name, p in theirs.items():
            assert_close(ours[name], p.detach().numpy(), rtol=1e-12, atol=1e-12)


def test_default_settings_of_adamw_are_pytorchs(rng):
    p = torch.tensor(rng.standard_normal(4), requires_grad=True)
    ours, g = {"x": p.detach().numpy().copy()}, rng.standard_normal(4)
    p.grad = torch.from_numpy(g)
    torch.optim.AdamW([p], lr=0.1).step()
    adamw_step(ours, {"x": g}, adamw_state(ours), 0.1)
    assert_close(ours["x"], p.detach().numpy(), rtol=1e-14)


@pytest.mark.parametrize("max_norm", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize("scale", [1e-7, 1.0, 1e3])
def test_clipping_is_pytorchs(max_norm, scale, rng):
    grads = {"a": scale * rng.standard_normal(9), "b": scale * rng.standard_normal((2, 5))}
    parameters = [torch.zeros(g.shape, dtype=torch.float64) for g in grads.values()]
    for p, g in zip(parameters, grads.values(), strict=True):
        p.grad = torch.from_numpy(g.copy())
    their_norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    clipped, norm = clip_by_global_norm(grads, max_norm)
    assert_close(norm, their_norm.item(), rtol=1e-14)
    for p, g in zip(parameters, clipped.values(), strict=True):
        assert_close(g, p.grad.numpy(), rtol=1e-14, atol=0)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.5])
def test_the_mean_of_token_logprobs_and_its_gradient_are_those_of_cross_entropy(temperature, rng):
    z, tokens = 3 * rng.standard_normal((3, 6, 11)), rng.integers(0, 11, (3, 6))
    mask = np.arange(5) < np.array([[5], [2], [4]])
    loss, dz = value_and_grad(
        lambda z: sft_loss(token_logprobs(z, tokens, temperature), mask))(z)
    theirs = torch.tensor(z, requires_grad=True)
    labels = torch.from_numpy(np.where(mask, tokens[:, 1:], -100))
    wanted = torch.nn.functional.cross_entropy(
        (theirs[:, :-1] / temperature).reshape(-1, 11), labels.reshape(-1), ignore_index=-100)
    wanted.backward()
    assert_close(loss, wanted.item(), rtol=1e-13)
    assert_close_to_scale(dz, theirs.grad.numpy(), "logits", 1e-13)
