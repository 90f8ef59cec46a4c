"""An artifact opened by optimum and transformers, as their documentation says. Runs in the clients' environment.

Request: `artifact` (folder), `task`, `texts`, `searches` (name -> arguments of `generate`), `card` (the Python code of
its model card, whose output is answered under "card"). Of encoders: `task` and `models`, see `encoder`.
"""

import contextlib
import io
import json
import os
import sys
from pathlib import Path

import torch
from optimum.onnxruntime import (
    ORTModelForCausalLM,
    ORTModelForFeatureExtraction,
    ORTModelForMaskedLM,
    ORTModelForQuestionAnswering,
    ORTModelForSeq2SeqLM,
    ORTModelForSequenceClassification,
    ORTModelForTokenClassification,
)
from transformers import AutoTokenizer, pipeline

torch.set_num_threads(1)


def seq2seq(request):
    """Search name -> for each text its token ids and their text, best first; a pipeline's text under "pipeline"."""
    folder = request["artifact"]
    model = ORTModelForSeq2SeqLM.from_pretrained(folder)
    if (Path(folder) / "tokenizer.json").is_file():
        source = target = AutoTokenizer.from_pretrained(folder)
    else:
        source, target = (AutoTokenizer.from_pretrained(folder, subfolder=side) for side in ("source", "target"))
    inputs = source(request["texts"], padding=True, truncation=True, return_tensors="pt")
    answers = {}
    for name, arguments in request["searches"].items():
        found = model.generate(**inputs, **arguments)
        found = found.reshape(len(request["texts"]), -1, found.shape[1]).tolist()
        answers[name] = [
            [{"token_ids": ids[1:], "text": target.decode(ids, skip_special_tokens=True)} for ids in row]
            for row in found
        ]
    if source is target:
        translate = pipeline("text2text-generation", model=model, tokenizer=source)
        arguments = request["searches"]["greedy"]
        answers["pipeline"] = [
            one["generated_text"] for one in translate(request["texts"], truncation=True, **arguments)
        ]
    return answers


def causal_lm(request):
    """Search name -> the same, prompts left out; "batch" is all prompts at once, padded as the tokenizer does it."""
    folder = request["artifact"]
    model = ORTModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def search(texts, arguments):
        inputs = tokenizer(texts, padding=True, return_tensors="pt")
        torch.manual_seed(0)
        found = model.generate(**inputs, **arguments)[:, inputs["input_ids"].shape[1] :]
        found = found.reshape(len(texts), -1, found.shape[1]).tolist()
        return [
            [{"token_ids": ids, "text": tokenizer.decode(ids, skip_special_tokens=True)} for ids in row]
            for row in found
        ]

    texts, searches = request["texts"], request["searches"]
    answers = {name: [search([text], searches[name])[0] for text in texts] for name in searches}
    answers["batch"] = search(texts, searches["greedy"])
    answers["padded"] = tokenizer(texts, padding=True)["attention_mask"]
    complete = pipeline("text-generation", model=model, tokenizer=tokenizer)
    found = complete(texts, batch_size=len(texts), return_full_text=False, **searches["greedy"])
    answers["pipeline"] = [row[0]["generated_text"] for row in found]
    return answers


ENCODERS = {
    "text-classification": ORTModelForSequenceClassification,
    "token-classification": ORTModelForTokenClassification,
    "question-answering": ORTModelForQuestionAnswering,
    "feature-extraction": ORTModelForFeatureExtraction,
    "fill-mask": ORTModelForMaskedLM,
}


def encoder(request):
    """For each model `inputs` and `outputs` of its class, by name, for all texts; and `pipeline`, for each text alone.

    A model has `artifact`, `pipeline` (its task), `columns` (a list of texts, or two lists), `asked` (the same as the
    pipeline takes one) and `arguments` (of the pipeline).
    """
    answers = []
    for one in request["models"]:
        model = ENCODERS[one["pipeline"]].from_pretrained(one["artifact"])
        tokenizer = AutoTokenizer.from_pretrained(one["artifact"])
        inputs = tokenizer(*one["columns"], padding=True, truncation=True, return_tensors="pt")
        outputs = model(**inputs)
        ask = pipeline(one["pipeline"], model=model, tokenizer=tokenizer)
        answers.append(
            {
                "inputs": {name: value.tolist() for name, value in inputs.items()},
                "outputs": {name: value.tolist() for name, value in outputs.items() if value is not None},
                "pipeline": [ask(asked, **one["arguments"]) for asked in one["asked"]],
            }
        )
    return answers


# A new task adds its line.
TASKS = {"seq2seq": seq2seq, "causal_lm": causal_lm, "encoder": encoder}

request = json.load(sys.stdin)
answers = TASKS[request["task"]](request)
if "card" in request:
    with contextlib.redirect_stdout(io.StringIO()) as output:
        os.chdir(Path(request["artifact"]).parent)
        exec(request["card"])
    answers["card"] = output.getvalue()
print(json.dumps(answers, default=float))  # some numbers are NumPy's
