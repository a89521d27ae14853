/* QNT: from float to fixed point and back. Binary32 values travel as double. */
#ifndef REVRNN_QUANTISE_H
#define REVRNN_QUANTISE_H

#include <stdint.h>

/* x is finite. */
int64_t quantise(double x, int bits, int64_t lo, int64_t hi);

double dequantise(int64_t q, int bits);

#endif
