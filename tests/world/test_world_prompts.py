"""What is held out, and by what."""

from collections import Counter, defaultdict

import numpy as np
import pytest

from minirlhf.world.grammar import KINDS, TABLES, questions
from minirlhf.world.prompts import DRAW_WEIGHTS, SPLITS, draw, draw_probabilities, find, prompts

ALL = [prompt for split in SPLITS for prompt in prompts(split)]


def by_key(*kinds):
    groups = defaultdict(list)
    for prompt in ALL:
        if prompt.kind in kinds:
            groups[prompt.key].append(prompt.split)
    return groups


def test_no_text_is_in_two_splits():
    assert len({prompt.text for prompt in ALL}) == len(ALL) == 700


def test_the_splits_have_the_promised_sizes():
    assert [len(prompts(split)) for split in SPLITS] == [482, 75, 143]
    test = Counter(prompt.kind for prompt in prompts("test"))
    assert test == dict(color=15, live=14, eat=14, make=12, scary=32, harm=48, unknown=8)


def test_at_least_thirty_scary_prompts_are_held_out_for_the_test():
    assert sum(prompt.kind == "scary" for prompt in prompts("test")) >= 30


def test_harm_scary_and_unknown_are_never_held_out_only_by_paraphrase():
    for key, splits in by_key("harm", "scary", "unknown").items():
        assert len(splits) == 4 and len(set(splits)) == 1, key


@pytest.mark.parametrize(
    "kind, sizes", [("scary", (38, 4, 8)), ("harm", (42, 6, 12)), ("unknown", (6, 2, 2))]
)
def test_pairs_and_items_divide_as_promised(kind, sizes):
    counts = Counter(splits[0] for splits in by_key(kind).values())
    assert tuple(counts[split] for split in SPLITS) == sizes


def test_every_scary_verb_keeps_a_pair_in_training():
    held_out = Counter(k[1] for k, splits in by_key("scary").items() if splits[0] != "train")
    assert max(held_out.values()) <= 2


def test_every_harm_verb_and_every_person_is_in_training():
    trained = [key for key, splits in by_key("harm").items() if splits[0] == "train"]
    assert len({key[1] for key in trained}) == 10 and len({key[2] for key in trained}) == 6


def test_every_entity_has_one_test_cell_and_every_second_one_a_validation_cell():
    cells = by_key(*TABLES)
    assert len(cells) == 55
    for i, splits in enumerate(cells.values()):
        assert splits.count("test") == 1
        assert splits.count("validation") == i % 2


def test_each_wording_is_held_out_about_equally_often():
    for split, expected in (("test", 55 / 4), ("validation", 27 / 4)):
        positions = Counter(
            questions(q.key).index(q.text) for q in prompts(split) if q.kind in TABLES
        )
        assert all(abs(n - expected) <= 4 for n in positions.values()), positions


def test_a_prompt_is_found_by_its_text():
    assert all(find(prompt.text) is prompt for prompt in ALL)
    with pytest.raises(KeyError, match="no prompt of this world reads 'what is love"):
        find("what is love ?")


def test_draws_follow_the_weights(rng):
    n = 20_000
    counts = Counter(prompt.kind for prompt in draw("test", n, rng=rng))
    for kind in KINDS:
        p = DRAW_WEIGHTS[kind]
        assert abs(counts[kind] - n * p) < 5 * np.sqrt(n * p * (1 - p))
    assert sum(DRAW_WEIGHTS.values()) == pytest.approx(1)
    assert draw_probabilities("test").sum() == pytest.approx(1)


def test_draws_stay_in_their_split_and_repeat_with_their_seed():
    a, b = (draw("validation", 50, rng=np.random.default_rng(3)) for _ in range(2))
    assert a == b and {prompt.split for prompt in a} == {"validation"}
    assert draw("train", 0, rng=np.random.default_rng(0)) == []


def test_a_wrong_split_or_count_is_a_value_error(rng):
    with pytest.raises(ValueError, match="split must be one of .* not 'dev'"):
        prompts("dev")
    with pytest.raises(ValueError, match="n must be at least 0, not -1"):
        draw("train", -1, rng=rng)
