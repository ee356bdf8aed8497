"""One file per maker; importing the package registers them all. Pure data: nothing here imports torch or transformers."""

from swift.models.families import baichuan, deepseek, gemma, glm, internlm, llama, minicpm, mistral, nano, others, phi, qwen, tunes, yi
from swift.models.spec import model_specs, register_model

_MAKERS = (nano, qwen, llama, mistral, gemma, phi, deepseek, glm, internlm, baichuan, minicpm, yi, tunes, others)
for _maker in _MAKERS:
    for _spec in (*_maker.SPECS, *getattr(_maker, "REWARD", ()), *getattr(_maker, "ENCODERS", ())):
        if _spec.type not in model_specs:
            register_model(_spec)
