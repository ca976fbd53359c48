"""The index convention, padding that means the same on either side, and the words."""

import json

import numpy as np
import pytest
from gradcheck import check_gradient
from helpers import assert_close, assert_same, float_arrays, host
from hypothesis import given
from hypothesis import strategies as st
from models import logsumexp, on

from minirlhf.tokens import (
    BOT,
    EOS,
    PAD,
    SPECIAL_TOKENS,
    USER,
    Tokenizer,
    WordTokenizer,
    last_token,
    load_word_tokenizer,
    pad_left,
    pad_right,
    position_ids,
    strip,
    token_logprobs,
)

token_rows = st.lists(st.lists(st.integers(0, 9), max_size=6), min_size=1, max_size=5).filter(any)


@st.composite
def logits_and_tokens(draw):
    """logits (B, T, V) and ids (B, T), of any sizes from 1."""
    shape = draw(st.tuples(*[st.integers(1, 4)] * 3))
    logits = draw(float_arrays(shape, -5, 5))
    ids = draw(st.lists(st.integers(0, shape[2] - 1), min_size=shape[0] * shape[1],
                        max_size=shape[0] * shape[1]))
    return logits, np.array(ids).reshape(shape[:2])


def naive_logprobs(logits, tokens, temperature):
    """One token at a time: token t was chosen by the logits that stand one column before it."""
    B, T, _ = logits.shape
    out = np.empty((B, T - 1))
    for b in range(B):
        for t in range(1, T):
            z = logits[b, t - 1] / temperature
            out[b, t - 1] = z[tokens[b, t]] - logsumexp(z)
    return out


# --- the index convention ------------------------------------------------------------------------

def test_worked_numbers_of_two_tokens_after_a_first(backend):
    # column 0 says 3 : 1, column 1 says 1 : 1, column 2 would choose a token that is not there
    logits = np.log([[[3.0, 1.0], [1.0, 1.0], [9.0, 1.0]]])
    got = token_logprobs(*on(backend, logits, np.array([[1, 0, 1]])))
    assert_close(got, np.log([[3 / 4, 1 / 2]]))
    # at temperature ½ the odds 3 : 1 are squared
    got = token_logprobs(*on(backend, logits, np.array([[1, 0, 1]])), 0.5)
    assert_close(got, np.log([[9 / 10, 1 / 2]]))


@given(batch=logits_and_tokens(), temperature=st.sampled_from([0.5, 1.0, 1.5]))
def test_a_token_is_judged_by_the_logits_one_column_before_it(backend, batch, temperature):
    assert_close(token_logprobs(*on(backend, *batch), temperature),
                 naive_logprobs(*batch, temperature), atol=1e-12)


def test_the_first_token_and_the_last_logits_have_no_influence(backend, rng):
    logits, tokens = rng.standard_normal((2, 4, 5)), rng.integers(0, 5, (2, 4))
    before = host(token_logprobs(*on(backend, logits, tokens)))
    logits[:, -1], tokens[:, 0] = np.nan, 4 - tokens[:, 0]
    assert_same(token_logprobs(*on(backend, logits, tokens)), before)


def test_a_temperature_is_a_division_of_the_logits(backend, rng):
    logits, tokens = rng.standard_normal((2, 4, 5)), rng.integers(0, 5, (2, 4))
    assert_close(token_logprobs(*on(backend, logits, tokens), 0.7),
                 token_logprobs(*on(backend, logits / 0.7, tokens)))


def test_a_high_temperature_makes_all_tokens_equally_likely_and_a_low_one_the_best_certain(
        backend, rng):
    logits, tokens = rng.standard_normal((2, 4, 5)), rng.integers(0, 5, (2, 4))
    assert_close(token_logprobs(*on(backend, logits, tokens), 1e9), np.full((2, 3), -np.log(5)),
                 rtol=1e-8)
    tokens[:, 1:] = logits.argmax(axis=-1)[:, :-1]
    assert_close(token_logprobs(*on(backend, logits, tokens), 1e-3), np.zeros((2, 3)))


def test_one_token_a_row_has_no_logprobs(backend):
    got = token_logprobs(*on(backend, np.zeros((3, 1, 5)), np.zeros((3, 1), int)))
    assert got.shape == (3, 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_keep_the_dtype_of_the_logits(dtype, temperature, backend):
    got = token_logprobs(*on(backend, np.ones((1, 3, 4), dtype), np.zeros((1, 3), int)),
                         temperature)
    assert got.dtype == dtype


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_gradient_of_the_logprobs_is_the_measured_slope(temperature, backend, rng):
    (tokens,) = on(backend, np.array([[0, 2, 2], [4, 1, 0]]))
    check_gradient(lambda z: token_logprobs(z, tokens, temperature),
                   backend.asarray(rng.standard_normal((2, 3, 5))))


@pytest.mark.parametrize("logits, tokens", [
    ((2, 3, 5), (2, 4)), ((2, 3, 5), (3, 3)), ((2, 3, 5), (3,)), ((2, 3, 5), (2, 3, 1))])
def test_logits_and_tokens_that_disagree_are_refused_with_their_shapes(logits, tokens, backend):
    with pytest.raises(ValueError, match="disagree") as error:
        token_logprobs(*on(backend, np.zeros(logits), np.zeros(tokens, int)))
    assert str(logits) in str(error.value) and str(tokens) in str(error.value)


@pytest.mark.parametrize("shape", [(3, 5), (1, 2, 3, 5)])
def test_logits_without_three_axes_are_refused(shape, backend):
    with pytest.raises(ValueError, match=r"logits must have shape \(B, T, V\), got"):
        token_logprobs(*on(backend, np.zeros(shape), np.zeros(shape[:-1], int)))


@pytest.mark.parametrize("temperature", [0, 0.0, -1.0, float("nan")])
def test_a_temperature_that_is_not_positive_is_refused(temperature, backend):
    with pytest.raises(ValueError, match="temperature must be positive"):
        token_logprobs(*on(backend, np.zeros((1, 2, 3)), np.zeros((1, 2), int)), temperature)


# --- padding and masks ---------------------------------------------------------------------------

def test_worked_padding_of_two_rows():
    tokens, mask = pad_right([[5, 6, 7], [8]])
    assert_same(tokens, np.array([[5, 6, 7], [8, PAD, PAD]]))
    assert_same(mask, np.array([[True, True, True], [True, False, False]]))
    tokens, mask = pad_left([[5, 6, 7], [8]])
    assert_same(tokens, np.array([[5, 6, 7], [PAD, PAD, 8]]))
    assert_same(mask, np.array([[True, True, True], [False, False, True]]))


@given(rows=token_rows, pad=st.sampled_from([pad_left, pad_right]))
def test_stripping_the_padding_gives_the_rows_back(rows, pad):
    tokens, mask = pad(rows)
    assert tokens.shape == mask.shape == (len(rows), max(map(len, rows)))
    assert strip(tokens, mask) == rows                 # real pad ids are kept: the mask decides
    assert (tokens[~mask] == PAD).all()


@given(rows=token_rows)
def test_right_padding_ends_a_row_with_pads_and_left_padding_begins_it(rows):
    for pad, first_column in ((pad_right, lambda width, n: 0), (pad_left, lambda w, n: w - n)):
        mask = pad(rows)[1]
        for row, real in zip(rows, mask, strict=True):
            start = first_column(len(real), len(row))
            assert real[start:start + len(row)].all() and real.sum() == len(row)


def test_a_pad_has_the_id_that_is_given_and_a_model_without_one_any():
    for pad, wanted in ((pad_right, [8, 99]), (pad_left, [99, 8])):
        assert pad([[5, 6], [8]], 99)[0].tolist() == [[5, 6], wanted]
        assert_same(pad([[5, 6], [8]], None)[1], pad([[5, 6], [8]])[1])


def test_padding_takes_tuples_and_arrays_for_rows():
    for pad in (pad_left, pad_right):
        for kind in (tuple, np.array):
            assert_same(pad([kind([5, 6]), kind([7])])[0], pad([[5, 6], [7]])[0])


def test_worked_positions(backend):
    (mask,) = on(backend, np.array([[0, 0, 1, 1], [1, 1, 0, 0], [1, 0, 0, 1], [0, 0, 0, 0]], bool))
    assert_same(position_ids(mask), backend.asarray(
        np.array([[0, 0, 0, 1], [0, 1, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]])))


@given(rows=token_rows)
def test_positions_are_the_same_for_left_and_right_padding(backend, rows):
    wanted = [list(range(len(row))) for row in rows]
    for pad in (pad_left, pad_right):
        mask = pad(rows)[1]
        positions = host(position_ids(backend.asarray(mask)))
        assert strip(positions, mask) == wanted
        assert positions.min() >= 0 and positions.max() < mask.shape[1]   # a pad has one too


def test_worked_last_tokens(backend):
    (mask,) = on(backend, np.array([[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0], [0, 0, 0, 0],
                                    [1, 1, 1, 1]], bool))
    assert_same(last_token(mask), np.array([[0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0],
                                            [0, 0, 0, 0], [0, 0, 0, 1]], bool))


@given(seed=st.integers(0, 2**32 - 1))
def test_the_last_token_is_the_last_true_entry_and_an_empty_row_has_none(backend, seed):
    mask = np.random.default_rng(seed).random((6, 4)) < 0.4
    last = host(last_token(backend.asarray(mask)))
    for row, marked in zip(mask, last, strict=True):
        assert list(np.flatnonzero(marked)) == list(np.flatnonzero(row)[-1:])


# --- the vocabulary ------------------------------------------------------------------------------

WORDS = ["what", "color", "is", "the", "sky", "?", "blue", "."]


@pytest.fixture
def tokenizer():
    return WordTokenizer(WORDS)


def test_the_special_tokens_are_four_distinct_first_ids_with_pad_0_and_eos_1(tokenizer):
    assert (PAD, EOS, USER, BOT) == (0, 1, 2, 3)
    assert [tokenizer.ids[word] for word in ("<pad>", "<eos>", "<user>", "<bot>")] == [0, 1, 2, 3]
    assert tokenizer.words[:4] == list(SPECIAL_TOKENS)
    assert tokenizer.vocab_size == 4 + len(WORDS)


def test_worked_conversation(tokenizer):
    assert tokenizer.encode("the sky is blue .") == [7, 8, 6, 10, 11]
    assert tokenizer.prompt("what color ?") == [USER, 4, 5, 9, BOT]
    assert tokenizer.response("blue .") == [10, 11, EOS]
    assert tokenizer.response("blue", ended=False) == [10]
    assert tokenizer.response("") == [EOS] and tokenizer.response("", ended=False) == []
    assert tokenizer.decode([USER, 4, 5, 9, BOT, 10, 11, EOS, PAD]) == "what color ? blue ."


@given(words=st.lists(st.sampled_from(WORDS)))
def test_decoding_undoes_encoding(words):
    tokenizer, text = WordTokenizer(WORDS), " ".join(words)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text and len(ids) == len(words)
    assert tokenizer.decode(tokenizer.prompt(text) + tokenizer.response(text)) == (
        " ".join(words + words))


def test_any_space_separates_words(tokenizer):
    assert tokenizer.encode("  the\tsky\n\n is  blue ") == [7, 8, 6, 10]
    assert tokenizer.encode("") == tokenizer.encode(" \n") == []


@pytest.mark.parametrize("special", SPECIAL_TOKENS)
@pytest.mark.parametrize("text", ["{}", "the sky is {}", "{} the sky", "the {} sky {}"])
def test_a_special_token_in_a_text_is_an_unknown_word(text, special, tokenizer):
    """A text cannot end itself or speak for the other side: only `prompt` and `response` put the
    special tokens in."""
    for encode in (tokenizer.encode, tokenizer.prompt, tokenizer.response):
        with pytest.raises(ValueError, match=f"'{special}' is not in the vocabulary of 12 words"):
            encode(text.replace("{}", special))


def test_an_unknown_word_is_an_error_that_names_it_and_its_text(tokenizer):
    with pytest.raises(ValueError, match="'green' is not in the vocabulary of 12 words.*"
                                         "'the sky is green'"):
        tokenizer.encode("the sky is green")


@pytest.mark.parametrize("words", [["a", "b", "a"], ["a", "<eos>"]])
def test_words_that_are_not_distinct_are_refused(words):
    with pytest.raises(ValueError, match="distinct"):
        WordTokenizer(words)


def test_a_saved_tokenizer_loads_with_the_same_ids(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    loaded = load_word_tokenizer(tmp_path)
    assert loaded.words == tokenizer.words and loaded.ids == tokenizer.ids
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert (config["pad_token"], config["eos_token"]) == ("<pad>", "<eos>")
    assert config["padding_side"] == "right"


def test_the_order_of_the_words_in_a_saved_file_does_not_matter(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    path = tmp_path / "tokenizer.json"
    data = json.loads(path.read_text())
    data["model"]["vocab"] = dict(sorted(data["model"]["vocab"].items()))
    path.write_text(json.dumps(data))
    assert load_word_tokenizer(tmp_path).ids == tokenizer.ids


def test_a_tokenizer_of_another_kind_needs_only_its_own_three_methods(tmp_path):
    class Letters(Tokenizer):
        vocab_size = 30

        def encode(self, text):
            return [4 + ord(letter) - ord("a") for letter in text]

        def decode(self, ids):
            return "".join(chr(i - 4 + ord("a")) for i in ids if i > 3)

        def definition(self):
            return {"version": "1.0"}
    letters = Letters()
    assert letters.prompt("ab") == [USER, 4, 5, BOT] and letters.response("c") == [6, EOS]
    letters.save(tmp_path)
    assert json.loads((tmp_path / "tokenizer.json").read_text()) == {"version": "1.0"}
    letters.eos_id, letters.eos_token = 29, "<end>"
    letters.save(tmp_path)
    assert letters.response("c") == [6, 29] and letters.response("c", ended=False) == [6]
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["eos_token"] == "<end>"
