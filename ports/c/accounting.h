/* ACC: how many bits a forward call needs. */
#ifndef REVRNN_ACCOUNTING_H
#define REVRNN_ACCOUNTING_H

#include "sequences.h"

#define GATE_VALUES 1025

double ideal_bits(const int64_t *gate_counts);

/* Both of a sequence that has been run; the second for non-forgetting variants too. */
int64_t stored_bits(const struct sequence *sequence);
int64_t plain_bits(const struct sequence *sequence);

#endif
