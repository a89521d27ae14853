/* MUL: reversible multiplication of a group of B x G units. */
#ifndef REVRNN_REVMUL_H
#define REVRNN_REVMUL_H

#include "buffer.h"

/* h [B, G] becomes the product, or back. mask [B] may be NULL: then every row takes part. The
   first `slice` units of a row are sliced; `restore` [B, slice] has their values. */
enum error_code revmul(struct buffer *buffer, const int64_t *mask, int64_t slice, int64_t *h,
                       const int64_t *z);
enum error_code revmul_inverse(struct buffer *buffer, const int64_t *mask, int64_t slice,
                               const int64_t *restore, int64_t *h, const int64_t *z);

#endif
