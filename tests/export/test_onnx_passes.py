"""The graph passes on models small enough to read, in ONNX' own text form, run by ONNX Runtime before and after."""

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest

from tfzoo.export.onnx_passes import (
    count_operators,
    divide_before_erf,
    hoist_loop_invariants,
    name_axes,
    share_initializers,
    subgraphs,
    transpose_initializers,
)

X = np.array([1.0, 2.0], np.float32)


def parse(text):
    model = onnx.parser.parse_model('<ir_version: 8, opset_import: ["" : 18]>\n' + text)
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model, trips):
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": X, "n": np.array(trips, np.int64)})


def loops(model):
    return [node for graph in subgraphs(model.graph) for node in graph.node if node.op_type == "Loop"]


def hoist(model, moved):
    """Hoists, and holds the model to the same answers: for no iteration, one and more."""
    before = model.SerializeToString(deterministic=True)
    expected = {trips: run(model, trips) for trips in (0, 1, 3)}
    assert hoist_loop_invariants(model.graph) == moved
    for trips, values in expected.items():
        found = run(model, trips)
        assert len(found) == len(values)
        for value, other in zip(found, values, strict=True):
            np.testing.assert_array_equal(value, other)
    if not moved:
        assert model.SerializeToString(deterministic=True) == before
    assert hoist_loop_invariants(model.graph) == 0  # once is enough
    return model


WEIGHT_IN_STATE = """
g (float[2] x, int64 n) => (float[2] y) <float[2] w = {3, 5}> {
  go = Constant <value = bool {1}> ()
  y, w_last = Loop (n, go, x, w) <body = body
    (int64 i, bool go_in, float[2] sum, float[2] w_in) => (bool go_out, float[2] sum_out, float[2] w_out) {
      go_out = Identity (go_in)
      sum_out = Add (sum, w_in)
      w_copy = Identity (w_in)
      w_out = Identity (w_copy)
  }>
}
"""


def test_an_unchanged_value_is_read_from_outside():
    model = hoist(parse(WEIGHT_IN_STATE), moved=1)
    (loop,) = loops(model)
    assert list(loop.input) == ["n", "go", "x"]
    assert list(loop.output) == ["y"]
    (body,) = (attribute.g for attribute in loop.attribute)
    assert [value.name for value in body.input] == ["i", "go_in", "sum"]
    assert [value.name for value in body.output] == ["go_out", "sum_out"]
    (add,) = (node for node in body.node if node.op_type == "Add")
    assert list(add.input) == ["sum", "w"]


def test_a_value_that_comes_out_as_it_went_in_needs_no_identity_between():
    hoist(
        parse("""
        g (float[2] x, int64 n) => (float[2] y) <float[2] w = {3, 5}> {
          go = Constant <value = bool {1}> ()
          w_last, y = Loop (n, go, w, x) <body = body
            (int64 i, bool go_in, float[2] w_in, float[2] sum) => (bool go_in, float[2] w_in, float[2] sum_out) {
              sum_out = Add (sum, w_in)
          }>
        }"""),
        moved=1,
    )


def test_a_changing_value_stays():
    hoist(
        parse("""
        g (float[2] x, int64 n) => (float[2] y) <float[2] w = {3, 5}> {
          go = Constant <value = bool {1}> ()
          y, w_last = Loop (n, go, x, w) <body = body
            (int64 i, bool go_in, float[2] sum, float[2] w_in) => (bool go_out, float[2] sum_out, float[2] w_out) {
              go_out = Identity (go_in)
              sum_out = Add (sum, w_in)
              w_out = Neg (w_in)
          }>
        }"""),
        moved=0,
    )


def test_two_values_that_change_places_stay():
    hoist(
        parse("""
        g (float[2] x, int64 n) => (float[2] y) <float[2] w = {3, 5}> {
          go = Constant <value = bool {1}> ()
          y, w_last = Loop (n, go, x, w) <body = body
            (int64 i, bool go_in, float[2] a, float[2] b) => (bool go_in, float[2] b, float[2] a) {
              unused = Add (a, b)
          }>
        }"""),
        moved=0,
    )


USED_OUTSIDE = {
    "by a node": "z = Add (w_last, y)",
    "as an output": "z = Identity (y)",
    "in a branch": """c = Constant <value = bool {1}> ()
        z = If (c) <then_branch = t () => (float[2] a) { a = Neg (w_last) },
                    else_branch = e () => (float[2] b) { b = Abs (y) }>""",
    "in another loop": """z = Loop (n, go, y) <body = other
            (int64 j, bool go_in2, float[2] s) => (bool go_out2, float[2] s_out) {
              go_out2 = Identity (go_in2)
              s_out = Add (s, w_last)
          }>""",
}


@pytest.mark.parametrize("use", USED_OUTSIDE)
def test_a_value_that_is_used_after_the_loop_stays(use):
    output = "w_last" if use == "as an output" else "z"
    nodes = USED_OUTSIDE[use]
    hoist(
        parse(f"""
        g (float[2] x, int64 n) => (float[2] {output}) <float[2] w = {{3, 5}}> {{
          go = Constant <value = bool {{1}}> ()
          y, w_last = Loop (n, go, x, w) <body = body
            (int64 i, bool go_in, float[2] sum, float[2] w_in) => (bool go_out, float[2] sum_out, float[2] w_out) {{
              go_out = Identity (go_in)
              sum_out = Add (sum, w_in)
              w_out = Identity (w_in)
          }}>
          {nodes}
        }}"""),
        moved=0,
    )


def test_a_branch_inside_the_body_reads_from_outside_too():
    model = hoist(
        parse("""
        g (float[2] x, int64 n) => (float[2] y) <float[2] w = {3, 5}> {
          go = Constant <value = bool {1}> ()
          y, w_last = Loop (n, go, x, w) <body = body
            (int64 i, bool go_in, float[2] sum, float[2] w_in) => (bool go_out, float[2] sum_out, float[2] w_out) {
              go_out = Identity (go_in)
              one = Constant <value = int64 {1}> ()
              first = Less (i, one)
              sum_out = If (first)
                <then_branch = t () => (float[2] a) { a = Add (sum, w_in) },
                 else_branch = e () => (float[2] b) { b = Identity (w_in) }>
              w_out = Identity (w_in)
          }>
        }"""),
        moved=1,
    )
    names = {name for graph in subgraphs(model.graph) for node in graph.node for name in node.input}
    assert "w" in names
    assert "w_in" not in names


def test_nested_loops_read_from_the_outermost_graph():
    model = hoist(
        parse("""
        g (float[2] x, int64 n) => (float[2] y) <float[2] w = {3, 5}> {
          go = Constant <value = bool {1}> ()
          y, w_last = Loop (n, go, x, w) <body = outer
            (int64 i, bool go_in, float[2] sum, float[2] w_in) => (bool go_out, float[2] sum_out, float[2] w_out) {
              go_out = Identity (go_in)
              two = Constant <value = int64 {2}> ()
              sum_out, w_out = Loop (two, go_in, sum, w_in) <body = inner
                (int64 j, bool g_in, float[2] s, float[2] v) => (bool g_out, float[2] s_out, float[2] v_out) {
                  g_out = Identity (g_in)
                  s_out = Add (s, v)
                  v_out = Identity (v)
              }>
          }>
        }"""),
        # The inner loop's result is what the outer one carries on: it is used outside, and the outer one's changes.
        moved=0,
    )
    model = hoist(
        parse("""
        g (float[2] x, int64 n) => (float[2] y) <float[2] w = {3, 5}> {
          go = Constant <value = bool {1}> ()
          y, w_last = Loop (n, go, x, w) <body = outer
            (int64 i, bool go_in, float[2] sum, float[2] w_in) => (bool go_out, float[2] sum_out, float[2] w_out) {
              go_out = Identity (go_in)
              two = Constant <value = int64 {2}> ()
              sum_out, v_last = Loop (two, go_in, sum, w_in) <body = inner
                (int64 j, bool g_in, float[2] s, float[2] v) => (bool g_out, float[2] s_out, float[2] v_out) {
                  g_out = Identity (g_in)
                  s_out = Add (s, v)
                  v_out = Identity (v)
              }>
              w_out = Identity (w_in)
          }>
        }"""),
        moved=2,
    )
    assert [list(loop.input) for loop in loops(model)] == [["n", "go", "x"], ["two", "go_in", "sum"]]
    (add,) = (node for graph in subgraphs(model.graph) for node in graph.node if node.op_type == "Add")
    assert list(add.input) == ["s", "w"]


def test_scan_outputs_keep_their_places():
    hoist(
        parse("""
        g (float[2] x, int64 n) => (float[2] y, float[k, 2] sums, float[k, 2] weights) <float[2] w = {3, 5}> {
          go = Constant <value = bool {1}> ()
          w_last, y, sums, weights = Loop (n, go, w, x) <body = body
            (int64 i, bool go_in, float[2] w_in, float[2] sum)
              => (bool go_out, float[2] w_out, float[2] sum_out, float[2] sum_scan, float[2] w_scan) {
              go_out = Identity (go_in)
              w_out = Identity (w_in)
              sum_out = Add (sum, w_in)
              sum_scan = Identity (sum_out)
              w_scan = Identity (w_in)
          }>
        }"""),
        moved=1,
    )


def test_an_unchanged_value_may_also_be_handed_out_under_its_own_name():
    """A body output that is the very input that goes: twice, as the next state of another value and as a scan."""
    hoist(
        parse("""
        g (float[2] x, int64 n) => (float[2] y, float[k, 2] weights) <float[2] w = {3, 5}> {
          go = Constant <value = bool {1}> ()
          y, w_last, weights = Loop (n, go, x, w) <body = body
            (int64 i, bool go_in, float[2] sum, float[2] w_in)
              => (bool go_in, float[2] w_in, float[2] w_in, float[2] w_in) {
              unused = Add (sum, w_in)
          }>
        }"""),
        moved=1,
    )


def test_every_loop_of_a_graph_is_treated():
    model = hoist(
        parse("""
        g (float[2] x, int64 n) => (float[2] y) <float[2] w = {3, 5}> {
          go = Constant <value = bool {1}> ()
          a, w_last = Loop (n, go, x, w) <body = first
            (int64 i, bool go_in, float[2] sum, float[2] w_in) => (bool go_out, float[2] sum_out, float[2] w_out) {
              go_out = Identity (go_in)
              sum_out = Add (sum, w_in)
              w_out = Identity (w_in)
          }>
          y, a_last = Loop (n, go, w, a) <body = second
            (int64 j, bool g_in, float[2] s, float[2] a_in) => (bool g_out, float[2] s_out, float[2] a_out) {
              g_out = Identity (g_in)
              s_out = Mul (s, a_in)
              a_out = Identity (a_in)
          }>
        }"""),
        moved=2,
    )
    assert [list(loop.input) for loop in loops(model)] == [["n", "go", "x"], ["n", "go", "w"]]


def test_operators_are_counted_in_every_graph_and_by_domain():
    model = parse(WEIGHT_IN_STATE)
    assert count_operators(model) == {"Add": 1, "Constant": 1, "Identity": 3, "Loop": 1}
    model.graph.node.add(op_type="Gelu", domain="com.microsoft", input=["y"], output=["unused"])
    assert count_operators(model) == {"Add": 1, "Constant": 1, "Identity": 3, "Loop": 1, "com.microsoft::Gelu": 1}


def test_axes_get_names_and_sizes():
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18]> g (float[7, unk__3, 2] x) => (float[7, unk__3, 2] y) { y = Neg (x) }'
    )
    name_axes(model, {"x": ("batch", "length", 2), "y": ("batch", "length", 2)})
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        assert [dim.dim_param or dim.dim_value for dim in dims] == ["batch", "length", 2]
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.zeros((3, 5, 2), np.float32)
    assert session.run(None, {"x": x})[0].shape == x.shape


WEIGHTS_TWICE = """
g (float[2] x, int64 n) => (float[2] y, float[2] z) <float[2] w = {3, 5}, float[2] other = {3, 6}> {
  go = Constant <value = bool {1}> ()
  begin = Mul (x, w)
  z = Mul (x, other)
  y = Loop (n, go, begin) <body = body
    (int64 i, bool go_in, float[2] sum) => (bool go_out, float[2] sum_out)
    <float[2] w_body = {3, 5}, float[2] own = {7, 8}> {
      go_out = Identity (go_in)
      more = Add (sum, w_body)
      sum_out = Mul (more, own)
  }>
}
"""


def initializers(model):
    return [{tensor.name for tensor in graph.initializer} for graph in subgraphs(model.graph)]


class TestShareInitializers:
    @pytest.fixture(autouse=True)
    def _small(self, monkeypatch):
        monkeypatch.setattr("tfzoo.export.onnx_passes._SHARED_BYTES", 8)

    def test_equal_weights_of_a_body_are_read_from_outside(self):
        model = parse(WEIGHTS_TWICE)
        expected = {trips: run(model, trips) for trips in (0, 1, 3)}
        assert share_initializers(model.graph) == 1
        assert initializers(model) == [{"other", "shared_0"}, {"own"}]
        for trips, values in expected.items():
            for value, other in zip(run(model, trips), values, strict=True):
                np.testing.assert_array_equal(value, other)
        assert share_initializers(model.graph) == 0  # once is enough

    def test_a_body_may_hand_its_weight_out(self):
        model = parse(WEIGHTS_TWICE.replace("sum_out = Mul (more, own)", "sum_out = Identity (w_body)"))
        body = list(subgraphs(model.graph))[1]
        body.output[1].name = "w_body"
        del body.node[-1]
        assert share_initializers(model.graph) == 1
        np.testing.assert_array_equal(run(model, 2)[0], [3, 5])

    def test_another_shape_is_another_weight(self):
        text = WEIGHTS_TWICE.replace("float[2] w_body = {3, 5}", "float[1, 2] w_body = {3, 5}")
        text = text.replace("more = Add (sum, w_body)", "flat = Squeeze (w_body)\n      more = Add (sum, flat)")
        assert share_initializers(parse(text).graph) == 0

    def test_small_ones_stay_where_they_are(self, monkeypatch):
        monkeypatch.setattr("tfzoo.export.onnx_passes._SHARED_BYTES", 9)
        model = parse(WEIGHTS_TWICE)
        assert share_initializers(model.graph) == 0
        assert initializers(model) == [{"w", "other"}, {"w_body", "own"}]


TIED = """
<ir_version: 9, opset_import: ["" : 18]>
tied (int64[batch] ids) => (float[batch, 3] logits)
<float[3, 2] table = {1, 2, 3, 4, 5, 6},
 float[2, 3] table_t = {1, 3, 5, 2, 4, 6},
 float[2, 3] other = {1, 2, 3, 4, 5, 6}>
{
   x = Gather (table, ids)
   y = MatMul (x, table_t)
   z = MatMul (x, other)
   logits = Add (y, z)
}
"""


class TestTransposeInitializers:
    @pytest.fixture(autouse=True)
    def _small(self, monkeypatch):
        monkeypatch.setattr("tfzoo.export.onnx_passes._SHARED_BYTES", 8)

    def test_a_tied_matrix_is_there_once(self):
        model = onnx.parser.parse_model(TIED)
        ids = {"ids": np.array([2, 0], np.int64)}
        expected = onnxruntime.InferenceSession(model.SerializeToString()).run(None, ids)[0]
        assert transpose_initializers(model.graph) == 1
        assert initializers(model) == [{"table", "other"}]  # the same numbers in another order are another matrix
        onnx.checker.check_model(model, full_check=True)
        np.testing.assert_array_equal(
            onnxruntime.InferenceSession(model.SerializeToString()).run(None, ids)[0], expected
        )
        assert transpose_initializers(model.graph) == 0


class TestDivideBeforeErf:
    TEXT = """g (float[2] x, int64 n) => (float[2] y, float[2] z)
        <float factor = {0.70710678}, float other = {0.5}> {
            a = Mul(factor, x)
            b = Erf(a)
            c = Mul(x, factor)
            d = Erf(c)
            e = Mul(x, other)
            f = Erf(e)
            y = Sum(b, d, f)
            z = Mul(y, %s)
        }"""

    @pytest.mark.parametrize(("last", "left"), [("factor", {"factor", "other"}), ("other", {"other"})])
    def test_products_before_erf_alone_become_divisions(self, last, left):
        model = parse(self.TEXT % last)
        expected = run(model, 1)
        assert divide_before_erf(model.graph) == 2
        for one, other in zip(run(model, 1), expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6)
        counts = count_operators(model)
        assert (counts["Div"], counts["Mul"], counts["Erf"]) == (2, 2, 3)
        # What nothing reads any more is gone.
        assert {tensor.name for tensor in model.graph.initializer} == left | {"square_root_of_2"}

    def test_nothing_changes_without_erf(self):
        model = parse("g (float[2] x, int64 n) => (float[2] y) <float factor = {0.70710678}> { y = Mul(x, factor) }")
        before = model.SerializeToString(deterministic=True)
        assert divide_before_erf(model.graph) == 0
        assert model.SerializeToString(deterministic=True) == before
