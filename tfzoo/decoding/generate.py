"""Greedy search, sampling and beam search in one graph loop, for any model that answers `prompt`, `start` and `step`.

Every row of a batch carries its own options, so that requests that a server has merged into one batch keep theirs: a
row with fewer beams than its neighbour ignores the surplus, and gets the tokens that it would get alone.

Beam search keeps `num_beams` unfinished hypotheses. Of the 2 * num_beams best continuations, those among the first
num_beams that end are finished, and the best num_beams others live on (Sutskever et al., 2014, section 3.2). A row is
done when it has num_beams finished hypotheses or has reached `max_length`. With one beam this is greedy search.
Finished hypotheses are ranked by log-probability divided by the length penalty (Wu et al., 2016, equation 14).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tfzoo.decoding.config import DecodingConfig, never_generated, positions_left
from tfzoo.decoding.sampling import sample
from tfzoo.errors import UsageError

IMPOSSIBLE = -1e9  # the log-probability of what must not be chosen; finite, so that sums and differences stay numbers
MEMORY = "memory_"  # prefix of the state entries that belong to the input and that no step changes


class Hypotheses(NamedTuple):
    """W sequences of T tokens for each of B rows.

    token_ids: (B, W, T) int32. log_probs: (B, W, T) float32, of each token, nats. scores: (B, W) float32, nats.
    """

    token_ids: tf.Tensor
    log_probs: tf.Tensor
    scores: tf.Tensor

    def pick(self, ranks: tf.Tensor) -> Hypotheses:
        """The hypotheses at (B, N) `ranks`."""
        return Hypotheses(*(tf.gather(value, ranks, batch_dims=1) for value in self))


def generate(model: keras.Model, inputs: dict[str, Any], config: DecodingConfig) -> dict[str, tf.Tensor]:
    """Generates sequences with one set of options for the whole batch.

    Args:
        model: answers `prompt(inputs) -> (token_ids, padding_mask)`, `start(inputs) -> state` and
            `step(token_ids, state) -> (logits, state)`.
        inputs: what `model.start` takes, B rows.
        config: the options.

    Returns: `token_ids` (B * R, T) int32, without the prompt or start token, ended by the end token where there is one
        and padded after it; `log_probs` (B * R, T) float32 of each token in nats, 0 in the padding; `scores` (B * R,)
        float32, the sum of them divided by the length penalty. R is
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
        min_length=config.min_length,
        num_beams=config.num_beams,
        length_penalty=config.length_penalty,
        repetition_penalty=config.repetition_penalty,
        temperature=config.temperature,
        top_k=config.top_k,
        top_p=config.top_p,
        seed=config.seed + tf.tile(tf.range(copies), [num_rows]),
    )
    kept = config.num_return_sequences // copies
    by_sequence = [num_rows * config.num_return_sequences, tf.shape(found["token_ids"])[2]]
    return {
        "token_ids": tf.reshape(found["token_ids"][:, :kept], by_sequence),
        "log_probs": tf.reshape(found["log_probs"][:, :kept], by_sequence),
        "scores": tf.reshape(found["scores"][:, :kept], [-1]),
    }


def search(
    model: keras.Model,
    inputs: dict[str, Any],
    *,
    max_length: int | tf.Tensor,
    min_length: int | tf.Tensor,
    num_beams: int | tf.Tensor,
    length_penalty: float | tf.Tensor,
    repetition_penalty: float | tf.Tensor,
    temperature: float | tf.Tensor,
    top_k: int | tf.Tensor,
    top_p: float | tf.Tensor,
    seed: int | tf.Tensor,
) -> dict[str, tf.Tensor]:
    """Generates sequences with options by row; each option is a number or a (B,) tensor.

    Args:
        model: answers `prompt`, `start` and `step`.
        inputs: what `model.start` takes, B rows.
        max_length: most tokens to generate; counts as 1 below it, and as the positions left above them.
        min_length: fewest tokens before the end token.
        num_beams: counts as 1 below it and in a row that samples.
        length_penalty: see `DecodingConfig`, like the rest.
        repetition_penalty: 1 = none.
        temperature: 0 = search.
        top_k: 0 = all.
        top_p: 1 = all.
        seed: of the row's random numbers; equal seeds and inputs give equal tokens.

    Returns: `token_ids` (B, W, T) int32, `log_probs` (B, W, T) float32 and `scores` (B, W) float32, best first. W is
        the most beams of any row; a row with fewer has `IMPOSSIBLE` scores and padding in the rest. Log-probabilities
        are those of the tokens that `min_length`, `repetition_penalty` and `never_generated` leave.
    """
    prompt_ids, prompt_mask = model.prompt(inputs)
    num_rows = tf.shape(prompt_ids)[0]
    prompt_lengths = tf.reduce_sum(prompt_mask, axis=1)

    def by_row(option: Any, dtype: tf.DType) -> tf.Tensor:
        return tf.broadcast_to(tf.cast(option, dtype), [num_rows])

    # What is off for the whole batch is left out of the graph.
    may_sample = not (isinstance(temperature, (int, float)) and temperature == 0)
    may_penalize = not (isinstance(repetition_penalty, (int, float)) and repetition_penalty == 1)
    never = never_generated(model.config.pad_id, model.config.start_id, model.config.end_id)
    may_forbid = not (isinstance(min_length, int) and min_length == 0)
    temperature = by_row(temperature, tf.float32)
    room = positions_left(model.config.max_sequence_length, prompt_lengths)
    limits = tf.minimum(tf.maximum(by_row(max_length, tf.int32), 1), room)
    beams = tf.where(temperature > 0, 1, tf.maximum(by_row(num_beams, tf.int32), 1))
    width = num_beams if isinstance(num_beams, int) else tf.maximum(tf.reduce_max(beams), 1)  # a batch may be empty
    alpha = by_row(length_penalty, tf.float32)
    penalty_factor = by_row(repetition_penalty, tf.float32)[:, tf.newaxis, tf.newaxis]
    forbidden_until = by_row(min_length, tf.int32)[:, tf.newaxis, tf.newaxis]
    draw = (by_row(top_k, tf.int32), by_row(top_p, tf.float32), by_row(seed, tf.int64))

    # Not tf.repeat: its reshape of an empty cache means something else in ONNX, where a size of 0 says "as before".
    rows = tf.range(num_rows * width) // width
    state = {name: tf.gather(value, rows) for name, value in model.start(inputs).items()}
    memory = {name: value for name, value in state.items() if name.startswith(MEMORY)}
    growing = {name: value for name, value in state.items() if name not in memory}
    beam_rank = tf.range(width)[tf.newaxis]
    candidate_rank = tf.range(2 * width)[tf.newaxis]

    def reweighted(logits: tf.Tensor, length: tf.Tensor, seen: tf.Tensor) -> tf.Tensor:
        """(B, W, V) logits after the repetition penalty and the least length."""
        if may_penalize:
            penalized = tf.where(logits > 0, logits / penalty_factor, logits * penalty_factor)
            logits = tf.where(seen, penalized, logits)
        for one in never:
            logits = tf.where(tf.range(logits.shape[-1]) == one, IMPOSSIBLE, logits)
        if may_forbid:
            is_end = tf.range(logits.shape[-1]) == model.config.end_id
            logits = tf.where(is_end & (length < forbidden_until), IMPOSSIBLE, logits)
        return logits

    def advance(
        length: tf.Tensor,
        growing: dict[str, tf.Tensor],
        seen: tf.Tensor,
        last: tf.Tensor,
        live: Hypotheses,
        finished: Hypotheses,
        done: tf.Tensor,
    ) -> tuple[Any, ...]:
        """Adds one token to every live hypothesis and sorts the finished from the living."""
        logits, state = model.step(tf.reshape(last, [-1, 1]), memory | growing)
        vocabulary_size = logits.shape[-1]
        logits = reweighted(tf.reshape(logits[:, -1], [num_rows, width, vocabulary_size]), length, seen)
        log_probs = tf.nn.log_softmax(logits)
        totals = tf.reshape(live.scores[:, :, tf.newaxis] + log_probs, [num_rows, width * vocabulary_size])
        totals, choice = tf.math.top_k(totals, 2 * width)  # (B, 2W), best first
        origin, tokens = choice // vocabulary_size, choice % vocabulary_size
        if may_sample:
            # Drawn even if every row searches: a tf.cond in the loop converts to an ONNX graph without shapes.
            sampled = sample(logits[:, 0], temperature, *draw, length)[:, tf.newaxis]
            sampled_totals = live.scores[:, :1] + tf.gather(log_probs[:, 0], sampled, batch_dims=1)
            replace = (temperature > 0)[:, tf.newaxis]
            choice = tf.where(replace, sampled, choice)
            origin = tf.where(replace, 0, origin)
            tokens = tf.where(replace, sampled, tokens)
            totals = tf.where(replace, sampled_totals, totals)

        chosen = tf.gather(tf.reshape(log_probs, [num_rows, width * vocabulary_size]), choice, batch_dims=1)
        before = live.pick(origin)
        longer = Hypotheses(
            tf.concat([before.token_ids, tokens[:, :, tf.newaxis]], axis=2),
            tf.concat([before.log_probs, chosen[:, :, tf.newaxis]], axis=2),
            totals,
        )
        length += 1
        considered = candidate_rank < tf.where(temperature > 0, 1, 2 * beams)[:, tf.newaxis]
        ended = tokens == model.config.end_id
        at_limit = (length >= limits)[:, tf.newaxis]
        finishes = (ended | at_limit) & (candidate_rank < beams[:, tf.newaxis]) & ~done[:, tf.newaxis]
        finishes &= totals > IMPOSSIBLE / 2
        penalty = ((5.0 + tf.cast(length, tf.float32)) / 6.0) ** alpha

        one_more = [[0, 0], [0, 0], [0, 1]]
        padded = tf.pad(finished.token_ids, one_more, constant_values=model.config.pad_id)
        finishing = tf.where(finishes, totals / penalty[:, tf.newaxis], IMPOSSIBLE)
        pool = Hypotheses(
            tf.concat([padded, longer.token_ids], axis=1),
            tf.concat([tf.pad(finished.log_probs, one_more), longer.log_probs], axis=1),
            tf.concat([finished.scores, finishing], axis=1),
        )
        scores, best = tf.math.top_k(pool.scores, width)
        scores = tf.where(beam_rank < beams[:, tf.newaxis], scores, IMPOSSIBLE)
        finished = pool.pick(best)._replace(scores=scores)
        num_finished = tf.reduce_sum(tf.cast(scores > IMPOSSIBLE / 2, tf.int32), axis=1)
        done |= (num_finished >= beams) | at_limit[:, 0]

        totals, best = tf.math.top_k(tf.where(ended | ~considered, IMPOSSIBLE, totals), width)
        totals = tf.where(beam_rank < beams[:, tf.newaxis], totals, IMPOSSIBLE)
        live = longer.pick(best)._replace(scores=totals)
        last = tf.gather(tokens, best, batch_dims=1)
        growing = {name: state[name] for name in growing}
        if not (isinstance(width, int) and width == 1):
            origin = tf.gather(origin, best, batch_dims=1)
            rows = tf.reshape(tf.range(num_rows)[:, tf.newaxis] * width + origin, [-1])
            growing = {name: tf.gather(value, rows) for name, value in growing.items()}
            seen = tf.gather(seen, origin, batch_dims=1) if may_penalize else seen
        if may_penalize:
            seen |= last[:, :, tf.newaxis] == tf.range(vocabulary_size)
        return length, growing, seen, last, live, finished, done

    last = tf.gather(prompt_ids, prompt_lengths - 1, batch_dims=1)
    nothing = Hypotheses(
        tf.zeros([num_rows, width, 0], tf.int32),
        tf.zeros([num_rows, width, 0]),
        tf.fill([num_rows, width], IMPOSSIBLE),
    )
    # W equal hypotheses are one.
    start = nothing._replace(scores=tf.where(beam_rank == 0, tf.zeros([num_rows, width]), IMPOSSIBLE))
    loop_state = (
        tf.constant(0),
        growing,
        _seen(prompt_ids, prompt_mask, width, model.config.vocabulary_size) if may_penalize else tf.constant(0),
        tf.tile(last[:, tf.newaxis], [1, width]),
        start,
        nothing,
        tf.zeros([num_rows], tf.bool),
    )
    loop_shapes = tf.nest.map_structure(lambda value: tf.TensorShape([None] * value.shape.rank), loop_state)
    *_, finished, _ = tf.while_loop(lambda *state: ~tf.reduce_all(state[-1]), advance, loop_state, loop_shapes)
    unused = (finished.scores <= IMPOSSIBLE / 2)[:, :, tf.newaxis]
    return {
        "token_ids": tf.where(unused, model.config.pad_id, finished.token_ids),
        "log_probs": tf.where(unused, 0.0, finished.log_probs),
        "scores": finished.scores,
    }


def _seen(token_ids: tf.Tensor, padding_mask: tf.Tensor, width: int | tf.Tensor, vocabulary_size: int) -> tf.Tensor:
    """(B, W, V) bool: which tokens stand in a row's (B, P) prompt."""
    token_ids = tf.where(padding_mask > 0, token_ids, token_ids[:, :1])
    rows = tf.broadcast_to(tf.range(tf.shape(token_ids)[0])[:, tf.newaxis], tf.shape(token_ids))
    counts = tf.scatter_nd(
        tf.stack([rows, token_ids], axis=-1),
        tf.ones(tf.shape(token_ids), tf.int32),
        tf.stack([tf.shape(token_ids)[0], vocabulary_size]),
    )
    return tf.tile((counts > 0)[:, tf.newaxis], [1, width, 1])
