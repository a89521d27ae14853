/* EVAL: the operations on cells and sequences, which have a configuration. */
#ifndef REVRNN_NETWORKS_H
#define REVRNN_NETWORKS_H

#include "arguments.h"

enum network_operation {
    CELL_FORWARD,
    CELL_REVERSE,
    SEQUENCE_FORWARD,
    SEQUENCE_REVERSE,
    SEQUENCE_STORAGE,
    SEQUENCE_GRADIENT
};

enum error_code evaluate_network(struct call *call, enum network_operation operation);

#endif
