"""The largest model whose training fits a GPU, by the memory model of `make plan`: a projection, nothing is run.

    python -m bench.fits

LoRA rank 8, bfloat16, one sequence of 1,300 + 250 tokens in a micro-batch; ours, ours with recompute, and full logits
with recompute (the released settings). Sharding the weights over GPUs is not counted.
"""

from transformers import LlamaConfig

from bench import measuring
from tract_core.plan.cost import DEVICES, Device
from tract_core.train import memory
from tract_core.train.memory import GIB, Shape

# width, MLP width, layers, heads, key-value heads, vocabulary, width of a head
_MODELS = {
    "Llama-3.2-1B": (2048, 8192, 16, 32, 8, 128256, 64),
    "Llama-3.2-3B": (3072, 8192, 28, 24, 8, 128256, 128),
    "Mistral-7B": (4096, 14336, 32, 32, 8, 32000, 128),
    "Llama-3.1-8B": (4096, 14336, 32, 32, 8, 128256, 128),
    "Mistral-Nemo-12B": (5120, 14336, 40, 32, 8, 131072, 128),
    "Mistral-Small-24B": (5120, 32768, 40, 32, 8, 131072, 128),
    "Qwen2.5-32B": (5120, 27648, 64, 40, 8, 152064, 128),
    "Llama-3.1-70B": (8192, 28672, 80, 64, 8, 128256, 128),
}
_LENGTHS = {"prompt": 1300, "cot": 250}


def shape(name: str) -> Shape:
    width, mlp, layers, heads, kv_heads, vocabulary, head = _MODELS[name]
    return Shape.create(
        LlamaConfig(
            hidden_size=width,
            intermediate_size=mlp,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=kv_heads,
            vocab_size=vocabulary,
            head_dim=head,
            tie_word_embeddings=name.startswith("Llama-3.2"),
        )
    )


def needed(one: Shape, device: Device, *, recompute: bool, full_logits: bool) -> float:
    """Bytes; full logits have a row for each token of the prompt, too."""
    tokens = sum(_LENGTHS.values())
    rows = tokens if full_logits else _LENGTHS["cot"]
    return memory.training_bytes(one, tokens, rows, rank=8, number=device.bytes_per_number, recompute=recompute)


def main() -> None:
    ways = {
        "ours": {"recompute": False, "full_logits": False},
        "ours, recompute": {"recompute": True, "full_logits": False},
        "full logits, recompute": {"recompute": True, "full_logits": True},
    }
    shapes = {name: shape(name) for name in _MODELS}
    table = []
    for device in DEVICES.values():
        if device.name == "cpu":
            continue
        row: dict[str, object] = {"GPU": f"{device.name}, {device.memory / GIB:.0f} GiB"}
        for way, how in ways.items():
            sizes = {name: needed(one, device, **how) for name, one in shapes.items()}
            fitting = [name for name in sizes if sizes[name] < device.memory]
            row[way] = f"{fitting[-1]} ({sizes[fitting[-1]] / GIB:.1f} GiB)"
        table.append(row)
    data = {
        name: {way: needed(one, DEVICES["h100"], **how) for way, how in ways.items()} for name, one in shapes.items()
    }
    by_model = [{"model": name, **{way: f"{data[name][way] / GIB:.1f} GiB" for way in ways}} for name in data]
    notes = [
        measuring.markdown(by_model),
        f"Projections. Models looked at: {', '.join(_MODELS)}; {_LENGTHS}.",
    ]
    measuring.write("train_fits", "Largest model that fits a GPU in training (projection)", table, notes, data)


if __name__ == "__main__":
    main()
