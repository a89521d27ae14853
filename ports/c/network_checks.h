/* EVAL-007 to EVAL-009: an operation on a network, and the checks of what it is given. */
#ifndef REVRNN_NETWORK_CHECKS_H
#define REVRNN_NETWORK_CHECKS_H

#include "arguments.h"
#include "networks.h"
#include "sequences.h"

/* An operation on a network, from its arguments to its results. */
struct network {
    struct call *call;
    enum network_operation operation;
    struct config config;
    struct wanted *wanted;
    size_t count;
    int64_t bound[DIM_COUNT];
    struct layer *layers;
    struct buffer buffer;
    struct sequence sequence;
    int64_t *gate_counts;
    bool trace;
};

enum error_code out_of_memory(const struct network *network);

bool is_cell(const struct network *network);

/* EVAL-008: whether the store is taken. A sequence that goes forward begins with an empty one. */
bool takes_store(const struct network *network);

/* ERR-002: what is 3, 4 and 6 there. The last one notes the arrays that were taken. */
enum error_code check_network_names(const struct network *network);
enum error_code check_network_values(struct network *network);
enum error_code check_network_arrays(struct network *network);

#endif
