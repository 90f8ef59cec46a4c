"""A recurrent encoder-decoder has no counterpart at Hugging Face: ONNX Runtime alone runs its artifact's graphs."""

import os

import pytest

from tests.consumers.clients import ask, card_code
from tests.consumers.test_seq2seq import GREEDY, check_onnxruntime_in_node

pytestmark = pytest.mark.xdist_group("gru_seq2seq")


def test_onnxruntime_in_node_answers_by_one_call_and_by_a_loop(exported_gru_seq2seq):
    check_onnxruntime_in_node(exported_gru_seq2seq)


def test_the_loop_of_the_model_card_in_plain_python(exported_gru_seq2seq):
    limit = exported_gru_seq2seq.manifest["max_length"]
    texts = [text for text in exported_gru_seq2seq.texts if len(text) < limit]
    assert len(texts) == len(exported_gru_seq2seq.texts) - 1
    codes = [card_code(exported_gru_seq2seq, "tokenizers", text) for text in texts]
    printed = ask("card_client.py", {"artifact": os.fspath(exported_gru_seq2seq.directory), "codes": codes})
    assert printed == [f"{answer}\n" for answer in exported_gru_seq2seq.runtimes["keras"](texts, **GREEDY)]
