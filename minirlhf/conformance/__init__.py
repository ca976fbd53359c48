"""The ruler: check any RLHF implementation against numbers that this package did not compute.

Loss code that is wrong still runs, and often still learns a little.  People find the error by
comparing intermediate numbers with another system's, by hand, and then cannot tell whether a
difference is a bug or a convention: real systems disagree on where the score is added, what is
masked, which deviation whitens, how token losses become one.

`vectors/v1/` holds one JSON file a function, for any language:

    file    the function: its equation and source, its arguments, its convention axes
    group   one answer to every axis ("the first pad is counted", "divided by n − 1"); one group
            is this package's own, others are those of real systems, and some depart on a single
            axis, so that each can be told by itself.  It holds the tests that tell it from the
            first group, and names those that it `shares` with that one
    test    a law in one sentence, inputs, expected values and gradients, a tolerance with its
            reason, and what known mistakes yield instead

So an implementation that follows no group is wrong, or of a convention that is not known yet; one
that follows another group has another convention, and one that matches a mistake is told its name.
To follow a group is to pass its own tests and those that it shares.  Its own alone are too few:
"a reply alone in its group has no advantage" is one test, and a function that returns 0 passes it.
Even both together are only what the tests ask: the first group's tests that come out otherwise
under the group's answers, and are not among its own, have no expected numbers there.

`notes.json` says what each mistake does, what it costs and who was bitten; `systems.json` which
code was read to say what a system does.  The meaning of every field stands in
`vectors/v1/schema.json`.

How to check code of your own, in any language:

1. Read a file, and from it the groups whose `systems` or `parameters` are yours: their tests, and
   those of the first group whose ids stand in their `shares`.
2. Call your function with each test's `inputs`; leave out tests that give an optional argument you
   do not have; one that a test leaves out has its `default`.  An argument with an `axis` is given
   by no test: it takes the group's answer.
3. Compare as the test's `tolerance` says, nothing where null is expected, NaN as equal to NaN
   alone and an infinity to itself.  The gradients are those of Σ cotangent·result.

What holds for all of them: masks are True where a token counts; masked slots of inputs hold NaN,
10³⁰ or plausible numbers, and are not to be read unless the group counts pads; no gradient is given
on a corner of a function nor of an infinite log-probability, where frameworks choose freely; what
stands in a masked slot of a result is not compared, while gradients there must be 0.

Who computed the expected numbers: `scripts/vectors/`, with 50 digits and without any of the
package's mathematics; its gradients are differences of its own formulas.  So the package is on
trial like everyone else.  `python scripts/make_vectors.py --check` repeats it byte for byte.
A released test keeps its id, inputs and expected results: `tests/conformance/released.txt`.

`vectors.py` reads the files into dataclasses.
"""
