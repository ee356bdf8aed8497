"""An adapter merged into its model: a folder that plain transformers loads, compared with the adapter before it is kept."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from swift import logs
from swift.args import saved
from swift.engines.classify import stored_problem
from swift.errors import ModelError, UsageError
from swift.hub import download
from swift.models.classifier import fit_to, is_classifier
from swift.models.load import DTYPES, load_model, load_processor
from swift.models.match import find_model
from swift.template.build import build_template
from swift.tuners.tuner import load_adapters

if TYPE_CHECKING:
    from swift.args.base import HubArgs, ModelArgs, TemplateArgs
    from swift.template.template import Template

PROBES = ("Hello, who are you?", "1 + 1 = 2, and 12 * 12 =", "你好，请介绍一下你自己。")


def merge_adapters(
    model: ModelArgs,
    hub: HubArgs,
    template: TemplateArgs,
    adapters: Sequence[str],
    *,
    output: Path | None = None,
    max_shard_size: str = "5GB",
) -> Path:
    """Merge `adapters`, one on top of the other, on the CPU into `output`, by default <first adapter>-merged.

    A merged folder that is newer than every adapter is used as it is, an older one is made anew.
    Raises ModelError for a quantized model, and where the adapters change nothing.
    """
    folders = [download(adapter, "model", hub).absolute() for adapter in adapters]
    if not folders:
        raise UsageError("there is no adapter to merge; give --adapters")
    output = output or folders[0].with_name(f"{folders[0].name}-merged")
    if is_fresh(output, folders):
        logs.info(f"{output} is newer than the adapter and used as it is; delete it to merge again")
        return output
    info = find_model(model, hub, max_length=template.max_length)
    if "quantization_config" in info.config:
        raise ModelError(
            f"{info.name} is quantized, and quantized weights cannot take an adapter in; merge into the original model (--model)"
        )
    tokenizer = load_processor(info)
    bound = build_template(info, tokenizer, as_trained(template, folders[0]))
    # In the type the weights are stored in, whatever this machine computes fastest: the merged model is to be no larger than its base.
    dtype = model.torch_dtype or (info.torch_dtype if info.torch_dtype in DTYPES else None)
    base = load_model(info, replace(model, device_map="cpu", torch_dtype=dtype), training=False)
    if is_classifier(base):
        fit_to(base, tokenizer, stored_problem(folders))
    adapted = load_adapters(base, [str(folder) for folder in folders])
    assert isinstance(adapted, PeftModel)
    merged = compared_merge(adapted.eval(), tokenizer)
    save(merged, bound, output, folders, max_shard_size)
    logs.info(f"merged model: {output}")
    return output


def as_trained(asked: TemplateArgs, adapter: Path) -> TemplateArgs:
    """How the adapter's rows were written. What is asked for this once (`swift infer --system`) is not to stay in the merged folder."""
    if not (adapter / saved.FILE).is_file():
        return asked
    values = saved.read(adapter)
    names = [name for name in ("template", "template_backend", "system", "use_chat_template") if name in values]
    return replace(asked, **{name: values[name] for name in names})


def is_fresh(output: Path, folders: Sequence[Path]) -> bool:
    """Whether the merged folder was made after every adapter was last written."""
    weights = list(output.glob("*.safetensors"))
    sources = [path for folder in folders for path in folder.glob("adapter_*")]
    if not weights or not sources:
        return False
    if min(path.stat().st_mtime_ns for path in weights) >= max(path.stat().st_mtime_ns for path in sources):
        return True
    logs.info(f"{output} is older than the adapter: merging again")
    return False


@torch.inference_mode()
def compared_merge(adapted: PeftModel, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """The merged model; says how far its logits on fixed texts are from the adapter's, beside how far those are from the base model's."""
    probes = [ids for text in PROBES if (ids := tokenizer(text, add_special_tokens=False)["input_ids"])]
    with_adapter = probe(adapted, probes)
    with adapted.disable_adapter():
        base = probe(adapted, probes)
    with torch.inference_mode(False):
        merged = adapted.merge_and_unload(safe_merge=True)
    after = probe(merged, probes)
    effect, error, left = distance(with_adapter, base), distance(with_adapter, after), distance(after, base)
    logs.info(
        f"largest logit difference on {len(probes)} texts: merged to adapter {error:.3g}, adapter to base {effect:.3g} ({merged.dtype})"
    )
    if left == 0:
        why = (
            "the adapter changes nothing: it was not trained"
            if effect == 0
            else f"its changes are lost in {merged.dtype}; merge with --torch_dtype float32"
        )
        raise ModelError(f"the merged model equals the base model: {why}")
    if error > effect / 2:
        logs.warning(f"less than half of the adapter's effect survives merging in {merged.dtype}; merge with --torch_dtype float32")
    return merged


def probe(model: PreTrainedModel | PeftModel, probes: list[list[int]]) -> list[Tensor]:
    return [model(input_ids=torch.tensor([ids])).logits.float() for ids in probes]


def distance(some: list[Tensor], others: list[Tensor]) -> float:
    return max((float((a - b).abs().max()) for a, b in zip(some, others, strict=True)), default=0.0)


def save(model: PreTrainedModel, template: Template, output: Path, folders: Sequence[Path], max_shard_size: str) -> None:
    """Write beside the place and move there when whole, so that a broken-off merge is never taken for a merged model."""
    if output.exists() and any(output.iterdir()) and not (output / "config.json").is_file():
        raise ModelError(f"{output} is in the way: it is no model folder. Move it, or choose another place")
    part = output.with_name(f"{output.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    model.save_pretrained(part, max_shard_size=max_shard_size)
    template.save(part)  # after the model, whose generation_config.json does not know what ends a trained answer
    record = next((folder / saved.FILE for folder in folders if (folder / saved.FILE).is_file()), None)
    if record is not None:
        shutil.copyfile(record, part / saved.FILE)
    shutil.rmtree(output, ignore_errors=True)
    part.rename(output)
