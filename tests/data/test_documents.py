"""Documents as token ids: in order, an end token behind each, in chunks that change nothing."""

import numpy as np
import pytest
from absl import logging

from tfzoo import text
from tfzoo.data import documents
from tfzoo.data.documents import tokenize_documents
from tfzoo.errors import UsageError


@pytest.fixture(scope="module")
def tokenizer():
    return text.SymbolTokenizer("abcdef", " ")


@pytest.fixture
def spec(tmp_path):
    """Five documents."""
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"text": "a b"}\n{"text": "c"}\n{"text": "d\\n\\ne a"}\n{"text": "f f"}\n{"text": "b a"}\n', encoding="utf-8"
    )
    return f"jsonl:{path}"


def test_an_end_token_stands_behind_each_document(spec, tokenizer):
    corpus = tokenize_documents(spec, tokenizer)
    assert corpus.token_ids.numpy().tolist() == [4, 5, 3, 6, 3, 7, 8, 4, 3, 9, 9, 3, 5, 4, 3]
    assert corpus.token_ids.numpy().dtype == np.int32
    assert corpus.starts.numpy().tolist() == [0, 3, 5, 9, 12]
    assert corpus.lengths.numpy().tolist() == [3, 2, 4, 3, 3]
    assert corpus.num_tokens == 15


@pytest.mark.parametrize(("num_documents", "num_characters"), [(2, 1000), (1000, 4), (1, 1)])
def test_chunks_change_nothing(spec, tokenizer, monkeypatch, num_documents, num_characters):
    whole = tokenize_documents([spec, spec], tokenizer)
    monkeypatch.setattr(documents, "_CHUNK_DOCUMENTS", num_documents)
    monkeypatch.setattr(documents, "_CHUNK_CHARACTERS", num_characters)
    cut = tokenize_documents([spec, spec], tokenizer)
    np.testing.assert_array_equal(cut.token_ids, whole.token_ids)
    np.testing.assert_array_equal(cut.lengths, whole.lengths)
    assert cut.num_tokens == whole.num_tokens == 30


def test_ids_are_those_of_the_plain_python_way(spec):
    texts = ["a b", "c", "d\n\ne a", "f f", "b a"]
    tokenizer = text.BytePairTokenizer.train(texts, 260)
    corpus = tokenize_documents(spec, tokenizer)
    expected = [index for one in texts for index in (*tokenizer.encode(one), tokenizer.end_id)]
    assert corpus.token_ids.numpy().tolist() == expected


def test_documents_without_a_token_are_left_out_and_counted(tmp_path, caplog):
    path = tmp_path / "a.txt"
    path.write_text("a\n\u200b\nb\n", encoding="utf-8")  # a space of no width is white space to SentencePiece alone
    sentencepiece = text.SentencePieceTokenizer.train(["a b c", "b a"], 12)
    logging.set_verbosity(logging.INFO)
    logging.use_absl_handler()
    with caplog.at_level("INFO", logger="absl"):
        logging.get_absl_logger().addHandler(caplog.handler)
        corpus = tokenize_documents(f"text:{path}", sentencepiece)
        logging.get_absl_logger().removeHandler(caplog.handler)
    assert len(corpus.lengths) == 2
    assert f"a.txt: 2 documents, {corpus.num_tokens} tokens with an end token each; 1 documents without" in caplog.text


def test_specifications_are_checked_before_anything_is_read(spec, tokenizer):
    with pytest.raises(UsageError, match="`specs` is empty; name at least one, such as `text:book.txt`"):
        tokenize_documents([], tokenizer)
    with pytest.raises(UsageError, match=r"a\.jsonl@0\.3: a language model reads every document once an epoch"):
        tokenize_documents([spec, f"{spec}@0.3"], tokenizer)
    with pytest.raises(UsageError, match="this sample has two columns, and one is needed"):
        tokenize_documents([spec, "sample:cmudict"], tokenizer)
