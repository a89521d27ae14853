/* ACT: hyperbolic tangent, sigmoid and forget gate. */
#ifndef REVRNN_ACTIVATIONS_H
#define REVRNN_ACTIVATIONS_H

#include <stdint.h>

extern const int32_t tanh_table[1025];

int64_t fixed_tanh(int64_t s, int bits);
int64_t fixed_sigmoid(int64_t s, int bits);

/* limit 0 stands for none. */
int64_t forget_gate(int64_t s, int bits, int limit, int64_t z_max);

#endif
