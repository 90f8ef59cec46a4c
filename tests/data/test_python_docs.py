"""`sample:python_docs`: prose of the running CPython, disjoint by package, nothing imported."""

import subprocess
import sys

import pytest

from tfzoo.data import python_docs, read
from tfzoo.errors import DataError


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A small standard library; returns a function that writes a module of it."""

    def write(name, source):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")

    monkeypatch.setattr(python_docs.sysconfig, "get_path", lambda name: {"stdlib": str(tmp_path)}[name])
    write("pydoc_data/topics.py", "topics = {'if': 'About if.\\n', 'else': 'About else.'}\n")
    return write


def _all(is_wanted=lambda key: True):
    return list(python_docs.documents(is_wanted))


def test_docstrings_stand_in_the_order_of_the_source(library):
    library(
        "abc.py",
        '"""A module\n\n   indented.\n"""\n'
        'class Dog:\n    """A dog."""\n    def bark(self):\n        """Bark."""\n'
        '        def inner():\n            "Deep."\n'
        'if True:\n    async def run():\n        """Run."""\n'
        'def silent():\n    return "no docstring"\n'
        'def escape():\n    "A \\d."\n',
    )
    assert _all() == ["About else.", "About if.", "A module\n\nindented.\n\nA dog.\n\nBark.\n\nDeep.\n\nRun.\n\nA \\d."]


def test_a_package_shares_one_key_and_so_do_its_python_and_c_twins(library):
    for name in ("email/__init__.py", "email/mime/text.py", "_pydecimal.py", "decimal.py", "empty.py"):
        library(name, f'"""{name}"""' if name != "empty.py" else "x = 1")
    keys = []
    _all(lambda key: keys.append(key) or True)
    assert keys == ["topic else", "topic if", "decimal", "decimal", "email", "email", "empty"]
    assert _all(lambda key: key == "email") == ["email/__init__.py", "email/mime/text.py"]


def test_tests_generated_modules_and_other_peoples_packages_are_left_out(library):
    for name in ("test/a.py", "idlelib/idle_test/b.py", "site-packages/c.py", "lib-dynload/d.py", "encodings/e.py"):
        library(name, '"""Left out."""')
    library("lib2to3/tests/data/bom.py", "print 'not Python 3'")
    assert _all() == ["About else.", "About if."]


def test_a_topic_that_a_longer_one_repeats_is_left_out(library):
    library("pydoc_data/topics.py", "topics = {'try': 'Try it.', 'compound': 'If.\\n\\nTry it.', 'other': 'Other.'}")
    assert _all() == ["If.\n\nTry it.", "Other."]


def test_a_python_without_sources_is_named(library, tmp_path):
    library("bad.py", "def")
    with pytest.raises(DataError, match=r"bad\.py cannot be read \(invalid syntax.*; repair this Python"):
        _all()
    (tmp_path / "pydoc_data" / "topics.py").unlink()
    with pytest.raises(DataError, match="lacks pydoc_data/topics.py; use a Python with its library unpacked"):
        _all()


@pytest.fixture(scope="module")
def splits():
    return {split: list(read(f"sample:python_docs:{split}", 1)) for split in ("train", "validation", "test")}


def test_this_python_has_megabytes_of_it(splits):
    num_characters = {split: sum(len(text) for (text,) in records) for split, records in splits.items()}
    assert num_characters["train"] > 1_000_000
    assert num_characters["validation"] > 50_000
    assert num_characters["test"] > 50_000
    assert all(text == text.strip() != "" for records in splits.values() for (text,) in records)


def test_a_package_lies_in_one_split(splits):
    openings = {
        "train": [
            "The asyncio package, tracking PEP 3156.",
            "A package for parsing, handling, and generating email messages.",
        ],
        "validation": ["Basic statistics module."],
    }
    for split, texts in openings.items():
        for text in texts:
            assert [any(one.startswith(text) for (one,) in splits[name]) for name in splits] == [
                name == split for name in splits
            ]
    texts = set(_all(lambda key: key == "email"))
    assert len(texts) > 20
    assert texts <= {text for (text,) in splits["train"]}


def test_paragraphs_of_the_validation_are_not_trained_on(splits):
    trained = {one.strip() for (text,) in splits["train"] for one in text.split("\n\n")}
    for split in ("validation", "test"):
        paragraphs = [one.strip() for (text,) in splits[split] for one in text.split("\n\n")]
        shared = sum(len(one) for one in paragraphs if one in trained)
        assert shared < 0.04 * sum(map(len, paragraphs))


def test_a_held_out_document_that_copies_is_left_out(splits):
    """`wave` repeats `aifc`, `tokenize` what `lib2to3` has of it, `ntpath` what `posixpath` says."""
    train = ["a b c d e f g h i j k l", "m n o p q r s t"]
    held_out = ["x y z", "1 2 3 a b c d e f g h 4 5", "1 2 3 4 5 6 7 8 9 10 11 m n o p q r s t", "A b c d e f g h"]
    assert list(python_docs.without_copies(held_out, train)) == [held_out[0], held_out[2], held_out[3]]
    assert not any(text.startswith("Stuff to parse WAVE files") for (text,) in splits["test"])


def test_packages_have_each_docstring_once(library):
    library("email/__init__.py", '"""Mail."""\ndef a():\n    """Close."""\ndef b():\n    """Close."""')
    library("email/mime.py", '"""Mime."""\ndef c():\n    """Close."""')
    library("wave.py", '"""Wave."""\ndef d():\n    """Close."""')
    assert python_docs.packages(lambda key: True) == {
        "email": ["Mail.", "Close.", "Mime."],
        "wave": ["Wave.", "Close."],
    }
    assert python_docs.packages(lambda key: key == "wave") == {"wave": ["Wave.", "Close."]}


def test_labelled_docstrings_are_of_packages_that_the_documents_to_train_on_lack(splits):
    labelled = {split: list(read(f"sample:python_packages:{split}")) for split in ("train", "validation", "test")}
    texts = {split: {text for text, _ in records} for split, records in labelled.items()}
    assert (
        not texts["train"] & texts["validation"] | texts["train"] & texts["test"] | texts["validation"] & texts["test"]
    )
    labels = {label for _, label in labelled["train"]}
    assert {"importlib", "statistics", "unittest"} <= labels
    assert {label for _, label in labelled["test"]} == {label for _, label in labelled["validation"]} == labels
    num_records = {split: len(records) for split, records in labelled.items()}
    total = sum(num_records.values())
    assert 0.55 < num_records["train"] / total < 0.65
    assert 0.15 < num_records["test"] / total < 0.25
    openings = {"Return the sample arithmetic mean of data.": "statistics"}
    everything = dict(record for records in labelled.values() for record in records)
    for opening, label in openings.items():
        (found,) = {everything[text] for text in everything if text.startswith(opening)}
        assert found == label
        assert not any(opening in text for (text,) in splits["train"])


def test_it_is_read_without_importing_it():
    code = (
        "import sys\nfrom tfzoo.data import read\n"
        "before = set(sys.modules)\nassert len(list(read('sample:python_docs:test', 1))) > 9\n"
        "print(sorted(set(sys.modules) - before - {'tfzoo.data.sources'}))\n"
    )
    answer = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert "tkinter" not in answer.stdout
    assert "turtle" not in answer.stdout
    assert "pydoc_data" not in answer.stdout
