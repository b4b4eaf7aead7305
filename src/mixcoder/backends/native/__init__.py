"""Training steps of the article's Mixers on the CPU by kernels of our own.

    model ─layers.py─▶ list of operations (tape.py) ─step.py─▶ kernels.cpp ─▶ gradients (N,), loss ()

A general compiler takes most of a minute for a model, and makes a hundred small passes of a step. These
networks are a few kinds of layers, repeated: their operations are written by hand once, compiled once for a
machine in a second or two, and then serve every network made of those layers. What has other layers, or is
computed on a GPU, goes the general way.
"""
