/* EVAL-007, EVAL-008, EVAL-009: the operations that have a configuration. */
#include <string.h>

#include "accounting.h"
#include "integers.h"
#include "network_checks.h"
#include "stores.h"

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
