"""--use_liger: LinkedIn's Triton kernels for norms, rotary embedding and MLPs, where the layers are not compiled.

Compiled layers have those steps fused already, and `LogProbHead` never builds logits, so that Liger's loss is always left out.
"""

from __future__ import annotations

import torch
from torch import nn

from swift import logs
from swift.errors import need
from swift.models.layout import inner_model

EXTRA = "liger"  # pip install 'swift-finetune[liger]'


def use_liger(model: nn.Module, *, compiled: bool) -> bool:
    """Give the layers of `model` Liger's kernels where that changes anything, and say what was done. True where it was.

    Liger exchanges methods of the modules, and names in the transformers module of the model's code, for this process.
    Raises UsageError where the package is missing.
    """
    inner = inner_model(model)
    if not torch.cuda.is_available():
        logs.warning("--use_liger true has no effect: its kernels need a GPU, and there is none")
        return False
    if compiled:
        logs.info("--use_liger true: nothing to do, compiled layers have norms, rotary embedding and MLP fused (--torch_compile)")
        return False
    need("liger_kernel", extra=EXTRA, why="--use_liger")
    assert inner is not None
    kind = inner.config.model_type
    if kind not in _supported():
        logs.warning(f"--use_liger true has no effect: liger-kernel has nothing for models of type {kind}")
        return False
    from liger_kernel.transformers import _apply_liger_kernel_to_instance  # type: ignore[import-not-found]  # an optional package

    _apply_liger_kernel_to_instance(model=inner, cross_entropy=False, fused_linear_cross_entropy=False)
    logs.info(f"--use_liger true: its kernels for {kind} are used, but not its loss: logits are never built here")
    return True


def _supported() -> set[str]:
    from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN  # type: ignore[import-not-found]

    return set(MODEL_TYPE_TO_APPLY_LIGER_FN)
