"""An adapter merged into its model: a folder that plain transformers loads, compared with the adapter before it is kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

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
WRITTEN = ("template", "template_backend", "system", "use_chat_template")  # how rows are written: part of the merged folder
ROUNDING = 4  # times what one rounding of each product moves the logits: merging rounds weights, and adapters round products of their own


def merge_adapters(
    model: ModelArgs,
    hub: HubArgs,
    template: TemplateArgs,
    adapters: Sequence[str],
    *,
    output: Path | None = None,
    again: bool = False,
    max_shard_size: str = "5GB",
    typed: Collection[str] = (),
    device_map: Any = "cpu",
) -> Path:
    """Merge `adapters`, one on top of the other, into `output`, by default <first adapter>-merged, and read it back to compare logits.

    A folder by the default name that was made of these adapters and is newer is used as it is unless `again`, and else made anew; a model folder
    by another name is overwritten only with `again`. `typed`: fields of `template` that hold whatever the adapter was trained with.
    Raises ModelError for a quantized model, where the adapters change nothing, and where the merged model answers otherwise than they do.
    """
    folders = [download(adapter, "model", hub).absolute() for adapter in adapters]
    if not folders:
        raise UsageError("there is no adapter to merge; give --adapters")
    beside = folders[0].with_name(f"{folders[0].name}-merged")
    output = (output or beside).absolute()
    if output == beside and not again and is_fresh(output, folders):
        logs.info(f"{output} is newer than the adapter and used as it is; delete it to merge again")
        return output
    info = find_model(model, hub, max_length=template.max_length)
    check_place(output, [*folders, *([info.path] if info.path else [])], overwrite=again or output == beside)
    if "quantization_config" in info.config:
        raise ModelError(
            f"{info.name} is quantized, and quantized weights cannot take an adapter in; merge into the original model (--model)"
        )
    tokenizer = load_processor(info)
    bound = build_template(info, tokenizer, as_trained(template, folders[0], typed))
    # In the type the weights are stored in, whatever this machine computes fastest: the merged model is to be no larger than its base.
    dtype = model.torch_dtype or (info.torch_dtype if info.torch_dtype in DTYPES else None)
    settled = replace(model, device_map=device_map, torch_dtype=dtype)
    base = load_model(info, settled, training=False)
    if is_classifier(base):
        fit_to(base, tokenizer, stored_problem(folders))
    adapted = load_adapters(base, [str(folder) for folder in folders])
    assert isinstance(adapted, PeftModel)
    probes = [ids for text in PROBES if (ids := tokenizer(text, add_special_tokens=False)["input_ids"])]
    wanted, plain = answers_of(adapted.eval(), probes)
    merged = taken_in(adapted)
    part = output.with_name(f"{output.name}.part")
    try:
        save(merged, bound, part, max_shard_size)
        save_record(template, typed, part, folders)
        del base, adapted, merged  # the memory of one model is enough
        read_back = replace(settled, model=str(part), model_type=info.spec.type, model_revision=None)
        check_merged(
            load_model(find_model(read_back, hub, max_length=template.max_length), read_back, training=False), probes, wanted, plain
        )
        shutil.rmtree(output, ignore_errors=True)
        part.rename(output)  # only what is whole and right stands at the place
    finally:
        shutil.rmtree(part, ignore_errors=True)
    logs.info(f"merged model: {output}")
    return output


def check_place(output: Path, sources: Sequence[Path], *, overwrite: bool) -> None:
    """What is overwritten must be a model folder that nothing is read from."""
    there = output.resolve()
    for source in sources:
        if there == source.resolve() or there in source.resolve().parents:
            raise UsageError(f"{output} holds what is merged ({source}); choose another --output_dir")
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    if not (output / "config.json").is_file():
        raise ModelError(f"{output} is in the way: it is no model folder. Move it, or choose another place")
    if not overwrite:
        raise UsageError(f"{output} is there already; --exist_ok true overwrites it, or choose another --output_dir")


def as_trained(asked: TemplateArgs, adapter: Path, typed: Collection[str] = ()) -> TemplateArgs:
    """How the adapter's rows were written. What is asked for this once (`swift infer --system`) is not to stay in the merged folder.

    What was `typed` for the folder itself (`swift merge-lora --system`) stays.
    """
    if not (adapter / saved.FILE).is_file():
        return asked
    values = saved.read(adapter)
    names = [name for name in WRITTEN if name in values and name not in typed]
    return replace(asked, **{name: values[name] for name in names})


def is_fresh(output: Path, folders: Sequence[Path]) -> bool:
    """Whether the merged folder was made of these adapters, after each of them was last written."""
    weights = list(output.glob("*.safetensors"))
    sources = [path for folder in folders for path in folder.glob("adapter_*")]
    if not weights or not sources:
        return False
    if min(path.stat().st_mtime_ns for path in weights) >= max(path.stat().st_mtime_ns for path in sources):
        if (made_of := merged_from(output)) == [str(folder) for folder in folders] or (made_of is None and len(folders) == 1):
            return True
        logs.info(f"{output} was made of other adapters: merging again")
        return False
    logs.info(f"{output} is older than the adapter: merging again")
    return False


def merged_from(output: Path) -> list[str] | None:
    """The adapters in a merged folder; None where it has no args.json, because they had none."""
    return saved.read(output).get("adapters") if (output / saved.FILE).is_file() else None


@torch.inference_mode()
def answers_of(adapted: PeftModel, probes: list[list[int]]) -> tuple[list[Tensor], list[Tensor]]:
    """(logits with the adapters, logits of the base model). Raises ModelError where they are the same, and says why."""
    wanted = probe(adapted, probes)
    with adapted.disable_adapter():
        plain = probe(adapted, probes)
    if distance(wanted, plain) == 0:
        zero = all(not value.any() for name, value in adapted.named_parameters() if "lora_B" in name)
        why = "every lora_B in it is zero: it was not trained" if zero else "its matrices are not zero, and their product has no effect"
        raise ModelError(f"the merged model equals the base model: the adapter changes nothing ({why})")
    return wanted, plain


def taken_in(adapted: PeftModel) -> PreTrainedModel:
    try:
        return adapted.merge_and_unload(safe_merge=True)
    except (ValueError, NotImplementedError, AttributeError) as error:  # weights that are not finite; kinds that cannot be merged
        raise ModelError(f"the adapter cannot be merged: {error}") from error


@torch.inference_mode()
def check_merged(merged: PreTrainedModel, probes: list[list[int]], wanted: list[Tensor], plain: list[Tensor]) -> None:
    """Compare the merged model's logits with the adapter's (`wanted`) and the base model's (`plain`); print, and raise ModelError."""
    after = probe(merged, probes)
    with rounded_once_more(merged):
        rounding = distance(probe(merged, probes), after)
    effect, error = distance(wanted, plain), distance(wanted, after)
    scale, dtype = max(float(logits.abs().max()) for logits in wanted), str(merged.dtype).removeprefix("torch.")
    logs.info(
        f"largest logit difference on {len(probes)} texts: merged to adapter {error:.3g}, adapter to base {effect:.3g}; "
        f"the largest logit is {scale:.3g}, and one rounding in {dtype} moves logits by {rounding:.3g}"
    )
    if distance(after, plain) == 0:
        why = (
            "the adapter's changes are not in it"
            if dtype == "float32"
            else f"its changes are lost in {dtype}; merge with --torch_dtype float32"
        )
        raise ModelError(f"the merged model equals the base model: {why}")
    if not error <= ROUNDING * rounding:  # also where it is no number
        tied = getattr(merged.config.get_text_config(), "tie_word_embeddings", False)
        cause = (
            "; this model's embeddings and output layer are one tensor, so that an adapter on one of them cannot be taken in"
            if tied
            else ""
        )
        raise ModelError(
            f"the merged model is not the adapted one: logits differ by {error:.3g}, and rounding in {dtype} explains {ROUNDING * rounding:.3g}"
            f"{cause}. Nothing was written; the adapter answers as trained without --merge_lora"
        )
    if error > effect / 2:
        logs.warning(f"less than half of the adapter's effect survives merging in {dtype}; merge with --torch_dtype float32")


@contextmanager
def rounded_once_more(model: nn.Module) -> Iterator[None]:
    """Every product is moved at random by as much as one rounding of its terms in the model's type: what that does to logits is no fault."""
    step = torch.finfo(model.dtype).eps  # type: ignore[arg-type, attr-defined]
    dice = torch.Generator().manual_seed(0)

    def move(module: nn.Module, inputs: Any, product: Any) -> Any:
        if not isinstance(product, Tensor):
            return product
        size = product.float().abs() + product.float().square().mean(-1, keepdim=True).sqrt()
        moved = torch.rand(product.shape, generator=dice).to(product.device) * 2 - 1
        return (product.float() + step * size * moved).to(product.dtype)

    owners = [module for module in model.modules() if any(p.ndim > 1 for p in module.parameters(recurse=False))]
    handles = [module.register_forward_hook(move) for module in owners]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def probe(model: PreTrainedModel | PeftModel, probes: list[list[int]]) -> list[Tensor]:
    """Logits [1, N, V] (of a classifier [1, L]) of each text, on the CPU."""
    return [model(input_ids=torch.tensor([ids], device=model.device)).logits.float().cpu() for ids in probes]


def distance(some: list[Tensor], others: list[Tensor]) -> float:
    """The largest difference; nan where there is one."""
    return float(torch.stack([(a - b).abs().max() for a, b in zip(some, others, strict=True)]).max())


def save(model: PreTrainedModel, template: Template, part: Path, max_shard_size: str) -> None:
    """Write beside the place: what is broken off is never taken for a merged model."""
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    model.save_pretrained(part, max_shard_size=max_shard_size)
    template.save(part)  # after the model, whose generation_config.json does not know what ends a trained answer


def save_record(asked: TemplateArgs, typed: Collection[str], part: Path, folders: Sequence[Path]) -> None:
    """The args.json of the first adapter that has one, as the merged model is to be read: with whole weights, and with what was typed for it."""
    folder = next((folder for folder in folders if (folder / saved.FILE).is_file()), None)
    if folder is None:
        return
    changed = {name: getattr(asked, name) for name in WRITTEN if name in typed}
    record = saved.read(folder) | {"quant_method": None, "quant_bits": None, "adapters": [str(folder) for folder in folders]} | changed
    (part / saved.FILE).write_text(json.dumps(record, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
