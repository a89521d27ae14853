#include "quantise.h"

#include <math.h>

#include "integers.h"

/* QNT-001 */
int64_t quantise(double x, int bits, int64_t lo, int64_t hi)
{
    /* 24 binary digits and a power of two: exact, and so is what stands behind the point. */
    const double scaled = ldexp(x, bits);
    double whole, rest;
    int64_t integer;
    if (scaled >= (double)hi)
        return hi;
    if (scaled <= (double)lo)
        return lo;
    whole = floor(scaled);
    integer = (int64_t)whole;
    rest = scaled - whole;
    if (rest > 0.5 || (rest >= 0.5 && floor_mod(integer, 2) == 1))
        integer++;
    return integer;
}

/* QNT-006. The rounding to 24 digits is done on the integer, since C leaves its direction open. */
double dequantise(int64_t q, int bits)
{
    const int64_t magnitude = q < 0 ? -q : q;
    int64_t rounded = magnitude;
    int shift = 0;
    while (magnitude >> shift >= (int64_t)1 << 24)
        shift++;
    if (shift > 0) {
        const int64_t unit = (int64_t)1 << shift;
        const int64_t rest = magnitude & (unit - 1);
        rounded = magnitude - rest;
        if (rest > unit / 2 || (rest == unit / 2 && (magnitude >> shift) % 2 == 1))
            rounded += unit;
    }
    return ldexp((double)(q < 0 ? -rounded : rounded), -bits);
}
