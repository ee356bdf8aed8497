"""LoRA and its variants through PEFT: DoRA, rank-stabilised scaling, PiSSA and Gaussian initialisation."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from transformers import PreTrainedModel

from swift import logs
from swift.args.paths import model_suffix
from swift.errors import ModelError, UsageError
from swift.models.classifier import fresh_modules, is_classifier
from swift.models.load import DTYPES
from swift.tuners.low_rank import use_low_rank
from swift.tuners.targets import modules_to_save, target_modules

if TYPE_CHECKING:
    from swift.args.tuner import LoraArgs, TargetArgs


def add_lora(model: PreTrainedModel, lora: LoraArgs, target: TargetArgs) -> PeftModel:
    """Freeze `model` and give its target modules trainable LoRA matrices. https://arxiv.org/abs/2106.09685

    The matrices are float32 unless --lora_dtype says otherwise; under autocast the product is computed in the model's dtype.
    """
    config = LoraConfig(
        r=lora.lora_rank,
        lora_alpha=lora.lora_alpha,
        lora_dropout=lora.lora_dropout,
        bias=lora.lora_bias,  # type: ignore[arg-type]
        use_dora=lora.use_dora,
        use_rslora=lora.use_rslora,
        init_lora_weights=initialisation(target.init_weights),
        target_modules=target_modules(model, target),
        modules_to_save=[*modules_to_save(model, target), *fresh_modules(model)] or None,
        task_type="SEQ_CLS" if is_classifier(model) else "CAUSAL_LM",  # PEFT trains and saves a classifier's head too
    )
    use_low_rank(config)
    adapted = get_peft_model(model, config, autocast_adapter_dtype=lora.lora_dtype is None)
    if lora.lora_dtype is not None:
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.data = parameter.data.to(DTYPES[lora.lora_dtype])
    return adapted


def initialisation(word: str) -> Any:
    """--init_weights as PEFT wants it."""
    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    if word in ("gaussian", "pissa") or re.fullmatch(r"pissa_niter_\d+", word):
        return word
    raise UsageError(f"--init_weights {word}: expected true, false, gaussian, pissa or pissa_niter_N (N: number of iterations)")


def load_adapter(model: PreTrainedModel | PeftModel, folder: Path, *, name: str = "default", trainable: bool = False) -> PeftModel:
    """Put the adapter in `folder` on `model`. Raises ModelError where it is no adapter, or one of another model."""
    if not (folder / "adapter_config.json").is_file():
        raise ModelError(f"{folder} is no adapter: it has no adapter_config.json. A whole model is given with --model")
    if not any((folder / f"adapter_model.{ending}").is_file() for ending in ("safetensors", "bin")):
        raise ModelError(
            f"{folder} has an adapter_config.json but no adapter weights (adapter_model.safetensors): the save was cut short, or files are missing"
        )
    _warn_of_another_base(folder, model)
    try:
        if isinstance(model, PeftModel):
            model.load_adapter(str(folder), adapter_name=name, is_trainable=trainable)
            return model
        config = PeftConfig.from_pretrained(str(folder))
        if isinstance(config, LoraConfig):
            use_low_rank(config)
        return PeftModel.from_pretrained(model, str(folder), adapter_name=name, is_trainable=trainable, config=config)
    except (RuntimeError, ValueError, KeyError) as error:  # PEFT: shapes that differ, targets that are not there
        raise ModelError(
            f"{folder} does not fit the model: it was trained on another one. {str(error).strip().splitlines()[0][:200]}"
        ) from error
    except SafetensorError as error:
        raise ModelError(
            f"{folder}: the adapter's weights are broken ({error}): the save was cut short, or the file was changed"
        ) from error


def _warn_of_another_base(folder: Path, model: PreTrainedModel | PeftModel) -> None:
    """Shapes may fit all the same: say so where the adapter names another model. A folder may have been renamed, so it is no error."""
    trained_on = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8")).get("base_model_name_or_path") or ""
    here = model.config._name_or_path
    if trained_on and here and model_suffix(trained_on).lower() != model_suffix(here).lower():
        logs.warning(f"the adapter {folder} says that it was trained on {trained_on}, and the model here is {here}")
