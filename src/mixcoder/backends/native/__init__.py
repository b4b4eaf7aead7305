"""Training steps on the CPU by native kernels, for every model whose functions of torch have a rule.

    model.forward on symbols ─tracing.py, rules/─▶ graph ─derivatives.py─▶ graph with gradients
      ─fusion.py─▶ steps ─lowering.py─▶ programs (program.py)
      ─native_step.py─▶ kernels/ ─▶ gradients (N,), loss ()

A general compiler takes most of a minute for a model. Here the kernels are compiled once for a machine, in a
few seconds, and serve every network; what a network computes is a list of calls to them, which takes some
hundredths of a second to make. Models with functions that have no rule, and GPUs, are left to the others.
"""
