"""The page of a recurrent encoder-decoder in headless Chromium: the answers of Keras and of ONNX Runtime in Python."""

import pytest

from tests.demo.test_browser import READY, check_answers, open_page, requested

pytestmark = pytest.mark.xdist_group("gru_seq2seq")


def test_answers_and_probabilities_equal_keras_and_onnx(browser, serve, exported_gru_seq2seq):
    server = open_page(browser, serve, exported_gru_seq2seq.directory)
    assert browser.run(f"return {READY}"), browser.text("#error")
    check_answers(browser, exported_gru_seq2seq)
    assert requested(browser) == {server.url}
    assert [entry["message"] for entry in browser.log("browser")] == []
