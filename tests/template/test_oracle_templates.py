"""Published chat templates, and the tokenizers of shared/oracle: our ids are those of `apply_chat_template`, or docs/templates.md says why not."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from swift.args.base import TemplateArgs
from swift.errors import SwiftError
from swift.models.spec import ModelSpec
from swift.template.build import build_template
from swift.template.encoded import RowSkipped
from swift.template.template import Template
from tests.template.conftest import DAY
from tests.template.oracle import TALKS, Published, official, published, sample_of, stand_in

DOCUMENT = Path(__file__).parents[2] / "docs/templates.md"
QUICK = (
    "qwen2.5/Qwen-Qwen2.5-7B-Instruct.jinja",
    "qwen3/Qwen-Qwen3-0.6B.jinja",
    "qwen3.5+/Qwen3.5-4B.jinja",
    "qwq/Qwen-QwQ-32B.jinja",
    "llama3.x/meta-llama-Llama-3.2-3B-Instruct.jinja",
    "mistral/mistralai--Mistral-7B-Instruct-v0.3.jinja",
    "gemma1-2/google-gemma-2-2b-it.jinja",
    "gemma4/google-gemma-4-31B-it.jinja",
    "phi/microsoft--Phi-3-medium-4k-instruct.jinja",
    "glm/GLM-4.6.jinja",
    "deepseek/deepseek-ai-DeepSeek-V3.2.jinja",
    "command-r/hfjs-CohereLabs--command-a-reasoning-08-2025.jinja",
    "gpt-oss/openai-gpt-oss-120b.jinja",
    "smollm/HuggingFaceTB--SmolVLM2-256M-Video-Instruct.jinja",
    "olmo/open-instruct-r1_simple_chat.jinja",
)
TOKENIZERS = (
    "Qwen--Qwen2.5-7B-Instruct",
    "Qwen--Qwen2-7B-Instruct",
    "Qwen--Qwen2-VL-2B-Instruct",
    "Qwen--Qwen2.5-VL-3B-Instruct",
    "Qwen--Qwen3-30B-A3B-Thinking-2507",
    "Qwen--Qwen3-4B",
    "OpenGVLab--InternVL3-2B",
    "meta-llama--Llama-3.2-11B-Vision-Instruct",
    "meta-llama--Llama-3.2-3B-Instruct",
    "microsoft--Phi-3-mini-4k-instruct",
    "mistralai--Mistral-7B-Instruct-v0.2",
    "mistralai--Mistral-7B-Instruct-v0.3",
)
FEW, UNUSABLE, NO_STOP = "fewer than ten", "cannot be used", "no stop"


def listed() -> dict[str, set[str]]:
    """The table of docs/templates.md: template or tokenizer, and its conversations that differ."""
    section = DOCUMENT.read_text(encoding="utf-8").partition("## Conformance")[2].partition("\n## ")[0]
    table: dict[str, set[str]] = {}
    for name, conversations in re.findall(r"^\| `([^`]+)` \| ([^|]+) \|", section, re.MULTILINE):
        table[name] = {part.strip() for part in conversations.split(";")}
    return table


def differences(tokenizer: PreTrainedTokenizerBase, backend: str) -> set[str]:
    """The conversations that become other tokens, and what keeps the others from being compared."""
    info = SimpleNamespace(name="some-model", path=None, spec=ModelSpec("auto"), max_length=None)
    wanted = {name: want for name, talk in TALKS.items() if (want := published(tokenizer, *talk)) is not None}
    found = {FEW} if len(wanted) < 10 else set()
    try:
        ours = build_template(info, tokenizer, TemplateArgs(template_backend=backend), date=DAY)  # pyright: ignore[reportArgumentType]
    except SwiftError:
        return found | {UNUSABLE}
    if backend == "swift" and ours.jinja is None:
        return found | {UNUSABLE}
    for name, want in wanted.items():
        found |= _difference(name, want, ours)
    return found


def _difference(name: str, want: Published, ours: Template) -> set[str]:
    messages, tools = TALKS[name]
    sample = sample_of(messages, tools)
    reply = messages[-1]["role"] != "assistant"
    try:
        got = ours.prompt(sample) if reply else ours.encode_sample(sample).input_ids
    except RowSkipped:
        return {name}
    if got == want.ids or (not reply and got == want.ids[: len(got)] and got[-1] in ours.stop_ids):
        return set()
    if not reply and got in [ours.specials.ids(text + ours.stop) for text in (want.text, want.text.removesuffix("\n"))]:
        return {NO_STOP}
    return {name}


@pytest.mark.parametrize("backend", ["swift", "jinja"])
@pytest.mark.parametrize("file", QUICK)
def test_a_published_template_gives_its_own_ids(file, backend, shared, tokenizer_folder):
    tokenizer = stand_in(file, tokenizer_folder, shared)
    assert differences(tokenizer, backend) == listed().get(file, set())


@pytest.mark.parametrize("backend", ["swift", "jinja"])
@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_published_tokenizer_gives_its_own_ids(name, backend, tokenizer_folder):
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder / name)
    assert differences(tokenizer, backend) == listed().get(name, set())


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["swift", "jinja"])
def test_every_published_template_gives_its_own_ids_or_is_listed(backend, shared, tokenizer_folder):
    found: dict[str, set[str]] = {}
    for file in official(shared):
        tokenizer = stand_in(file, tokenizer_folder, shared)
        if differ := differences(tokenizer, backend):
            found[file] = differ
    assert found == {name: differ for name, differ in listed().items() if name.endswith(".jinja")}


def test_every_tokenizer_with_a_chat_template_is_tried(tokenizer_folder):
    have = {path.name for path in tokenizer_folder.iterdir() if AutoTokenizer.from_pretrained(path).chat_template}
    assert have - {"_tiny-torchtitan", "_tiny-torchtune"} == set(TOKENIZERS)
