/* EVAL-007, EVAL-008, EVAL-009: the operations that have a configuration. */
#include <stdio.h>
#include <string.h>

#include "accounting.h"
#include "integers.h"
#include "networks.h"
#include "stores.h"

#define MAX_NAMES 16

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

static enum error_code out_of_memory(const struct network *network)
{
    return set_fault(network->call->fault, NO_MEMORY, "%s needs more memory than there is",
                     network->call->operation);
}

static bool is_cell(const struct network *network)
{
    return network->operation == CELL_FORWARD || network->operation == CELL_REVERSE;
}

/* EVAL-008: whether the store is taken. A sequence that goes forward begins with an empty one. */
static bool takes_store(const struct network *network)
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
static enum error_code check_network_names(const struct network *network)
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
static enum error_code check_network_values(struct network *network)
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
static enum error_code check_network_arrays(struct network *network)
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

/* An array that was taken, or NULL. */
static const struct array *taken_array(const struct network *network, const char *name)
{
    for (size_t i = network->count; i > 0; i--)
        if (strcmp(network->wanted[i - 1].name, name) == 0)
            return network->wanted[i - 1].array;
    return NULL;
}

/* Its elements. */
static int64_t *taken(const struct network *network, const char *name)
{
    const struct array *array = taken_array(network, name);
    return array == NULL ? NULL : array->integers;
}

static bool prepare_layers(struct network *network)
{
    const struct config *config = &network->config;
    network->layers = arena_alloc(network->call->arena, config->num_layers,
                                  sizeof *network->layers);
    if (network->layers == NULL)
        return false;
    for (int64_t k = 0; k < config->num_layers; k++) {
        struct layer *layer = &network->layers[k];
        layer->inputs = k == 0 ? config->input_size : config->hidden_size;
        layer->input_bits = k == 0 ? config->formats.operand_bits : view_bits(config);
        layer->weight_ih = network->wanted[3 * k].array->integers;
        layer->weight_hh = network->wanted[3 * k + 1].array->integers;
        layer->bias = network->wanted[3 * k + 2].array->integers;
    }
    return true;
}

static bool prepare_buffer(struct network *network)
{
    struct buffer *buffer = &network->buffer;
    if (start_buffer(buffer, network->call->arena, network->config.layout,
                     network->bound[-DIM_B], network->config.hidden_size / 2,
                     taken(network, "heads")) != NO_ERROR)
        return false;
    if (takes_store(network)) {
        const struct array *words = taken_array(network, "words");
        const struct array *flags = taken_array(network, "flags");
        fill_stack(&buffer->words, words->integers, words->count);
        fill_stack(&buffer->flags, flags->integers, flags->count);
    }
    buffer->gate_counts = network->gate_counts;
    network->sequence.buffer = buffer;
    return true;
}

/* A new array for results: steps times the product of three lengths. */
static bool new_steps(struct network *network, int64_t steps, int64_t a, int64_t b, int64_t c,
                      int64_t **array)
{
    const int64_t shape[] = {steps, a, b, c};
    *array = arena_alloc(network->call->arena, checked_product(shape, 4), sizeof **array);
    return *array != NULL;
}

static bool prepare_sequence(struct network *network)
{
    const struct config *config = &network->config;
    struct sequence *sequence = &network->sequence;
    const int64_t steps = is_cell(network) ? 1 : network->bound[-DIM_T];
    const int64_t rows = network->bound[-DIM_B];
    const bool forward = network->operation == SEQUENCE_FORWARD;
    if (network->operation == SEQUENCE_STORAGE
        && !new_steps(network, GATE_VALUES, 1, 1, 1, &network->gate_counts))
        return false;
    if (!prepare_layers(network) || (config->forgetting && !prepare_buffer(network)))
        return false;
    sequence->arena = network->call->arena;
    sequence->config = config;
    sequence->layers = network->layers;
    sequence->steps = steps;
    sequence->rows = rows;
    sequence->x = taken(network, "x");
    sequence->mask = taken(network, "mask");
    sequence->gains = taken(network, "gains");
    sequence->h = taken(network, "h");
    sequence->c = taken(network, "c");
    sequence->slices = taken(network, "slices");
    if (forward && !new_steps(network, steps, rows, config->hidden_size, 1, &sequence->outputs))
        return false;
    if (forward && config->slice_size > 0
        && !new_steps(network, steps + 1, rows, config->slice_size, 1, &sequence->slices))
        return false;
    if (!network->trace)
        return true;
    return new_steps(network, steps, config->num_layers, rows, config->hidden_size,
                     &sequence->h_steps)
           && (config->cell == REVGRU
               || new_steps(network, steps, config->num_layers, rows, config->hidden_size,
                            &sequence->c_steps))
           && (!config->forgetting
               || (new_steps(network, steps, rows, config->hidden_size / 2, 1,
                             &sequence->heads_steps)
                   && new_steps(network, steps, 1, 1, 1, &sequence->words_steps)));
}

/* EVAL-009 */
static bool add_trace(const struct network *network)
{
    const struct sequence *sequence = &network->sequence;
    const struct config *config = &network->config;
    const int64_t steps[] = {
        sequence->steps, config->num_layers, sequence->rows, config->hidden_size
    };
    const int64_t heads[] = {sequence->steps, sequence->rows, config->hidden_size / 2};
    struct results *results = network->call->results;
    return (sequence->h_steps == NULL
            || add_array(results, "h_steps", I32, 4, steps, sequence->h_steps))
           && (sequence->c_steps == NULL
               || add_array(results, "c_steps", I32, 4, steps, sequence->c_steps))
           && (sequence->heads_steps == NULL
               || add_array(results, "heads_steps", I64, 3, heads, sequence->heads_steps))
           && (sequence->words_steps == NULL
               || add_array(results, "words_steps", I64, 1, steps, sequence->words_steps));
}

/* EVAL-007, EVAL-008 */
static bool add_states(const struct network *network)
{
    const struct sequence *sequence = &network->sequence;
    const struct config *config = &network->config;
    const int64_t state[] = {config->num_layers, sequence->rows, config->hidden_size};
    const int64_t outputs[] = {sequence->steps, sequence->rows, config->hidden_size};
    const int64_t slices[] = {sequence->steps + 1, sequence->rows, config->slice_size};
    struct results *results = network->call->results;
    if (!add_array(results, "h", I32, 3, state, sequence->h)
        || (sequence->c != NULL && !add_array(results, "c", I32, 3, state, sequence->c))
        || (sequence->buffer != NULL && !add_store(results, sequence->buffer)))
        return false;
    if (network->operation == SEQUENCE_FORWARD
        && (!add_array(results, "outputs", I32, 3, outputs, sequence->outputs)
            || !add_integer(results, "wraps", sequence->wraps)
            || (sequence->slices != NULL
                && !add_array(results, "slices", I32, 3, slices, sequence->slices))))
        return false;
    return add_trace(network);
}

/* EVAL-008, ACC */
static bool add_storage(const struct network *network)
{
    const int64_t shape[] = {GATE_VALUES};
    struct results *results = network->call->results;
    return add_array(results, "gate_counts", I64, 1, shape, network->gate_counts)
           && add_number(results, "ideal_bits", ideal_bits(network->gate_counts))
           && add_integer(results, "stored_bits", stored_bits(&network->sequence))
           && add_integer(results, "plain_bits", plain_bits(&network->sequence));
}

enum error_code evaluate_network(struct call *call, enum network_operation operation)
{
    const struct value *config = find_argument(call, "config");
    struct network network;
    enum error_code code;
    bool added;
    memset(&network, 0, sizeof network);
    network.call = call;
    network.operation = operation;
    /* Without a configuration nobody knows which other names there are. The fault is the same. */
    if (config == NULL)
        return set_fault(call->fault, E_ARGUMENT, "%s lacks the argument config",
                         call->operation);
    if (parse_config(config, &network.config,
                     call->fault) != NO_ERROR
        || check_network_names(&network) != NO_ERROR
        || check_network_values(&network) != NO_ERROR)
        return call->fault->code;
    /* BUF-037. A variant without a buffer does not look at its layout. */
    if (network.config.layout == LAYOUT_BIGINT && network.config.forgetting)
        return set_fault(call->fault, E_UNSUPPORTED, "layout bigint is not offered");
    if (check_network_arrays(&network) != NO_ERROR)
        return call->fault->code;
    if (operation == SEQUENCE_GRADIENT)
        return set_fault(call->fault, E_UNSUPPORTED, "gradients are not offered");
    if (!prepare_sequence(&network))
        return out_of_memory(&network);
    if (operation == CELL_REVERSE || operation == SEQUENCE_REVERSE)
        code = reverse_sequence(&network.sequence);
    else
        code = run_sequence(&network.sequence);
    if (code == NO_MEMORY)
        return out_of_memory(&network);
    if (code != NO_ERROR)
        return set_fault(call->fault, code, "the buffer does not hold what %s needs",
                         call->operation);
    added = operation == SEQUENCE_STORAGE ? add_storage(&network) : add_states(&network);
    return added ? NO_ERROR : out_of_memory(&network);
}
