// The fused groups, in a unit of their own: it is compiled beside the other one.

#include "elementwise.h"

void run_group(const float* descriptor, float* const* operands) { elementwise::run(descriptor, operands); }
