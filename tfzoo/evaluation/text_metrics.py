"""Scores of output texts against reference texts, over the whole corpus.

Each output may have several references; the closest one counts. BLEU (Papineni et al., 2002), chrF (Popović, 2015) and
TER (Snover et al., 2006) are sacreBLEU's (Post, 2018), reported with its signature, without which two BLEU scores
cannot be compared. ROUGE (Lin, 2004) is that of the package rouge-score, which published summaries are scored by.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sacrebleu.metrics import BLEU, CHRF, TER

from tfzoo.errors import DataError, UsageError
from tfzoo.evaluation.config import EvaluationConfig

Outputs = Sequence[str]
References = Sequence[Sequence[str]]
Scores = dict[str, float | str]


def score(metrics: Sequence[str], outputs: Outputs, references: References, *, tokenizer: str = "13a") -> Scores:
    """Scores a corpus.

    Args:
        metrics: names out of `tfzoo.evaluation.config.METRICS`.
        outputs: one text per example.
        references: at least one text per example.
        tokenizer: what "bleu", "ter" and "rouge" count as a word, see `EvaluationConfig`.

    Returns: one entry a metric: `bleu`, `chrf` and `ter` in percent, with `bleu_signature`, `chrf_signature` and
        `ter_signature`; `rouge_1`, `rouge_2` and `rouge_l` (F-measures, the mean over the outputs) in percent;
        `exact_match`, `token_error_rate` and `word_error_rate` as shares. Of all these only `ter` and
        `token_error_rate` can exceed the whole.

    Raises:
        RecipeError: an unknown metric or tokenizer.
        UsageError: the package that a metric needs is not installed.
        DataError: no outputs, another number of references than outputs, or an output without a list of references.
    """
    EvaluationConfig(metrics=tuple(metrics), tokenizer=tokenizer)  # type: ignore[arg-type]  # it checks both
    if not outputs:
        raise DataError("there is nothing to score; received outputs=[]. Give at least one example.")
    if len(outputs) != len(references):
        raise DataError(
            f"each output needs its references; received {len(outputs)} outputs and references for {len(references)}."
        )
    for index, alternatives in enumerate(references):
        if isinstance(alternatives, str):
            raise DataError(
                f"`references` needs a list of texts per output; received {alternatives!r}. Put it in a list."
            )
        if not alternatives:
            raise DataError(f"each output needs a reference; received none for output {index}, {outputs[index]!r}.")
    scores: Scores = {}
    for name in metrics:
        scores |= (
            _OF_WORDS[name](outputs, references, tokenizer)
            if name in _OF_WORDS
            else _METRICS[name](outputs, references)
        )
    return scores


def edit_distance(a: Sequence[str], b: Sequence[str]) -> int:
    """Fewest insertions, deletions and substitutions that turn `a` into `b` (Levenshtein, 1966).

    >>> edit_distance("K AE T S".split(), "K AH T".split())
    2
    """
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]


def token_error_rate(outputs: Outputs, references: References) -> Scores:
    """Edit distance over white-space tokens, as a share of the reference tokens (phoneme error rate for phonemes).

    Among several references the one at the smallest distance counts, and of those the longest.
    """
    num_errors = num_tokens = 0
    for output, alternatives in zip(outputs, references, strict=True):
        tokens = output.split()
        errors, negative_length = min(
            (edit_distance(tokens, reference.split()), -len(reference.split())) for reference in alternatives
        )
        num_errors += errors
        num_tokens -= negative_length
    if num_tokens == 0:
        raise DataError("`token_error_rate` needs reference tokens; received references without any.")
    return {"token_error_rate": num_errors / num_tokens}


def word_error_rate(outputs: Outputs, references: References) -> Scores:
    """Share of outputs that equal none of their references, token by token.

    This is the usage of grapheme-to-phoneme conversion, where an output is the pronunciation of one word.
    """
    wrong = [
        output.split() not in [reference.split() for reference in alternatives]
        for output, alternatives in zip(outputs, references, strict=True)
    ]
    return {"word_error_rate": sum(wrong) / len(wrong)}


def exact_match(outputs: Outputs, references: References) -> Scores:
    """Share of outputs that equal one of their references, character by character, but for white space at the ends."""
    right = [
        output.strip() in [reference.strip() for reference in alternatives]
        for output, alternatives in zip(outputs, references, strict=True)
    ]
    return {"exact_match": sum(right) / len(right)}


def bleu(outputs: Outputs, references: References, tokenizer: str = "13a") -> Scores:
    """SacreBLEU's corpus BLEU with its defaults: mixed case, exponential smoothing."""
    return _sacrebleu("bleu", BLEU(tokenize=tokenizer), outputs, references)


def chrf(outputs: Outputs, references: References) -> Scores:
    """SacreBLEU's corpus chrF2 with its defaults: character 6-grams, no word n-grams."""
    return _sacrebleu("chrf", CHRF(), outputs, references)


def ter(outputs: Outputs, references: References, tokenizer: str = "13a") -> Scores:
    """SacreBLEU's corpus TER: edits, of which one moves a phrase, in percent of the reference words; lowercased.

    Chinese characters are words for the tokenizers "zh" and "char".
    """
    by_character = tokenizer in ("zh", "char")
    return _sacrebleu("ter", TER(normalized=by_character, asian_support=by_character), outputs, references)


def rouge(outputs: Outputs, references: References, tokenizer: str = "13a") -> Scores:
    """ROUGE-1, ROUGE-2 and sentence-level ROUGE-L of rouge-score, without stemming; the best reference counts.

    With "13a" words are those of rouge-score, runs of a-z and 0-9 after lowercasing: right for English alone. Another
    tokenizer is sacreBLEU's of that name, lowercased.
    """
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise UsageError("the metric 'rouge' needs the package rouge-score: pip install 'tfzoo[rouge]'.") from error
    words = None if tokenizer == "13a" else _Words(tokenizer)
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], tokenizer=words)
    totals = dict.fromkeys(("rouge1", "rouge2", "rougeL"), 0.0)
    for output, alternatives in zip(outputs, references, strict=True):
        for name, value in scorer.score_multi(list(alternatives), output).items():
            totals[name] += value.fmeasure
    return {f"rouge_{name[5:].lower()}": 100 * total / len(outputs) for name, total in totals.items()}


class _Words:
    """What rouge-score asks of a tokenizer, by one of sacreBLEU's."""

    def __init__(self, tokenizer: str) -> None:
        self._bleu = BLEU(tokenize=tokenizer)

    def tokenize(self, text: str) -> list[str]:
        return self._bleu.tokenizer(text.lower()).split()


def _sacrebleu(name: str, metric: BLEU | CHRF | TER, outputs: Outputs, references: References) -> Scores:
    # sacreBLEU wants one stream a reference position; None, which its annotations forget, marks an example with fewer.
    longest = max(len(alternatives) for alternatives in references)
    streams: list[list[Any]] = [
        [(*alternatives, *[None] * longest)[i] for alternatives in references] for i in range(longest)
    ]
    value = metric.corpus_score(list(outputs), streams).score
    return {name: value, f"{name}_signature": str(metric.get_signature())}


_OF_WORDS: dict[str, Callable[[Outputs, References, str], Scores]] = {"bleu": bleu, "ter": ter, "rouge": rouge}
_METRICS: dict[str, Callable[[Outputs, References], Scores]] = {
    "chrf": chrf,
    "exact_match": exact_match,
    "token_error_rate": token_error_rate,
    "word_error_rate": word_error_rate,
}
