"""README.md does what it says: its code runs in the order of the page, its requests are answered, its tables are true.

Blocks that need a network, Docker or a long time are held against what they rely on instead: `pip` against the extras,
a request against the exported signature as a server reads it, the quickstart's report against what would print it.
"""

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import tensorflow as tf
import tensorflow_text  # noqa: F401  registers the tokenizers' operators, as a server does

import tfzoo
from tests.readme import (
    ARTIFACT,
    README,
    ROOT,
    SHELL,
    UNITS,
    Page,
    blocks,
    section,
    table,
    tree,
    without_tensorflow,
)
from tfzoo import first_run
from tfzoo.cli.main import COMMANDS
from tfzoo.data import samples, sources
from tfzoo.export import golden, outputs
from tfzoo.recipes import override
from tfzoo.zoo import ZOO

# One worker takes the whole file: there is one training and one export.
pytestmark = pytest.mark.xdist_group("readme")

CURLS = [words for words in SHELL if words[0] == "curl"]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("readme")
        patch.chdir(folder)
        yield Page(folder)


@pytest.fixture(scope="module")
def artifact(page):
    return page.folder / ARTIFACT


@pytest.fixture(scope="module")
def manifest(artifact):
    return json.loads((artifact / "manifest.json").read_text(encoding="utf-8"))


class TestCode:
    @pytest.mark.parametrize("index", range(len(UNITS)), ids=lambda index: UNITS[index].code.partition("\n")[0][:40])
    def test_runs_and_prints_what_its_comments_say(self, page, index):
        outcome, expected = page.outcomes[index], UNITS[index].prints
        if isinstance(outcome, BaseException):
            raise outcome
        assert outcome.splitlines()[len(outcome.splitlines()) - len(expected) :] == expected

    def test_two_scripts_promise_what_they_print(self):
        assert [len(unit.prints) for unit in UNITS if unit.language == "python"] == [1, 0, 2, 0]

    def test_the_artifact_answers_without_tensorflow(self, artifact):
        script = UNITS[[unit.language for unit in UNITS].index("python")]
        code = script.code[script.code.index("read = tfzoo.load") :]
        assert without_tensorflow("import tfzoo\n" + code).splitlines() == script.prints

    def test_the_artifact_reads_numbers_that_it_never_saw(self, artifact):
        pairs = list(tfzoo.data.read(f"tsv:{artifact.parents[1] / 'test.tsv'}"))
        answers = tfzoo.load(artifact, runtime="onnx")([source for source, _ in pairs])
        assert len(pairs) == 8
        assert sum(answer == target for answer, (_, target) in zip(answers, pairs, strict=True)) >= 7

    def test_predict_prints_json_with_alternatives(self, page):
        (output,) = [
            outcome
            for unit, outcome in zip(UNITS, page.outcomes, strict=True)
            if "tfzoo predict" in unit.code and "tfzoo verify" in unit.code
        ]
        (line,) = [line for line in output.splitlines() if line.startswith("{")]
        answer = json.loads(line)
        assert (answer["input"], answer["output"], len(answer["alternatives"])) == ("forty two", "4 2", 2)
        assert f"verified: {ARTIFACT}" in output

    def test_the_commands_that_take_long_ask_for_what_the_page_says(self, page):
        quickstart, (train, recipe, run_dir, _), (predict, _, _, options), sentiment, export, *long = page.calls
        assert (quickstart, export) == (("quickstart", "runs/quickstart"), ("export_run", "Run"))
        assert (train, recipe.model.hidden_dim, run_dir) == ("train", 128, "runs/chinese")
        assert (predict, options) == ("predict", {"runtime": None, "max_length": 24})
        assert sentiment[:3] == ("train", tfzoo.recipe("minilm_l6"), "runs/sentiment")
        asked = [(name, *arguments) for name, *arguments, _ in long]
        chinese = ["model.vocabulary_size=6000", "evaluation.tokenizer=zh"]
        chinese += ["training.num_steps=1600", "training.checkpoint_steps=200"]
        assert asked == [
            ("train", tfzoo.recipe("transformer_small_g2p"), "runs/small_g2p"),
            ("train", tfzoo.recipe("gru_small"), "runs/gru_small"),
            ("evaluate", "runs/small_g2p", (first_run.TEST_DATA,)),
            ("train", tfzoo.recipe("transformer_mini"), "runs/en_de"),
            ("train", tfzoo.recipe("gru_mini"), "runs/en_de_gru"),
            ("train", override(tfzoo.recipe("gru_mini"), chinese), "runs/en_zh"),
            ("train", tfzoo.recipe("lstm_lm_docs"), "runs/lstm_docs"),
            ("train", tfzoo.recipe("gpt2_docs"), "runs/gpt2_docs"),
            ("evaluate", "runs/lstm_docs", ("sample:python_docs:test",)),
        ]

    def test_the_quickstart_prints_this_report(self):
        (block,) = blocks("text", section("Two commands"))

        def numbers(pattern: str) -> tuple[str, ...]:
            match = re.search(pattern, block)
            assert match, pattern
            return match.groups()

        (num_words,) = numbers(r"Held-out words: ([\d,]+)")
        (tokens,) = numbers(r"phoneme error rate ([\d.]+)%")
        (words,) = numbers(r"word error rate +([\d.]+)%")
        (difference,) = numbers(r"largest difference of a logit (\S+);")
        (run_dir,) = numbers(r"The run: +(\S+)")
        (artifact_dir,) = numbers(r"The artifact: (\S+)")
        pronounced = block.partition("token for token the same:\n")[2].partition("\n\n")[0]
        report = first_run.Quickstart(
            run_dir=Path(run_dir),
            artifact_dir=Path(artifact_dir),
            scores={
                "num_sources": int(num_words.replace(",", "")),
                "token_error_rate": float(tokens) / 100,
                "word_error_rate": float(words) / 100,
            },
            pronunciations=dict(line.strip().split(maxsplit=1) for line in pronounced.splitlines()),
            proof=dict.fromkeys(("saved_model", "onnx"), {"probes": [{"max_logit_difference": float(difference)}]}),
            seconds={name: float(taken) for name, taken in re.findall(r"([a-z][a-z ]*) (\d+) s(?:,|$)", took(block))},
        )
        assert str(report).strip().splitlines() == block.splitlines()
        assert set(report.pronunciations) <= set(first_run.WORDS)


def took(report: str) -> str:
    """The stages of the line that begins with "Took"."""
    (stages,) = re.findall(r"^Took \d+ s: (.+)$", report, re.MULTILINE)
    return stages


@pytest.fixture(scope="module")
def server(artifact):
    """Answers requests as TF Serving does: JSON to columns, checked against the signature, and back."""
    signatures = tf.saved_model.load(str(artifact / "1")).signatures

    def serve(body: dict[str, Any]) -> dict[str, Any]:
        signature = signatures[body["signature_name"] if "signature_name" in body else "serving_default"]
        specs = signature.structured_input_signature[1]
        (form,) = set(body) - {"signature_name"}
        columns = body["inputs"] if form == "inputs" else transposed(body["instances"])
        assert set(columns) == set(specs)
        tensors = {name: tensor(values, specs[name]) for name, values in columns.items()}
        assert len({len(value) for value in tensors.values()}) == 1
        outputs = {name: plain(value) for name, value in signature(**tensors).items()}
        if form == "inputs":
            return {"outputs": outputs}
        return {"predictions": [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]}

    return serve


class TestServing:
    def test_the_first_request_is_answered_as_shown(self, server):
        (shown,) = blocks("json")
        answer, expected = server(body(CURLS[0])), json.loads(shown)
        for row in (*answer["predictions"], *expected["predictions"]):
            assert -1 < row.pop("scores") < 0  # nats; the digits are those of one training
        assert answer == expected

    def test_rows_and_columns_ask_the_same(self, server):
        rows, columns = (server(body(words)) for words in CURLS[1:])
        assert transposed(rows["predictions"]) == columns["outputs"]

    def test_a_row_with_fewer_beams_is_filled_as_described(self, server):
        first, second = server(body(CURLS[1]))["predictions"]
        assert first["outputs"][0] == "4 2"
        assert all(output for output in first["outputs"])
        assert (len(first["outputs"]), first["scores"]) == (3, sorted(first["scores"], reverse=True))
        assert second["outputs"][1:] == ["", ""]
        assert second["scores"][1:] == [-1e9, -1e9]
        for token_ids in (*first["token_ids"], second["token_ids"][0]):
            end = token_ids.index(3)
            assert 0 not in token_ids[:end]
            assert not any(token_ids[end + 1 :])

    def test_there_are_no_defaults(self, server):
        request = body(CURLS[2])
        del request["inputs"]["seed"]
        with pytest.raises(AssertionError, match="seed"):
            server(request)

    def test_the_server_finds_the_model(self, page, artifact):
        (words,) = [words for words in SHELL if words[0] == "docker"]
        options = dict(zip(words, words[1:], strict=False))
        host, container, _ = options["-v"].replace("$PWD", str(page.folder)).split(":")
        name = options["-e"].removeprefix("MODEL_NAME=")
        assert Path(host) == artifact
        assert [path.name for path in Path(host).iterdir() if path.name.isdigit()] == ["1"]
        assert (Path(host) / "1" / "saved_model.pb").is_file()
        assert container == f"/models/{name}"
        port, _ = options["-p"].split(":")
        urls = {word for curl in CURLS for word in curl if word.startswith("http")}
        assert urls == {f"http://localhost:{port}/v1/models/{name}:predict"}

    def test_the_table_of_signatures(self, manifest):
        vocabulary_size = manifest["token_id_counts"]["decoder_token_ids"]

        def tensors(cell: str) -> dict[str, Any]:
            found = {}
            for group in cell.split("; "):
                names, shape, dtype = re.fullmatch(r"(.+) \((.+)\) (\w+)", group).groups()
                dims = [vocabulary_size if dim == "V" else None for dim in shape.split(", ")]
                found |= {name: {"dtype": dtype, "shape": dims} for name in re.findall(r"`(\w+)`", names)}
            return found

        shown = {
            name.strip("`"): {"inputs": tensors(inputs), "outputs": tensors(outputs)}
            for name, inputs, outputs in table(section("TF Serving"))
        }
        assert shown == manifest["saved_model"]["signatures"]


def body(words: list[str]) -> dict[str, Any]:
    return json.loads(words[words.index("-d") + 1])


def transposed(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    assert len({frozenset(row) for row in rows}) == 1
    return {name: [row[name] for row in rows] for name in rows[0]}


def tensor(values: list[Any], spec: tf.TensorSpec) -> tf.Tensor:
    """JSON values as a server takes them: no string for a number, no fraction for a whole one."""
    kinds = {tf.string: str, tf.int32: int, tf.float32: int | float}
    assert all(isinstance(value, kinds[spec.dtype]) and not isinstance(value, bool) for value in values)
    made = tf.constant(values, spec.dtype)
    assert spec.shape.is_compatible_with(made.shape)
    return made


def plain(value: tf.Tensor) -> list[Any]:
    def decoded(item: Any) -> Any:
        return [decoded(one) for one in item] if isinstance(item, list) else item.decode()

    return decoded(value.numpy().tolist()) if value.dtype == tf.string else value.numpy().tolist()


class TestTables:
    def test_the_tree_is_the_repository(self):
        (block,) = blocks("text", section("The tree"))
        paths = tree(block)
        missing = [path for path in paths if not (ROOT / path).exists()]
        assert missing == []
        package = {
            f"tfzoo/{path.name}{'/' if path.is_dir() else ''}"
            for path in (ROOT / "tfzoo").iterdir()
            if path.suffix == ".py" or (path / "__init__.py").exists()
        }
        assert {path for path in paths if re.fullmatch(r"tfzoo/[^/]+/?", path)} == package
        assert all(len(line.split(maxsplit=1)) == 2 or line == "tfzoo/" for line in block.splitlines())

    def test_the_artifact_holds_what_its_tree_says(self, page, artifact):
        (block,) = blocks("text", section("What an artifact holds"))
        paths = tree(block)[1:]
        assert paths[0] == f"{ARTIFACT}/1/"
        assert [path for path in paths if not (page.folder / path).exists()] == []
        files = [path.relative_to(page.folder).as_posix() for path in artifact.rglob("*") if path.is_file()]
        assert [name for name in files if not name.startswith(tuple(paths))] == []

    def test_every_command_and_its_flags(self):
        rows = table(section("Command line").partition("R is ")[0])
        shown = [command.strip("`").split()[1] for command, _ in rows]
        assert shown == list(COMMANDS)
        for command, _ in rows:
            flags = tfzoo.cli.main.flags.FlagValues()
            COMMANDS[command.split()[1].strip("`")].module.define_flags(flags)
            unknown = [name for name in re.findall(r"--(\w+)", command) if name not in flags]
            assert unknown == [], command

    def test_every_data_specification(self):
        rows = table(section("Command line").partition("A data SPEC")[2])
        assert sorted(spec.strip("`").partition(":")[0] for spec, _ in rows) == sorted(sources.SCHEMES)
        (sample,) = [record for spec, record in rows if spec.startswith("`sample:")]
        assert re.findall(r"`(\w+)`", sample) == [*samples.SAMPLES, *samples._SHARES]

    def test_every_recipe(self):
        rows = table(section("Recipes"))
        assert [row[0].strip("`") for row in rows] == list(ZOO)
        for name, *numbers, _ in rows:
            entry = ZOO[name.strip("`")]
            recipe = entry.recipe()
            model = recipe.model
            sizes = (model.hidden_dim, model.num_layers, getattr(model, "num_heads", "-"))
            assert numbers == [f"{entry.parameters:,}", *map(str, sizes), f"{recipe.training.num_steps:,}"]
            assert entry.paper in section("Recipes")

    def test_results_are_of_recipes_that_exist(self):
        assert {row[0].split("`")[1] for row in table(section("Results"))} <= set(ZOO)

    def test_the_proof_has_the_tolerances_of_the_code(self, manifest):
        text = " ".join(section("The proof").split())
        assert f"within {scientific(golden.LOGITS_TOLERANCE)}," in text
        assert f"within {scientific(outputs.TOLERANCE)} nats" in text
        assert manifest["proof"]["onnx"]["identical_tokens"] == ["greedy", "beam", "sample"]
        assert [probe["shapes"]["decoder_token_ids"][0] for probe in manifest["proof"]["onnx"]["probes"]] == [1, 3, 1]

    def test_links_lead_somewhere(self):
        targets = re.findall(r"\]\(([^)]+)\)", README)
        assert targets
        assert [link for link in targets if not link.startswith("https://") and not (ROOT / link).exists()] == []

    def test_the_guide_for_contributors_names_what_is_there(self):
        text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
        places = {place for place in re.findall(r"`((?:tfzoo|tests)/[^` ]+)`", text) if "NAME" not in place}
        assert len(places) > 15
        assert [place for place in sorted(places) if not (ROOT / place).exists()] == []

    def test_the_picture_names_what_is_there(self):
        root = ElementTree.parse(ROOT / "docs" / "pipeline.svg").getroot()
        texts = [
            element for element in root.iter("{http://www.w3.org/2000/svg}text") if element.get("class") == "where"
        ]
        places = [place for element in texts for place in element.text.split()]
        assert len(places) > 8
        assert [place for place in places if place != "manifest.json" and not (ROOT / "tfzoo" / place).exists()] == []

    def test_the_python_version_is_that_of_the_package(self):
        (version,) = re.findall(r"Python (\d\.\d+) or newer", README)
        assert f"python_requires = >={version}\n" in (ROOT / "setup.cfg").read_text(encoding="utf-8")


def scientific(value: float) -> str:
    return f"{value:.0e}".replace("e-0", "e-")
