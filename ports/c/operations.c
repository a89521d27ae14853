#include "operations.h"

#include <string.h>

#include "activations.h"
#include "config.h"
#include "integers.h"
#include "networks.h"
#include "product.h"
#include "quantise.h"
#include "revmul.h"
#include "stores.h"

static enum error_code out_of_memory(const struct call *call)
{
    return set_fault(call->fault, NO_MEMORY, "%s needs more memory than there is",
                     call->operation);
}

static const char *const no_names[] = {NULL};

/* An integer result with the shape of an argument. */
static enum error_code map_result(const struct call *call, const char *name, enum dtype dtype,
                                  const struct array *like, int64_t *integers)
{
    if (!add_array(call->results, name, dtype, like->axes, like->shape, integers))
        return out_of_memory(call);
    return NO_ERROR;
}

/* EVAL-004 */
static enum error_code run_quantise(struct call *call)
{
    static const char *const required[] = {"kind", "x", NULL};
    static const char *const optional[] = {"formats", NULL};
    static const char *const kinds[] = {"operand", "weight", "bias", "state", NULL};
    struct wanted wanted[] = {{"x", F32, 0, {0}, 0, 0, NULL}};
    int64_t bound[DIM_COUNT];
    struct formats formats;
    int64_t *q;
    int kind, bits;
    if (parse_formats(find_argument(call, "formats"), &formats, call->fault) != NO_ERROR
        || check_names(call, required, optional, 0) != NO_ERROR
        || choice_argument(call, "kind", kinds, &kind) != NO_ERROR
        || check_arrays(call, wanted, 1, bound) != NO_ERROR)
        return call->fault->code;
    q = arena_alloc(call->arena, wanted[0].array->count, sizeof *q);
    if (q == NULL)
        return out_of_memory(call);
    /* QNT-002 */
    bits = kind == 0 ? formats.operand_bits
         : kind == 1 ? formats.weight_bits
         : kind == 2 ? sum_bits(&formats) : formats.state_bits;
    for (int64_t i = 0; i < wanted[0].array->count; i++)
        q[i] = quantise(wanted[0].array->floats[i], bits, kind < 2 ? -OPERAND_MAX : INT32_MIN,
                        kind < 2 ? OPERAND_MAX : INT32_MAX);
    return map_result(call, "q", kind < 2 ? I16 : I32, wanted[0].array, q);
}

static enum error_code run_dequantise(struct call *call)
{
    static const char *const required[] = {"bits", "q", NULL};
    struct wanted wanted[] = {{"q", I32, 0, {0}, 0, 0, NULL}};
    int64_t bound[DIM_COUNT];
    int64_t bits;
    double *x;
    if (check_names(call, required, no_names, 0) != NO_ERROR
        || integer_argument(call, "bits", 0, 31, E_ARGUMENT, &bits) != NO_ERROR
        || check_arrays(call, wanted, 1, bound) != NO_ERROR)
        return call->fault->code;
    x = arena_alloc(call->arena, wanted[0].array->count, sizeof *x);
    if (x == NULL)
        return out_of_memory(call);
    for (int64_t i = 0; i < wanted[0].array->count; i++)
        x[i] = dequantise(wanted[0].array->integers[i], (int)bits);
    if (!add_floats(call->results, "x", F32, wanted[0].array->axes, wanted[0].array->shape, x))
        return out_of_memory(call);
    return NO_ERROR;
}

static enum error_code run_product(struct call *call)
{
    static const char *const required[] = {"a", "w", NULL};
    struct wanted wanted[] = {
        {"a", I16, 2, {DIM_M, DIM_K}, -OPERAND_MAX, OPERAND_MAX, NULL},
        {"w", I16, 2, {DIM_N, DIM_K}, -OPERAND_MAX, OPERAND_MAX, NULL}
    };
    int64_t bound[DIM_COUNT];
    int64_t shape[2];
    int64_t *s;
    if (check_names(call, required, no_names, 0) != NO_ERROR
        || check_arrays(call, wanted, 2, bound) != NO_ERROR)
        return call->fault->code;
    shape[0] = bound[-DIM_M];
    shape[1] = bound[-DIM_N];
    s = arena_alloc(call->arena, checked_product(shape, 2), sizeof *s);
    if (s == NULL)
        return out_of_memory(call);
    product(wanted[0].array->integers, wanted[1].array->integers, shape[0], shape[1],
            bound[-DIM_K], s);
    return add_array(call->results, "s", I64, 2, shape, s) ? NO_ERROR : out_of_memory(call);
}

/* Operations of each element and one integer. */
enum map { ROUND_SHIFT, TANH, SIGMOID };

static const struct {
    const char *argument;
    int64_t lo, hi;             /* of its elements, where lo < hi */
    const char *setting;
    int64_t least, most;
    const char *result;
    enum dtype dtype;
    int64_t (*function)(int64_t, int);
} maps[] = {
    [ROUND_SHIFT] = {"v", 1 - ((int64_t)1 << 62), ((int64_t)1 << 62) - 1, "k", 0, 31, "v", I64,
                     rounding_shift},
    [TANH] = {"s", 0, 0, "bits", 8, 27, "y", I32, fixed_tanh},          /* ACT-002 */
    [SIGMOID] = {"s", 0, 0, "bits", 8, 26, "y", I32, fixed_sigmoid}     /* ACT-003 */
};

static enum error_code run_map(struct call *call)
{
    const int at = call->which;
    const char *const required[] = {maps[at].setting, maps[at].argument, NULL};
    struct wanted wanted = {maps[at].argument, I64, 0, {0}, maps[at].lo, maps[at].hi, NULL};
    int64_t bound[DIM_COUNT];
    int64_t setting;
    if (check_names(call, required, no_names, 0) != NO_ERROR
        || integer_argument(call, maps[at].setting, maps[at].least, maps[at].most, E_ARGUMENT,
                            &setting) != NO_ERROR
        || check_arrays(call, &wanted, 1, bound) != NO_ERROR)
        return call->fault->code;
    for (int64_t i = 0; i < wanted.array->count; i++)
        wanted.array->integers[i] = maps[at].function(wanted.array->integers[i], (int)setting);
    return map_result(call, maps[at].result, maps[at].dtype, wanted.array, wanted.array->integers);
}

static enum error_code run_forget_gate(struct call *call)
{
    static const char *const required[] = {"bits", "max_forget_bits", "s", "z_max", NULL};
    struct wanted wanted[] = {{"s", I64, 0, {0}, 0, 0, NULL}};
    int64_t bound[DIM_COUNT];
    int64_t bits, z_max;
    int limit;
    if (check_names(call, required, no_names, 0) != NO_ERROR
        || integer_argument(call, "bits", 8, 26, E_ARGUMENT, &bits) != NO_ERROR
        || parse_forget_bits(find_argument(call, "max_forget_bits"), &limit,
                             call->fault) != NO_ERROR
        || parse_z_max(find_argument(call, "z_max"), &z_max, call->fault) != NO_ERROR
        || check_arrays(call, wanted, 1, bound) != NO_ERROR)
        return call->fault->code;
    for (int64_t i = 0; i < wanted[0].array->count; i++)
        wanted[0].array->integers[i] =
            forget_gate(wanted[0].array->integers[i], (int)bits, limit, z_max);
    return map_result(call, "z", I32, wanted[0].array, wanted[0].array->integers);
}

static enum error_code run_view(struct call *call)
{
    static const char *const required[] = {"h", "state_bits", "view_bits", NULL};
    struct wanted wanted[] = {{"h", I32, 0, {0}, 0, 0, NULL}};
    int64_t bound[DIM_COUNT];
    int64_t state_bits, bits;
    if (check_names(call, required, no_names, 0) != NO_ERROR
        || integer_argument(call, "state_bits", 16, 24, E_FORMAT, &state_bits) != NO_ERROR
        || integer_argument(call, "view_bits", 6, 13, E_FORMAT, &bits) != NO_ERROR
        || check_arrays(call, wanted, 1, bound) != NO_ERROR)
        return call->fault->code;
    for (int64_t i = 0; i < wanted[0].array->count; i++)
        wanted[0].array->integers[i] =
            view_of(wanted[0].array->integers[i], (int)state_bits, (int)bits);
    return map_result(call, "a", I16, wanted[0].array, wanted[0].array->integers);
}

/* EVAL-005 */
static enum error_code run_multiplication(struct call *call)
{
    static const char *const required[] = {
        "layout", "slice_size", "h", "z", "mask", "heads", "words", "flags", "restore", NULL
    };
    static const char *const forward_required[] = {
        "layout", "slice_size", "h", "z", "mask", "heads", "words", "flags", NULL
    };
    struct wanted wanted[7] = {
        {"h", I32, 2, {DIM_B, DIM_G}, 0, 0, NULL},
        {"z", I32, 2, {DIM_B, DIM_G}, 1, 1024, NULL},
        {"mask", BOOL, 1, {DIM_B}, 0, 0, NULL}
    };
    const struct wanted restore = {"restore", I32, 2, {DIM_B, 0}, 0, 0, NULL};
    const bool inverse = call->which != 0;
    const struct array *mask;
    const struct value *h;
    struct buffer buffer;
    int64_t bound[DIM_COUNT];
    int64_t slice = 0;
    enum layout layout;
    enum error_code code;
    if (check_names(call, inverse ? required : forward_required, no_names, 0) != NO_ERROR
        || parse_layout(find_argument(call, "layout"), "layout", &layout,
                        call->fault) != NO_ERROR)
        return call->fault->code;
    h = find_argument(call, "h");
    if (h->kind == KIND_ARRAY && h->array.axes == 2
        && integer_argument(call, "slice_size", 0, h->array.shape[1], E_SLICE,
                            &slice) != NO_ERROR)
        return call->fault->code;
    if (layout == LAYOUT_BIGINT)
        return set_fault(call->fault, E_UNSUPPORTED, "layout bigint is not offered");
    want_store(wanted + 3, layout, DIM_G);
    wanted[6] = restore;
    wanted[6].shape[1] = slice;
    if (check_arrays(call, wanted, inverse ? 7 : 6, bound) != NO_ERROR)
        return call->fault->code;
    if (start_buffer(&buffer, call->arena, layout, bound[-DIM_B], bound[-DIM_G],
                     wanted[3].array->integers) != NO_ERROR)
        return out_of_memory(call);
    fill_stack(&buffer.words, wanted[4].array->integers, wanted[4].array->count);
    fill_stack(&buffer.flags, wanted[5].array->integers, wanted[5].array->count);
    mask = wanted[2].array;
    if (inverse)
        code = revmul_inverse(&buffer, mask->integers, slice, wanted[6].array->integers,
                              h->array.integers, wanted[1].array->integers);
    else
        code = revmul(&buffer, mask->integers, slice, h->array.integers,
                      wanted[1].array->integers);
    if (code == NO_MEMORY)
        return out_of_memory(call);
    if (code != NO_ERROR)
        return set_fault(call->fault, code, "the buffer does not hold what %s needs",
                         call->operation);
    if (map_result(call, "h", I32, &h->array, h->array.integers) != NO_ERROR
        || !add_store(call->results, &buffer))
        return out_of_memory(call);
    return NO_ERROR;
}

static enum error_code run_network(struct call *call)
{
    return evaluate_network(call, (enum network_operation)call->which);
}

/* What computes an operation, and which of those that it computes. */
static const struct {
    const char *name;
    enum error_code (*run)(struct call *call);
    int which;
} operations[] = {
    {"quantise", run_quantise, 0},
    {"dequantise", run_dequantise, 0},
    {"round_shift", run_map, ROUND_SHIFT},
    {"product", run_product, 0},
    {"tanh", run_map, TANH},
    {"sigmoid", run_map, SIGMOID},
    {"forget_gate", run_forget_gate, 0},
    {"view", run_view, 0},
    {"revmul", run_multiplication, false},
    {"revmul_inverse", run_multiplication, true},
    {"cell_forward", run_network, CELL_FORWARD},
    {"cell_reverse", run_network, CELL_REVERSE},
    {"sequence_forward", run_network, SEQUENCE_FORWARD},
    {"sequence_reverse", run_network, SEQUENCE_REVERSE},
    {"sequence_storage", run_network, SEQUENCE_STORAGE},
    {"sequence_gradient", run_network, SEQUENCE_GRADIENT}
};

/* EVAL-001 */
enum json_status evaluate(struct arena *arena, const struct json *operation,
                          const struct json *arguments, struct results *results,
                          struct fault *fault)
{
    struct call call = {arena, NULL, 0, NULL, 0, results, fault};
    const enum json_status status = read_arguments(&call, arguments);
    if (status != JSON_OK)
        return status;
    fault->code = NO_ERROR;
    start_results(results, arena);
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++)
        if (json_is_string(operation, operations[i].name)) {
            call.operation = operations[i].name;
            call.which = operations[i].which;
            operations[i].run(&call);
            return JSON_OK;
        }
    set_fault(fault, E_OP, "there is no operation '%.*s'",
              (int)(operation->length < 40 ? operation->length : 40), operation->u.text);
    return JSON_OK;
}
