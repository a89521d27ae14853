#include "activations.h"

#include "integers.h"

/* ACT-002 */
int64_t fixed_tanh(int64_t s, int bits)
{
    /* The magnitude is taken without a sign, where that of -2^63 has room. */
    const uint64_t magnitude = s < 0 ? 0 - (uint64_t)s : (uint64_t)s;
    const uint64_t end = (uint64_t)1 << (bits + 3);
    const int64_t u = (int64_t)(magnitude < end ? magnitude : end);
    const int64_t i = u >> (bits - 7);
    const int64_t f = u - (i << (bits - 7));
    const int64_t d = tanh_table[i < 1024 ? i + 1 : 1024] - tanh_table[i];
    const int64_t t = tanh_table[i] + ((d * f + ((int64_t)1 << (bits - 8))) >> (bits - 7));
    return s >= 0 ? t : -t;
}

/* ACT-003 */
int64_t fixed_sigmoid(int64_t s, int bits)
{
    return (((int64_t)1 << GATE_BITS) + fixed_tanh(s, bits + 1)) >> 1;
}

/* ACT-004, ACT-005 */
int64_t forget_gate(int64_t s, int bits, int limit, int64_t z_max)
{
    const int64_t sigma = fixed_sigmoid(s, bits);
    int64_t z;
    if (limit == 0)
        z = (sigma + 16) >> 5;
    else
        z = (((int64_t)1 << 15) + (((int64_t)1 << limit) - 1) * sigma
             + ((int64_t)1 << (4 + limit))) >> (5 + limit);
    return clip(z, 1, z_max);
}
