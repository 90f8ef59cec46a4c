"""Greedy search, sampling and beam search in one graph loop, for any model that answers `start` and `step`.

Every row of a batch carries its own options, so that requests that a server has merged into one batch keep theirs: a
row with fewer beams than its neighbour ignores the surplus, and gets the tokens that it would get alone.

Beam search keeps `num_beams` unfinished hypotheses. Of the 2 * num_beams best continuations, those among the first
num_beams that end are finished, and the best num_beams others live on (Sutskever et al., 2014, section 3.2). A row is
done when it has num_beams finished hypotheses or has reached `max_length`. With one beam this is greedy search.
Finished hypotheses are ranked by log-probability divided by the length penalty (Wu et al., 2016, equation 14).
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfzoo.decoding.config import DecodingConfig
from tfzoo.decoding.sampling import sample
from tfzoo.errors import UsageError

IMPOSSIBLE = -1e9  # the log-probability of what must not be chosen; finite, so that sums and differences stay numbers
MEMORY = "memory_"  # prefix of the state entries that belong to the input and that no step changes


def generate(model: keras.Model, inputs: dict[str, Any], config: DecodingConfig) -> dict[str, tf.Tensor]:
    """Generates sequences with one set of options for the whole batch.

    Args:
        model: answers `start(inputs) -> state` and `step(token_ids, state) -> (logits, state)`.
        inputs: what `model.start` takes, B rows.
        config: the options.

    Returns: `token_ids` (B * R, T) int32, without the start token, ended by the end token where there is one and padded
        after it; `scores` (B * R,) float32, log-probability in nats divided by the length penalty. R is
        `num_return_sequences`; the R sequences of a row stand together, best first if searched for; sample r is drawn
        with seed + r.

    Raises:
        UsageError: `max_length` exceeds the model's positions.
    """
    if config.max_length > model.config.max_sequence_length:
        raise UsageError(
            "`max_length` must not exceed the model's `max_sequence_length`; received "
            f"max_length={config.max_length}, max_sequence_length={model.config.max_sequence_length}."
        )
    num_rows = tf.shape(next(iter(inputs.values())))[0]
    copies = config.num_return_sequences if config.temperature > 0 else 1
    inputs = {name: tf.repeat(value, copies, axis=0) for name, value in inputs.items()}
    found = search(
        model,
        inputs,
        max_length=config.max_length,
        num_beams=config.num_beams,
        length_penalty=config.length_penalty,
        temperature=config.temperature,
        top_k=config.top_k,
        top_p=config.top_p,
        seed=config.seed + tf.tile(tf.range(copies), [num_rows]),
    )
    kept = config.num_return_sequences // copies
    token_ids, scores = found["token_ids"][:, :kept], found["scores"][:, :kept]
    return {
        "token_ids": tf.reshape(token_ids, [num_rows * config.num_return_sequences, tf.shape(token_ids)[2]]),
        "scores": tf.reshape(scores, [-1]),
    }


def search(
    model: keras.Model,
    inputs: dict[str, Any],
    *,
    max_length: int | tf.Tensor,
    num_beams: int | tf.Tensor,
    length_penalty: float | tf.Tensor,
    temperature: float | tf.Tensor,
    top_k: int | tf.Tensor,
    top_p: float | tf.Tensor,
    seed: int | tf.Tensor,
) -> dict[str, tf.Tensor]:
    """Generates sequences with options by row; each option is a number or a (B,) tensor.

    Args:
        model: answers `start` and `step`.
        inputs: what `model.start` takes, B rows.
        max_length: most tokens to generate; counts as 1 below it, and as the model's positions above them.
        num_beams: counts as 1 below it and in a row that samples.
        length_penalty: see `DecodingConfig`, like the rest.
        temperature: 0 = search.
        top_k: 0 = all.
        top_p: 1 = all.
        seed: of the row's random numbers; equal seeds and inputs give equal tokens.

    Returns: `token_ids` (B, W, T) int32 and `scores` (B, W) float32, best first. W is the most beams of any row; a row
        with fewer has `IMPOSSIBLE` scores and padding in the rest.
    """
    num_rows = tf.shape(next(iter(inputs.values())))[0]

    def by_row(option: Any, dtype: tf.DType) -> tf.Tensor:
        return tf.broadcast_to(tf.cast(option, dtype), [num_rows])

    may_sample = not (isinstance(temperature, (int, float)) and temperature == 0)
    temperature = by_row(temperature, tf.float32)
    limits = tf.clip_by_value(by_row(max_length, tf.int32), 1, model.config.max_sequence_length)
    beams = tf.where(temperature > 0, 1, tf.maximum(by_row(num_beams, tf.int32), 1))
    width = num_beams if isinstance(num_beams, int) else tf.maximum(tf.reduce_max(beams), 1)  # a batch may be empty
    alpha = by_row(length_penalty, tf.float32)
    draw = (by_row(top_k, tf.int32), by_row(top_p, tf.float32), by_row(seed, tf.int64))

    # Not tf.repeat: its reshape of an empty cache means something else in ONNX, where a size of 0 says "as before".
    rows = tf.range(num_rows * width) // width
    state = {name: tf.gather(value, rows) for name, value in model.start(inputs).items()}
    memory = {name: value for name, value in state.items() if name.startswith(MEMORY)}
    growing = {name: value for name, value in state.items() if name not in memory}
    beam_rank = tf.range(width)[tf.newaxis]
    candidate_rank = tf.range(2 * width)[tf.newaxis]

    def advance(
        length: tf.Tensor,
        growing: dict[str, tf.Tensor],
        last: tf.Tensor,
        live: tuple[tf.Tensor, tf.Tensor],
        finished: tuple[tf.Tensor, tf.Tensor],
        done: tf.Tensor,
    ) -> tuple[Any, ...]:
        """Adds one token to every live hypothesis and sorts the finished from the living."""
        logits, state = model.step(tf.reshape(last, [-1, 1]), memory | growing)
        vocabulary_size = logits.shape[-1]
        logits = tf.reshape(logits[:, -1], [num_rows, width, vocabulary_size])
        log_probs = tf.nn.log_softmax(logits)
        totals = tf.reshape(live[1][:, :, tf.newaxis] + log_probs, [num_rows, width * vocabulary_size])
        totals, choice = tf.math.top_k(totals, 2 * width)  # (B, 2W), best first
        origin, tokens = choice // vocabulary_size, choice % vocabulary_size
        if may_sample:
            # Drawn even if every row searches: a tf.cond in the loop converts to an ONNX graph without shapes.
            sampled = sample(logits[:, 0], temperature, *draw, length)
            sampled_totals = live[1][:, :1] + tf.gather(log_probs[:, 0], sampled[:, tf.newaxis], batch_dims=1)
            replace = (temperature > 0)[:, tf.newaxis]
            origin = tf.where(replace, 0, origin)
            tokens = tf.where(replace, sampled[:, tf.newaxis], tokens)
            totals = tf.where(replace, sampled_totals, totals)

        length += 1
        considered = candidate_rank < tf.where(temperature > 0, 1, 2 * beams)[:, tf.newaxis]
        ended = tokens == model.config.end_id
        at_limit = (length >= limits)[:, tf.newaxis]
        finishes = (ended | at_limit) & (candidate_rank < beams[:, tf.newaxis]) & ~done[:, tf.newaxis]
        finishes &= totals > IMPOSSIBLE / 2
        penalty = ((5.0 + tf.cast(length, tf.float32)) / 6.0) ** alpha
        sequences = tf.concat([tf.gather(live[0], origin, batch_dims=1), tokens[:, :, tf.newaxis]], axis=2)

        pool = tf.pad(finished[0], [[0, 0], [0, 0], [0, 1]], constant_values=model.config.pad_id)
        pool = tf.concat([pool, sequences], axis=1)
        pool_scores = tf.where(finishes, totals / penalty[:, tf.newaxis], IMPOSSIBLE)
        pool_scores, best = tf.math.top_k(tf.concat([finished[1], pool_scores], axis=1), width)
        pool_scores = tf.where(beam_rank < beams[:, tf.newaxis], pool_scores, IMPOSSIBLE)
        finished = (tf.gather(pool, best, batch_dims=1), pool_scores)
        num_finished = tf.reduce_sum(tf.cast(pool_scores > IMPOSSIBLE / 2, tf.int32), axis=1)
        done |= (num_finished >= beams) | at_limit[:, 0]

        totals, best = tf.math.top_k(tf.where(ended | ~considered, IMPOSSIBLE, totals), width)
        totals = tf.where(beam_rank < beams[:, tf.newaxis], totals, IMPOSSIBLE)
        live = (tf.gather(sequences, best, batch_dims=1), totals)
        growing = {name: state[name] for name in growing}
        if not (isinstance(width, int) and width == 1):
            rows = tf.range(num_rows)[:, tf.newaxis] * width + tf.gather(origin, best, batch_dims=1)
            growing = {name: tf.gather(value, tf.reshape(rows, [-1])) for name, value in growing.items()}
        return length, growing, tf.gather(tokens, best, batch_dims=1), live, finished, done

    nothing = tf.zeros([num_rows, width, 0], tf.int32)
    start_scores = tf.where(beam_rank == 0, tf.zeros([num_rows, width]), IMPOSSIBLE)  # W equal hypotheses are one
    loop_state = (
        tf.constant(0),
        growing,
        tf.fill([num_rows, width], model.config.start_id),
        (nothing, start_scores),
        (nothing, tf.fill([num_rows, width], IMPOSSIBLE)),
        tf.zeros([num_rows], tf.bool),
    )
    loop_shapes = tf.nest.map_structure(lambda value: tf.TensorShape([None] * value.shape.rank), loop_state)
    _, _, _, _, finished, _ = tf.while_loop(
        lambda length, growing, last, live, finished, done: ~tf.reduce_all(done), advance, loop_state, loop_shapes
    )
    unused = (finished[1] <= IMPOSSIBLE / 2)[:, :, tf.newaxis]
    return {"token_ids": tf.where(unused, model.config.pad_id, finished[0]), "scores": finished[1]}
