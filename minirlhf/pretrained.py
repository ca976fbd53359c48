"""A base model of your own in place of a pretrained one: any GPT-2 folder in Hugging Face's layout.

    config.json, model.safetensors             the sizes and the weights
    tokenizer.json, or vocab.json + merges.txt its own tokenizer, byte-level BPE; also the
                                               tokenizers of our own runs
    tokenizer_config.json,
    special_tokens_map.json                    where they are there: the names of <pad> and <eos>

Nothing is downloaded, and no pickle is read.  What cannot be used is refused at once, with the
file, what stands in it and, if there is one, the way to mend it.

A model that was only pretrained has no pad token, or names its end-of-sequence token as one.  Here
the end of a reply is a token that is rewarded, and a pad is nothing, so they must be two: such a
folder gets a pad token of its own (`append_pad`), and that is all that is added to it.
"""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from minirlhf import transformer
from minirlhf.arrays import Array, array_module
from minirlhf.files import read_object
from minirlhf.parameters import Parameters, pack
from minirlhf.text import BytePairTokenizer, byte_alphabet, byte_pairs, read_lines
from minirlhf.tokens import SPECIAL_TOKENS, Tokenizer, load_word_tokenizer
from minirlhf.transformer import ModelConfig

ADDED = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": True}
SAVE = ("python -c \"from transformers import AutoModelForCausalLM as M, AutoTokenizer as T; "
        "[k.from_pretrained('{0}').save_pretrained('{1}') for k in (M, T)]\"")
CONVERT = ("python -c \"from transformers import AutoModelForCausalLM as M; M.from_pretrained("
           "'{0}').float().save_pretrained('{0}', max_shard_size='100GB')\"")


class Base(NamedTuple):
    """A base model, ready to be fine-tuned; `notes` say what was done to it, a line each."""

    params: Parameters
    model: ModelConfig
    tokenizer: Tokenizer
    notes: list[str]


def open_base(folder: Path, backend: str = "numpy") -> Base:
    """Read a base model and its tokenizer, with a pad token appended if there is none.

    Rows of the embedding that no token has (some models are saved with a few more, to make the
    number a round one) are left out: sampled, they would be no text.

    Raises FileNotFoundError or ValueError for a folder that cannot be used.
    """
    tokenizer, new_pad = open_tokenizer(folder)
    params, model = transformer.load(folder, backend=backend)
    if "score" in params:
        raise ValueError(f"{folder} holds a reward model (it has score.weight), no language model")
    known = tokenizer.vocab_size - new_pad
    unused = model.vocab_size - known
    notes = [f"base: {folder}: {model.layers} blocks of width {model.channels}, {known} tokens"]
    if unused or new_pad:
        wte = params["wte"]["weight"][:known]
        params = pack(params | {"wte": {"weight": append_pad(wte) if new_pad else wte}})
    if unused:
        notes.append(f"base: {unused} rows of the embedding that no token has are left out")
    if new_pad:
        notes.append(f"base: a token {tokenizer.pad_token} is appended; its embedding is the mean "
                     "of the others")
    model = replace(model, vocab_size=tokenizer.vocab_size, pad_id=tokenizer.pad_id,
                    eos_id=tokenizer.eos_id)
    return Base(params, model, tokenizer, notes)


def append_pad(wte: Array) -> Array:
    """One row more, for <pad>: the mean of the others.  (V, C) -> (V+1, C)

    The head is tied, so a row e gives its token the logit h·e in every state h.  The logits of a
    trained GPT-2 all lie far below 0 (a softmax does not mind), so that a row of zeros, with the
    logit 0, would make <pad> by far the likeliest token.  The mean row has the mean z̄ of the
    others' logits z₁ … z_V instead, and as exp is convex (Jensen's inequality)

        exp z̄ ≤ S/V,   S = Σ exp zᵢ
        P(<pad>) = exp z̄ / (S + exp z̄) ≤ (S/V) / (S + S/V) = 1/(V+1)

    in every state: less than a token drawn by lot.  No other logit changes, and every other
    probability keeps its share 1 − P(<pad>) ≥ V/(V+1).
    """
    mean = wte.mean(axis=0, keepdims=True, dtype="float64").astype(wte.dtype)
    return array_module(wte).concatenate([wte, mean])


# --- the folder ----------------------------------------------------------------------------------

def base_config(folder: Path) -> ModelConfig:
    """The sizes of a base model, and its ids as its config.json gives them.

    Raises FileNotFoundError or ValueError for what cannot be a base model, as far as the names of
    its files and its config.json tell.
    """
    name, folder = str(folder), Path(folder)
    if not folder.is_dir():
        if folder.exists():
            raise ValueError(f"--base {name}: wanted a folder, as save_pretrained writes it")
        hub = re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?", name)
        raise FileNotFoundError(
            f"--base {name}: there is no such folder, and nothing is downloaded" + (
                f"; to save a model of the Hub as a folder: "
                f"{SAVE.format(name, name.split('/')[-1])}" if hub else ""))
    if not (folder / "config.json").exists():
        raise FileNotFoundError(f"--base {name}: the folder has no config.json; wanted one as "
                                "save_pretrained writes it")
    if (folder / "base" / "config.json").exists():
        raise ValueError(f"--base {name}: that is a run; its base model is {folder / 'base'}")
    config = transformer.read_config(folder)
    if not (folder / "model.safetensors").exists():
        has = [file for file in ("model.safetensors.index.json", "pytorch_model.bin",
                                 "pytorch_model.bin.index.json") if (folder / file).exists()]
        raise FileNotFoundError(
            f"--base {name}: the folder has no model.safetensors" + (
                f" but {has[0]}; only whole safetensors files are read.  To convert it: "
                f"{CONVERT.format(name)}" if has else ""))
    return config


# --- its tokenizer -------------------------------------------------------------------------------

def open_tokenizer(folder: Path) -> tuple[Tokenizer, bool]:
    """The tokenizer of a base model, and whether the embedding has no row for its <pad> yet.

    Raises FileNotFoundError or ValueError for a tokenizer that cannot be used with this model.
    """
    folder, rows = Path(folder), base_config(folder).vocab_size
    definition = read_definition(folder)
    ids = vocabulary(folder, definition)
    known = max(ids.values()) + 1
    if definition["model"]["type"] == "WordLevel":
        tokenizer: Tokenizer = load_word_tokenizer(folder)
    else:
        eos, pad = end_and_pad(folder, definition, ids)
        for token in (eos, pad):
            definition = with_special(definition, token, ids.get(token, known))
        # rows are cut and filled here, and by nobody else
        tokenizer = byte_pairs(definition | {"truncation": None, "padding": None}, pad, eos)
        if tokenizer.pad_id != ids.get(pad, known):
            raise ValueError(f"{folder}: a {pad} cannot be appended: the ids of the tokenizer have "
                             "holes")
    new_pad = tokenizer.pad_id >= min(known, rows)
    if tokenizer.vocab_size - new_pad > rows:
        raise ValueError(f"{folder}: the tokenizer has {known} tokens, but the model has "
                         f"embeddings for {rows} only (vocab_size); was it saved with another?")
    return tokenizer, new_pad


def read_definition(folder: Path) -> dict:
    """The content of tokenizer.json, or what vocab.json and merges.txt would be as one.

    Raises FileNotFoundError if there are neither, ValueError for what is no BPE.
    """
    path, pair = folder / "tokenizer.json", (folder / "vocab.json", folder / "merges.txt")
    if path.exists():
        definition = read_object(path)
    elif all(file.exists() for file in pair):
        path, definition = pair[0], definition_of_pair(*pair)
    else:
        raise FileNotFoundError(f"{folder}: no tokenizer: wanted tokenizer.json, or vocab.json "
                                "with merges.txt")
    model = definition.get("model")
    kind = model.get("type", "BPE") if isinstance(model, dict) else None
    ids = model.get("vocab") if kind in ("BPE", "WordLevel") else None
    if not isinstance(ids, dict) or not all(type(i) is int for i in ids.values()):
        raise ValueError(f"{path}: no byte-level BPE (the model's type is {kind!r})")
    return {"added_tokens": []} | definition | {"model": {"type": kind} | model}


def definition_of_pair(vocab: Path, merges: Path) -> dict:
    """The tokenizer.json of a vocab.json and a merges.txt, the files that GPT-2 came with.

    Beside them may lie added_tokens.json, more tokens with their ids.
    """
    pieces = []
    for number, line in enumerate(read_lines(merges), 1):
        line = line.rstrip("\r")
        if line and not line.startswith("#version"):
            pieces.append(line.split(" "))
            if len(pieces[-1]) != 2:
                raise ValueError(f"{merges}:{number}: wanted two tokens, got {line!r:.80}")
    more = vocab.with_name("added_tokens.json")
    added = read_object(more) if more.exists() else {}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                  "use_regex": True}
    return {"version": "1.0", "truncation": None, "padding": None, "normalizer": None,
            "added_tokens": [{"id": i, "content": token} | ADDED for token, i in added.items()],
            "pre_tokenizer": byte_level, "post_processor": None, "decoder": byte_level,
            "model": {"type": "BPE", "vocab": read_object(vocab), "merges": pieces}}


def vocabulary(folder: Path, definition: dict) -> dict[str, int]:
    """The ids of all tokens.  Raises ValueError unless this is a kind of vocabulary we can use."""
    model, problem = definition["model"], None
    ids = model["vocab"]
    if model["type"] == "WordLevel":
        if sorted(ids, key=ids.get)[:4] != list(SPECIAL_TOKENS):
            problem = "a vocabulary of words, but of no run of ours"
    elif "ByteLevel" not in json.dumps([definition.get(part) for part in (
            "normalizer", "pre_tokenizer")]):
        problem = "BPE, but not byte-level"
    elif lacking := byte_alphabet() - set(model["vocab"]):
        problem = f"its vocabulary lacks {len(lacking)} of the 256 bytes, so text could be lost"
    elif model.get("dropout"):
        problem = "its dropout would give other ids at every call; set it to null"
    else:
        try:
            ids = BytePairTokenizer(definition).bpe.get_vocab()          # with the added ones
        except ValueError as damage:
            problem = str(damage)
    if problem:
        raise ValueError(f"{folder}: this tokenizer cannot be used: {problem}")
    return ids


def end_and_pad(folder: Path, definition: dict, ids: dict[str, int]) -> tuple[str, str]:
    """The tokens that end a reply and that fill a row; the latter may be one to append.

    Those count that the tokenizer's files name, else those whose ids stand in config.json.
    Neither can be a piece of ordinary text, since no text may end itself or be taken for filling;
    and a <pad> that is also the end is none.  Raises ValueError if nothing ends a reply.
    """
    config, of_id = base_config(folder), {str(i): token for token, i in ids.items()}
    names = {"eos_token": of_id.get(str(config.eos_id)),
             "pad_token": of_id.get(str(config.pad_id))} | token_names(folder)
    eos = names["eos_token"]
    if eos is None:
        raise ValueError(f"{folder}: nothing ends a reply: neither do the tokenizer's files name "
                         f"an eos_token, nor is config.json's eos_token_id ({config.eos_id}) a "
                         "token")
    if eos not in ids or is_text(definition, eos):
        raise ValueError(f"{folder}: the eos_token {eos!r} is " + (
            "a piece of ordinary text, so a text could end itself" if eos in ids else
            "not in the vocabulary"))
    return eos, next(token for token in (names["pad_token"], "<pad>", "<|pad|>")
                     if token not in (None, eos) and not is_text(definition, token))


def token_names(folder: Path) -> dict[str, str]:
    """The "eos_token" and "pad_token" that the tokenizer's files name, as far as they do."""
    names = {}
    for file in ("special_tokens_map.json", "tokenizer_config.json"):
        saved = read_object(folder / file) if (folder / file).exists() else {}
        for key in ("eos_token", "pad_token"):
            token = saved.get(key)
            token = token.get("content") if isinstance(token, dict) else token
            names |= {key: token} if isinstance(token, str) else {}
    return names


def is_text(definition: dict, token: str) -> bool:
    """Whether ordinary text may hold this token: a byte is one, and so is what is merged."""
    merged = ("".join(m) if isinstance(m, list) else m.replace(" ", "")
              for m in definition["model"].get("merges", ()))
    return len(token) == 1 or token in merged


def with_special(definition: dict, token: str, i: int) -> dict:
    """A tokenizer.json in which a token is special: never found in a text, left out of a reply."""
    added = {one["content"]: one for one in definition["added_tokens"]}
    added[token] = {"id": i, "content": token} | ADDED | added.get(token, {}) | {"special": True}
    return definition | {"added_tokens": sorted(added.values(), key=lambda one: one["id"])}
