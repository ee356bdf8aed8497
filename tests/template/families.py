"""The families of this test: format, tokenizer folder, published chat template, special tokens that the tokenizer at hand lacks."""

from __future__ import annotations

from swift.data.sample import Sample

FAMILIES = {
    "qwen": ("qwen", "Qwen--Qwen2.5-7B-Instruct", "chatml/ollama-index07-chatml.jinja", ()),
    "qwen1.5": ("qwen1_5", "Qwen--Qwen2.5-7B-Instruct", "qwen1-2/hfjs-Qwen--Qwen1.5-72B-Chat.jinja", ()),
    "qwen2.5": ("qwen2_5", "Qwen--Qwen2.5-7B-Instruct", "qwen2.5/Qwen-Qwen2.5-7B-Instruct.jinja", ()),
    "qwen3": ("qwen3", "Qwen--Qwen3-4B", "qwen3/Qwen-Qwen3-0.6B.jinja", ()),
    "qwen3-moe": ("qwen3", "Qwen--Qwen3-4B", "qwen3/Qwen--Qwen3-30B-A3B.jinja", ()),
    "qwen3-2507": ("qwen3_instruct", "Qwen--Qwen3-4B", "qwen3/trl-qwen3_instruct_2507.jinja", ()),
    "llama3": ("llama3", "meta-llama--Llama-3.2-3B-Instruct", "llama3/trl-llama3.jinja", ()),
    "llama3.1": ("llama3_1", "meta-llama--Llama-3.2-3B-Instruct", "llama3.x/meta-llama-Llama-3.1-8B-Instruct.jinja", ()),
    "llama3.2": ("llama3_2", "meta-llama--Llama-3.2-3B-Instruct", "llama3.x/meta-llama-Llama-3.2-3B-Instruct.jinja", ()),
    "mistral-v0.1": ("mistral_v1", "mistralai--Mistral-7B-Instruct-v0.2", "mistral/mistralrs-mistral.jinja", ()),
    "mistral-v0.2": ("mistral", "mistralai--Mistral-7B-Instruct-v0.2", None, ()),
    "mistral-v0.3": ("mistral_v3", "mistralai--Mistral-7B-Instruct-v0.3", None, ()),
    "mistral-nemo": ("mistral_nemo", "mistralai--Mistral-7B-Instruct-v0.3", "mistral/mistralai-Mistral-Nemo-Instruct-2407.jinja", ()),
    "gemma2": ("gemma", "google--gemma-2-2b-it", "gemma1-2/google-gemma-2-2b-it.jinja", ()),
    "phi3": ("phi3", "microsoft--Phi-3-mini-4k-instruct", "phi/microsoft--Phi-3-mini-4k-instruct.jinja", ()),
    "phi3.5": ("phi3", "microsoft--Phi-3-mini-4k-instruct", "phi/microsoft-Phi-3.5-mini-instruct.jinja", ()),
    "phi4": ("phi4", "Qwen--Qwen2.5-7B-Instruct", "phi/microsoft--phi-4.jinja", ("<|im_sep|>",)),
}

CODE = "def f(x):\n\treturn {'a': x ** 2}  # 平方\n\n\nprint(f(3))"
TALKS = {
    "single": Sample.of(("user", "Hello!"), ("assistant", "Hi there.")),
    "multi": Sample.of(("user", "1+1?"), ("assistant", "2"), ("user", "2+2?"), ("assistant", "4"), ("user", "3+3?"), ("assistant", "6")),
    "chinese": Sample.of(
        ("user", "你好，请介绍一下你自己。"), ("assistant", "我是一个助手。"), ("user", "谢谢"), ("assistant", "不客气！")
    ),
    "unicode": Sample.of(("user", "Grüße 🙂👩‍👩‍👧 é e\u0301 \u00a0 ﬁ"), ("assistant", "Ωμέγα 🎉\u200b!")),
    "blanks": Sample.of(("user", "  two before"), ("assistant", " one before and after "), ("user", "after  "), ("assistant", "x")),
    "newlines": Sample.of(("user", "\n\nfoo\n"), ("assistant", "\n- a\n- b\n\n"), ("user", "\n"), ("assistant", "end\n")),
    "code": Sample.of(("user", f"Explain:\n```python\n{CODE}\n```"), ("assistant", CODE)),
    "thoughts": Sample.of(
        ("user", "2+2?"),
        ("assistant", "<think>\nTwo and two.\n</think>\n\n4"),
        ("user", "3+3?"),
        ("assistant", "<think>\nThree and three.\n</think>\n\n6"),
    ),
    "system": Sample.of(
        ("system", "You are a pirate."), ("user", "Who are you?"), ("assistant", "Arr."), ("user", "So?"), ("assistant", "Arr!")
    ),
    "system with blanks": Sample.of(("system", " \nBe brief.\n "), ("user", "Hi"), ("assistant", "Hi")),
}
