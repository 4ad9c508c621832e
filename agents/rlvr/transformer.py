"""A character transformer with a cache of keys and values. B batch, T tokens, H heads, D width of a head."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Cache:
    """Keys and values of the tokens read so far, for every layer, with their graph."""

    def __init__(self, layers: int) -> None:
        self.layers: list[tuple[Tensor, Tensor] | None] = [None] * layers
        self.length = 0

    def repeat(self, times: int) -> None:
        """Repeat every sequence ``times`` times, each beside itself."""
        self.layers = [
            None if kept is None else (kept[0].repeat_interleave(times, 0), kept[1].repeat_interleave(times, 0))
            for kept in self.layers
        ]

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Append (B, H, T, D) keys and values of a layer and return all of it."""
        kept = self.layers[layer]
        if kept is not None:
            keys, values = torch.cat([kept[0], keys], dim=2), torch.cat([kept[1], values], dim=2)
        self.layers[layer] = (keys, values)
        return keys, values


class CharTransformer(nn.Module):
    """A decoder-only transformer: pre-norm, GELU, learned positions, output tied to no input.

    Args:
        vocabulary: number of characters.
        context: longest sequence.
        width: of the residual stream, a multiple of heads.
        layers: number of blocks.
        heads: of each attention.

    Raises:
        ValueError: a width that the heads do not divide.
    """

    def __init__(self, vocabulary: int, context: int, *, width: int = 128, layers: int = 3, heads: int = 4) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width must be a multiple of heads={heads}, got {width}")
        self.context = context
        self.embedding = nn.Embedding(vocabulary, width)
        self.position = nn.Embedding(context, width)
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.apply(_initialise)

    def forward(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        """Return the logits (B, T, vocabulary) of the next character after each of the tokens (B, T).

        Args:
            tokens: int64; with a cache those that follow what it holds.
            cache: extended in place.

        Raises:
            ValueError: more tokens than the context has room for.
        """
        start = 0 if cache is None else cache.length
        end = start + tokens.shape[1]
        if end > self.context:
            raise ValueError(f"tokens must fit the context of {self.context}, got {end}")
        hidden = self.embedding(tokens) + self.position.weight[start:end]
        for index, block in enumerate(self.blocks):
            hidden = block(hidden, cache, index)
        if cache is not None:
            cache.length = end
        logits: Tensor = self.head(self.norm(hidden))
        return logits

    def new_cache(self) -> Cache:
        """Return an empty cache."""
        return Cache(len(self.blocks))


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, hidden: Tensor, cache: Cache | None, index: int) -> Tensor:
        batch, length, width = hidden.shape
        parts = self.qkv(self.attention_norm(hidden)).view(batch, length, 3, self.heads, -1)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4).unbind()  # (B, H, T, D)
        if cache is not None:
            keys, values = cache.extend(index, keys, values)
        # Beside a cache there are more keys than queries, and torch's own causal mask would let the first query see
        # one key only.
        read = keys.shape[2] - length
        seen = torch.ones(length, keys.shape[2], dtype=torch.bool, device=hidden.device).tril(read)
        mixed = functional.scaled_dot_product_attention(queries, keys, values, seen)
        hidden = hidden + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        added: Tensor = self.down(functional.gelu(self.up(self.mlp_norm(hidden))))
        return hidden + added


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
