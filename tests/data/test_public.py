"""The table of public data sets is the specification's appendix D, and its conversions keep what a row says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from swift.args.base import DataArgs, HubArgs
from swift.data.conversions import CONVERSIONS
from swift.data.known import find_known, public
from swift.data.mix import Loaded, load_samples
from swift.data.registered import DatasetSpec
from swift.errors import DataError

# Those that need images, sound or films, and a conversion for them: part of the multimodal issue.
MEDIA = """
AI-ModelScope/ShareGPT-4o swift/gpt4v-dataset tany0699/garbage265 Tongyi-DataEngine/SA1B-Paired-Captions-Images
Tongyi-DataEngine/SA1B-Dense-Caption modelscope/coco_2014_caption swift/Mantis-Instruct swift/llava-data swift/pixelprose
speech_asr/speech_asr_aishell1_trainsets AI-ModelScope/egoschema lmms-lab/LLaVA-Video-178K AI-ModelScope/MovieChat-1K-test
swift/VideoChatGPT swift/Multimodal-Mind2Web AI-ModelScope/M3IT AI-ModelScope/ShareGPT4V swift/TextCaps swift/refcoco
swift/refcocog swift/lnqa AI-ModelScope/LLaVA-Instruct-150K AI-ModelScope/LLaVA-Pretrain swift/MideficsDataset swift/OK-VQA_train
swift/A-OKVQA swift/OCR-VQA swift/ScienceQA swift/GRIT lmms-lab/GQA AI-ModelScope/coco swift/llava-instruct-mix-vsft
AI-ModelScope/LaTeX_OCR AI-ModelScope/captcha-images okwinds/clevr_cogen_a_train
"""
WITH_MEDIA = {*MEDIA.split()}


def appendix(shared: Path) -> list[list[str]]:
    """The cells of appendix D's table: ModelScope id, Hugging Face id, subsets, split, conversion."""
    text = (shared / "spec" / "data-and-training.md").read_text(encoding="utf-8")
    text = text[text.index("# Appendix D") : text.index("# Appendix E")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")]
    rows = [row for row in rows if row[0] != "ModelScope id"]
    assert len(rows) == 181
    return rows


def in_the_words_of_the_table(spec: DatasetSpec) -> list[str]:
    subsets = []
    for subset in spec.subsets:
        hub = f"⇐{subset.subset}" if subset.subset not in (None, subset.name) else ""
        split = f"@{'+'.join(subset.split)}" if subset.split else ""
        subsets.append(f"{'~' if subset.is_weak_subset else ''}{subset.name}{hub}{split}")
    split = "" if spec.split == ("train",) else ", ".join(spec.split)
    huge = " (h)" if spec.huge_dataset else ""
    same = spec.hf_dataset_id and spec.hf_dataset_id == spec.ms_dataset_id
    return [(spec.ms_dataset_id or "—") + huge, "=" if same else spec.hf_dataset_id or "—", ", ".join(subsets), split]


def test_ids_subsets_and_splits_are_those_of_the_specification(shared: Path) -> None:
    rows = [row[:4] for row in appendix(shared) if (row[1] if row[0].startswith("—") else row[0].removesuffix(" (h)")) not in WITH_MEDIA]
    assert len(rows) == 181 - len(WITH_MEDIA)
    assert [in_the_words_of_the_table(spec) for spec in public()] == rows


def test_plain_renames_are_those_of_the_specification(shared: Path) -> None:
    """The second part of the table, where the last cell is `a→b, c→d`."""
    renames = {}
    for cells in appendix(shared)[78:]:
        conversion = cells[4]
        if "→" in conversion and ":" not in conversion:
            name = cells[1] if cells[0].startswith("—") else cells[0].removesuffix(" (h)")
            renames[name] = dict(pair.split("→") for pair in conversion.split(", "))
    assert len(renames) > 25
    assert {spec.title: spec.columns for spec in public() if spec.title in renames} == renames


def test_every_named_conversion_is_there_and_used() -> None:
    used = {spec.convert for spec in public()} | {subset.convert for spec in public() for subset in spec.subsets}
    assert used - {None} == set(CONVERSIONS)


def load(tmp_path: Path, word: str, rows: list[dict[str, Any]], **more: Any) -> Loaded:
    """What a clone of a data set gives: a folder with its last name, by which it is found, and a file named after the hub's subset."""
    name, _, subset = word.partition(":")
    known = find_known(name)
    assert known is not None
    hub = known.spec.chosen((subset,) if subset else (), name)[0].subset
    file = tmp_path / name / ("train.jsonl" if hub == "default" else f"{hub}.jsonl")
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return load_samples(DataArgs(dataset=[f"{tmp_path}/{word}"], split_dataset_ratio=0, **more), HubArgs(), task="sft")


def read(tmp_path: Path, word: str, rows: list[dict[str, Any]], **more: Any) -> list[Any]:
    return list(load(tmp_path, word, rows, **more).train or [])


def talk(sample: Any) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in sample.messages]


QA = [("user", "q"), ("assistant", "a")]
TURNS = [{"from": "user", "value": "q"}, {"from": "assistant", "value": "a"}]
ROWS: list[tuple[str, dict[str, Any], list[tuple[str, str]] | None]] = [
    ("alpaca-gpt4-data-zh", {"instruction": "i", "input": "输入：x", "output": "o"}, [("user", "i\nx"), ("assistant", "o")]),
    ("LongAlpaca-12k", {"instruction": "i", "output": "Answer: o"}, [("user", "i"), ("assistant", "o")]),
    ("ruozhiba:title-good", {"title": "12. t", "abs": "b"}, [("assistant", "t，b")]),
    ("ruozhiba:post-annual", {"content": "3、c", "title": None, "abs": "3、c"}, [("assistant", "c")]),
    ("math-trn-format", {"query": "q", "response": "a", "history": [["x", "y"]], "system": "s"}, QA),
    (
        "ms_bench",
        {"messages": [{"role": "system", "content": "You are a helpful assistant."}, *[{"role": r, "content": c} for r, c in QA]]},
        QA,
    ),
    ("ms_bench", {"messages": [{"role": "user", "content": "are you MOSS?"}, {"role": "assistant", "content": "a"}]}, None),
    ("AdvertiseGen", {"content": "k#v", "summary": "s"}, [("user", "…Keywords: k#v\nAdvertisements:"), ("assistant", "s")]),
    ("firefly-train-1.1M", {"kind": "Cot", "input": "q", "target": "a"}, QA),
    ("firefly-train-1.1M", {"kind": "JinYong", "input": "q", "target": "a"}, None),
    (
        "clue",
        {"sentence1": "x", "sentence2": "y", "label": 1},
        [
            ("user", "Task: Natural Language Inference\nSentence1: x\nSentence2: y\nCategory: neutral, entailment, contradiction\nOutput:"),
            ("assistant", "entailment"),
        ],
    ),
    ("clue:cmnli", {"sentence1": "x", "sentence2": "y", "label": -1}, None),
    (
        "jd",
        {"sentence": "x", "label": 1.0},
        [("user", "Task: Sentiment Classification\nSentence: x\nCategory: negative, positive\nOutput:"), ("assistant", "positive")],
    ),
    (
        "synthetic_text_to_sql",
        {"sql_prompt": "p", "sql_context": "c", "sql": "s", "sql_explanation": "e"},
        [("user", "…c…p"), ("assistant", "e…s")],
    ),
    (
        "alpha-umi-toolbench-processed-v2:caller",
        {"conversations": [{"from": "user", "value": "q"}, {"from": "caller", "value": "a"}]},
        QA,
    ),
    ("alpha-umi-toolbench-processed-v2:planner", {"conversations": [*TURNS, *TURNS]}, None),
    ("blossom-math-v2", {"id": "1", "input": "q", "output": "o", "answer": "7"}, [("user", "q"), ("assistant", "o\n\nAnswer: 7")]),
    ("sql-create-context", {"question": "i", "context": "c", "answer": "a"}, [("user", "i\nc"), ("assistant", "a")]),
    ("tigerbot-law-plugin", {"type": "t", "title": "T", "chapter1": "1", "chapter2": "", "content": "c"}, [("assistant", "t\nT\n1\nc")]),
    ("CodeExercise-Python-27k", {"chat_rounds": [{"role": "human", "content": "q"}, {"role": "bot", "content": "a"}]}, QA),
    (
        "leetcode-solutions-python",
        {"code_with_data": "# Two Sum\nAdd.\n```python\nx\n```\nBecause."},
        [("user", "Two Sum\nAdd."), ("assistant", "```python\nx\n```\n\nBecause.")],
    ),
    (
        "AgentInstruct_copy:db",
        {"conversations": "[{'from': 'human', 'value': 'q'}\n {'from': 'gpt', 'value': 'a'}]"},
        QA,
    ),
    ("lmsys-chat-1m", {"conversation": "[{'role': 'user', 'content': 'q'}\n {'role': 'assistant', 'content': 'a'}]"}, QA),
    (
        "MSAgent-MultiRole",
        {"conversations": [{"from": f, "value": v} for f, v in (("system", "S"), ("user", "u"), ("Ann", "x"), ("Bob", "y"))]},
        [("system", "S\n\nThe conversation so far:\nuser: u"), ("user", "Ann: x"), ("assistant", "y")],
    ),
    ("MSAgent-MultiRole", {"conversations": TURNS}, QA),
    ("Countdown-Tasks-3to4", {"nums": [1, 2], "target": 3}, [("user", "…[1, 2]…3…")]),
    ("DuReader_robust-QG", {"text1": "ans[SEP]ctx", "text2": "q?"}, [("user", "…ctx…ans…"), ("assistant", "q?")]),
    ("hh-rlhf:helpful-base", {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"}, QA),
    (
        "xlam-function-calling-60k",
        {"query": "q", "answers": '[{"name": "f", "arguments": {"x": 1}}]', "tools": '[{"name": "f"}]'},
        [("user", "q"), ("assistant", 'Action: f\nAction Input: {"x": 1}')],
    ),
    (
        "hh_rlhf_cn:hh_rlhf",
        {
            "context": [{"role": "human", "text": "q"}],
            "chosen": {"role": "assistant", "text": "a"},
            "rejected": {"role": "assistant", "text": "b"},
        },
        QA,
    ),
    ("shareAI-Llama3-DPO-zh-en-emoji", {"question": "q", "answer_zh": "a", "answer_en": "b"}, QA),
    (
        "GuanacoDataset",
        {"instruction": "User: a\nAssistant：b\nUser: q", "input": "q", "output": "c"},
        [("user", "a"), ("assistant", "b"), ("user", "q"), ("assistant", "c")],
    ),
    ("GuanacoDataset", {"instruction": "do it", "input": "User:x", "output": "Assistant: c"}, [("user", "do it\nx"), ("assistant", "c")]),
    ("databricks-dolly-15k", {"instruction": "q", "context": "c", "response": "a"}, [("user", "…c\n\nq"), ("assistant", "a")]),
    ("databricks-dolly-15k", {"instruction": "q", "context": "", "response": "a"}, QA),
    (
        "orpo-dpo-mix-40k",
        {
            "chosen": [{"role": r, "content": c} for r, c in QA],
            "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "b"}],
        },
        QA,
    ),
    ("orpo-dpo-mix-40k", {"source": "toxic-dpo-v0.2", "chosen": [], "rejected": []}, None),
    ("100PoisonMpts", {"prompt": "q", "answer": "a"}, QA),
    ("medical_zh:en", {"input": "q", "output": "a"}, QA),
    ("medical_zh:zh", {"instruction": "q", "output": "a", "input": ""}, QA),
    (
        "R1-Distill-SFT:v1",
        {"messages": "nothing", "reannotated_messages": [{"role": r, "content": c} for r, c in QA], "id": "1"},
        QA,
    ),
    ("lawyer_llama_data", {"instruction": "q", "input": "", "output": "a", "history": "no list"}, QA),
    ("Infinity-Instruct:7M", {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "label": {"en": 1}}, QA),
]


def like(text: str, pattern: str) -> bool:
    """`…` stands for anything."""
    at = 0
    for piece in pattern.split("…"):
        at = text.find(piece, at)
        if at < 0:
            return False
    return "…" in pattern or text == pattern


@pytest.mark.parametrize(("word", "row", "expected"), ROWS, ids=[f"{number}-{word}" for number, (word, *_) in enumerate(ROWS)])
def test_a_row_becomes_a_conversation(tmp_path: Path, word: str, row: dict[str, Any], expected: list[tuple[str, str]] | None) -> None:
    if expected is None:
        with pytest.raises(DataError, match=r"left out by the data set's own conversion|not two turns"):
            load(tmp_path, word, [row])
        return
    (sample,) = read(tmp_path, word, [row])
    said = talk(sample)
    assert [role for role, _ in said] == [role for role, _ in expected]
    assert all(like(text, pattern) for (_, text), (_, pattern) in zip(said, expected, strict=True)), said


@pytest.mark.parametrize("word", ["hh_rlhf_cn:hh_rlhf", "shareAI-Llama3-DPO-zh-en-emoji", "orpo-dpo-mix-40k", "hh-rlhf:helpful-base"])
def test_preferences_keep_the_rejected_answer(tmp_path: Path, word: str) -> None:
    row = next(row for known, row, expected in ROWS if known == word and expected == QA)
    (sample,) = read(tmp_path, word, [row])
    assert sample.rejected is not None and sample.rejected[-1].content == "b"


def test_one_question_gives_a_row_for_each_writer(tmp_path: Path) -> None:
    rows = [{"question": "q", "human_answers": ["h1", "h2"], "chatgpt_answers": ["c"]}]
    first, second = read(tmp_path, "HC3:finance", rows)
    assert talk(first)[1] == ("assistant", "Human") and talk(second)[1] == ("assistant", "ChatGPT")
    assert ("h1" in talk(first)[0][1]) != ("h2" in talk(first)[0][1])
    human, machine = read(tmp_path, "HC3:finance_cls", rows)
    assert (human.label, machine.label) == (0, 1) and [role for role, _ in talk(human)] == ["user"]
    again = read(tmp_path, "HC3:finance_cls", [{"question": "another", "human_answers": ["x", "y"], "chatgpt_answers": ["z"]}, *rows])
    assert talk(again[2]) == talk(human)  # chance hangs on the row, not on what came before


def test_the_weak_subset_needs_several_plugins_and_is_not_part_of_all(tmp_path: Path) -> None:
    def row(*plugins: str) -> dict[str, Any]:
        system = " ".join(f'{{"plugin_name": "{name}"}}' for name in plugins)
        turns = [("system", system), ("user", "q"), ("assistant", "a")]
        return {"conversations": [{"from": role, "value": text} for role, text in turns]}

    rows = [row("a"), row("a", "b"), row("a", "a")]
    assert len(read(tmp_path, "MSAgent-Bench", rows)) == 3
    assert len(read(tmp_path, "MSAgent-Bench:mini", rows)) == 1
    assert len(read(tmp_path, "MSAgent-Bench:all", rows)) == 3


def test_rewards_find_their_columns(tmp_path: Path) -> None:
    (sample,) = read(tmp_path, "Countdown-Tasks-3to4", [{"nums": [1, 2], "target": 3}], remove_unused_columns=False)
    assert (sample.extra["nums"], sample.extra["target"]) == ([1, 2], 3)


def test_a_row_that_is_not_as_published_is_counted_with_the_reason(tmp_path: Path) -> None:
    rows = [{"id": "1", "input": "q", "output": "o", "answer": "7"}, {"id": "2", "input": "q"}]
    loaded = load(tmp_path, "blossom-math-v2", rows)
    assert len(list(loaded.train or [])) == 1
    (skips,) = loaded.tally.skips.values()
    assert skips.count == 1 and skips.examples[0][1] == "KeyError: 'output'"
