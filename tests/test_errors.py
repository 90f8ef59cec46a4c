"""What a reader is told of an error that another library raised."""

import pytest
import tensorflow as tf

from tfzoo.errors import one_line

SAID = "Input to reshape is a tensor with 3 values, but the requested shape has 30"


def reshaped(values):
    return tf.reshape(values, tf.stack([2, tf.size(values) * 5]))


def test_of_a_function_only_the_reason_is_told():
    function = tf.function(reshaped, input_signature=[tf.TensorSpec([None], tf.int32)])
    with pytest.raises(tf.errors.InvalidArgumentError, match="Graph execution error:") as raised:
        function([1, 2, 3])
    assert one_line(raised.value) == SAID


def test_of_a_session_only_the_reason_is_told():
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        values = tf.compat.v1.placeholder(tf.int32, [None])
        result = reshaped(values)
        with pytest.raises(tf.errors.InvalidArgumentError, match="Original stack trace for") as raised:
            session.run(result, {values: [1, 2, 3]})
    assert one_line(raised.value) == SAID


@pytest.mark.parametrize(
    ("error", "line"),
    [(ValueError("two\n  lines"), "two lines"), (ValueError(), "ValueError"), (OSError(2, "none", "a"), None)],
    ids=str,
)
def test_of_others_all_is_told(error, line):
    assert one_line(error) == (line or str(error))
