"""The C program that stands for TF Serving's loader."""

import shutil

import pytest

from tests.consumers import c_loader


@pytest.fixture(scope="session")
def serving_client(tmp_path_factory):
    """`serving_client.c`, compiled."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is missing; run tests/setup")
    return c_loader.build(tmp_path_factory.mktemp("serving_client"))
