"""What the model card of an encoder says of its use, by task."""

from __future__ import annotations

import json
from typing import Any

from tfzoo.runtime import onnx_names
from tfzoo.runtime.artifact import head_of

ENCODER_PIPELINES = {
    "text_classification": "text-classification",
    "token_classification": "token-classification",
    "fill_mask": "fill-mask",
    "question_answering": "question-answering",
    "text_embedding": "feature-extraction",
}
ENCODER_KINDS = {
    "text_classification": "text classifier",
    "token_classification": "classifier of words",
    "fill_mask": "masked language model",
    "question_answering": "model that finds answers in contexts",
    "text_embedding": "model that gives texts vectors",
}
_ORT_MODELS = {
    "text_classification": "ORTModelForSequenceClassification",
    "token_classification": "ORTModelForTokenClassification",
    "fill_mask": "ORTModelForMaskedLM",
    "question_answering": "ORTModelForQuestionAnswering",
    "text_embedding": "ORTModelForFeatureExtraction",
}
_OUTPUTS = {"question_answering": "start_logits", "text_embedding": "last_hidden_state"}
_POOLING = ", called with `{pooling: 'mean', normalize: true}` for the vectors of this model"


def encoder_use(manifest: dict[str, Any]) -> str:
    """The section on use."""
    name, task, head = manifest["name"], manifest["task"], head_of(manifest)
    text = manifest["golden"]["texts"][0]
    given = repr(text if isinstance(text, str) else tuple(text))
    parts = [
        f"""## Use

{_example(manifest, given)}

```python
import tfzoo

answer = tfzoo.load("{name}")
print(answer([{given}]))
```
"""
    ]
    if head.labels:
        parts.append(f"The labels: {', '.join(f'`{label}`' for label in head.labels)}.\n")
    if "saved_model" in manifest["formats"]:
        inputs = json.dumps({"inputs": {one: ["..."] for one in head.text_inputs}})
        parts.append(f"""TF Serving, with this folder mounted as `/models/{name}`:

```sh
serving/docker_run.sh
curl -d '{inputs}' http://localhost:8501/v1/models/{name}:predict
```

`serving/` also has Docker Compose, Kubernetes and KServe files, clients in Python (REST, gRPC), Node and curl, the
interface as OpenAPI, and `request.json` with `response.json`, its true answer.
{_other_signatures(manifest)}""")
    if "onnx" in manifest["formats"]:
        if onnx_names.TEXT_MODEL in manifest["onnx"]:
            parts.append(_text_graph(manifest))
        parts.append(f"""ONNX Runtime: `{onnx_names.MODEL}` takes `input_ids`, `attention_mask` and `token_type_ids`, \
int64, and gives
{", ".join(f"`{output}`" for output in manifest["onnx"][onnx_names.MODEL]["outputs"])}.

Hugging Face's tools open the folder as a model repository:

```python
from optimum.onnxruntime import {_ORT_MODELS[task]}
from transformers import AutoTokenizer

model = {_ORT_MODELS[task]}.from_pretrained("{name}")
tokenizer = AutoTokenizer.from_pretrained("{name}")
inputs = tokenizer({", ".join(['["..."]'] * head.num_texts)}, padding=True, truncation=True, return_tensors="pt")
print(model(**inputs).{_OUTPUTS.get(task, "logits")})
```

transformers.js: `pipeline("{ENCODER_PIPELINES[task]}", "{name}", {{dtype: "fp32"}})`\
{_POOLING if task == "text_embedding" else ""}.
There, text that spells a special token, such as [SEP], is that token; here it is ordinary text. Characters beyond
Unicode's first plane can become other tokens in transformers.js. `tokenizer_vectors.json` holds texts with their ids
for a tokenizer of your own, and says where Hugging Face's are known to differ.
""")
    return "\n".join(parts)


def _text_graph(manifest: dict[str, Any]) -> str:
    text = next(one for one in manifest["golden"]["texts"] if one)
    proof = manifest["proof"]["onnx_text"]
    (output,) = manifest["onnx"][onnx_names.TEXT_MODEL]["outputs"]
    order = " in the order of `id2label` in config.json" if output == onnx_names.SCORES else ""
    return f"""ONNX Runtime with onnxruntime-extensions: `{onnx_names.TEXT_MODEL}` takes one string and gives \
`{output}`{order}.

```python
import numpy as np
import onnxruntime
import onnxruntime_extensions

options = onnxruntime.SessionOptions()
options.register_custom_ops_library(onnxruntime_extensions.get_library_path())
model = onnxruntime.InferenceSession("{manifest["name"]}/{onnx_names.TEXT_MODEL}", options)
print(model.run(["{output}"], {{"{onnx_names.TEXT}": np.array([{text!r}], object)}}))
```

Its tokenizer is proved for texts of ASCII (without NUL and DEL), ideographs, 、 and 。, in words that the vocabulary
can spell: {proof["golden_texts"]} of the texts and {proof["vectors"]} of `tokenizer_vectors.json`, while \
{proof["left_out"]} were left out. It may read others otherwise: it
keeps accents beyond Latin-1, does not part words at full-width punctuation, and gives an unknown word its first pieces
before [UNK].
"""


def _example(manifest: dict[str, Any], given: str) -> str:
    served, task = manifest["golden"]["served"], manifest["task"]
    if task == "text_embedding":
        return f"The text {given} gets a vector of {len(served['embeddings'][0])} numbers, of length 1."
    if task == "question_answering":
        return f"The question and its context, {given}, give {served['answers'][0]!r}."
    if task == "fill_mask":
        return f"The text {given} becomes {served['outputs'][0]!r}."
    if task == "token_classification":
        words = zip(served["words"][0], served["labels"][0], strict=True)
        return f"The words of {given} are {', '.join(f'{word} ({label})' for word, label in words if word)}."
    score = served["scores"][0][0]
    if "labels" not in served:
        return f"The model gives {given} the number {score:.4g}."
    return f"The best label of {given} is {served['labels'][0][0]!r}, with a score of {score:.2f}."


def _other_signatures(manifest: dict[str, Any]) -> str:
    tokens = f"The signature `tokens` takes ids padded with {manifest['pad_id']}"
    if "classify" not in manifest["saved_model"]["signatures"]:
        return f"{tokens}.\n"
    return f"""{tokens}; `classify` answers TF Serving's
classification API (`:classify` over REST).
"""
