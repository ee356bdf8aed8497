"""The names that people's scripts import from `swift.llm`, each looked up on first use: importing this loads nothing heavy."""

from __future__ import annotations

import importlib
from typing import Any

NAMES = {
    "PtEngine": "swift.llm.pt_engine",
    "TransformersEngine": "swift.llm.pt_engine",
    "AdapterRequest": "swift.engines.pt.adapters",
    "InferRequest": "swift.engines.protocol",
    "RequestConfig": "swift.engines.protocol",
    "ChatCompletionResponse": "swift.engines.protocol",
    "ChatCompletionStreamResponse": "swift.engines.protocol",
    "ChatCompletionResponseChoice": "swift.engines.protocol",
    "ChatCompletionResponseStreamChoice": "swift.engines.protocol",
    "ChatCompletionMessageToolCall": "swift.engines.protocol",
    "ChatMessage": "swift.engines.protocol",
    "DeltaMessage": "swift.engines.protocol",
    "Function": "swift.engines.protocol",
    "UsageInfo": "swift.engines.protocol",
    "InferStats": "swift.engines.stats",
    "InferClient": "swift.serve.client",
    "run_deploy": "swift.serve.deployed",
    "BaseArguments": "swift.llm.arguments",
    "DeployArguments": "swift.llm.arguments",
    "InferArguments": "swift.llm.arguments",
    "TrainArguments": "swift.llm.arguments",
    "AlpacaPreprocessor": "swift.data.preprocess",
    "AutoPreprocessor": "swift.data.preprocess",
    "MessagesPreprocessor": "swift.data.preprocess",
    "ResponsePreprocessor": "swift.data.preprocess",
    "RowPreprocessor": "swift.data.preprocess",
    "DatasetMeta": "swift.llm.dataset_meta",
    "SubsetDataset": "swift.llm.dataset_meta",
    "register_dataset": "swift.llm.dataset_meta",
    "register_dataset_info": "swift.llm.dataset_meta",
    "Model": "swift.llm.model_meta",
    "ModelGroup": "swift.llm.model_meta",
    "ModelMeta": "swift.llm.model_meta",
    "get_model_tokenizer_from_local": "swift.llm.model_meta",
    "get_model_tokenizer_with_flash_attn": "swift.llm.model_meta",
    "register_model": "swift.llm.model_meta",
    "Template": "swift.template.template",
    "TemplateMeta": "swift.llm.template_meta",
    "register_template": "swift.llm.template_meta",
    "get_model_tokenizer": "swift.llm.loading",
    "get_template": "swift.llm.loading",
    "prepare_model_template": "swift.llm.loading",
    "load_dataset": "swift.llm.loading",
    "safe_snapshot_download": "swift.llm.loading",
    "sample_dataset": "swift.llm.loading",
    "deploy_main": "swift.llm.mains",
    "infer_main": "swift.llm.mains",
    "pt_main": "swift.llm.mains",
    "sft_main": "swift.llm.mains",
}

__all__ = list(NAMES)


def __getattr__(name: str) -> Any:
    if name not in NAMES:
        raise AttributeError(f"module 'swift.llm' has no attribute {name!r}")
    return getattr(importlib.import_module(NAMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *NAMES]
