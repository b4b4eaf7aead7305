"""How a training step is computed: eagerly, by Inductor, or by operations of our own."""
