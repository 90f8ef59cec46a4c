"""tokenizer.json read by transformers' AutoTokenizer. Runs in the clients' environment.

Request: `tokenizers`: a list of `folder`, `texts`, `sequences` (ids). Answer: a list of `ids` and `texts`.
"""

import json
import sys

from transformers import AutoTokenizer

answers = []
for one in json.load(sys.stdin)["tokenizers"]:
    tokenizer = AutoTokenizer.from_pretrained(one["folder"])
    answers.append(
        {
            "ids": [tokenizer.encode(text, add_special_tokens=False) for text in one["texts"]],
            "texts": [tokenizer.decode(ids, skip_special_tokens=True) for ids in one["sequences"]],
        }
    )
print(json.dumps(answers))
