"""Labels of texts and of words, and every way in which they can be wrong."""

import json
import os
import subprocess
import sys

import pytest

from tfzoo.data.labelled import LabelIndex, LabelledText, label_names, number, read_labelled, read_words
from tfzoo.data.sources import mixture
from tfzoo.errors import DataError, UsageError


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_tsv_gives_one_text_or_two_with_a_label(write):
    path = write("a.tsv", "a dog\tpos\n\n two \t neg \n")
    assert list(read_labelled(f"tsv:{path}@0.5")) == [
        (("a dog",), ("pos",), f"{path}:1"),
        ((" two ",), ("neg",), f"{path}:3"),
    ]
    path = write("b.tsv", "a\tb\t0\n")
    assert list(read_labelled(f"tsv:{path}", num_texts=2)) == [(("a", "b"), ("0",), f"{path}:1")]


def test_several_labels_are_separated_and_there_may_be_none(write):
    path = write("a.tsv", "a\tx, y,x\nb\t\nc\tz\n")
    found = [one.labels for one in read_labelled(f"tsv:{path}", problem="multi_label")]
    assert found == [("x", "y"), (), ("z",)]
    found = [one.labels for one in read_labelled(f"tsv:{path}", problem="multi_label", label_separator=", y")]
    assert found == [("x", ",x"), (), ("z",)]
    path = write("a.jsonl", '{"text": "a", "label": ["x", 3, "x"]}\n{"text": "b", "label": []}\n')
    assert [one.labels for one in read_labelled(f"jsonl:{path}", problem="multi_label")] == [("x", "3"), ()]


def test_jsonl_gives_strings_and_numbers(write):
    path = write("a.jsonl", '{"text": "a", "label": "x"}\n{"text": "b\\tc", "label": 7}\n{"text": "c", "label": 2.5}\n')
    found = list(read_labelled(f"jsonl:{path}"))
    assert [one.labels for one in found] == [("x",), ("7",), ("2.5",)]
    assert found[1].texts == ("b\tc",)
    assert number(found[2]) == 2.5
    path = write("b.jsonl", '{"text_a": "a", "text_b": "b", "label": "x"}\n')
    assert list(read_labelled(f"jsonl:{path}", num_texts=2)) == [(("a", "b"), ("x",), f"{path}:1")]


@pytest.mark.parametrize(
    ("scheme", "content", "message"),
    [
        ("tsv", "a\tx\nonly text\n", ":2: 1 column(s) where 2 are needed; write text<TAB>label."),
        ("tsv", "a\tx\ty\n", ":1: 3 column(s) where 2 are needed"),
        ("tsv", "a\tx\nb\t \n", ":2: column 2 is empty"),
        ("tsv", " \tx\n", ":1: column 1 is empty"),
        ("tsv", "\n", ": the file is empty"),
        ("jsonl", '{"text": "a", "lable": 1}\n', ":1: the field 'label' is missing; there are ['lable', 'text']. Did"),
        ("jsonl", '{"text": "a", "label": null}\n', ":1: the field 'label' must be a string or a number, not null."),
        ("jsonl", '{"text": "a", "label": true}\n', ":1: the field 'label' must be a string or a number, not true."),
        (
            "jsonl",
            '{"text": "a", "label": ["x"]}\n',
            ":1: the field 'label' must be a string or a number, not [\"x\"].",
        ),
        ("jsonl", '{"text": "a", "label": " "}\n', ":1: the field 'label' is empty"),
        ("jsonl", '{"text": 3, "label": "x"}\n', ":1: the field 'text' must be a string, not 3."),
        ("jsonl", '{"text": "", "label": "x"}\n', ":1: column 1 is empty"),
    ],
)
def test_malformed_records_name_file_line_and_way_out(write, scheme, content, message):
    path = write("data.file", content)
    with pytest.raises(DataError) as error:
        list(read_labelled(f"{scheme}:{path}"))
    assert str(error.value).startswith(f"{path}{message}")


def test_conll_gives_sentences_with_the_line_of_each_word(write):
    path = write(
        "a.conll",
        "-DOCSTART- -X- O O\n\nEU NNP B-ORG\nrejects VBZ O\n\n\nGerman\u00a0call\tJJ\tB-MISC\r\n-DOCSTART- O\n# O\n",
    )
    assert list(read_words(f"conll:{path}")) == [
        (("EU", "rejects"), ("B-ORG", "O"), (f"{path}:3", f"{path}:4")),
        (("German\u00a0call",), ("B-MISC",), (f"{path}:7",)),
        (("#",), ("O",), (f"{path}:9",)),
    ]


def test_jsonl_gives_labelled_words(write):
    path = write("a.jsonl", '\n{"words": ["EU", "rejects"], "labels": ["B-ORG", 0]}\n')
    assert list(read_words(f"jsonl:{path}")) == [(("EU", "rejects"), ("B-ORG", "0"), (f"{path}:2", f"{path}:2"))]


@pytest.mark.parametrize(
    ("scheme", "content", "message"),
    [
        ("conll", "EU O\nrejects\n", ":2: the label is missing; write a word, white space and its label."),
        ("conll", "EU\t\n", ":1: the last column is empty; write the label of 'EU' there."),
        ("conll", "\tO\n", ":1: the word '' is empty, or has white space in it"),
        ("conll", "20 000\tO\n", ":1: the word '20 000' is empty, or has white space in it"),
        ("conll", "\n-DOCSTART- O\n", ": the file is empty; name a file with at least one word"),
        ("jsonl", '{"words": ["a"]}\n', ":1: the field 'labels' is missing"),
        ("jsonl", '{"words": ["a"], "labels": ["O", "O"]}\n', ":1: `words` and `labels` must be lists of the same"),
        ("jsonl", '{"words": [], "labels": []}\n', ":1: `words` and `labels` must be lists of the same length, and"),
        ("jsonl", '{"words": "a", "labels": "O"}\n', ":1: `words` and `labels` must be lists"),
        ("jsonl", '{"words": ["a", 3], "labels": ["O", "O"]}\n', ":1: the field 'words' must be a string, not 3."),
        ("jsonl", '{"words": ["a b"], "labels": ["O"]}\n', ":1: the word 'a b' is empty, or has white space in it"),
        ("jsonl", '{"words": ["a"], "labels": [""]}\n', ":1: the field 'label' is empty"),
    ],
)
def test_malformed_sentences_name_file_line_and_way_out(write, scheme, content, message):
    path = write("data.file", content)
    with pytest.raises(DataError) as error:
        list(read_words(f"{scheme}:{path}"))
    assert str(error.value).startswith(f"{path}{message}")


def test_a_labelled_sample_is_read_and_others_are_refused():
    records = list(read_labelled("sample:python_packages:test"))
    assert {len(one.texts) for one in records} == {len(one.labels) for one in records} == {1}
    assert ("statistics",) in {one.labels for one in records}
    assert records[1].place == "sample:python_packages:test:2"
    for arguments in (("sample:cmudict",), ("sample:python_packages", 2), ("sample:python_packages", 1, "regression")):
        with pytest.raises(UsageError, match="one text with one label have `sample:python_packages`; use"):
            read_labelled(*arguments)
    with pytest.raises(UsageError, match="no split 'tests'.*Did you mean 'test'"):
        read_labelled("sample:python_packages:tests")


def test_a_scheme_without_labels_is_refused_at_once():
    with pytest.raises(UsageError, match="`text:` has no texts with labels; use `tsv:`, `jsonl:` or `tfds:`"):
        read_labelled("text:a")
    with pytest.raises(UsageError, match="`tsv:` has no labelled words; use `conll:` or `jsonl:`"):
        read_words("tsv:a")
    for read in (read_labelled, read_words):
        with pytest.raises(DataError, match="no such file"):
            read("jsonl:no/such/file")


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["pos", "neg", "pos"], ("neg", "pos")),
        (["10", "9", "1", "9"], ("1", "9", "10")),
        (["10", "9", "x"], ("10", "9", "x")),
        (["B-b", "I-b", "O", "B-a"], ("O", "B-a", "B-b", "I-b")),
        (["O", "A"], ("A", "O")),
        ([], ()),
    ],
)
def test_labels_are_in_order(labels, names):
    assert label_names(labels) == names


def test_an_unknown_label_is_named_with_the_nearest():
    index = LabelIndex(("neg", "pos"))
    assert (index("neg", ""), index("pos", "")) == (0, 1)
    with pytest.raises(DataError) as error:
        index("psitive", "a.tsv:7")
    assert str(error.value) == "a.tsv:7: the training data has no label 'psitive', but neg, pos."
    with pytest.raises(DataError, match=r"no label 'pso', but neg, pos\. Did you mean 'pos'\?"):
        index("pso", "a.tsv:7")
    with pytest.raises(DataError, match="but 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 90 others"):
        LabelIndex([str(one) for one in range(100)])("x", "")


@pytest.mark.parametrize("label", ["x", "nan", "inf", "1,5"])
def test_a_regression_needs_a_number(label):
    assert number(LabelledText(("a",), ("-1e3",), "")) == -1000
    with pytest.raises(DataError, match=f"a.tsv:7: the label '{label}' is no finite number"):
        number(LabelledText(("a",), (label,), "a.tsv:7"))


def test_weights_of_a_mixture():
    assert mixture(["tsv:a", "tsv:b"]) is None
    assert mixture(["tsv:a@0.3", "tsv:b"]) == [0.3, 1.0]
    with pytest.raises(UsageError, match="`specs` is empty"):
        mixture([])


# A builder in a folder of its own, prepared without a download; TFDS reads TFDS_DATA_DIR when it is imported.
BUILDER = """
import numpy as np
import tensorflow_datasets as tfds

class Dogs(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")
    keys = None

    def _info(self):
        features = {one: tfds.features.Text() for one in self.texts}
        features["label"] = self.label
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features), supervised_keys=self.keys)

    def _split_generators(self, download_manager):
        def rows(labels):
            for i, label in enumerate(labels):
                yield i, {"label": label, **{one: f"{one} {i}" for one in self.texts}}
        return {"train": rows(self.labels), "test": rows([-1])} if self.keys else {"train": rows(self.labels)}

    def _generate_examples(self):
        raise NotImplementedError

class Reviews(Dogs):
    texts, keys = ("review",), ("review", "label")
    labels = ["pos", "neg"]
    label = tfds.features.ClassLabel(names=["pos", "neg"])

class Pairs(Dogs):
    texts = ("premise", "hypothesis")
    labels = [2.5, 0.0]
    label = tfds.features.Scalar(np.float32)

class Topics(Dogs):
    texts = ("sentence",)
    labels = [["y", "x"], []]
    label = tfds.features.Sequence(tfds.features.ClassLabel(names=["x", "y"]))
"""
READER = """
import json
from dogs import dogs
from tfzoo.data.labelled import read_labelled
from tfzoo.errors import DataError
for builder in (dogs.Reviews, dogs.Pairs, dogs.Topics):
    builder().download_and_prepare()
answers = [
    sorted(read_labelled("tfds:reviews")),
    sorted(read_labelled("tfds:pairs", num_texts=2, problem="regression")),
    sorted(read_labelled("tfds:topics:train", problem="multi_label")),
]
for spec, num_texts in (("tfds:reviews:test", 1), ("tfds:pairs", 1)):
    try:
        list(read_labelled(spec, num_texts))
    except DataError as error:
        answers.append(str(error))
print(json.dumps(answers))
"""


def test_tfds_gives_the_names_of_classes(tmp_path):
    (tmp_path / "dogs").mkdir()
    (tmp_path / "dogs" / "__init__.py").touch()
    (tmp_path / "dogs" / "dogs.py").write_text(BUILDER, encoding="utf-8")
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    environment = {**os.environ, "TFDS_DATA_DIR": str(tmp_path / "data"), "PYTHONPATH": paths}
    answer = subprocess.run([sys.executable, "-c", READER], env=environment, capture_output=True, text=True, check=True)
    reviews, pairs, topics, kept_back, too_many = json.loads(answer.stdout.splitlines()[-1])
    assert [one[:2] for one in reviews] == [[["review 0"], ["pos"]], [["review 1"], ["neg"]]]
    assert [one[:2] for one in pairs] == [
        [["premise 0", "hypothesis 0"], ["2.5"]],
        [["premise 1", "hypothesis 1"], ["0.0"]],
    ]
    assert [one[:2] for one in topics] == [[["sentence 0"], ["y", "x"]], [["sentence 1"], []]]
    assert sorted(place for _, _, place in reviews) == [f"tfds:reviews:train, example {one}" for one in (1, 2)]
    assert kept_back.startswith("tfds:reviews:test, example 1: its label is -1, as where a dataset keeps the labels")
    assert too_many.startswith("tfds:pairs:train: no text with a label among its features ")
