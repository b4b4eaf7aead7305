"""The article's smallest Mixer in JAX: a whole epoch part as one compiled `lax.scan`.

The strongest peer that we know of: parameters, AdamW and the batches by index all stay in one program.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

PATCH, GRID, LATENT = 7, 4, 16
PATCHES = GRID * GRID
BREADTHS = [49, 64, 64, 64, 16]
MIXED = (2, 3, 4)
STEPS = 100

Weights = dict[str, Any]


def initial_weights(seed: int = 0) -> Weights:
    """Weights and biases, uniform as torch initialises a Linear."""
    random = np.random.default_rng(seed)

    def linear(rows: int, columns: int) -> tuple[Any, Any]:
        bound = columns**-0.5
        weight = random.uniform(-bound, bound, (rows, columns))
        bias = random.uniform(-bound, bound, rows)
        return jnp.asarray(weight, jnp.float32), jnp.asarray(bias, jnp.float32)

    weights: Weights = {}
    for i in range(1, 5):
        weights[f"down{i}"] = linear(BREADTHS[i], BREADTHS[i - 1])
        weights[f"up{i}"] = linear(BREADTHS[i - 1], BREADTHS[i])
        if i in MIXED:
            weights[f"mix_down{i}"] = linear(PATCHES, PATCHES)
            weights[f"mix_up{i}"] = linear(PATCHES, PATCHES)
    weights["to_latent"] = linear(LATENT, PATCHES * BREADTHS[-1])
    weights["from_latent"] = linear(PATCHES * BREADTHS[-1], LATENT)
    return weights


def per_patch(x: Any, layer: tuple[Any, Any], *, has_activation: bool) -> Any:
    y = x @ layer[0].T + layer[1]
    y = jax.nn.gelu(y, approximate=False) if has_activation else y
    return x + y if x.shape == y.shape else y


def mix(x: Any, layer: tuple[Any, Any]) -> Any:
    y = jnp.einsum("op,bpc->boc", layer[0], x) + layer[1][:, None]
    return x + jax.nn.gelu(y, approximate=False)


def loss(weights: Weights, images: Any) -> Any:
    """Mean squared error of the reconstructions of images (B, 28, 28) in [0, 1]."""
    patches = images.reshape(-1, GRID, PATCH, GRID, PATCH).transpose(0, 1, 3, 2, 4).reshape(-1, PATCHES, 49)
    x = patches
    for i in range(1, 5):
        x = per_patch(x, weights[f"down{i}"], has_activation=True)
        x = mix(x, weights[f"mix_down{i}"]) if i in MIXED else x
    code = x.reshape(len(x), -1) @ weights["to_latent"][0].T + weights["to_latent"][1]
    x = (code @ weights["from_latent"][0].T + weights["from_latent"][1]).reshape(-1, PATCHES, BREADTHS[-1])
    for i in range(4, 0, -1):
        x = mix(x, weights[f"mix_up{i}"]) if i in MIXED else x
        x = per_patch(x, weights[f"up{i}"], has_activation=i > 1)
    return jnp.mean((x - patches) ** 2)


def adamw(weights: Weights, gradients: Weights, moments: Any, step: Any, rate: float) -> tuple[Weights, Any]:
    """One step of AdamW with torch's defaults."""
    first, second = moments
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradients)
    second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradients)

    def update(weight: Any, m: Any, v: Any) -> Any:
        m, v = m / (1 - 0.9**step), v / (1 - 0.999**step)
        return weight * (1 - rate * 0.01) - rate * m / (jnp.sqrt(v) + 1e-8)

    return jax.tree.map(update, weights, first, second), (first, second)


@partial(jax.jit, donate_argnums=(0, 1), static_argnums=(5,))
def many_steps(weights: Weights, moments: Any, start: Any, images: Any, order: Any, rate: float) -> Any:
    """As many steps as `order` (steps, B) has rows; the losses (steps,) are the last result."""

    def one(state: Any, rows: Any) -> Any:
        weights, moments, step = state
        batch = images[rows].astype(jnp.float32) / 255
        value, gradients = jax.value_and_grad(loss)(weights, batch)
        weights, moments = adamw(weights, gradients, moments, step, rate)
        return (weights, moments, step + 1), value

    (weights, moments, start), losses = jax.lax.scan(one, (weights, moments, start), order)
    return weights, moments, start, losses


def epochs(images: np.ndarray, batch: int, rate: float) -> Iterator[float]:
    """Trains for ever, `STEPS` steps at a time; yields the last losses."""
    random = np.random.default_rng(0)
    pixels = jnp.asarray(images.reshape(-1, 28, 28))
    weights = initial_weights()
    moments = (jax.tree.map(jnp.zeros_like, weights), jax.tree.map(jnp.zeros_like, weights))
    step = jnp.asarray(1.0)
    while True:
        order = jnp.asarray(random.integers(0, len(pixels), (STEPS, batch)))
        weights, moments, step, losses = many_steps(weights, moments, step, pixels, order, rate)
        yield float(losses[-1])
