"""How well language models predict documents that they did not train on, beside an n-gram that read the same tokens.

    python -m benchmarks.perplexity --run_dir=runs/lstm_docs --run_dir=runs/gpt2_docs

For each run, interpolated modified Kneser-Ney (`benchmarks/kneser_ney.py`) is estimated on the run's own training
documents, with its cleaning and its tokenizer, and scores the tokens that `tfzoo evaluate` scores, the end token of
each document included. Runs with the same documents and tokens share their n-gram.

With `--lmplz=PROGRAM` the n-gram is held to that of KenLM, token by token, and the script fails if they differ. That
program comes from the sources of the PyPI package `kenlm`, whose wheel cannot estimate; on Debian:

    apt-get install g++ cmake zlib1g-dev libboost-{program-options,system,thread,test}-dev
    pip download kenlm==0.3.0 --no-deps --no-binary=:all:
    tar xzf kenlm-0.3.0.tar.gz && cmake -S kenlm-0.3.0 -B kenlm && make -C kenlm lmplz    # kenlm/bin/lmplz
"""

from __future__ import annotations

import argparse
import math
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import recording
from benchmarks.kneser_ney import Stream, log_probs
from tfzoo import runs
from tfzoo.data.config import CausalLmDataConfig
from tfzoo.data.documents import tokenize_documents
from tfzoo.errors import UsageError
from tfzoo.text import Tokenizer

# Nats of a token. Into its counts of counts lmplz takes the last n-gram of each lower order by how often it occurs, not
# by what stands in front of it: that moves a discount a little, and tokens that training never saw the most.
TOLERANCE = 0.01


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints a line for each model and writes them all."""
    options = _parser().parse_args(arguments)
    results: list[dict[str, Any]] = []
    estimated: dict[bytes, str] = {}  # what an n-gram was estimated on and with -> the run
    print(f"{'per token':>9} {'per word':>9} {'bits/byte':>9}")
    for run_dir in options.run_dir:
        run = runs.Run(run_dir)
        data = run.recipe.data
        if not isinstance(data, CausalLmDataConfig) or data.examples == "prompt_answer":
            raise UsageError(f"`run_dir` must be that of a language model of documents; {run_dir} answers prompts.")
        tokenizer = run.tokenizer.target
        train = stream(data.train, tokenizer, data.cleaning)
        key = train.token_ids.tobytes()
        for spec in options.data:
            start = time.perf_counter()
            scores = runs.evaluate(run_dir, spec)
            row = {"data": spec, "model": run.recipe.name, "run_dir": str(run_dir), "step": run.checkpoint.step}
            trained = sum(record.get("seconds", 0.0) for record in run.checkpoint.history)
            results.append({**row, **scores, "seconds": time.perf_counter() - start, "training_seconds": trained})
            _print(results[-1])
            for order in options.orders if estimated.setdefault(key, run_dir) == run_dir else ():
                start = time.perf_counter()
                scored = stream([spec], tokenizer, data.cleaning)
                found = log_probs(train, scored, vocabulary_size=tokenizer.vocabulary_size, order=order)
                row = {"data": spec, "model": f"{order}-gram", "run_dir": str(run_dir)}
                row |= {**ngram_scores(found, scores), "seconds": time.perf_counter() - start}
                if options.lmplz:
                    row["largest_difference"] = compare(options.lmplz, train, scored, found, tokenizer, order)
                results.append(row)
                _print(row)
    recording.write(options.output, "benchmarks.perplexity", arguments, results)


def stream(specs: Sequence[str], tokenizer: Tokenizer, cleaning: Sequence[str]) -> Stream:
    """Reads documents as training and evaluation do, each with its end token."""
    documents = tokenize_documents(specs, tokenizer, cleaning)
    is_first = np.zeros(documents.num_tokens, bool)
    is_first[documents.starts.numpy()] = True
    return Stream(documents.token_ids.numpy(), is_first)


def ngram_scores(found: np.ndarray, scores: dict[str, Any]) -> dict[str, Any]:
    """Gives log-probabilities the units of `tfzoo.evaluation.perplexity`.

    Args:
        found: (M,) nats, one for each token.
        scores: what `perplexity` returned for a model and the same documents.

    Raises:
        RuntimeError: it scored another number of tokens.
    """
    if len(found) != scores["num_tokens"]:
        raise RuntimeError(f"the n-gram scored {len(found)} tokens, and the run {scores['num_tokens']}.")
    nats = -float(found.sum())
    return {
        "loss": nats / len(found),
        "perplexity": math.exp(nats / len(found)),
        "num_tokens": len(found),
        "perplexity_per_word": scores["perplexity_per_word"] and math.exp(nats / scores["num_words"]),
        "bits_per_byte": nats / math.log(2) / scores["num_bytes"],
        **{name: scores[name] for name in ("num_words", "num_bytes", "num_documents")},
    }


def compare(lmplz: Path, train: Stream, scored: Stream, found: np.ndarray, tokenizer: Tokenizer, order: int) -> float:
    """Estimates once more with KenLM.

    Args:
        lmplz: its program.
        train: what is counted.
        scored: what is scored.
        found: (M,) log-probabilities in nats to hold to.
        tokenizer: of both.
        order: longest n-gram, in tokens.

    Returns: the largest difference of a token, in nats.

    Raises:
        RuntimeError: it is above `TOLERANCE`.
        subprocess.CalledProcessError: the program failed.
    """
    with tempfile.TemporaryDirectory() as directory:
        arpa = Path(directory, "ngrams.arpa")
        command: list[str | Path] = [
            lmplz,
            f"--order={order}",
            f"--vocab_pad={tokenizer.vocabulary_size}",
            "--memory=1G",
        ]
        command += ["--discount_fallback", "--temp_prefix", directory, "--arpa", arpa]
        # The program puts the end of a sentence behind each line by itself.
        lines = [" ".join(map(str, document[:-1])) + "\n" for document in _documents(train)]
        subprocess.run(command, input="".join(lines), check=True, capture_output=True, text=True)
        probs, backoffs = _read_arpa(arpa)
    expected: list[float] = []
    for document in _documents(scored):
        words = ["<s>", *map(str, document[:-1]), "</s>"]
        expected += [_score(words[max(0, i + 1 - order) : i + 1], probs, backoffs) for i in range(1, len(words))]
    difference = float(np.abs(found - math.log(10) * np.array(expected)).max())
    if difference > TOLERANCE:
        raise RuntimeError(f"the {order}-gram differs from KenLM's by up to {difference:.2g} nats of a token.")
    return difference


def _documents(stream: Stream) -> Iterator[list[int]]:
    for document in np.split(stream.token_ids, np.flatnonzero(stream.is_first)[1:]):
        yield document.tolist()


def _read_arpa(path: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Returns log10 of the probabilities of n-grams, and of the back-off weights of contexts."""
    probs, backoffs = {}, {}
    with path.open(encoding="utf-8") as file:
        for line in file:
            columns = line.rstrip("\n").split("\t")
            if len(columns) > 1:  # otherwise a heading
                probs[columns[1]] = float(columns[0])
                backoffs[columns[1]] = float(columns[2]) if len(columns) > 2 else 0.0
    return probs, backoffs


def _score(words: list[str], probs: dict[str, float], backoffs: dict[str, float]) -> float:
    """Returns log10 of the probability of the last word behind the others."""
    ngram = " ".join(words)
    if ngram in probs:
        return probs[ngram]
    if len(words) == 1:
        return probs["<unk>"]
    return backoffs.get(" ".join(words[:-1]), 0.0) + _score(words[1:], probs, backoffs)


def _print(row: dict[str, Any]) -> None:
    numbers = f"{row['perplexity']:9.2f} {row['perplexity_per_word']:9.1f} {row['bits_per_byte']:9.3f}"
    print(f"{numbers}  {row['model']}, {row['data']} ({row['run_dir']})")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.perplexity", description=(__doc__ or "").splitlines()[0]
    )
    option: Any = parser.add_argument
    option("--run_dir", action="append", required=True, help="a run of a language model; may be repeated")
    option("--data", nargs="+", default=["sample:python_docs:test"], help="documents to predict, each a row")
    option("--orders", type=int, nargs="+", default=[5, 8], help="longest n-grams, in tokens, each a row")
    option("--lmplz", type=Path, help="KenLM's program, to check the n-grams with")
    option("--output", type=Path, default=Path("benchmarks/results/perplexity.json"), help="the file of results")
    return parser


if __name__ == "__main__":
    main()
