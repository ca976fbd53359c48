"""The presets agree with the vectors both ways, and say of every axis what they do or why not."""

import re
from dataclasses import replace

import pytest

from minirlhf.conformance.presets import PRESETS, known_in_part, preset
from minirlhf.conformance.variants import ANSWERS, answered
from minirlhf.conformance.vectors import functions, load, systems

WANTED = ("minirlhf", "trl-ppo", "openrlhf", "verl-2026-01", "verl-2026-08", "deepspeed-chat",
          "lm-human-preferences", "summarize-from-feedback-details", "trlx", "trl-grpo", "dr-grpo",
          "rloo-trl", "rloo-openrlhf", "torchtune")
every_preset = pytest.mark.parametrize("name", PRESETS)


def contradictions(presets=PRESETS):
    """(function, preset) where a group lists a system whose preset answers otherwise."""
    return {(file.function, system) for file in map(load, functions()) for group in file.groups
            for system in group.systems if system in presets
            and presets[system].parameters(file) != group.parameters}


def unlisted(presets=PRESETS):
    """(function, preset) where groups have a preset's answers and none lists it, or what it is
    built on."""
    found = set()
    for file in map(load, functions()):
        for one in presets.values() if file.axes else ():
            same = [group for group in file.groups if group.parameters == one.parameters(file)]
            named = {system for group in same for system in group.systems}
            nothing = file.function == "kl_estimate" and one.answer("kl.place") == "nowhere"
            if same and not nothing and not {one.name, one.built_on} & named:
                found.add((file.function, one.name))
    return found


def test_the_systems_that_were_asked_for_are_there():
    assert set(WANTED) <= set(PRESETS)
    assert all(name == one.name for name, one in PRESETS.items())


def test_a_preset_answers_as_every_group_that_lists_it():
    assert contradictions() == set()


def test_a_group_with_a_presets_answers_lists_it():
    assert unlisted() == set()


@pytest.mark.parametrize("name, axis, answer", [
    ("openrlhf", "whiten.eps", "in-root"), ("trl-ppo", "score.place", "last-real"),
    ("verl-2026-08", "return.mask", "reset"), ("lm-human-preferences", "kl.mask", "real"),
    ("trl-grpo", "grpo.eps", 1e-6), ("rloo-trl", "pg.level", "token")])
def test_a_wrong_answer_is_noticed(name, axis, answer):
    wrong = replace(PRESETS[name], answers={**PRESETS[name].answers, axis: answer})
    presets = PRESETS | {name: wrong}
    assert contradictions(presets) or unlisted(presets)


@every_preset
def test_every_answer_has_a_function(name):
    assert set(answered(PRESETS[name].answers)) == set(PRESETS[name].answers)


@every_preset
def test_an_axis_is_answered_or_the_preset_says_why_not(name):
    one = PRESETS[name]
    assert [axis for axis in ANSWERS
            if (axis in one.answers) == (one.why_not(axis) is not None)] == []
    assert all(key in ANSWERS or any(axis.startswith(key + ".") for axis in ANSWERS)
               for key in one.lacks)


@every_preset
def test_a_preset_says_what_it_was_read_from(name):
    one = PRESETS[name]
    assert name in systems() and len(one.note) > 20 and one.built_on in (None, *PRESETS)
    if name != "minirlhf":
        assert re.fullmatch(r"[0-9a-f]{7}|\d+\.\d+\.\d+", one.commit) and "/" in one.repository


def test_the_presets_can_be_told_apart():
    answers = [dict(one.answers) for one in PRESETS.values()]
    assert all(a != b for i, a in enumerate(answers) for b in answers[:i])


def test_our_own_preset_has_the_core_groups_answers():
    for file in map(load, functions()):
        group = PRESETS["minirlhf"].group(file)
        if file.axes and any(group.core for group in file.groups):
            assert group is not None and group.core, file.function


def test_a_system_that_lacks_an_axis_has_no_group_there():
    assert PRESETS["minirlhf"].group(load("kl_loss")).name == "k3"
    assert PRESETS["trl-ppo"].parameters(load("kl_loss")) is None
    assert PRESETS["trl-ppo"].group(load("kl_loss")) is None
    assert PRESETS["trl-ppo"].why_not("kl.weight") == "no KL in the loss"
    assert PRESETS["trl-ppo"].why_not("kl.est") is None


def test_an_unknown_preset_is_answered_with_the_known_ones():
    assert preset("trlx") is PRESETS["trlx"]
    with pytest.raises(ValueError, match="unknown preset 'trl'; there are minirlhf, trl-ppo, "):
        preset("trl")


def test_a_system_without_a_preset_is_known_by_the_groups_that_list_it():
    known = known_in_part()
    assert set(known) == set(systems()) - set(PRESETS) and "cleanrl" in known
    for file in map(load, functions()):
        for group in file.groups:
            for name in set(group.systems) & set(known):
                assert group.parameters.items() <= known[name].items(), (name, file.function)
    assert all(set(answered(answers)) == set(answers) for answers in known.values())


@pytest.mark.parametrize("name", known_in_part())
def test_a_system_that_is_known_in_part_is_refused_as_a_preset_with_the_reason(name):
    with pytest.raises(ValueError, match=f"{name} has test vectors, but no preset: known are only "
                                         "its answers to .*, too few to replay a batch") as told:
        preset(name)
    assert all(axis in str(told.value) for axis in known_in_part()[name])
