"""One file per maker; importing the package registers them all. Pure data: nothing here imports torch or transformers."""

from swift.models.families import gemma, llama, mistral, nano, phi, qwen
from swift.models.spec import model_specs, register_model

AUTO_TYPES = (*nano.SPECS, *qwen.SPECS, *llama.SPECS, *mistral.SPECS, *gemma.SPECS, *phi.SPECS)
for _spec in AUTO_TYPES:
    if _spec.type not in model_specs:
        register_model(_spec)
