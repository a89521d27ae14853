#include "product.h"

/* PROD-001, PROD-003: at most 2^20 terms below 2^30, so 64 bits have room. */
int64_t dot_product(const int64_t *a, const int64_t *w, int64_t length)
{
    int64_t sum = 0;
    for (int64_t k = 0; k < length; k++)
        sum += a[k] * w[k];
    return sum;
}

void product(const int64_t *a, const int64_t *w, int64_t rows, int64_t columns, int64_t length,
             int64_t *s)
{
    for (int64_t m = 0; m < rows; m++)
        for (int64_t n = 0; n < columns; n++)
            s[m * columns + n] = dot_product(a + m * length, w + n * length, length);
}
