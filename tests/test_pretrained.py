"""Laws of a base model of one's own: what is read, what is refused, and the row of its <pad>."""

import json
import struct

import numpy as np
import pytest
from foreign import EOS, TEXTS, byte_level, change_json, change_tensors, library, write_folder
from helpers import assert_close, assert_same, float_arrays, host
from hypothesis import given
from hypothesis import strategies as st
from models import logsumexp, random_model

from minirlhf.files import read_json, write_json
from minirlhf.parameters import leaves
from minirlhf.pretrained import append_pad, base_config, open_base, open_tokenizer
from minirlhf.text import BytePairTokenizer, TranscriptTokenizer, load_tokenizer, train_byte_pairs
from minirlhf.tokens import PAD, WordTokenizer
from minirlhf.transformer import logits, save


@pytest.fixture(scope="module")
def definition():
    return byte_level()


@pytest.fixture
def folder(tmp_path, definition):
    write_folder(tmp_path / "gpt2", definition)
    return tmp_path / "gpt2"


def assert_same_but_for_the_pad(base, params):
    """Bit for bit the parameters of the folder, with one row more in the embedding."""
    for (name, x), (_, wanted) in zip(leaves(base.params), leaves(params), strict=True):
        assert_same(x[:len(wanted)] if name == "wte.weight" else x, wanted, name)
    assert len(base.params["wte"]["weight"]) == len(params["wte"]["weight"]) + 1


# --- what is read --------------------------------------------------------------------------------

def test_a_folder_without_a_pad_gets_one_row_and_one_token(tmp_path, definition):
    params = write_folder(tmp_path, definition)
    base, V = open_base(tmp_path), len(definition["model"]["vocab"])
    assert_same_but_for_the_pad(base, params)
    assert (base.model.vocab_size, base.model.pad_id, base.model.eos_id) == (V + 1, V, 0)
    assert (base.tokenizer.vocab_size, base.tokenizer.pad_id, base.tokenizer.eos_id) == (V + 1, V,
                                                                                        0)
    assert (base.tokenizer.pad_token, base.tokenizer.eos_token) == ("<pad>", EOS)
    assert f"{V} tokens" in base.notes[0] and "<pad> is appended" in base.notes[1]


@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_names_with_and_without_prefix_old_buffers_and_a_copy_of_the_head_are_the_same_model(
        prefix, tmp_path, definition):
    params = write_folder(tmp_path, definition, prefix=prefix)
    change_tensors(tmp_path, lambda tensors: tensors | {
        f"{prefix}h.0.attn.bias": np.ones((1, 1, 64, 64), bool),
        f"{prefix}h.0.attn.masked_bias": np.array(-1e4, "float32"),
        "lm_head.weight": np.array(tensors[f"{prefix}wte.weight"])})
    assert_same_but_for_the_pad(open_base(tmp_path), params)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_floats_are_converted_to_float32(dtype, tmp_path, definition):
    write_folder(tmp_path, definition)
    stored = {}

    def convert(tensors):
        stored.update({name: t.astype(dtype) for name, t in tensors.items()})
        return stored
    change_tensors(tmp_path, convert)
    base = open_base(tmp_path)
    assert base.params.flat.dtype == np.float32
    for name, leaf in leaves(base.params["h"]):
        assert_same(leaf, stored[f"transformer.h.{name}"].astype("float32"))


def words_folder(folder):
    tokenizer = WordTokenizer(["what", "is", "this", "?"])
    params, config = random_model(vocab=tokenizer.vocab_size, dtype="float32")
    save(folder, params, config, tokenizer)
    return params


def pairs_folder(folder):
    library()
    tokenizer = train_byte_pairs(TEXTS, 300)
    params, config = random_model(vocab=tokenizer.vocab_size, dtype="float32")
    save(folder, params, config, tokenizer)
    return params


@pytest.mark.parametrize("make", [words_folder, pairs_folder])
def test_a_folder_of_a_run_of_ours_is_taken_as_it_is(make, tmp_path):
    params = make(tmp_path)
    base = open_base(tmp_path)
    assert_same(base.params.flat, params.flat)
    assert (base.model.pad_id, base.model.eos_id) == (0, 1) and len(base.notes) == 1
    assert base.tokenizer.definition() == read_json(tmp_path / "tokenizer.json")
    ids = base.tokenizer.encode("what is this ?")
    assert base.tokenizer.prompt("what is this ?") == [2, *ids, 3]           # <user> … <bot>


def test_the_old_pair_of_files_is_the_same_tokenizer(folder, definition):
    wanted = open_tokenizer(folder)[0]
    (folder / "tokenizer.json").unlink()
    write_json(folder / "vocab.json", definition["model"]["vocab"])
    merges = "".join(f"{a} {b}\n" for a, b in definition["model"]["merges"])
    for text in ("#version: 0.2\n" + merges, merges.replace("\n", "\r\n")):
        (folder / "merges.txt").write_text(text, encoding="utf-8", newline="")
        for names in ({}, {"eos_token": EOS}):               # without names, config.json's id
            write_json(folder / "tokenizer_config.json", names)
            got = open_tokenizer(folder)[0]
            assert (got.vocab_size, got.pad_id, got.eos_id) == (
                wanted.vocab_size, wanted.pad_id, wanted.eos_id)
            for line in [*TEXTS, "never seen Ω 🙂", f"a {EOS} b"]:
                assert got.prompt(line) == wanted.prompt(line)
                assert got.decode(got.response(line.strip())) == line.strip()


def test_tokens_added_beside_the_old_pair_keep_their_ids(tmp_path, definition):
    V = len(definition["model"]["vocab"])
    write_folder(tmp_path, definition, rows=V + 1)
    (tmp_path / "tokenizer.json").unlink()
    write_json(tmp_path / "vocab.json", definition["model"]["vocab"])
    write_json(tmp_path / "added_tokens.json", {"[PAD]": V})
    write_json(tmp_path / "special_tokens_map.json", {"pad_token": {"content": "[PAD]"}})
    (tmp_path / "merges.txt").write_text("\n".join(map(" ".join, definition["model"]["merges"])))
    tokenizer, new_pad = open_tokenizer(tmp_path)
    assert (tokenizer.pad_token, tokenizer.pad_id, new_pad) == ("[PAD]", V, False)


# --- which token is the pad ----------------------------------------------------------------------

def test_a_pad_that_is_the_end_is_none(tmp_path, definition):
    """Named by the tokenizer or by config.json, as people often set it."""
    params = write_folder(tmp_path, definition, names={"eos_token": EOS, "pad_token": EOS})
    change_json(tmp_path / "config.json", pad_token_id=0)
    base = open_base(tmp_path)
    assert_same_but_for_the_pad(base, params)
    assert base.tokenizer.pad_token == "<pad>" and base.model.pad_id != base.model.eos_id


def test_a_pad_that_is_ordinary_text_is_none(tmp_path, definition):
    """pad_token_id: 0 is "!" in GPT-2; as a pad it would vanish from every text."""
    params = write_folder(tmp_path, definition)
    for piece in ("!", "Ġthe"):
        change_json(tmp_path / "config.json", pad_token_id=definition["model"]["vocab"][piece])
        base = open_base(tmp_path)
        assert_same_but_for_the_pad(base, params)
        assert base.tokenizer.decode(base.tokenizer.encode("the the !")) == "the the !"


def test_a_pad_of_its_own_stays(tmp_path):
    definition = byte_level(special=(EOS, "<|filler|>"))
    for names, pad_id in (({"eos_token": EOS, "pad_token": "<|filler|>"}, None),
                          ({"eos_token": EOS, "pad_token": {"content": "<|filler|>"}}, 7),
                          ({"eos_token": EOS}, 1)):
        params = write_folder(tmp_path, definition, names=names)
        change_json(tmp_path / "config.json", pad_token_id=pad_id)
        base = open_base(tmp_path)
        assert_same(base.params.flat, params.flat)
        assert (base.tokenizer.pad_token, base.model.pad_id) == ("<|filler|>", 1)


def test_a_pad_that_was_named_but_never_got_an_id_gets_it_by_its_name(tmp_path, definition):
    params = write_folder(tmp_path, definition, names={"eos_token": EOS, "pad_token": "[PAD]"})
    base = open_base(tmp_path)
    assert_same_but_for_the_pad(base, params)
    assert base.tokenizer.pad_token == "[PAD]"


def with_token(definition, content, i, **more):
    token = {"id": i, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": True} | more
    return definition | {"added_tokens": [*definition["added_tokens"], token]}


def test_a_pad_that_the_tokenizer_has_and_the_model_has_not_gets_its_row(tmp_path, definition):
    """As is left by a tokenizer to which a pad was added, and a model that was not resized."""
    V = len(definition["model"]["vocab"])
    params = write_folder(tmp_path, with_token(definition, "[PAD]", V), rows=V,
                          names={"eos_token": EOS, "pad_token": "[PAD]"})
    base = open_base(tmp_path)
    assert_same_but_for_the_pad(base, params)
    assert (base.tokenizer.pad_token, base.model.pad_id) == ("[PAD]", V)


@pytest.mark.parametrize("unused", [1, 5])
def test_rows_that_no_token_has_are_left_out_and_told(unused, tmp_path, definition):
    V = len(definition["model"]["vocab"])
    params = write_folder(tmp_path, definition, rows=V + unused)
    base = open_base(tmp_path)
    wte = params["wte"]["weight"]
    assert_same(base.params["wte"]["weight"][:V], wte[:V])
    assert_close(base.params["wte"]["weight"][V], wte[:V].mean(axis=0), rtol=1e-5, atol=1e-6)
    assert base.model.vocab_size == len(base.params["wte"]["weight"]) == V + 1
    assert any(f"{unused} rows" in note for note in base.notes)


def test_the_tokenizer_names_the_end_and_config_json_only_where_it_does_not(tmp_path, definition):
    """GPT2Config's own default, 50256, stands in many a folder with another vocabulary."""
    write_folder(tmp_path, definition)
    change_json(tmp_path / "config.json", eos_token_id=50256, bos_token_id=50256)
    assert open_base(tmp_path).model.eos_id == 0


def test_an_end_that_was_not_marked_as_special_is_special_here(tmp_path, definition):
    plain = definition | {"added_tokens": []}
    write_folder(tmp_path, with_token(plain, EOS, 0, special=False))
    tokenizer = open_base(tmp_path).tokenizer
    assert 0 not in tokenizer.encode(f"a{EOS}b") and tokenizer.decode([0]) == ""


# --- the row of the pad --------------------------------------------------------------------------

def probabilities(z):
    return np.exp(z - logsumexp(z)[..., None])


@given(wte=float_arrays((7, 3), -20, 20), h=float_arrays((4, 3), -20, 20))
def test_the_pad_is_nowhere_likelier_than_a_token_drawn_by_lot(xp, wte, h):
    longer = host(append_pad(xp.asarray(wte)))
    z = h @ longer.T
    assert_close(z[:, -1], z[:, :-1].mean(axis=1), rtol=1e-9, atol=1e-9)
    assert (probabilities(z)[:, -1] <= 1 / 8 + 1e-9).all()
    assert_same(longer[:-1], wte)


def test_the_bound_is_reached_where_all_tokens_are_equally_likely(xp, rng):
    wte = xp.asarray(np.tile(rng.standard_normal(5), (9, 1)))
    assert_close(probabilities(rng.standard_normal((3, 5)) @ host(append_pad(wte)).T)[:, -1],
                 np.full(3, 1 / 10))


def test_a_row_of_zeros_would_be_the_likeliest_token_of_a_model_whose_logits_are_far_below_0(rng):
    """As those of a trained GPT-2 are: a softmax does not tell where 0 is."""
    h = rng.standard_normal((4, 8)) + 3.0
    wte = rng.standard_normal((50, 8)) - 2.0
    zeros = probabilities(h @ np.concatenate([wte, np.zeros((1, 8))]).T)
    assert (zeros[:, -1] > 0.5).all()
    assert (probabilities(h @ append_pad(wte).T)[:, -1] <= 1 / 51).all()


@pytest.mark.parametrize("spread", [0.0, 0.5, 3.0])
def test_appending_a_pad_changes_no_other_logit_and_takes_at_most_its_share(spread, backend, rng):
    params, config = random_model(backend, spread=spread)
    longer = dict(params) | {"wte": {"weight": append_pad(params["wte"]["weight"])}}
    tokens = backend.asarray(rng.integers(0, 12, (3, 9)))
    before, after = (host(logits(p, config, tokens)) for p in (params, longer))
    assert_close(after[..., :-1], before, rtol=1e-12, atol=1e-12)
    p = probabilities(after)
    assert (p[..., -1] <= 1 / 13 + 1e-12).all()
    assert_close(p[..., :-1], probabilities(before) * (1 - p[..., -1:]), rtol=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_row_keeps_the_dtype_of_the_embedding(dtype, backend):
    wte = backend.asarray(np.arange(6, dtype=dtype).reshape(3, 2))
    assert_same(append_pad(wte), np.array([[0, 1], [2, 3], [4, 5], [2, 3]], dtype))


# --- the round trip ------------------------------------------------------------------------------

def test_what_was_saved_opens_again_as_the_same_base(folder, tmp_path):
    first = open_base(folder)
    save(tmp_path / "saved", first.params, first.model, first.tokenizer)
    again = open_base(tmp_path / "saved")
    assert_same(again.params.flat, first.params.flat)
    assert again.model == first.model and len(again.notes) == 1
    assert again.tokenizer.definition() == first.tokenizer.definition()
    loaded = load_tokenizer(tmp_path / "saved")
    assert type(loaded) is TranscriptTokenizer
    for text in [*TEXTS, "never seen Ω 🙂"]:
        assert loaded.prompt(text) == first.tokenizer.prompt(text)
        assert loaded.response(text) == first.tokenizer.response(text)


def test_the_saved_tokenizer_is_the_original_and_a_pad(tmp_path, definition):
    definition = definition | {
        "truncation": {"direction": "Right", "max_length": 3, "strategy": "LongestFirst",
                       "stride": 0},
        "padding": {"strategy": "BatchLongest", "direction": "Left", "pad_to_multiple_of": None,
                    "pad_id": 0, "pad_type_id": 0, "pad_token": EOS},
        "normalizer": {"type": "NFC"}}
    write_folder(tmp_path, definition)
    tokenizer = open_base(tmp_path).tokenizer
    saved, V = tokenizer.definition(), len(definition["model"]["vocab"])
    for part in ("normalizer", "pre_tokenizer", "post_processor", "decoder", "model", "version"):
        assert saved[part] == definition[part], part
    assert saved["added_tokens"][:-1] == definition["added_tokens"]
    assert (saved["added_tokens"][-1]["content"], saved["added_tokens"][-1]["id"]) == ("<pad>", V)
    assert saved["truncation"] is saved["padding"] is None   # it cut and filled the rows of others
    assert len(tokenizer.encode("the cat sat on the mat, a  b")) > 3
    tokenizer.save(tmp_path / "out")
    assert read_json(tmp_path / "out" / "tokenizer_config.json") == {
        "tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "eos_token": EOS,
        "padding_side": "right", "clean_up_tokenization_spaces": False}


# --- a conversation as text ----------------------------------------------------------------------

def test_a_prompt_and_a_response_are_the_ids_of_the_whole_transcript(folder):
    tokenizer, _ = open_tokenizer(folder)
    for prompt, reply in [("what color is the sky ?", "the sky is blue ."), ("größer", "☃ !"),
                          ("a\n\nAssistant: b\n\nHuman: c", ", no"), ("x", "1")]:
        whole = tokenizer.encode(f"\n\nHuman: {prompt}\n\nAssistant: {reply}")
        assert tokenizer.prompt(prompt) + tokenizer.response(reply, ended=False) == whole
        assert tokenizer.response(reply) == [*tokenizer.response(reply, ended=False), 0]


def test_the_space_before_a_reply_is_the_replys(folder):
    tokenizer, _ = open_tokenizer(folder)
    tokens = {i: token for token, i in tokenizer.bpe.get_vocab().items()}
    assert tokens[tokenizer.prompt("what ?")[-1]].endswith(":")
    first, *rest = tokenizer.response("the sky")
    assert tokens[first] == "Ġthe" and tokens[rest[0]].startswith("Ġ")
    assert tokenizer.response("") == [0] and tokenizer.response("", ended=False) == []


@given(text=st.text(max_size=20).map(str.strip))
def test_any_reply_comes_back_without_the_space_before_it(definition, text):
    """And no text holds the end or a pad."""
    tokenizer = TranscriptTokenizer(with_token(definition, "<pad>", len(
        definition["model"]["vocab"])), "<pad>", EOS)
    ids = tokenizer.response(text)
    assert tokenizer.decode(ids) == tokenizer.decode(ids[:-1]) == text
    assert not {tokenizer.pad_id, tokenizer.eos_id} & {*ids[:-1], *tokenizer.prompt(text)}


@pytest.mark.parametrize("special", [EOS, "<pad>"])
def test_a_special_token_in_a_text_is_text(special, folder):
    tokenizer, _ = open_tokenizer(folder)
    text = f"say {special} and {special}"
    assert not {tokenizer.pad_id, tokenizer.eos_id} & {*tokenizer.prompt(text),
                                                       *tokenizer.encode(text)}
    assert tokenizer.decode(tokenizer.response(text)) == text


def test_our_own_vocabularies_keep_their_tokens_for_turns(tmp_path):
    pairs_folder(tmp_path)
    assert type(load_tokenizer(tmp_path)) is BytePairTokenizer
    assert load_tokenizer(tmp_path).pad_id == PAD


# --- what is refused -----------------------------------------------------------------------------

def cut(name):
    def damage(folder):
        (folder / name).write_bytes((folder / name).read_bytes()[:-9])
    return damage


def remove(*names):
    return lambda folder: [(folder / name).unlink() for name in names]


def config(**changes):
    return lambda folder: change_json(folder / "config.json", **changes)


def replaced_by(name):
    def damage(folder):
        (folder / "model.safetensors").unlink()
        (folder / name).write_bytes(b"{}")
    return damage


def tensors(change):
    return lambda folder: change_tensors(folder, change)


def set_entry(value):
    def change(tensors):
        tensors["transformer.ln_f.bias"][2] = value
    return tensors(change)


def bfloat16(folder):
    header = json.dumps({"transformer.wte.weight": {
        "dtype": "BF16", "shape": [2, 2], "data_offsets": [0, 8]}}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))


def tokenizer(**changes):
    return lambda folder: change_json(folder / "tokenizer.json", **changes)


def model(**changes):
    def damage(folder):
        change_json(folder / "tokenizer.json", model=read_json(folder / "tokenizer.json")["model"]
                    | changes)
    return damage


def one_token_more(folder):
    saved = read_json(folder / "tokenizer.json")
    V = len(saved["model"]["vocab"])
    for i in range(2):
        saved = with_token(saved, f"<|{i}|>", V + i)
    write_json(folder / "tokenizer.json", saved)


def without_bytes(folder):
    saved = read_json(folder / "tokenizer.json")["model"]
    vocab = {token: i for token, i in saved["vocab"].items() if token not in ("Ã", "é")}
    model(vocab=vocab, merges=[])(folder)


def holes(folder):
    saved = read_json(folder / "tokenizer.json")["model"]
    model(vocab=saved["vocab"] | {"zzzz": len(saved["vocab"]) + 3})(folder)
    change_json(folder / "config.json", vocab_size=len(saved["vocab"]) + 9)


def pair_of_files(folder):
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text('{"a": 0}')
    (folder / "merges.txt").write_text("#version: 0.2\na b\na\n")


REFUSALS = {
    "no config.json": (remove("config.json"), "the folder has no config.json"),
    "config.json is no JSON": (cut("config.json"), "config.json: not JSON"),
    "another kind of model": (config(model_type="llama"), "model_type is 'llama'"),
    "another activation": (config(activation_function="relu"), "activation_function is 'relu'"),
    "another epsilon": (config(layer_norm_epsilon=1e-6), "layer_norm_epsilon is 1e-06"),
    "another width of the mlp": (config(n_inner=24), "n_inner is 24, but .* None or 32"),
    "logits without scale": (config(scale_attn_weights=False), "scale_attn_weights is False"),
    "a scale by layer": (config(scale_attn_by_inverse_layer_idx=True), "inverse_layer_idx is True"),
    "a head of its own": (config(tie_word_embeddings=False), "tie_word_embeddings is False"),
    "cross attention": (config(add_cross_attention=True), "add_cross_attention is True"),
    "quantized": (config(quantization_config={"bits": 8}), "quantization_config is {'bits': 8}"),
    "pruned": (config(pruned_heads={"0": [1]}), "pruned_heads is"),
    "no size": (config(n_layer=...), "n_layer is missing"),
    "no number": (config(n_head="2"), "n_head is '2', no whole number above 0"),
    "no heads": (config(n_head=0), "n_head is 0"),
    "heads that do not fit": (config(n_head=3), "multiple of heads"),
    "a pickle": (replaced_by("pytorch_model.bin"), "pytorch_model.bin; only whole safetensors "
                 "files are read.  To convert it: python -c .*save_pretrained"),
    "a sharded pickle": (replaced_by("pytorch_model.bin.index.json"), "bin.index.json; only whole"),
    "shards": (replaced_by("model.safetensors.index.json"), "safetensors.index.json; only whole"),
    "no weights": (remove("model.safetensors"), "the folder has no model.safetensors$"),
    "a truncated file": (cut("model.safetensors"), "model.safetensors: not a whole safetensors"),
    "bfloat16": (bfloat16, "wte.weight has the dtype BF16, which NumPy does not have; save the "
                 "model in float32"),
    "a missing tensor": (tensors(lambda t: {n: x for n, x in t.items() if "c_fc.b" not in n}),
                         r"h.0.mlp.c_fc.bias should have shape \(32,\), is missing"),
    "a foreign tensor": (tensors(lambda t: t | {"transformer.h.0.attn.rotary.weight": t.popitem()[
        1]}), "no tensor of a GPT-2 of 1 layers: h.0.attn.rotary.weight|is missing"),
    "more layers than it says": (tensors(lambda t: t | {
        n.replace("h.0.", "h.1."): x for n, x in t.items()}),
        r"no tensor of a GPT-2 of 1 layers: h.1.attn.c_attn.bias, .*, …"),
    "a tensor of another shape": (tensors(lambda t: t | {"transformer.wpe.weight": np.ones(
        (3, 8), "float32")}), r"wpe.weight should have shape \(64, 8\), has \(3, 8\)"),
    "not a number": (set_entry(np.nan), "ln_f.bias has entries that are not finite"),
    "infinity": (set_entry(-np.inf), "ln_f.bias has entries that are not finite"),
    "too large for float32": (tensors(lambda t: {n: x.astype("float64") * 1e300
                                                 for n, x in t.items()}), "not finite in float32"),
    "a reward model": (tensors(lambda t: t | {"score.weight": np.ones((1, 8), "float32")}),
                       "holds a reward model"),
    "no tokenizer": (remove("tokenizer.json"), "no tokenizer: wanted tokenizer.json, or vocab.json "
                     "with merges.txt"),
    "a tokenizer that is no JSON": (cut("tokenizer.json"), "tokenizer.json: not JSON"),
    "names that are none": (lambda folder: write_json(folder / "tokenizer_config.json", [1]),
                            r"tokenizer_config.json: wanted a JSON object, got \[1\]"),
    "no model in it": (tokenizer(model=...), "tokenizer.json: no byte-level BPE"),
    "pieces of sentences": (model(type="Unigram"), "the model's type is 'Unigram'"),
    "words of others": (model(type="WordLevel"), "a vocabulary of words, but of no run of ours"),
    "not byte-level": (tokenizer(pre_tokenizer={"type": "Whitespace"}), "BPE, but not byte-level"),
    "bytes that are lacking": (without_bytes, "its vocabulary lacks 2 of the 256 bytes"),
    "dropout": (model(dropout=0.1), "its dropout would give other ids at every call"),
    "merges of nothing": (model(merges=[["Q", "QQQ"]]), "cannot be used: not a tokenizer.json"),
    "holes": (holes, "a <pad> cannot be appended: the ids of the tokenizer have holes"),
    "bad merges": (pair_of_files, "merges.txt:3: wanted two tokens, got 'a'"),
    "more tokens than rows": (one_token_more, r"the tokenizer has \d+ tokens, but the model has "
                              r"embeddings for \d+ only"),
    "no end": (lambda folder: (write_json(folder / "tokenizer_config.json", {}),
                               change_json(folder / "config.json", eos_token_id=50256)),
               r"nothing ends a reply: .* eos_token_id \(50256\)"),
    "an end that is no token": (lambda folder: write_json(
        folder / "tokenizer_config.json", {"eos_token": "</s>"}), "'</s>' is not in the vocab"),
    "an end that is text": (lambda folder: write_json(
        folder / "tokenizer_config.json", {"eos_token": "Ġthe"}), "'Ġthe' is a piece of ordinary"),
}


@pytest.mark.parametrize("damage, told", REFUSALS.values(), ids=REFUSALS)
def test_a_folder_that_cannot_be_used_is_refused_in_one_line(damage, told, folder):
    open_base(folder)
    damage(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=told) as error:
        open_base(folder)
    assert "\n" not in str(error.value) and "gpt2" in str(error.value)


@pytest.mark.parametrize("name", ["gpt2", "openai-community/gpt2-medium"])
def test_a_name_of_the_hub_is_told_how_to_be_saved_and_nothing_is_downloaded(name, tmp_path,
                                                                             monkeypatch):
    monkeypatch.chdir(tmp_path)
    short = name.split("/")[-1]
    with pytest.raises(FileNotFoundError, match="nothing is downloaded; to save .* as a folder: "
                       rf"python -c .*from_pretrained\('{name}'\).save_pretrained\('{short}'\)"):
        base_config(name)


def test_a_path_that_is_not_there_or_no_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone: there is no such folder, and nothing is "
                                                "downloaded$"):
        base_config(tmp_path / "gone")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file: wanted a folder"):
        base_config(tmp_path / "file")


def test_settings_that_change_nothing_numerically_are_allowed(folder):
    change_json(folder / "config.json", reorder_and_upcast_attn=True, attn_pdrop=0.1, n_inner=32,
                embd_pdrop=0.1, resid_pdrop=0.1, use_cache=False, pruned_heads={},
                summary_type="mean", torch_dtype="float32", quantization_config=None)
    assert open_base(folder).model.channels == 8


def test_words_of_our_own_need_no_library(tmp_path, monkeypatch):
    words_folder(tmp_path)
    monkeypatch.setattr("minirlhf.text._tokenizers", lambda: 1 / 0)
    assert open_base(tmp_path).tokenizer.encode("what ?") == [4, 7]
