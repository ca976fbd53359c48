"""What all comparisons with other implementations share.  Without these each file skips itself."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch, transformers = map(pytest.importorskip, ("torch", "transformers"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    yield
    torch.set_num_threads(threads)
