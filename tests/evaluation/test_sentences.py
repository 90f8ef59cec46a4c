"""Scores sentence by sentence, against the corpus's and by hand."""

import json

import pytest
import sacrebleu

from tfzoo.errors import DataError
from tfzoo.evaluation import sentences, text_metrics
from tfzoo.evaluation.config import METRICS

SOURCES = ["first", "second", "third"]
OUTPUTS = ["the cat sat on the mat", "a dog", "quite another sentence"]
REFERENCES = [["the cat sat on a mat", "on the mat a cat"], ["a dog"], ["what was meant here"]]


@pytest.mark.parametrize("metric", [one for one in METRICS if one != "bleu"])
def test_a_sentence_is_a_corpus_of_one(metric):
    entry = "rouge_l" if metric == "rouge" else metric
    expected = [
        text_metrics.score([metric], [output], [its])[entry] for output, its in zip(OUTPUTS, REFERENCES, strict=True)
    ]
    assert sentences.sentence_scores(metric, OUTPUTS, REFERENCES) == expected
    assert len({*expected}) > 1


def test_bleu_of_a_short_sentence_counts_the_orders_that_it_has():
    found = sentences.sentence_scores("bleu", OUTPUTS, REFERENCES)
    assert found[1] == pytest.approx(100)  # two words have no trigram
    expected = [sacrebleu.sentence_bleu(*one).score for one in zip(OUTPUTS, REFERENCES, strict=True)]
    assert found == expected
    assert sentences.sentence_scores("bleu", ["我喜欢你"], [["我喜欢他"]], tokenizer="zh")[0] > 50


@pytest.mark.parametrize(("metric", "order"), [("bleu", [2, 0, 1]), ("ter", [2, 0, 1]), ("exact_match", [0, 2, 1])])
def test_the_worst_come_first(metric, order):
    rows = sentences.worst_first(metric, SOURCES, OUTPUTS, REFERENCES)
    assert [row["source"] for row in rows] == [SOURCES[one] for one in order]
    scores = sentences.sentence_scores(metric, OUTPUTS, REFERENCES)
    assert rows[0] == {
        "source": SOURCES[order[0]],
        "output": OUTPUTS[order[0]],
        "references": REFERENCES[order[0]],
        "metric": metric,
        "score": scores[order[0]],
    }


def test_buckets_of_source_lengths():
    lengths = [81, 7, 10, 11, 80, 1000]
    outputs = ["a", "b", "c", "d", "e", "f"]
    references = [["a"], ["x"], ["c"], ["d"], ["x"], ["x"]]
    assert sentences.by_length(["exact_match"], lengths, outputs, references) == {
        "1-10": {"num_sources": 2, "exact_match": 0.5},
        "11-20": {"num_sources": 1, "exact_match": 1.0},
        "41-80": {"num_sources": 1, "exact_match": 0.0},
        "81-": {"num_sources": 2, "exact_match": 0.5},
    }
    # The docstring's own.
    assert sentences.by_length(["exact_match"], [7, 12], ["a", "b"], [["x"], ["b"]]) == {
        "1-10": {"num_sources": 1, "exact_match": 0.0},
        "11-20": {"num_sources": 1, "exact_match": 1.0},
    }
    found = sentences.by_length(["bleu"], [3, 3], OUTPUTS[:2], REFERENCES[:2], tokenizer="char")
    expected = text_metrics.score(["bleu"], OUTPUTS[:2], REFERENCES[:2], tokenizer="char")["bleu"]
    assert found == {"1-10": {"num_sources": 2, "bleu": expected}}


def test_a_file_of_lines(tmp_path):
    path = tmp_path / "scores/worst.jsonl"
    sentences.write_jsonl(path, [{"output": "ü", "score": 0.5}, {"output": "a\nb", "score": None}])
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [{"output": "ü", "score": 0.5}, {"output": "a\nb", "score": None}]
    assert "ü" in lines[0]

    def failing():
        yield {"score": 1}
        raise DataError("broken")

    with pytest.raises(DataError, match="broken"):
        sentences.write_jsonl(path, failing())
    assert len(path.read_text(encoding="utf-8").splitlines()) == 2
