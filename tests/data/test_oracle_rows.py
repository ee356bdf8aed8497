"""Small real data sets that others wrote: what specification 2.4 recognises loads, the rest is refused with a reason (rulings 9)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from swift.args.base import DataArgs, HubArgs
from swift.data.mix import Loaded, load_samples
from swift.errors import DataError

LOADS = {  # file → rows, rows with an answer at the end
    "fastchat/dummy_conversation.json": (500, 500),
    "gsm8k/train.jsonl.gz": (7473, 7473),
    "llamafactory/alpaca_en_demo.json": (999, 999),
    "llamafactory/c4_demo.jsonl": (300, 300),
    "llamafactory/dpo_en_demo.json": (300, 300),
    "llamafactory/glaive_toolcall_en_demo.json": (300, 300),
    "llamafactory/identity.json": (91, 91),
    "llamafactory/kto_en_demo.json": (300, 300),
    "llamafactory/mllm_audio_demo.json": (3, 3),
    "llamafactory/mllm_demo.json": (6, 6),
    "llamafactory/mllm_video_audio_demo.json": (3, 3),
    "llamafactory/mllm_video_demo.json": (3, 3),
    "medicalgpt/sample.jsonl": (32, 32),
    "ms-swift/frozen_lake.jsonl": (128, 0),
    "ms-swift-tests/alpaca.csv": (3, 3),
    "ms-swift-tests/alpaca.jsonl": (3, 3),
    "ms-swift-tests/alpaca2.csv": (3, 3),
    "ms-swift-tests/chatml.jsonl": (3, 3),
    "ms-swift-tests/conversations.jsonl": (3, 3),
    "ms-swift-tests/multi_modal_1.jsonl": (3, 3),
    "ms-swift-tests/multi_modal_2.jsonl": (3, 3),
    "ms-swift-tests/multi_modal_3.jsonl": (3, 3),
    "ms-swift-tests/sharegpt.jsonl": (3, 3),
    "ms-swift-tests/swift_multi.json": (3, 3),
    "ms-swift-tests/swift_multi.jsonl": (3, 3),
    "ms-swift-tests/swift_pre.csv": (3, 3),
    "ms-swift-tests/swift_pre.jsonl": (3, 3),
    "ms-swift-tests/swift_single.csv": (3, 3),
    "ms-swift-tests/swift_single.jsonl": (3, 3),
    "torchtune/alpaca_tiny.json": (100, 100),
    "torchtune/chat_tiny.json": (1, 1),
    "torchtune/hh_rlhf_tiny.json": (1, 1),
    "torchtune/instruct_tiny.json": (2, 2),
    "torchtune/vqa_tiny.json": (1, 1),
    "evalscope_custom_eval/text/mcq/example_val.csv": (12, 12),
    "evalscope_custom_eval/text/mcq/example_multi_val.jsonl": (10, 10),
    "evalscope_custom_eval/text/fc/example.jsonl": (3, 0),
    "evalscope_custom_eval/text/qa/example.jsonl": (13, 12),
    "evalscope_custom_eval/text/qa/arena.jsonl": (10, 0),
    "evalscope_custom_eval/text/rerank/example.jsonl": (10, 0),
    "evalscope_custom_eval/text/retrieval/corpus.jsonl": (10, 10),
    "evalscope_custom_eval/text/retrieval/queries.jsonl": (10, 10),
    "evalscope_custom_eval/multimodal/mcq/example.tsv": (3, 3),
    "evalscope_custom_eval/multimodal/text-image-retrieval/image_queries.jsonl": (5, 0),
}
REFUSED = {
    "llamafactory/dataset_info.json": "objects under names, not rows",
    "ms-swift/rft_math.json": "500 objects under names, not rows",
    "ms-swift/new_special_tokens.txt": "every line is a token",
    "evalscope_custom_eval/text/retrieval/qrels.jsonl": "no column that SWIFT knows",
    "evalscope_custom_eval/multimodal/vqa/example_openai.jsonl": "'image_url', which a text model cannot read",
}


def load(path: Path, **options: Any) -> Loaded:
    return load_samples(DataArgs(dataset=[str(path)], split_dataset_ratio=0, **options), HubArgs(), task="sft")


@pytest.mark.parametrize("name", LOADS)
def test_it_loads(shared: Path, name: str) -> None:
    loaded = load(shared / "oracle" / "datasets" / "dev" / name)
    rows = list(loaded.train)  # type: ignore[arg-type]
    assert (len(rows), sum(sample.messages[-1].role == "assistant" for sample in rows)) == LOADS[name]
    assert loaded.tally.kept == len(rows)


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_with_a_reason(shared: Path, name: str) -> None:
    with pytest.raises(DataError, match=REFUSED[name]):
        load(shared / "oracle" / "datasets" / "dev" / name)


def test_pairs_of_answers_load_with_their_columns_mapped(shared: Path) -> None:
    path = shared / "oracle" / "datasets" / "dev" / "torchtune" / "stack_exchange_paired_tiny.json"
    assert all(sample.messages[-1].role == "user" for sample in load(path).train)  # type: ignore[union-attr]
    mapped = load(path, columns={"response_j": "response", "response_k": "rejected_response"})
    assert len(mapped.train) == 25  # type: ignore[arg-type]
    assert all(s.messages[-1].role == "assistant" and s.rejected for s in mapped.train)  # type: ignore[union-attr]


def test_the_reference_s_own_rows_give_its_messages(shared: Path) -> None:
    folder = shared / "oracle" / "datasets" / "dev" / "ms-swift-tests"

    def turns(name: str) -> list[list[str]]:
        return [[f"{m.role[0]}:{m.content}" for m in s.messages] for s in load(folder / name).train]  # type: ignore[union-attr]

    assert turns("alpaca.csv") == [["s:00000", "u:11111\n22222", "a:3.3"], ["u:aaaaa", "a:ccccc"], ["u:AAAAA\nBBBBB", "a:CCCCC"]]
    assert turns("alpaca.jsonl")[0] == ["s:system123", "u:aaaaa", "a:bbbbb", "u:11111\n22222", "a:33333"]
    assert turns("swift_multi.json") == turns("swift_multi.jsonl")
    assert turns("swift_single.csv") == turns("swift_single.jsonl")
    assert turns("sharegpt.jsonl")[2] == ["u:AAAAA", "a:BBBBB", "u:CCCCC", "a:DDDDD", "u:EEEEE", "a:FFFFF"]
    assert turns("chatml.jsonl") == turns("conversations.jsonl")
