"""Each command: what it prints, and what it asks `tfzoo.runs` for."""

import dataclasses
import io
import json
import re
import subprocess
import sys
import types

import pytest

import tfzoo
from tfzoo import first_run, recipes, zoo
from tfzoo.cli.main import main
from tfzoo.decoding.config import AnswerConfig, DecodingConfig
from tfzoo.interop import hf


@pytest.fixture
def calls(monkeypatch):
    """Stands in for `tfzoo.runs`: records each call, and answers as `runs` would."""
    recorded = []

    def train(recipe, run_dir, *, data=(), validation_data=(), strategy="auto", export_dir=None):
        unusual = (strategy, export_dir) != ("auto", None)
        recorded.append(("train", recipe, run_dir, data, validation_data, *([strategy, export_dir] if unusual else [])))

    def evaluate(path, data, *, runtime=None, **details):
        recorded.append(("evaluate", path, data, runtime, *([details] if details else [])))
        return {"token_error_rate": 0.123456, "bleu_signature": "nrefs:1", "num_examples": 7}

    def predict(path, lines, *, runtime=None, **decoding):
        recorded.append(("predict", path, runtime, decoding))
        return ({"output": line.upper(), "score": -0.5} for line in lines)

    def export_run(run_dir, output_dir, formats=("saved_model", "onnx")):
        recorded.append(("export_run", run_dir, output_dir, formats))
        proof = {
            "probes": [{"max_logit_difference": 1e-7}, {"max_logit_difference": 3e-6}],
            "identical_tokens": ["greedy", "beam"],
        }
        return {
            "formats": formats,
            "proof": dict.fromkeys(formats, proof),
            "golden": {"texts": ["a", "b", ""]},
            "files": {"x": {"bytes": 1_000_000}, "y": {"bytes": 240_000}},
        }

    def verify(artifact_dir):
        recorded.append(("verify", artifact_dir))
        golden = {"max_logit_difference": 2e-7, "max_score_difference": 4e-6, "tokenizer_vectors": 270}
        served = golden | {"served": 6, "serving": {"num_warm_up_requests": 10}}
        probes = [{"max_logit_difference": 5e-7}, {"max_logit_difference": 1e-7}]
        return {"num_files": 7, "onnx": golden, "saved_model": served, "onnx against saved_model": {"probes": probes}}

    def quickstart(run_dir):
        recorded.append(("quickstart", run_dir))
        return "phoneme error rate: 12 % of 6700 words"

    functions = (train, evaluate, predict, export_run, verify)
    stub = types.SimpleNamespace(**{function.__name__: function for function in functions})
    monkeypatch.setattr(tfzoo, "runs", stub, raising=False)
    monkeypatch.setattr(first_run, "quickstart", quickstart)
    return recorded


@pytest.fixture
def standard_input(monkeypatch):
    def give(content):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    return give


def test_list_is_a_table_of_the_zoo(capsys):
    assert main(["list"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["name", "family", "task", "parameters", "paper", "pretrained", "artifact"]
    assert [line.split()[0] for line in lines] == list(zoo.ZOO)
    base = lines[list(zoo.ZOO).index("transformer_base")]
    assert base.split() == ["transformer_base", "transformer", "seq2seq", "63,082,496", zoo.VASWANI_2017, "-", "-"]
    assert base.index("63,082,496") == header.index("parameters")


def test_list_json_is_json(capsys):
    assert main(["list", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in entries] == list(zoo.ZOO)
    assert entries[0] == {
        "name": "transformer_tiny",
        "family": "transformer",
        "task": "seq2seq",
        "parameters": 33320,
        "paper": "https://arxiv.org/abs/1706.03762",
        "pretrained": None,
        "artifact": None,
    }


def test_show_json_is_a_recipe_that_train_takes(capsys, tmp_path, calls):
    assert main(["show", "transformer_tiny_g2p", "--json"]) == 0
    path = tmp_path / "mine.json"
    path.write_text(capsys.readouterr().out, encoding="utf-8")
    assert main(["train", f"--recipe={path}", "--run_dir=d"]) == 0
    assert calls == [("train", zoo.recipe("transformer_tiny_g2p"), "d", (), ())]


def test_show_explains_the_recipe_and_counts_the_layers(capsys):
    assert main(["show", "--recipe", "transformer_tiny"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("The smallest encoder-decoder")
    assert recipes.to_json(zoo.recipe("transformer_tiny")) in out
    # Attention 4 (24 x 24 + 24), feed-forward 24 x 56 + 56 + 56 x 24 + 24, two normalizations of 48.
    assert re.search(r"encoder_block_1 \(EncoderBlock\) .* 5,264 ", out)
    assert "Total params: 33,320 " in out


def test_show_takes_a_task_and_shows_the_layers_of_two_labels(capsys):
    assert main(["show", "bert_tiny", "--task=text_classification"]) == 0
    out = capsys.readouterr().out
    assert recipes.to_json(zoo.recipe("bert_tiny", "text_classification")) in out
    assert "Training reads the labels off its data; these are the layers of a model with two.\n" in out
    assert re.search(r"text_classification \(Dense\) .* 258 ", out)  # 128 x 2 + 2
    assert main(["show", "bert_tiny"]) == 0
    out = capsys.readouterr().out
    assert "Training reads" not in out
    assert "Total params: 4,416,698 " in out


def test_show_counts_the_weights_of_a_large_model_and_makes_none():
    # Not by `wait4`: Linux counts what the parent had when it forked.
    code = "from tfzoo.cli.main import main; main(['show', 'gpt2_xl']); print(open('/proc/self/status').read())"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert "Total params: 1,557,611,200 " in out
    (most,) = re.findall(r"VmHWM:\s+(\d+) kB", out)
    assert int(most) < 2 * 2**20  # the weights are three times as much


def test_train_passes_devices_and_the_folder_of_the_artifact_on(calls):
    options = ["--strategy=mirrored", "--export_dir=served/x"]
    assert main(["train", "--recipe=transformer_tiny", "--run_dir=d", *options]) == 0
    assert calls == [("train", zoo.recipe("transformer_tiny"), "d", (), (), "mirrored", "served/x")]


def test_train_passes_data_and_overrides_on(capsys, calls):
    arguments = ["--recipe=transformer_tiny", "--run_dir=runs/x", "--data=tsv:a.tsv", "--data=tsv:b.tsv@0.3"]
    more = ["--validation_data=tsv:v.tsv", "--set=training.num_steps=9", "--set", "data.batch_size=3"]
    assert main(["train", *arguments, *more]) == 0
    expected = recipes.override(zoo.recipe("transformer_tiny"), ["training.num_steps=9", "data.batch_size=3"])
    assert calls == [("train", expected, "runs/x", ("tsv:a.tsv", "tsv:b.tsv@0.3"), ("tsv:v.tsv",))]
    assert "trained: runs/x\n" in capsys.readouterr().out


def test_train_asks_for_the_task_and_begins_with_a_checkpoint(capsys, calls):
    arguments = ["--recipe=bert_mini", "--task=text_classification", "--run_dir=runs/x", "--data=tsv:a.tsv"]
    assert main(["train", *arguments, "--set=training.initial_checkpoint=runs/encoder"]) == 0
    recipe = zoo.recipe("bert_mini", "text_classification")
    expected = recipes.override(recipe, "training.initial_checkpoint=runs/encoder")
    assert calls == [("train", expected, "runs/x", ("tsv:a.tsv",), ())]
    assert expected.training.initial_checkpoint == "runs/encoder"


def test_evaluate_prints_lines(capsys, calls):
    assert main(["evaluate", "--run_dir=r", "--data=tsv:a", "--data=tsv:b"]) == 0
    assert calls == [("evaluate", "r", ("tsv:a", "tsv:b"), None)]
    assert capsys.readouterr().out == "token_error_rate: 0.1235\nbleu_signature: nrefs:1\nnum_examples: 7\n"


def test_evaluate_takes_details(calls):
    details = ["--tokenizer=zh", "--by_length", "--worst=w.jsonl", "--forced=f.jsonl"]
    assert main(["evaluate", "--run_dir=r", "--data=tsv:a", *details]) == 0
    given = {"tokenizer": "zh", "by_length": True, "worst": "w.jsonl", "forced": "f.jsonl"}
    assert calls == [("evaluate", "r", ("tsv:a",), None, given)]


def test_evaluate_prints_json(capsys, calls):
    assert main(["evaluate", "--artifact=a", "--data=tsv:a", "--runtime=onnx", "--json"]) == 0
    assert calls == [("evaluate", "a", ("tsv:a",), "onnx")]
    assert json.loads(capsys.readouterr().out)["token_error_rate"] == 0.123456


def test_predict_answers_standard_input_line_by_line(capsys, calls, standard_input):
    standard_input("straße\r\n\nlast".encode())
    assert main(["predict", "--artifact=a", "--runtime=onnx"]) == 0
    assert calls == [("predict", "a", "onnx", {})]
    assert capsys.readouterr().out == "STRASSE\n\nLAST\n"


def test_predict_reads_a_file_and_passes_the_decoding_flags_that_were_given(capsys, calls, tmp_path):
    path = tmp_path / "in.txt"
    path.write_text("é\n", encoding="utf-8")
    decoding = ["--temperature=0.5", "--top_k=3", "--seed=0", "--num_beams=1"]
    assert main(["predict", "--run_dir=r", f"--input={path}", "--json", *decoding]) == 0
    assert calls == [("predict", "r", None, {"temperature": 0.5, "top_k": 3, "seed": 0, "num_beams": 1})]
    assert capsys.readouterr().out == '{"output": "É", "score": -0.5}\n'


def test_predict_names_the_line_that_is_not_utf8(capsys, calls, standard_input):
    standard_input(b"good\nb\xffd\n")
    assert main(["predict", "--artifact=a", "--runtime=onnx"]) == 1
    captured = capsys.readouterr()
    assert captured.out == "GOOD\n"
    assert captured.err == "tfzoo: standard input:2: not UTF-8 (invalid start byte at byte 2).\n"


def test_predict_names_a_missing_file(capsys, calls, tmp_path):
    path = tmp_path / "none.txt"
    assert main(["predict", "--artifact=a", f"--input={path}"]) == 1
    assert capsys.readouterr().err == f"tfzoo: {path}: No such file or directory\n"
    assert calls == []


def test_export_passes_the_formats_on(capsys, calls):
    assert main(["export", "--run_dir=r", "--output_dir=o", "--formats=onnx"]) == 0
    assert main(["export", "--run_dir=r", "--output_dir=o"]) == 0
    assert calls == [("export_run", "r", "o", ("onnx",)), ("export_run", "r", "o", ("saved_model", "onnx"))]
    proved = "equals the Keras model: on 2 shapes, logits to 3.0e-06; token for token in greedy, beam search of 3 texts"
    assert capsys.readouterr().out.splitlines()[-5:] == [
        "exported and proved: o",
        f"  saved_model {proved}",
        f"  onnx {proved}",
        "  2 files, 1.2 MB; manifest.json holds the proof",
        "next: tfzoo predict --artifact=o",
    ]


def test_verify_takes_the_folder_with_or_without_the_flag(capsys, calls):
    assert main(["verify", "a"]) == 0
    assert main(["verify", "--artifact=a"]) == 0
    assert calls == [("verify", "a"), ("verify", "a")]
    lines = [
        "verified: a",
        "  7 files have the checksums of the manifest",
        "  saved_model gives the recorded answers: scores to 4.0e-06, logits to 2.0e-07",
        "  saved_model tokenizes as recorded: 270 vectors",
        "  saved_model answers as a server: 6 texts by serving_default, loaded in two ways, and 10 warm-up requests",
        "  onnx gives the recorded answers: scores to 4.0e-06, logits to 2.0e-07",
        "  onnx tokenizes as recorded: 270 vectors",
        "  onnx against saved_model: equal on 2 shapes, logits to 5.0e-07",
    ]
    assert capsys.readouterr().out.splitlines() == lines * 2


def test_convert_goes_both_ways(capsys, monkeypatch):
    calls = []
    for name in ("read_checkpoint", "write_checkpoint"):
        monkeypatch.setattr(hf, name, lambda *folders, name=name: calls.append((name, *folders)))
    assert main(["convert", "--from=hf", "--checkpoint=c", "--run_dir=r"]) == 0
    assert main(["convert", "--to=hf", "--run_dir=r", "--checkpoint=c"]) == 0
    assert calls == [("read_checkpoint", "c", "r"), ("write_checkpoint", "r", "c")]
    assert capsys.readouterr().out.splitlines() == [
        "converted: r",
        "next: tfzoo predict --run_dir=r",
        "or: tfzoo train --recipe=r/recipe.json --run_dir=r --data=SPEC",
        "converted: c",
    ]


def test_quickstart_prints_its_report(capsys, calls):
    assert main(["quickstart", "--run_dir=q"]) == 0
    assert calls == [("quickstart", "q")]
    assert capsys.readouterr().out == "phoneme error rate: 12 % of 6700 words\n"


def test_every_decoding_field_is_a_flag_with_help(capsys):
    assert main(["predict", "--help"]) == 0
    flags = re.findall(r"^    --(\w+): \S", capsys.readouterr().out, re.MULTILINE)
    fields = [field.name for config in (DecodingConfig, AnswerConfig) for field in dataclasses.fields(config)]
    files = ["input", "output_dir", "beam_runner", "beam_option"]
    assert flags == [
        "run_dir",
        "artifact",
        "runtime",
        *files,
        "json",
        "token_log_probs",
        "attention",
        "stream",
        *fields,
    ]
