"""GPT-2 folders that no run of ours made: byte-level BPE as GPT-2's, one special token, no pad."""

import json
from dataclasses import replace

import numpy as np
import pytest
from models import random_model

from minirlhf.files import read_json, read_tensors, write_json, write_tensors
from minirlhf.transformer import save

EOS = "<|endoftext|>"
TEXTS = ["\n\nHuman: what color is the sky ?\n\nAssistant: the sky is blue .",
         "no , i do not know !", "größer als ☃, naïve\ncafé", "the cat sat on the mat, a  b"]


def library():
    return pytest.importorskip("tokenizers", reason="byte pairs want the extra: text")


def byte_level(texts=TEXTS, vocab_size=300, special=(EOS,)) -> dict:
    """The tokenizer.json of a vocabulary learned as GPT-2's was."""
    tokenizers = library()
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = tokenizers.processors.ByteLevel(trim_offsets=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.train_from_iterator(texts, tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=list(special), show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet()))
    return json.loads(tokenizer.to_str())


def write_folder(folder, definition, *, names=None, rows=None, prefix="transformer.", **model):
    """Save a random model with a tokenizer in Hugging Face's layout; returns its parameters.

    names: the content of tokenizer_config.json.  rows: of the embedding (one a token).
    """
    ids = definition["model"]["vocab"]
    eos = ids.get(EOS)
    sizes = {"channels": 8, "heads": 2, "layers": 1, "context": 64, "dtype": "float32"} | model
    params, config = random_model(vocab=rows or len(ids), **sizes)
    save(folder, params, replace(config, pad_id=None, eos_id=eos))
    write_json(folder / "tokenizer.json", definition)
    write_json(folder / "tokenizer_config.json", {"eos_token": EOS} if names is None else names)
    change_tensors(folder, lambda tensors: {
        prefix + name.removeprefix("transformer."): t for name, t in tensors.items()})
    return params


def change_tensors(folder, change):
    path = folder / "model.safetensors"
    tensors = {name: np.array(t) for name, t in read_tensors(path).items()}
    write_tensors(path, change(tensors) or tensors)


def change_json(path, **changes):
    """Set entries of a JSON object in a file; a value that is ... deletes its entry."""
    saved = (read_json(path) if path.exists() else {}) | changes
    write_json(path, {key: value for key, value in saved.items() if value is not ...})
