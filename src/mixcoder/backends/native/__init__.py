"""Training steps of the article's Mixers on the CPU by native kernels.

    Mixer ─layers.py─▶ programs (program.py) ─native_step.py─▶ kernels.cpp ─▶ gradients (N,), loss ()

A general compiler takes most of a minute for a model, and makes a hundred small passes of a step. These
networks are a few kinds of layers, repeated: their operations are written by hand once, compiled once for a
machine in a second or two, and then serve every network made of those layers. Models of other layers, and
GPUs, are left to the other backends.
"""
