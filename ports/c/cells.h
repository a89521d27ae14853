/* CELL: one update of one group, forward and back. */
#ifndef REVRNN_CELLS_H
#define REVRNN_CELLS_H

#include "config.h"

/* CELL-003 */
struct layer {
    int64_t inputs;             /* I_k */
    int input_bits;             /* R_x, PROD-004 */
    const int64_t *weight_ih;
    const int64_t *weight_hh;
    const int64_t *bias;
};

/* What all updates of a call share. `gates` and the others are scratch of [B, G]. */
struct work {
    const struct config *config;
    int64_t rows;               /* B */
    int64_t units;              /* G */
    struct buffer *buffer;      /* NULL for non-forgetting variants */
    int64_t wraps;              /* MUL-006 */
    int64_t *view;
    int64_t *gates[5];          /* in the order of CELL-002 */
    int64_t *update;
    int64_t *own;
};

enum error_code start_work(struct work *work, struct arena *arena, const struct config *config,
                           int64_t rows, struct buffer *buffer);

/* Group 1 or 2 of a layer. x is [B, inputs]; h and, for RevLSTM, c are [B, H] and are changed.
   mask [B] may be NULL. `slice` units of h are sliced. */
enum error_code cell_group(struct work *work, const struct layer *layer, int group,
                           const int64_t *x, const int64_t *mask, int64_t slice, int64_t *h,
                           int64_t *c);

/* CELL-040. restore is [B, slice]. */
enum error_code cell_group_reverse(struct work *work, const struct layer *layer, int group,
                                   const int64_t *x, const int64_t *mask, int64_t slice,
                                   const int64_t *restore, int64_t *h, int64_t *c);

#endif
