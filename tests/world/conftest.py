"""What the tests of the world share."""

import numpy as np
import pytest

from minirlhf.world.corpus import web_corpus


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def corpus():
    """A web large enough for every question and statement to occur."""
    return web_corpus(300_000, rng=np.random.default_rng(1))
