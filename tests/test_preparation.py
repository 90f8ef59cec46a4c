"""`tfzoo prepare`: what is kept and dropped, what a killed call leaves, and what is refused."""

import collections
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

import tfzoo
from tests import prepared as corpora
from tests.prepared import DOCUMENTS, LOWER, UPPER
from tests.tiny_run import digest
from tfzoo import corpus_folder, preparation
from tfzoo.cli.main import main
from tfzoo.data import partitions, shards, sources
from tfzoo.data.prepared import open_prepared
from tfzoo.data.processes import Processes
from tfzoo.errors import DataError, TfzooError, UsageError
from tfzoo.preparation import prepare

EXPECTED = sorted({*LOWER, *UPPER})


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    data = corpora.write_pairs(folder)
    prepare(corpora.pairs_recipe(), folder / "out", data=data, num_shards=3, verbose=False)
    return folder / "out", data


def content(directory):
    """Everything but what names the call: shards, lengths, tokenizer, statistics."""
    return {name: value for name, value in digest(directory).items() if name != ".prepare.json"}


def read_back(directory):
    tokenizer = open_prepared(directory).tokenizer.target
    dataset = tfds.builder_from_directory(str(directory)).as_dataset(split="train")
    return sorted(
        (tokenizer.decode(one["source_ids"]), tokenizer.decode(one["target_ids"]))
        for one in dataset.as_numpy_iterator()
    )


def test_it_is_a_tensorflow_dataset_of_every_pair_once(pairs):
    directory, _ = pairs
    assert read_back(directory) == EXPECTED
    info = tfds.builder_from_directory(str(directory)).info
    assert info.splits["train"].num_examples == len(EXPECTED)
    assert len(info.splits["train"].filenames) == 3
    assert info.features["source_ids"].np_dtype == np.int32


def test_the_features_of_an_example_are_in_order(pairs):
    # Protocol buffers leave it open, and it would differ from process to process.
    directory, _ = pairs
    records = tf.data.TFRecordDataset([*map(str, directory.glob("*.tfrecord-*"))]).as_numpy_iterator()
    for record in records:
        places = [record.index(name) for name in (b"origin", b"source_ids", b"target_ids")]
        assert places == sorted(places)


def test_the_statistics_say_what_became_of_every_record(pairs):
    directory, data = pairs
    statistics = open_prepared(directory).statistics
    num_lines = sum(Path(one.partition(":")[2]).read_text(encoding="utf-8").count("\n") for one in data)
    dropped = statistics["dropped"]
    assert statistics["num_read"] == num_lines == statistics["num_examples"] + sum(dropped.values())
    assert dropped == {
        "empty": 0,
        "duplicate": num_lines - len(EXPECTED) - len(corpora.TOO_LONG),
        "too_long": len(corpora.TOO_LONG),
        "without_token": 0,
    }
    lengths = np.array([max(len(source), len(target)) + 1 for source, target in EXPECTED])
    assert statistics["lengths"]["up_to"] == statistics["boundaries"]
    found = np.searchsorted(statistics["boundaries"], lengths)
    assert statistics["lengths"]["examples"] == np.bincount(found).tolist()
    assert statistics["num_tokens"] == sum(len(source) + 1 + len(target) for source, target in EXPECTED)
    buckets = np.array([one["buckets"] for one in statistics["shards"]])
    assert buckets.sum(axis=(0, 1)).tolist() == [len({*LOWER}), len({*UPPER})]
    assert statistics["tokenizer"] == {"is_trained": True}


def test_without_deduplication_every_document_counts(tmp_path):
    data = corpora.write_documents(tmp_path)
    statistics = prepare(corpora.documents_recipe(), tmp_path / "out", data=[data, data], verbose=False)
    assert statistics["num_examples"] == 2 * len(DOCUMENTS)
    assert sum(one["examples"] for one in statistics["shards"]) == 2 * len(DOCUMENTS)
    assert len(statistics["shards"]) == partitions.MIN_SHARDS
    tokenizer = open_prepared(tmp_path / "out").tokenizer.target
    dataset = tfds.builder_from_directory(str(tmp_path / "out")).as_dataset(split="train")
    found = collections.Counter(tokenizer.decode(one["token_ids"]) for one in dataset.as_numpy_iterator())
    assert found == collections.Counter(2 * DOCUMENTS)
    assert statistics["lengths"]["up_to"] == [2, 4, 8, 16, 32]
    lengths = np.array([len(one) + 1 for one in DOCUMENTS])
    assert np.cumsum(statistics["lengths"]["examples"]).tolist() == [
        2 * (lengths <= one).sum() for one in (2, 4, 8, 16, 32)
    ]


def test_how_the_input_is_cut_changes_nothing(pairs, tmp_path, monkeypatch):
    directory, data = pairs
    lower = Path(data[0].partition(":")[2]).read_text(encoding="utf-8")
    packed = tmp_path / "lower.tsv.gz"
    with gzip.open(packed, "wt", encoding="utf-8") as file:
        file.write(lower)
    monkeypatch.setattr(partitions, "UNIT_BYTES", 1000)  # so that even the compressed file's records need several runs
    prepare(
        corpora.pairs_recipe(),
        tmp_path / "out",
        data=[f"tsv:{packed}", data[1]],
        tokenizer=directory,
        num_shards=3,
        verbose=False,
    )
    for one in directory.glob("*.tfrecord-*"):
        assert (tmp_path / "out" / one.name).read_bytes() == one.read_bytes()


def test_parts_of_a_file_are_its_lines_once(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffone\r\n\nthree größe\n\nfive\nsix".encode())
    for size in range(1, 40):
        parts = sources.parts_of(f"text:{path}", size)
        assert [text for one in parts for (text,) in sources.read(f"text:{path}", 1, parts=[one])] == [
            "one",
            "three größe",
            "five",
            "six",
        ], size


def test_an_error_within_a_part_says_where(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("a\tb\n" * 5 + "c\n", encoding="utf-8")
    *_, last = sources.parts_of(f"tsv:{path}", 10)
    with pytest.raises(DataError, match=r"a\.tsv: line 1 behind byte 20: 1 column"):
        list(sources.read(f"tsv:{path}", parts=[last]))


class Killed(Exception):
    pass


@pytest.mark.parametrize("moment", ["unit", "half a shard", "between shard and note", "metadata"])
def test_what_is_interrupted_goes_on_to_the_same_result(moment, pairs, tmp_path, monkeypatch):
    directory, data = pairs
    call = {"data": data, "num_shards": 3, "verbose": False}

    def fail_at(count, module, name, before=True):
        original, calls = getattr(module, name), []

        def failing(*args, **kwargs):
            calls.append(1)
            if before and len(calls) == count:
                raise Killed
            result = original(*args, **kwargs)
            if not before and len(calls) == count:
                raise Killed
            return result

        monkeypatch.setattr(module, name, failing)
        return original

    module, name, count, before = {
        "unit": (partitions, "partition", 2, True),
        "half a shard": (shards, "_serialized", 2, True),
        "between shard and note": (shards, "write_shard", 2, False),
        "metadata": (shards, "write_metadata", 1, False),
    }[moment]
    original = fail_at(count, module, name, before)
    with pytest.raises(Killed):
        prepare(corpora.pairs_recipe(), tmp_path / "out", **call)
    with pytest.raises(DataError, match="the same command finishes it"):
        open_prepared(tmp_path / "out")
    monkeypatch.setattr(module, name, original)
    written = []
    write = shards.write_shard
    monkeypatch.setattr(
        shards, "write_shard", lambda job, index, *rest: written.append(index) or write(job, index, *rest)
    )
    prepare(corpora.pairs_recipe(), tmp_path / "out", **call)
    assert content(tmp_path / "out") == content(directory)
    # Shard 0 was noted before the second one failed.
    assert written == {"unit": [0, 1, 2], "metadata": []}.get(moment, [1, 2])
    before = digest(tmp_path / "out")
    (tmp_path / "out/.prepare/units").mkdir(parents=True)  # killed while it was deleted
    prepare(corpora.pairs_recipe(), tmp_path / "out", **call)
    assert digest(tmp_path / "out") == before
    assert not (tmp_path / "out/.prepare").exists()


def test_another_call_does_not_mix_into_a_folder(pairs, tmp_path):
    directory, data = pairs
    with pytest.raises(UsageError, match="begun with another `num_shards`"):
        prepare(corpora.pairs_recipe(), directory, data=data, num_shards=4, verbose=False)
    with pytest.raises(UsageError, match="begun with another `recipe`"):
        prepare(corpora.pairs_recipe(reversed=True), directory, data=data, num_shards=3, verbose=False)
    (tmp_path / "mine").write_text("x", encoding="utf-8")
    with pytest.raises(UsageError, match="is not empty"):
        prepare(corpora.pairs_recipe(), tmp_path, data=data, verbose=False)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_memory_is_that_of_a_unit_and_of_a_partition(tmp_path, monkeypatch):
    """Ten times the text, in units and partitions of one size, holds no more lines at once."""
    monkeypatch.setattr(partitions, "UNIT_BYTES", 2000)
    most = []
    for scale in (1, 10):
        path = tmp_path / f"{scale}.tsv"
        path.write_text("".join(f"a{index}\tb\n" for index in range(1000 * scale)), encoding="utf-8")
        specs = (f"tsv:{path}",)
        job = partitions.Job(task="seq2seq", specs=specs, num_shards=4 * scale)
        folder = tmp_path / f"units_{scale}"
        folder.mkdir()
        units = partitions.units(specs)
        for index, unit in enumerate(units):
            partitions.partition(job, index, unit, folder)
        sizes = [len(list(partitions.read_partition(folder, index))) for index in range(job.num_shards)]
        assert sum(sizes) == 1000 * scale
        most.append((max(map(partitions.size_of, (part for unit in units for part in unit.parts))), max(sizes)))
    assert most[1][0] == most[0][0] == 2000
    assert most[1][1] < 1.5 * most[0][1]


def test_the_tokenizer_learns_from_as_much_as_it_is_told(tmp_path, monkeypatch):
    seen = []
    train = preparation.train_pair
    monkeypatch.setattr(preparation, "train_pair", lambda config, texts, size: train(config, watch(texts), size))

    def watch(texts):
        for one in texts:
            seen.append(one)
            yield one

    data = corpora.write_documents(tmp_path)
    prepare(corpora.documents_recipe(), tmp_path / "out", data=data, tokenizer_characters=200, verbose=False)
    assert 200 <= sum(len(text) for (text,) in seen) < 230 + 1
    assert {text for (text,) in seen} < {*DOCUMENTS}


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (
            lambda: tfzoo.recipe("bert_tiny", "text_classification"),
            "'text_classification', .* more than texts.*tsv:PATH",
        ),
        (lambda: tfzoo.recipe("bert_tiny", "question_answering"), "'seq2seq', 'causal_lm' and 'fill_mask'; the recipe"),
        (lambda: corpora.rows_recipe(next_sentence=True, num_texts=2), "Do without, as Liu et al"),
        (lambda: corpora.pairs_recipe(cleaning=("near_duplicates",)), "4 kB of memory for each"),
        (lambda: corpora.pairs_recipe(noise="masking"), "drawn anew in each epoch"),
        (lambda: corpora.documents_recipe(examples="prompt_answer"), "must be 'packed'"),
    ],
)
def test_what_is_not_prepared_is_said_at_once(recipe, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        prepare(recipe(), tmp_path / "out", data="tsv:none.tsv", verbose=False)
    assert not (tmp_path / "out").exists()


def test_mistakes_leave_nothing_behind(pairs, tmp_path):
    directory, data = pairs
    out = tmp_path / "out"
    recipe = corpora.pairs_recipe()
    with pytest.raises(UsageError, match="names no data"):
        prepare(recipe, out)
    with pytest.raises(DataError, match="no such file"):
        prepare(recipe, out, data="tsv:none.tsv")
    with pytest.raises(UsageError, match="is prepared already"):
        prepare(recipe, out, data=f"prepared:{directory}")
    with pytest.raises(UsageError, match="a weight has no meaning"):
        prepare(corpora.documents_recipe(), out, data="text:none.txt@2")
    for name in ("num_workers", "num_shards", "tokenizer_characters"):
        with pytest.raises(UsageError, match=f"`{name}` must be"):
            prepare(recipe, out, data=data, **{name: 0})
    tfzoo.text.BytePairTokenizer.train(["a b"], 300).save(tmp_path / "gpt2")
    with pytest.raises(UsageError, match="pad and end with two ids"):
        prepare(recipe, out, data=data, tokenizer=tmp_path / "gpt2", verbose=False)
    with pytest.raises(UsageError, match="word pieces for the task 'fill_mask'.*received BytePairTokenizer"):
        prepare(
            corpora.rows_recipe(),
            out,
            data=data[0].replace("tsv", "text", 1),
            tokenizer=tmp_path / "gpt2",
            verbose=False,
        )
    assert not out.exists()


def test_nothing_left_is_an_error_with_the_reasons(tmp_path):
    (tmp_path / "a.tsv").write_text("abcdefgabcdefg\ta\n" * 3, encoding="utf-8")
    with pytest.raises(DataError, match=r"none of the 3 examples is left \(2 duplicate, 1 too_long\)"):
        prepare(corpora.pairs_recipe(), tmp_path / "out", data=f"tsv:{tmp_path}/a.tsv", verbose=False)


def test_the_command_line(tmp_path, capsys):
    data = corpora.write_documents(tmp_path)
    arguments = ["--recipe=gpt2_tiny", f"--data={data}", f"--output_dir={tmp_path / 'out'}", "--num_workers=1"]
    assert main(["prepare", *arguments, "--set=model.vocabulary_size=320"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith(
        f"prepared: {tmp_path / 'out'}\nnext: tfzoo train --recipe=gpt2_tiny --data=prepared:"
    )
    assert f"{len(DOCUMENTS)} examples" in captured.err
    assert main(["prepare", *arguments, "--set=model.vocabulary_size=320", "--num_shards=2"]) == 2
    assert "begun with another `num_shards`" in capsys.readouterr().err


def test_beam_needs_a_tokenizer(tmp_path, capsys):
    data = corpora.write_documents(tmp_path)
    arguments = ["prepare", "--recipe=gpt2_tiny", f"--data={data}", f"--output_dir={tmp_path / 'out'}"]
    assert main([*arguments, "--beam_runner=DirectRunner"]) == 2
    assert "--tokenizer is missing" in capsys.readouterr().err


def test_a_worker_that_dies_is_told():
    with Processes(2) as run, pytest.raises(TfzooError, match="ended unasked"):
        list(run(os._exit, [(3,)]))


@pytest.mark.slow
def test_a_killed_process_is_gone_on_with_by_several(pairs, tmp_path):
    directory, data = pairs
    recipe = tmp_path / "recipe.json"
    recipe.write_text(tfzoo.recipes.to_json(corpora.pairs_recipe()), encoding="utf-8")
    command = [sys.executable, "-m", "tfzoo", "prepare", f"--recipe={recipe}", *(f"--data={one}" for one in data)]
    command += [f"--output_dir={tmp_path / 'out'}", "--num_shards=3", "--num_workers=2"]
    for marker in ("units", "shards"):  # killed when the first unit, and the first shard, is noted
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None and not list((tmp_path / "out/.prepare" / marker).glob("[0-9]*.json")):
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
    subprocess.run(command, check=True)
    assert content(tmp_path / "out") == content(directory)


class TestBeam:
    @pytest.fixture(autouse=True)
    def _beam(self):
        pytest.importorskip("apache_beam", reason="Apache Beam is an extra: pip install 'tfzoo[beam]'")

    def run(self, directory, data, output, recipe=None, **options):
        from tfzoo.beam_preparation import prepare_by_beam

        recipe = recipe or corpora.pairs_recipe()
        return prepare_by_beam(recipe, output, data=data, tokenizer=directory, num_shards=3, **options)

    @pytest.mark.parametrize("kind", ["pairs", "rows"])
    def test_the_shards_are_those_of_the_local_call(self, kind, pairs, tmp_path):
        directory, data = pairs
        recipe = None
        if kind == "rows":
            directory, data, recipe = tmp_path / "out", corpora.write_documents(tmp_path), corpora.rows_recipe()
            prepare(recipe, directory, data=data, num_shards=3, verbose=False)
        statistics = self.run(directory, data, tmp_path / "beam", recipe)
        names = [one.name for one in directory.glob("*.tfrecord-*")] + ["features.json", "dataset_info.json"]
        assert len(names) == 5
        for name in names:
            assert (tmp_path / "beam" / name).read_bytes() == (directory / name).read_bytes()
        expected = open_prepared(directory).statistics
        assert {**statistics, "tokenizer": None} == {**expected, "tokenizer": None}
        assert statistics["tokenizer"] == {"is_trained": False}
        assert not (tmp_path / "beam/.prepare").exists()

    def test_shards_that_are_there_are_not_written_again(self, pairs, tmp_path, monkeypatch):
        directory, data = pairs
        finish = corpus_folder.finish

        def fail(*args, **kwargs):
            raise Killed

        monkeypatch.setattr(corpus_folder, "finish", fail)
        with pytest.raises(Killed):
            self.run(directory, data, tmp_path / "beam")
        monkeypatch.setattr(corpus_folder, "finish", finish)
        (tmp_path / "beam/.prepare/shards/000001.json").unlink()
        times = {one.name: one.stat().st_mtime_ns for one in (tmp_path / "beam").glob("*.tfrecord-*")}
        self.run(directory, data, tmp_path / "beam")
        changed = [name for name, at in times.items() if (tmp_path / "beam" / name).stat().st_mtime_ns != at]
        assert changed == ["prepared-train.tfrecord-00001-of-00003"]

    def test_the_runners_own_flags_reach_it(self, pairs, tmp_path):
        directory, data = pairs
        with pytest.raises(ValueError, match="NoSuchRunner"):
            self.run(directory, data, tmp_path / "beam", pipeline_options=["--runner=NoSuchRunner"])


def test_a_tokenizer_comes_from_a_run_or_a_corpus(pairs, tmp_path):
    directory, _ = pairs
    job = partitions.Job(task="seq2seq", specs=(), num_shards=1)
    from_corpus = preparation.load_tokenizer(job, directory)
    from_folder = preparation.load_tokenizer(job, directory / "tokenizer")
    assert from_corpus.assets() == from_folder.assets()
    assert json.loads((directory / "examples.json").read_text(encoding="utf-8"))
    assert {*json.loads((directory / "examples.json").read_text(encoding="utf-8"))} <= {one for one, _ in EXPECTED}
