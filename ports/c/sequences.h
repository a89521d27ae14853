/* SEQ: steps and layers, forward and back. A cell operation is a sequence of one step. */
#ifndef REVRNN_SEQUENCES_H
#define REVRNN_SEQUENCES_H

#include "cells.h"

struct sequence {
    struct arena *arena;
    const struct config *config;
    const struct layer *layers;
    int64_t steps;                  /* T */
    int64_t rows;                   /* B */
    const int64_t *x;               /* [T, B, I] */
    const int64_t *mask;            /* [T, B], or NULL */
    const int64_t *gains;           /* [T, L-1, B, H], or NULL */
    int64_t *h;                     /* [L, B, H], changed */
    int64_t *c;                     /* the same, or NULL */
    struct buffer *buffer;          /* changed; NULL for non-forgetting variants */
    int64_t wraps;                  /* a result of going forward */
    int64_t *outputs;               /* [T, B, H], filled in unless NULL */
    int64_t *slices;                /* [T+1, B, D], filled in, or read on the way back */
    int64_t *h_steps;               /* EVAL-009: filled in unless NULL */
    int64_t *c_steps;
    int64_t *heads_steps;
    int64_t *words_steps;
};

enum error_code run_sequence(struct sequence *sequence);
enum error_code reverse_sequence(struct sequence *sequence);

#endif
