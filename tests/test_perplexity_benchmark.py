"""The n-gram beside the language models is the estimate that the papers define, over the tokens that a run scores."""

import itertools
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

import tfzoo
from benchmarks import perplexity
from benchmarks.kneser_ney import Stream, log_probs
from tests.test_benchmarks import read_results
from tfzoo import runs
from tfzoo.errors import UsageError
from tfzoo.recipes import override

pytestmark = pytest.mark.xdist_group("perplexity")

END = 6
VOCABULARY_SIZE = 9  # of which 7 and 8 occur nowhere
# Letters without a pattern, but not equally frequent: enough for the discounts of three orders.
LETTERS = np.random.default_rng(1).choice(6, size=(40, 4), p=[0.4, 0.25, 0.15, 0.1, 0.06, 0.04])
SETTINGS = [
    "data.sequence_length=16",
    "data.batch_size=4",
    "training.num_steps=4",
    "training.checkpoint_steps=4",
    "training.warmup_steps=1",
    "model.num_layers=1",
]
LINES = ["the cat sat on the mat", "a cat and a rat sat", "the rat ate the oat that the cat had", "a hat on a mat"]


def stream(documents):
    documents = [[*document, END] for document in documents]
    is_first = [place == 0 for document in documents for place in range(len(document))]
    return Stream(np.array(list(itertools.chain(*documents)), np.int32), np.array(is_first))


def by_definition(documents, order, estimated):
    """Returns word, context -> probability, from dictionaries of tuples; the start symbol is "s".

    Each length of n-grams whose discounts the counts give is added to the set `estimated`.
    """
    sentences = [("s", *document, END) for document in documents]
    occurrences = [{} for _ in range(order + 1)]
    for n in range(1, order + 1):
        for sentence in sentences:
            for place in range(len(sentence) - n + 1):
                ngram = sentence[place : place + n]
                occurrences[n][ngram] = occurrences[n].get(ngram, 0) + 1
    counts = [{} for _ in range(order + 1)]
    for n in range(1, order + 1):
        for ngram, count in occurrences[n].items():
            if ngram != ("s",):
                in_front = {longer[0] for longer in occurrences[n + 1] if longer[1:] == ngram} if n < order else set()
                counts[n][ngram] = count if n == order or ngram[0] == "s" else len(in_front)

    def probability(word, context):
        shorter = probability(word, context[1:]) if context else 1 / VOCABULARY_SIZE
        n = len(context) + 1
        followers = {ngram[-1]: count for ngram, count in counts[n].items() if ngram[:-1] == context}
        if not followers:
            return shorter
        of_count = [sum(count == wanted for count in counts[n].values()) for wanted in range(5)]
        discount = [0.0, 0.5, 1.0, 1.5]
        if all(of_count[1:4]):
            share = of_count[1] / (of_count[1] + 2 * of_count[2])
            taken = [k - (k + 1) * share * of_count[k + 1] / of_count[k] for k in (1, 2, 3)]
            if min(taken) >= 0:
                discount = [0, *taken]
                estimated.add(n)
        withheld = sum(discount[min(count, 3)] for count in followers.values())
        kept = followers.get(word, 0) - discount[min(followers.get(word, 0), 3)]
        return (kept + withheld * shorter) / sum(followers.values())

    return probability


def test_the_ngram_is_that_of_the_definition():
    training, scored = LETTERS.tolist(), [[0, 1, 0, 2], [5, 5, 7, 0, 0], [3], [0, 8, 8, 1, 0, 0]]
    estimated = set()
    for order in (1, 2, 3):
        probability = by_definition(training, order, estimated)
        expected = []
        for document in scored:
            sentence = ("s", *document, END)
            for place in range(1, len(sentence)):
                context = sentence[max(0, place + 1 - order) : place]
                expected.append(math.log(probability(sentence[place], context)))
        found = log_probs(stream(training), stream(scored), vocabulary_size=VOCABULARY_SIZE, order=order)
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert estimated == {2, 3}  # and seven letters give none


@pytest.mark.parametrize("context", [(), (0,), (5, 3), (1, 0, 0), (7, 8), (0, 0, 0, 0)])
def test_the_probabilities_of_a_context_add_up_to_one(context):
    # Each token of the vocabulary behind the context; that of the end token stands in the document that ends there.
    documents = [[*context, word] for word in range(VOCABULARY_SIZE) if word != END] + [list(context)]
    found = log_probs(stream(LETTERS.tolist()), stream(documents), vocabulary_size=VOCABULARY_SIZE, order=3)
    lengths = [len(document) + 1 for document in documents]
    starts = np.cumsum([0, *lengths[:-1]])
    assert np.exp(found[starts + len(context)]).sum() == pytest.approx(1, abs=1e-12)


def test_what_is_scored_changes_no_estimate():
    training, documents = stream(LETTERS.tolist()), [[0, 1], [7, 7, 7]]
    found = log_probs(training, stream(documents), vocabulary_size=VOCABULARY_SIZE, order=3)
    alone = [log_probs(training, stream([one]), vocabulary_size=VOCABULARY_SIZE, order=3) for one in documents]
    np.testing.assert_array_equal(found, np.concatenate(alone))


def test_both_models_score_the_same_tokens(tmp_path, capsys):
    train, test = tmp_path / "train.txt", tmp_path / "test.txt"
    train.write_text("\n".join(LINES * 3), encoding="utf-8")
    test.write_text("the cat had a hat\nz\n", encoding="utf-8")
    run_dirs = [tmp_path / "one", tmp_path / "two"]
    runs.train(override(tfzoo.recipe("gpt2_tiny"), SETTINGS), run_dirs[0], data=f"text:{train}", verbose=0)
    shutil.copytree(*run_dirs)
    output = tmp_path / "results" / "perplexity.json"
    named = [f"--run_dir={run_dir}" for run_dir in run_dirs]
    perplexity.main([*named, f"--data=text:{test}", "--orders", "1", f"--output={output}"])
    results = read_results(output)["results"]
    assert [row["model"] for row in results] == ["gpt2_tiny", "1-gram", "gpt2_tiny"]  # the two share their n-gram
    run, ngram, _ = results
    tokenizer = runs.Run(run_dirs[0]).tokenizer.target
    num_tokens = sum(len(tokenizer.encode(line)) + 1 for line in ("the cat had a hat", "z"))
    assert run["num_tokens"] == ngram["num_tokens"] == num_tokens
    assert (ngram["num_words"], ngram["num_bytes"], ngram["num_documents"]) == (6, 18, 2)
    assert ngram["perplexity"] ** num_tokens == pytest.approx(ngram["perplexity_per_word"] ** 6)
    assert 2 ** (18 * ngram["bits_per_byte"]) == pytest.approx(ngram["perplexity"] ** num_tokens)
    assert run["step"] == 4
    assert capsys.readouterr().out.count("gram, text:") == 1


def test_another_number_of_tokens_is_refused():
    with pytest.raises(RuntimeError, match="scored 3 tokens, and the run 4"):
        perplexity.ngram_scores(np.zeros(3), {"num_tokens": 4})


def test_a_run_that_is_no_language_model_is_refused(monkeypatch):
    recipe = tfzoo.recipe("transformer_tiny")
    monkeypatch.setattr(perplexity.runs, "Run", lambda path: type("Run", (), {"recipe": recipe}))
    with pytest.raises(UsageError, match="`run_dir` must be that of a language model"):
        perplexity.main(["--run_dir=runs/pronounce"])


@pytest.mark.skipif(
    not shutil.which("lmplz"), reason="KenLM's lmplz is not on the PATH; benchmarks/perplexity.py says how"
)
def test_the_ngram_is_kenlms():
    training = np.random.default_rng(2).zipf(1.3, size=(3000, 7)) % 200
    scored = np.random.default_rng(3).zipf(1.3, size=(50, 7)) % 220
    streams = [_with_end(documents, 250) for documents in (training, scored)]
    found = log_probs(*streams, vocabulary_size=251, order=3)
    tokenizer = type("Tokenizer", (), {"vocabulary_size": 251})
    lmplz = Path(shutil.which("lmplz"))
    assert perplexity.compare(lmplz, *streams, found, tokenizer, 3) < perplexity.TOLERANCE
    found[17] += 2 * perplexity.TOLERANCE
    with pytest.raises(RuntimeError, match="differs from KenLM's"):
        perplexity.compare(lmplz, *streams, found, tokenizer, 3)


def _with_end(documents, end):
    token_ids = np.pad(documents, ((0, 0), (0, 1)), constant_values=end)
    return Stream(token_ids.reshape(-1), (np.arange(token_ids.size) % token_ids.shape[1]) == 0)
