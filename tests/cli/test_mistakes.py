"""What goes wrong around a real run and artifact: one line that says what to do, an exit code, nothing overwritten."""

import json
import re
import shutil

import pytest

from tests.tiny_run import digest
from tfzoo.cli.main import main
from tfzoo.training import checkpoints

pytestmark = pytest.mark.xdist_group("run")


@pytest.fixture
def work(trained, tmp_path, monkeypatch):
    """A folder to go wrong in: copies of run and artifact, good and bad data, another file; the current directory."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained.run_dir, "run")
    shutil.copytree(trained.artifact, "artifact")
    shutil.copy(trained.train, "train.tsv")
    for name, content in {
        "empty.tsv": b"",
        "one_column.tsv": b"a\tb\n\nc\n",
        "latin1.tsv": b"a\tb\nna\xefve\tc\n",
        "other/notes.txt": b"mine\n",
        "broken.json": b'{"name": "mine",\n',
        "wrong.json": b'{"name": "mine", "modle": {}}',
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return tmp_path


@pytest.fixture
def fails(capsys, work):
    """Runs a command that must fail; all files must stay as they are.

    Takes arguments, exit code, the pattern of its one line, and that of lines that say what was done before.
    """

    def fails(arguments, status, pattern, before_it=""):
        before = digest(work)
        capsys.readouterr()
        assert main(arguments.split() if isinstance(arguments, str) else arguments) == status
        captured = capsys.readouterr()
        assert captured.out == ""
        assert re.fullmatch(f"{before_it}tfzoo: {pattern}\n", captured.err), captured.err
        assert digest(work) == before

    return fails


TRAIN = "train --recipe=transformer_tiny_g2p --run_dir=new --data=tsv:train.tsv"


@pytest.mark.parametrize(
    ("data", "status", "pattern"),
    [
        ("tsv:trian.tsv", 1, r"trian\.tsv: no such file\. Did you mean 'train\.tsv'\?"),
        ("tsv:empty.tsv", 1, r"empty\.tsv: the file is empty; name a file with at least one line of text\."),
        ("tsv:one_column.tsv", 1, r"one_column\.tsv:3: 1 column\(s\) where 2 are needed; write source<TAB>target\."),
        ("tsv:latin1.tsv", 1, r"latin1\.tsv:2: byte 3 of the line \(0xef\) is not UTF-8; convert the file, .*"),
        ("tsv:other", 1, r"other is a folder; name a file, or a glob such as other/\*"),
        ("train.tsv", 2, r"'train\.tsv' is no data specification: it must begin with .* such as `tsv:train\.tsv`\."),
        ("tvs:train.tsv", 2, r"'tvs:train\.tsv' is no data specification: .* Did you mean 'tsv'\?"),
        ("text:train.tsv", 2, r"text:train\.tsv: `text:` has one column, and two are needed; use `tsv:` or `jsonl:`\."),
        ("sample:cmudikt", 2, r"no sample is called 'cmudikt'; .* Did you mean 'cmudict'\?"),
    ],
)
def test_data(fails, data, status, pattern):
    fails(f"train --recipe=transformer_tiny_g2p --run_dir=new --data={data}", status, pattern)
    fails(f"evaluate --artifact=artifact --data={data}", status, pattern)


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        ("--recipe=transformer_tiny", r"the recipe 'transformer_tiny' names no data; give some, such as --data=tsv:.*"),
        ("--recipe=transformer_tiny_g2p2", r"unknown recipe 'transformer_tiny_g2p2'\. Did you mean 'transformer_.*"),
        ("--recipe=none.json", r"the recipe file 'none\.json' cannot be read: No such file or directory\."),
        ("--recipe=broken.json", r"broken\.json: a recipe is JSON: .* at line 2, column 1\."),
        ("--recipe=wrong.json", r"wrong\.json: `recipe` has no field 'modle'\. Did you mean 'model'\?"),
    ],
)
def test_recipes(fails, arguments, pattern):
    fails(f"train --run_dir=new {arguments}", 2, pattern)


@pytest.mark.parametrize(
    ("setting", "pattern"),
    [
        ("training.num_step=9", r"`training` has no field 'num_step'\. Did you mean 'num_steps'\?"),
        ("trainig.num_steps=9", r"a recipe's sections are .*; received 'trainig\.num_steps=9'\. Did you mean 'tr.*"),
        ("training.num_steps=1.5", r"`training\.num_steps` takes a whole number; received '1\.5'\."),
        ("model.normalize_first=maybe", r"`model\.normalize_first` takes true or false; received 'maybe'\."),
        (
            "training.schedule=cosin",
            r"`training\.schedule` takes one of .*; received 'cosin'\. Did you mean 'cosine'\?",
        ),
        ("model.num_heads=3", r"`num_heads` must divide `hidden_dim`; received num_heads=3, hidden_dim=128\."),
        ("decoding.max_length=65", r"`decoding\.max_length` must not exceed `model\.max_sequence_length`; received .*"),
        ("num_steps", r"an override reads section\.field=value; received 'num_steps'\."),
    ],
)
def test_settings(fails, setting, pattern):
    fails(f"{TRAIN} --set={setting}", 2, pattern)


def test_validation_data_is_looked_for_before_the_tokenizer_is_trained(fails):
    fails(f"{TRAIN} --validation_data=tsv:none.tsv", 1, r"none\.tsv: no such file\. .*")
    fails(f"{TRAIN} --validation_data=sample:cmudict:tset", 2, r"sample:cmudict has no split 'tset'; .* mean 'test'\?")


@pytest.mark.parametrize("run_dir", ["other", "other/notes.txt", "artifact"])
def test_a_run_folder_that_holds_something_else(fails, run_dir):
    pattern = rf"`run_dir` {run_dir} exists and is not a run; name another folder\."
    fails([*TRAIN.split(), f"--run_dir={run_dir}"], 2, pattern)


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        ("--set=training.seed=7", r"training\.seed=0; received training\.seed=7"),
        ("--set=data.seed=7", r"data\.seed=0; received data\.seed=7"),
        ("--set=model.hidden_dim=64", r"model\.hidden_dim=32; received model\.hidden_dim=64"),
        ("--recipe=transformer_small_g2p", r"name=transformer_tiny_g2p; received name=transformer_small_g2p"),
        ("--data=tsv:train.tsv", r"data\.train=\('tsv:.*',\); received data\.train=\('tsv:.*', 'tsv:train\.tsv'\)"),
    ],
)
def test_another_recipe_does_not_resume_a_run(fails, trained, change, pattern):
    way_out = r"\. Resume it with the same recipe and data, or train into another run_dir\."
    fails([*trained.command("run"), change], 2, rf"run was started with {pattern}{way_out}")


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        ("predict --run_dir=nowhere", r"nowhere is neither a run \(no recipe\.json\) nor an artifact \(no manifest.*"),
        (
            "predict --artifact=other",
            r"other is neither a run .*; name a folder that `tfzoo train` or `tfzoo export`.*",
        ),
        (
            "predict --run_dir=run --runtime=onnx",
            r"run is a run, which only Keras computes; export it to use .*='onnx'\.",
        ),
        ("predict --artifact=artifact --runtime=keras", r"artifact is an artifact, which has no Keras model; use .*"),
        ("export --run_dir=run --output_dir=other", r"`output_dir` other exists and is not empty; name another .*"),
        ("export --run_dir=run --output_dir=run", r"`output_dir` run exists and is not empty; name another folder .*"),
        ("export --run_dir=run --output_dir=train.tsv", r"`output_dir` train\.tsv exists and is not empty; .*"),
        (
            "export --run_dir=run --output_dir=.",
            r"`output_dir` \. has no name, .* name a new folder, such as my_model\.",
        ),
        ("export --run_dir=artifact --output_dir=new", r"artifact is not a run: recipe\.json is missing\. Name a .*"),
    ],
)
def test_folders(fails, arguments, pattern):
    fails(arguments, 2, pattern)


@pytest.mark.parametrize("arguments", ["verify run", "verify other", "verify nowhere"])
def test_no_artifact_to_verify(fails, arguments):
    folder = arguments.split()[1]
    fails(
        arguments, 1, rf"{folder} is not an artifact: manifest\.json is missing\. Name a folder that `tfzoo export`.*"
    )


@pytest.mark.parametrize("where", ["--run_dir=run", "--artifact=artifact"])
@pytest.mark.parametrize(
    ("flags", "pattern"),
    [
        ("--num_beams=0", r"`num_beams` must be at least 1; received num_beams=0\."),
        ("--max_length=0", r"`max_length` must be at least 1; received max_length=0\."),
        ("--max_length=18", r"`max_length` must not exceed the model's 17 positions; received max_length=18\."),
        ("--temperature=1 --num_beams=4", r"sampling keeps one hypothesis: set `temperature=0` .* num_beams=4\."),
        ("--temperature=-1", r"`temperature` must be a finite number, at least 0; received temperature=-1\.0\."),
        ("--top_p=0", r"`top_p` must be in \(0, 1\]; received top_p=0\.0\."),
        ("--top_k=3000000000", r"`top_k` must be below 2\*\*31; received top_k=3000000000\."),
        (
            "--length_penalty=1e39",
            r"`length_penalty` must be a finite number, at least 0; received length_penalty=1e\+39\.",
        ),
        ("--num_return_sequences=2", r"`num_return_sequences` must not exceed `num_beams` when searching; .*"),
    ],
)
def test_decoding_options(fails, where, flags, pattern):
    fails(f"predict {where} --input=train.tsv {flags}", 2, pattern)


def test_the_input(fails):
    fails("predict --artifact=artifact --input=none.txt", 1, r"none\.txt: No such file or directory")
    fails("predict --artifact=artifact --input=other", 1, r"other: Is a directory")
    fails("predict --artifact=artifact --input=latin1.tsv", 1, r"latin1\.tsv:2: not UTF-8 \(.* at byte 3\)\.")


def flip(path):
    """Turns one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize("find", [checkpoints.newest, checkpoints.best])
@pytest.mark.parametrize(("file", "damage"), [("state.safetensors", flip), ("state.json", cut)])
def test_a_damaged_checkpoint(fails, work, trained, find, file, damage):
    folder = find("run").folder
    damage(folder / file)
    what = {"state.safetensors": r"damaged: its checksum differs\.", "state.json": r"damaged \(.*\)\."}[file]
    pattern = rf"{folder}/{file} is {what} Delete {folder} to go on from the checkpoint before it\."
    if find is checkpoints.newest:
        fails(trained.command("run"), 1, pattern, before_it=r"tsv:.*: 8 examples; 0 longer than .*\n")
    else:
        fails("predict --run_dir=run", 1, pattern)
        fails("evaluate --run_dir=run --data=tsv:train.tsv", 1, pattern)
        fails("export --run_dir=run --output_dir=new", 1, pattern)
    shutil.rmtree(folder)  # the way out
    assert main(["predict", "--run_dir=run", "--input=empty.tsv"]) == 0


def test_a_damaged_run(fails, work, trained):
    cut(work / "run/requested_recipe.json")
    pattern = (
        r"run/requested_recipe\.json is damaged \(a recipe is JSON: .*\); restore it, or train into another run_dir\."
    )
    fails(trained.command("run"), 1, pattern)
    (work / "run/examples.json").unlink()
    pattern = r"run/examples\.json is missing or damaged \(.*\); write a JSON list of a few source texts there\."
    fails("export --run_dir=run --output_dir=new", 1, pattern)
    cut(work / "run/tokenizer/target/vocab.json")
    pattern = (
        r"run/tokenizer/target: vocab\.json or tokenizer_config\.json is damaged \(.*\); export or train .* again\."
    )
    fails("predict --run_dir=run", 1, pattern)
    cut(work / "run/recipe.json")
    fails(
        "predict --run_dir=run", 1, r"run/recipe\.json is damaged \(.*\); restore it, or train into another run_dir\."
    )


def test_a_run_without_a_checkpoint(fails):
    shutil.rmtree("run/checkpoints")
    for arguments in ("predict --run_dir=run", "export --run_dir=run --output_dir=new"):
        fails(arguments, 1, r"run/checkpoints holds no checkpoint; train the run first\.")


VARIABLES = "1/variables/variables.data-00000-of-00001"


@pytest.mark.parametrize(
    ("file", "runtimes"),
    [
        ("onnx/generate.onnx", ["onnx"]),
        ("onnx/decoder_model_merged.onnx", ["onnx"]),
        (VARIABLES, ["saved_model"]),
        ("source/vocab.json", ["onnx", "saved_model"]),
    ],
)
def test_a_damaged_artifact(fails, work, file, runtimes):
    path = work / "artifact" / file
    flip(path)
    changed = rf"artifact/{file} differs from the file that was proved"
    for runtime in runtimes:
        fails(f"predict --artifact=artifact --runtime={runtime}", 1, rf"{changed}; copy the artifact again\.")
    fails("verify artifact", 1, rf"{changed}.*; copy the artifact again\.")
    path.unlink()
    for arguments in (f"predict --artifact=artifact --runtime={runtimes[0]}", "verify artifact"):
        fails(arguments, 1, rf"artifact/{file} is missing; copy the artifact again\.")


def test_a_damaged_manifest(fails, work):
    path = work / "artifact/manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    for changes, pattern in (
        (
            {"format_version": 99},
            r"artifact/manifest\.json has format_version 99; this tfzoo reads 1\. Export it again\.",
        ),
        (
            {"decoding": {"num_beans": 1}},
            r"artifact/manifest\.json is damaged \(.*'num_beans'\); export the model again\.",
        ),
    ):
        path.write_text(json.dumps(manifest | changes), encoding="utf-8")
        fails("predict --artifact=artifact", 1, pattern)
    del manifest["formats"]
    path.write_text(json.dumps(manifest), encoding="utf-8")
    fails(
        "predict --artifact=artifact", 1, r"artifact/manifest\.json is damaged \('formats'\); export the model again\."
    )
    cut(path)
    for arguments in ("predict --artifact=artifact", "verify artifact"):
        fails(arguments, 1, r"artifact/manifest\.json is damaged \(.*\); export the model again\.")
    path.unlink()
    fails("verify artifact", 1, r"artifact is not an artifact: manifest\.json is missing\. Name a folder .*")


def test_an_artifact_without_the_runtime(fails, work):
    path = work / "artifact/manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8")) | {"formats": ["saved_model"]}
    path.write_text(json.dumps(manifest), encoding="utf-8")
    pattern = r"`runtime` must be one of saved_model, the formats of artifact; received runtime='onnx'\."
    fails("predict --artifact=artifact --runtime=onnx", 2, pattern)


def test_conversions(fails, work):
    pattern = r"run cannot be written as a Marian checkpoint: its tokenizer is none of Marian's: .*"
    fails("convert --to=hf --run_dir=run --checkpoint=new", 2, pattern)
    fails("convert --to=hf --run_dir=other --checkpoint=new", 2, r"other is not a run: recipe\.json is missing\. .*")
    fails("convert --from=hf --checkpoint=none --run_dir=new", 2, r"`checkpoint` none is no folder; name one .*")
    fails("convert --from=hf --checkpoint=other --run_dir=new", 1, r"other/config\.json is missing; copy .*")
    # An artifact's config.json says "marian", which reads its graphs; its pre-norm blocks no Marian has.
    pattern = r"artifact/config\.json: normalize_before is True, and this Transformer has False alone\."
    fails("convert --from=hf --checkpoint=artifact --run_dir=new", 1, pattern)
