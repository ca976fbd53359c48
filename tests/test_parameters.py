"""Named arrays that are views of one flat buffer."""

import pickle
from copy import deepcopy

import numpy as np
import pytest
from helpers import assert_same, host

from minirlhf import parameters
from minirlhf.optimizer import adamw_state, adamw_step
from minirlhf.parameters import Parameters, buffers, count, leaves, pack, tree_map, zeros_like

NAMES = ["wte.weight", "h.0.ln.weight", "h.0.ln.bias", "h.1.ln.weight", "h.1.ln.bias", "scale"]


@pytest.fixture
def tree(backend, rng):
    def array(*shape):
        return backend.asarray(rng.standard_normal(shape))

    def layer():
        return {"ln": {"weight": array(3), "bias": array(3)}}
    return {"wte": {"weight": array(4, 3)}, "h": [layer(), layer()], "scale": array()}


def values(tree):
    return {name: host(leaf).copy() for name, leaf in leaves(tree)}


def assert_same_values(tree, wanted):
    for name, leaf in leaves(tree):
        assert_same(leaf, wanted[name])


def test_leaves_have_the_dotted_names_of_a_checkpoint_in_the_order_of_the_tree(tree):
    assert [name for name, _ in leaves(tree)] == NAMES
    assert [name for name, _ in leaves(pack(tree))] == NAMES


def test_a_bare_leaf_has_the_empty_name():
    assert list(leaves(3)) == [("", 3)]


def test_packing_keeps_every_value_shape_and_dtype(tree):
    before = values(tree)
    assert_same_values(pack(tree), before)


def test_the_flat_buffer_holds_the_leaves_one_after_the_other(tree):
    params = pack(tree)
    assert_same(params.flat, np.concatenate([x.ravel() for x in values(tree).values()]))


def test_writing_to_the_flat_buffer_writes_to_every_leaf(tree):
    params = pack(tree)
    before = values(params)
    params.flat += 1
    assert_same_values(params, {name: x + 1 for name, x in before.items()})


def test_writing_to_a_leaf_writes_to_its_own_place_in_the_flat_buffer_and_nowhere_else(tree):
    params = pack(tree)
    params.flat[...] = 0
    for number, (_, leaf) in enumerate(leaves(params), start=1):
        leaf[...] = number
    sizes = [leaf.size for _, leaf in leaves(params)]
    assert_same(params.flat, np.repeat(np.arange(1.0, 7.0), sizes))


def test_packing_copies_so_that_the_tree_it_was_made_from_stays_as_it_was(tree):
    before = values(tree)
    params = pack(tree)
    params.flat[...] = 7
    assert_same_values(tree, before)


def test_packing_a_tree_of_one_array_copies_it_too(backend):
    x = backend.asarray(np.ones(3))
    pack({"x": x}).flat[...] = 7
    assert_same(x, np.ones(3))


def test_a_copy_equals_its_original_and_is_independent_of_it(tree):
    params = pack(tree)
    before = values(params)
    frozen = parameters.copy(params)
    assert isinstance(frozen, Parameters)
    params.flat[...] = 7
    assert_same_values(frozen, before)
    frozen.flat[...] = 8
    assert (host(params.flat) == 7).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_is_kept(dtype, backend):
    params = pack({name: backend.asarray(np.ones(2, dtype)) for name in "xy"})
    assert params.flat.dtype == dtype and zeros_like(params).flat.dtype == dtype


def test_leaves_of_different_dtypes_are_refused(backend):
    with pytest.raises(ValueError, match="one dtype, got float32, float64"):
        pack({"x": backend.asarray(np.ones(2, np.float32)), "y": backend.asarray(np.ones(2))})


def test_a_tree_without_leaves_is_refused():
    with pytest.raises(ValueError, match="got none"):
        pack({"h": []})


def test_zeros_like_has_the_shapes_of_the_tree_and_a_buffer_where_the_tree_has_one(tree):
    zeros = zeros_like(tree)
    assert not isinstance(zeros, Parameters)
    assert_same_values(zeros, {name: 0 * x for name, x in values(tree).items()})

    params = pack(tree)
    packed_zeros = zeros_like(params)
    assert isinstance(packed_zeros, Parameters)
    packed_zeros.flat += 1
    assert_same_values(packed_zeros, {name: 0 * x + 1 for name, x in values(tree).items()})
    assert_same_values(params, values(tree))


def test_tree_map_meets_equal_names_of_several_trees_whatever_their_order():
    a, b = {"x": 1, "h": [2, 3]}, {"h": [20, 30], "x": 10}
    assert tree_map(lambda p, q: p + q, a, b) == {"x": 11, "h": [22, 33]}


def test_buffers_of_parameters_are_the_flat_ones_and_of_other_trees_the_leaves(tree):
    params, other = pack(tree), pack(tree)
    ((first, second),) = buffers(params, other)
    assert first is params.flat and second is other.flat

    pairs = list(buffers(params, tree))
    assert len(pairs) == len(NAMES)
    for (p, q), (_, leaf), (_, plain) in zip(pairs, leaves(params), leaves(tree), strict=True):
        assert p is leaf and q is plain


def test_the_layout_tells_the_name_and_shape_of_every_leaf_in_the_order_of_the_buffer(tree):
    shapes = [(4, 3), (3,), (3,), (3,), (3,), ()]
    assert pack(tree).layout == zeros_like(pack(tree)).layout == tuple(
        zip(NAMES, shapes, strict=True))


@pytest.mark.parametrize("other", [
    {"a": (3, 2), "b": (4,)}, {"a": (6,), "b": (4,)}, {"a": (2, 3), "c": (4,)},
    {"b": (4,), "a": (2, 3)}, {"a": (2, 2), "b": (6,)}],
    ids=["transposed", "flattened", "another name", "another order", "another cut"])
def test_packed_trees_of_one_total_size_but_another_layout_are_refused(other, backend):
    """Their flat buffers have one length, so only the layout tells that they do not match."""
    params, gradients = (pack({name: backend.asarray(np.ones(shape)) for name, shape in t.items()})
                         for t in ({"a": (2, 3), "b": (4,)}, other))
    assert params.flat.shape == gradients.flat.shape
    with pytest.raises(ValueError, match="other names, shapes or order"):
        list(buffers(params, gradients))
    state = adamw_state(params)
    with pytest.raises(ValueError, match="other names, shapes or order"):
        adamw_step(params, gradients, state, 0.1)
    assert_same(params.flat, np.ones(10))
    assert state["step"] == 0


@pytest.mark.parametrize("duplicate", [
    parameters.copy, deepcopy, lambda params: deepcopy([params])[0],
    lambda params: pickle.loads(pickle.dumps(params))],
    ids=["copy", "deepcopy", "deepcopy within a list", "pickle"])
def test_a_duplicate_is_packed_and_independent_and_still_trains(duplicate, tree):
    """An optimizer writes to the flat buffer: the leaves of the duplicate must show it."""
    params = pack(tree)
    before = values(params)
    twin = duplicate(params)
    assert type(twin) is Parameters and twin.layout == params.layout
    assert_same_values(twin, before)
    gradients = zeros_like(twin)
    gradients.flat += 1
    adamw_step(twin, gradients, adamw_state(twin), 0.1, weight_decay=0.0)
    for name, leaf in leaves(twin):
        assert abs(host(leaf) - before[name] + 0.1).max() < 1e-6, f"{name} did not move"
    assert_same_values(params, before)


def test_buffers_of_trees_with_different_numbers_of_leaves_are_refused(tree):
    with pytest.raises(ValueError):
        list(buffers(tree, {"wte": tree["wte"]}))


def test_an_update_of_buffers_in_place_updates_the_tree(tree):
    for make in (pack, lambda t: t):
        params = make(tree)
        before = values(params)
        for p, step in buffers(params, zeros_like(params)):
            p += 1 + step
        assert_same_values(params, {name: x + 1 for name, x in before.items()})


def test_count_is_the_number_of_numbers(tree):
    assert count(tree) == count(pack(tree)) == 4 * 3 + 4 * 3 + 1 == pack(tree).flat.size
