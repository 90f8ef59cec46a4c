"""What a served encoder answers to: texts in, the answers of its task out, in one graph.

The rules of `tfzoo.export.signatures` hold: named tensors, batch first, strings of shape (B,), nothing ragged. Rows of
unequal length are padded: names with "", scores with 0. `tfzoo.runtime.encoder` gives the same answers in NumPy.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import keras
import tensorflow as tf

from tfzoo.data.examples import encode_masked, encode_segments, encode_words
from tfzoo.decoding.config import AnswerConfig
from tfzoo.export.question_answering import answer_signature
from tfzoo.export.signatures import Signature
from tfzoo.runtime.encoder import NUM_CANDIDATES
from tfzoo.runtime.head import Head
from tfzoo.text import TokenizerPair
from tfzoo.text.ragged import kept
from tfzoo.text.special_tokens import BERT_MASK
from tfzoo.text.word_piece import WordPieceTokenizer

Outputs = dict[str, tf.Tensor]


def encoder_signatures(
    model: keras.Model, tokenizer: TokenizerPair, decoding: AnswerConfig | None
) -> dict[str, Signature]:
    """The signatures of an encoder with the head of a task.

    Args:
        model: a zoo model. TEXTS below is `text`, `text_a` and `text_b` for a model of two texts, or `question` and
            `context`.
        tokenizer: its tokenizer.
        decoding: how answers are looked for, of a task that does.

    Returns: signature name -> signature.
        `serving_default`: TEXTS (B,) string -> by task:
            "text_classification": `labels` (B, L) string and `scores` (B, L) float32, best first; of a regression only
            `scores` (B, 1).
            "token_classification": `words`, `labels` (B, W) string and `scores` (B, W) float32.
            "fill_mask": `outputs` (B,) string, `tokens` (B, M, 5) string and `scores` (B, M, 5) float32, best first.
            "question_answering": `answers` (B,) string, "" for none, `scores` (B,) float32, `starts` and `ends` (B,)
            int32, characters of the context, -1 for none.
            "text_embedding": `embeddings` (B, D) float32.
        `classify`, of a text classifier with labels: `inputs` (B,) string, serialized `tf.train.Example`s with TEXTS as
        features -> `classes` (B, L) string, `scores` (B, L) float32: TF Serving's classification API.
        `tokens`: the model's `input_signature` -> `logits` float32, see the model; of "question_answering"
        `start_logits` and `end_logits` (B, T), of "text_embedding" `embeddings`.
        `tokenize`: TEXTS (B,) string -> the model's inputs, (B, T) int32 each.
    """
    head = Head.of(model.config)
    (pieces,) = {one for one in (tokenizer.source, tokenizer.target)}
    inputs = [*model.input_signature()]

    if isinstance(decoding, AnswerConfig):
        serve: Callable[..., Outputs] = answer_signature(model, pieces, decoding)
    else:
        serve = functools.partial(ANSWERS[model.task], model, pieces, head)

    def score_tokens(*values: tf.Tensor) -> Outputs:
        return named_outputs(model.task, forward(model, dict(zip(inputs, values, strict=True))))

    def tokenize(*texts: tf.Tensor) -> Outputs:
        return _inputs(pieces, head, *texts)

    def classify(examples: tf.Tensor) -> Outputs:
        features = {name: tf.io.FixedLenFeature([], tf.string) for name in head.text_inputs}
        parsed = tf.io.parse_example(examples, features)
        found = serve(*(parsed[name] for name in head.text_inputs))
        return {"classes": found["labels"], "scores": found["scores"]}

    texts = [tf.TensorSpec((None,), tf.string, name=name) for name in head.text_inputs]
    made = {
        "serving_default": Signature(serve, texts),
        "tokens": Signature(score_tokens, [*model.input_signature().values()]),
        "tokenize": Signature(tokenize, texts),
    }
    if model.task == "text_classification" and head.labels:
        made["classify"] = Signature(classify, [tf.TensorSpec((None,), tf.string, name="inputs")])
    return made


def forward(model: keras.Model, inputs: dict[str, tf.Tensor]) -> tf.Tensor:
    """The logits of the model's task, (B, ...) float32; a pretrained model's second head is left out."""
    outputs = model(inputs, training=False)
    return outputs["logits"] if isinstance(outputs, dict) else outputs


def named_outputs(task: str, outputs: tf.Tensor) -> Outputs:
    """What the forward gives, by the names that it has at an artifact's borders."""
    if task == "question_answering":
        return {"start_logits": outputs[:, 0], "end_logits": outputs[:, 1]}
    return {"embeddings" if task == "text_embedding" else "logits": outputs}


def _inputs(tokenizer: WordPieceTokenizer, head: Head, *texts: tf.Tensor) -> dict[str, tf.Tensor]:
    if head.task == "fill_mask":
        return encode_masked(texts[0], tokenizer, head.max_length)
    if head.task == "token_classification":
        return encode_words(texts[0], tokenizer, head.max_length)[0]
    return encode_segments(texts[0], texts[1] if len(texts) > 1 else None, tokenizer, head.max_length)


def _classify(model: keras.Model, tokenizer: WordPieceTokenizer, head: Head, *texts: tf.Tensor) -> Outputs:
    logits = forward(model, _inputs(tokenizer, head, *texts))
    if head.problem == "regression":
        return {"scores": logits}
    ranked, order = tf.math.top_k(logits, k=len(head.labels))
    scores = tf.sigmoid(logits) if head.problem == "multi_label" else tf.nn.softmax(logits)
    return {
        "labels": tf.gather(tf.constant(head.labels), order),
        "scores": tf.ensure_shape(tf.gather(scores, order, batch_dims=1), ranked.shape),
    }


def _tag(model: keras.Model, tokenizer: WordPieceTokenizer, head: Head, text: tf.Tensor) -> Outputs:
    inputs, words, positions = encode_words(text, tokenizer, head.max_length)
    is_read = positions.flat_values >= 0
    words, positions = (kept(one, is_read) for one in (words, positions))
    is_word = tf.sequence_mask(words.row_lengths(), words.bounding_shape(1))  # (B, W)
    logits = tf.gather(forward(model, inputs), positions.to_tensor(0), batch_dims=1)  # (B, W, L)
    labels = tf.gather(tf.constant(head.labels), tf.argmax(logits, axis=-1))
    return {
        "words": words.to_tensor(""),
        "labels": tf.where(is_word, labels, ""),
        "scores": tf.where(is_word, tf.reduce_max(tf.nn.softmax(logits), axis=-1), 0.0),
    }


def _fill(model: keras.Model, tokenizer: WordPieceTokenizer, head: Head, text: tf.Tensor) -> Outputs:
    inputs = encode_masked(text, tokenizer, head.max_length)
    is_mask = inputs["token_ids"] == tokenizer.mask_id
    counts = tf.math.count_nonzero(is_mask, axis=1)
    places = tf.RaggedTensor.from_row_lengths(tf.where(is_mask)[:, 1], counts).to_tensor(0)  # (B, M)
    logits = forward(model, {**inputs, "mask_positions": tf.cast(places, tf.int32)})  # (B, M, V)
    scores, order = tf.math.top_k(logits, k=min(NUM_CANDIDATES, model.config.vocabulary_size))
    scores = tf.exp(scores - tf.reduce_logsumexp(logits, axis=-1, keepdims=True))
    tokens = tf.reshape(tokenizer.detokenize(tf.reshape(order, [-1, 1])), tf.shape(order))
    is_real = tf.sequence_mask(counts, tf.shape(places)[1])[:, :, tf.newaxis]
    return {
        "outputs": _filled(text, tokens[:, :, 0], counts),
        "tokens": tf.where(is_real, tokens, ""),
        "scores": tf.where(is_real, scores, 0.0),
    }


def _filled(text: tf.Tensor, tokens: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
    """(B,) texts with (B, M) tokens in the places of their first masks, of which (B,) int64 were read."""
    parts = tf.strings.split(text, BERT_MASK)
    fillers = tf.RaggedTensor.from_tensor(tf.strings.regex_replace(tokens, "^##", ""), lengths=counts)
    num_left = parts.row_lengths() - 1 - counts
    left = tf.RaggedTensor.from_row_lengths(tf.fill([tf.reduce_sum(num_left)], BERT_MASK), num_left)
    first = tf.fill([tf.size(text, tf.int64), 1], "")
    before = tf.concat([first, fillers, left], axis=1)  # what stands before each part
    return tf.strings.reduce_join(
        parts.with_flat_values(tf.strings.join([before.flat_values, parts.flat_values])), axis=1
    )


def _embed(model: keras.Model, tokenizer: WordPieceTokenizer, head: Head, text: tf.Tensor) -> Outputs:
    return {"embeddings": forward(model, _inputs(tokenizer, head, text))}


ANSWERS: dict[str, Callable[..., Outputs]] = {
    "text_classification": _classify,
    "token_classification": _tag,
    "fill_mask": _fill,
    "text_embedding": _embed,
}
