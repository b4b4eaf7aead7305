"""How a training step is computed: eagerly, by Inductor, or by native kernels."""
