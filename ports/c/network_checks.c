/* ERR-002, for the operations that have a configuration. */
#include "network_checks.h"

#include <stdio.h>
#include <string.h>

#include "integers.h"
#include "stores.h"

#define MAX_NAMES 16

enum error_code out_of_memory(const struct network *network)
{
    return set_fault(network->call->fault, NO_MEMORY, "%s needs more memory than there is",
                     network->call->operation);
}

bool is_cell(const struct network *network)
{
    return network->operation == CELL_FORWARD || network->operation == CELL_REVERSE;
}

/* EVAL-008: whether the store is taken. A sequence that goes forward begins with an empty one. */
bool takes_store(const struct network *network)
{
    return network->config.forgetting
           && (is_cell(network) || network->operation == SEQUENCE_REVERSE);
}

/* SEQ-007 */
static bool takes_slices(const struct network *network)
{
    return network->operation == SEQUENCE_REVERSE && network->config.slice_size > 0;
}

/* EVAL-009 */
static bool may_trace(const struct network *network)
{
    return network->operation == SEQUENCE_FORWARD || network->operation == SEQUENCE_REVERSE;
}

/* ERR-002, 3 */
enum error_code check_network_names(const struct network *network)
{
    const struct config *config = &network->config;
    const bool gradient = network->operation == SEQUENCE_GRADIENT;
    const char *required[MAX_NAMES] = {"config", "x", "h"};
    const char *optional[MAX_NAMES] = {NULL};
    size_t n = 3, m = 0;
    if (!is_cell(network))
        required[n++] = "mask";
    if (config->cell == REVLSTM)
        required[n++] = "c";
    if (config->forgetting)
        required[n++] = "heads";
    if (takes_store(network)) {
        required[n++] = "words";
        required[n++] = "flags";
    }
    if (takes_slices(network))
        required[n++] = "slices";
    if (gradient) {
        required[n++] = "states";
        required[n++] = "grad_outputs";
        required[n++] = "grad_h";
        if (config->cell == REVLSTM)
            required[n++] = "grad_c";
    }
    if (config->num_layers > 1)
        optional[m++] = "gains";
    if (may_trace(network))
        optional[m++] = "trace";
    return check_names(network->call, required, optional, config->num_layers);
}

/* ERR-002, 4 */
enum error_code check_network_values(struct network *network)
{
    static const char *const states[] = {"reversed", "stored", NULL};
    const struct value *trace = find_argument(network->call, "trace");
    int choice;
    /* EVAL-007 */
    if (is_cell(network) && network->config.num_layers != 1)
        return set_fault(network->call->fault, E_ARGUMENT, "num_layers is %lld, allowed is 1",
                         (long long)network->config.num_layers);
    if (is_cell(network) && network->config.slice_size != 0)
        return set_fault(network->call->fault, E_SLICE, "slice_size is %lld, allowed is 0",
                         (long long)network->config.slice_size);
    if (trace != NULL) {
        char given[80];
        describe_value(trace, given, sizeof given);
        if (trace->kind != KIND_BOOL)
            return set_fault(network->call->fault, E_ARGUMENT,
                             "trace is %s, allowed is true or false", given);
        network->trace = trace->integer != 0;
    }
    if (network->operation == SEQUENCE_GRADIENT)
        return choice_argument(network->call, "states", states, &choice);
    return NO_ERROR;
}

static struct wanted *want(struct network *network, const char *name, enum dtype dtype,
                           size_t axes, const int64_t *shape)
{
    struct wanted *wanted = &network->wanted[network->count++];
    wanted->name = name;
    wanted->dtype = dtype;
    wanted->axes = axes;
    memcpy(wanted->shape, shape, axes * sizeof *shape);
    return wanted;
}

static void want_operand(struct network *network, const char *name, size_t axes,
                         const int64_t *shape)
{
    struct wanted *wanted = want(network, name, I16, axes, shape);
    wanted->lo = -OPERAND_MAX;
    wanted->hi = OPERAND_MAX;
}

/* PROD-002: the length of a product, or no length where it is too long. */
static int64_t product_length(int64_t length)
{
    return length <= MAX_PRODUCT_LENGTH ? length : DIM_TOO_LONG;
}

/* CELL-003. False where there is no memory. */
static bool want_weights(struct network *network)
{
    const struct config *config = &network->config;
    const int64_t gates = gate_count(config);
    const int64_t rows = config->hidden_size > INT64_MAX / gates ? DIM_TOO_LONG
                                                                 : gates * config->hidden_size;
    for (int64_t k = 0; k < config->num_layers; k++) {
        const int64_t inputs = k == 0 ? config->input_size : config->hidden_size;
        const int64_t ih[] = {rows, product_length(inputs)};
        const int64_t hh[] = {rows, product_length(config->hidden_size / 2)};
        char *names = arena_alloc(network->call->arena, 3, 40);
        if (names == NULL)
            return false;
        snprintf(names, 40, "weight_ih_l%lld", (long long)k);
        snprintf(names + 40, 40, "weight_hh_l%lld", (long long)k);
        snprintf(names + 80, 40, "bias_l%lld", (long long)k);
        want_operand(network, names, 2, ih);
        want_operand(network, names + 40, 2, hh);
        want(network, names + 80, I32, 1, &rows);
    }
    return true;
}

/* ERR-002, 6, in the order of EVAL-008. */
enum error_code check_network_arrays(struct network *network)
{
    const struct config *config = &network->config;
    const int64_t layers = config->num_layers;
    const int64_t hidden = config->hidden_size;
    const int64_t x[] = {DIM_T, DIM_B, config->input_size};
    const int64_t gains[] = {DIM_T, layers - 1, DIM_B, hidden};
    const int64_t state[] = {layers, DIM_B, hidden};
    const int64_t slices[] = {DIM_T_PLUS_1, DIM_B, config->slice_size};
    const int64_t outputs[] = {DIM_T, DIM_B, hidden};
    const bool lstm = config->cell == REVLSTM;
    struct wanted store[3];
    /* All weights were found by name, so their number is that of arguments at most. */
    network->wanted = arena_alloc(network->call->arena, layers * 3 + MAX_NAMES,
                                  sizeof *network->wanted);
    if (network->wanted == NULL || !want_weights(network))
        return out_of_memory(network);
    if (is_cell(network)) {
        want_operand(network, "x", 2, x + 1);
    } else {
        want_operand(network, "x", 3, x);
        want(network, "mask", BOOL, 2, x);
        if (layers > 1) {
            struct wanted *wanted = want(network, "gains", I32, 4, gains);
            wanted->hi = 65536;     /* SEQ-012 */
        }
    }
    want(network, "h", I32, 3, state);
    if (lstm)
        want(network, "c", I32, 3, state);
    if (config->forgetting) {
        want_store(store, config->layout, hidden / 2);
        network->wanted[network->count++] = store[0];
        if (takes_store(network)) {
            network->wanted[network->count++] = store[1];
            network->wanted[network->count++] = store[2];
        }
    }
    if (takes_slices(network))
        want(network, "slices", I32, 3, slices);
    if (network->operation == SEQUENCE_GRADIENT) {
        want(network, "grad_outputs", F32, 3, outputs);
        want(network, "grad_h", F32, 3, state);
        if (lstm)
            want(network, "grad_c", F32, 3, state);
    }
    return check_arrays(network->call, network->wanted, network->count, network->bound);
}
