/* PROD: exact products. */
#ifndef REVRNN_PRODUCT_H
#define REVRNN_PRODUCT_H

#include <stdint.h>

/* The sum over k of a[k] * w[k]. */
int64_t dot_product(const int64_t *a, const int64_t *w, int64_t length);

/* s[m, n] for a [rows, length] and w [columns, length]. */
void product(const int64_t *a, const int64_t *w, int64_t rows, int64_t columns, int64_t length,
             int64_t *s);

#endif
