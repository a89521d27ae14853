/* GEN: operations on integers. They hold on every compiler: C leaves open what >> does to a
   negative number, and / rounds towards zero. */
#ifndef REVRNN_INTEGERS_H
#define REVRNN_INTEGERS_H

#include <stdbool.h>
#include <stdint.h>

#define FORGET_BITS 10          /* FMT-001 */
#define GATE_BITS 15
#define OPERAND_MAX 32512
#define WORD_BITS 16
#define HEAD_START 32768
#define MAX_PRODUCT_LENGTH 1048576

/* GEN-002: v // 2^k, for 0 <= k <= 62. */
static inline int64_t floor_shift(int64_t v, int k)
{
    return v >= 0 ? v >> k : -1 - ((-1 - v) >> k);
}

/* GEN-002: a // b for b > 0. */
static inline int64_t floor_div(int64_t a, int64_t b)
{
    return a >= 0 ? a / b : -1 - (-1 - a) / b;
}

/* GEN-002: a mod b for b > 0, in 0 ... b-1. */
static inline int64_t floor_mod(int64_t a, int64_t b)
{
    return a - b * floor_div(a, b);
}

/* GEN-003, for v below 2^62 in magnitude. */
static inline int64_t rounding_shift(int64_t v, int k)
{
    return k == 0 ? v : floor_shift(floor_shift(v, k - 1) + 1, 1);
}

/* GEN-006 */
static inline int64_t wrap32(int64_t v)
{
    const uint32_t low = (uint32_t)((uint64_t)v & UINT32_MAX);
    return low <= (uint32_t)INT32_MAX ? (int64_t)low : (int64_t)low - ((int64_t)1 << 32);
}

static inline bool fits32(int64_t v)
{
    return v >= INT32_MIN && v <= INT32_MAX;
}

/* GEN-007 */
static inline int64_t clip(int64_t v, int64_t lo, int64_t hi)
{
    const int64_t above = v > lo ? v : lo;
    return above < hi ? above : hi;
}

/* FMT-004 */
static inline int64_t view_of(int64_t h, int state_bits, int view_bits)
{
    return clip(rounding_shift(h, state_bits - view_bits), -OPERAND_MAX, OPERAND_MAX);
}

#endif
