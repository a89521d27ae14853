#include "arguments.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "integers.h"

#define TEXT_SIZE 96

static int compare_text(const char *a, size_t a_length, const char *b, size_t b_length)
{
    const size_t shorter = a_length < b_length ? a_length : b_length;
    const int order = memcmp(a, b, shorter);
    if (order != 0)
        return order;
    return (a_length > b_length) - (a_length < b_length);
}

static int compare_arguments(const void *a, const void *b)
{
    const struct argument *x = a;
    const struct argument *y = b;
    const int order = compare_text(x->name->u.text, x->name->length, y->name->u.text,
                                   y->name->length);
    return order != 0 ? order : (x->position > y->position) - (x->position < y->position);
}

enum json_status read_arguments(struct call *call, const struct json *arguments)
{
    size_t at = 0;
    call->count = arguments->length;
    call->arguments = arena_alloc(call->arena, (int64_t)call->count, sizeof *call->arguments);
    if (call->arguments == NULL)
        return JSON_MEMORY;
    for (const struct json *key = arguments->u.child; key != NULL; key = key->next->next, at++) {
        const enum json_status status =
            value_from_json(call->arena, key->next, &call->arguments[at].value);
        if (status != JSON_OK)
            return status;
        call->arguments[at].name = key;
        call->arguments[at].position = at;
    }
    if (call->count > 1)
        qsort(call->arguments, call->count, sizeof *call->arguments, compare_arguments);
    return JSON_OK;
}

struct value *find_argument(const struct call *call, const char *name)
{
    const size_t length = strlen(name);
    size_t low = 0, high = call->count;
    /* The last of equal names counts, as in config. */
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const struct json *key = call->arguments[middle].name;
        if (compare_text(key->u.text, key->length, name, length) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0 || !json_is_string(call->arguments[low - 1].name, name))
        return NULL;
    return &call->arguments[low - 1].value;
}

static const char *const weight_names[] = {"weight_ih_l", "weight_hh_l", "bias_l"};

/* CELL-003: a weight's name, with the number of a layer that there is. */
static bool is_weight(const struct json *key, int64_t layers)
{
    for (int i = 0; i < 3; i++) {
        const size_t length = strlen(weight_names[i]);
        const char *digits = key->u.text + length;
        int64_t layer;
        if (key->length <= length || memcmp(key->u.text, weight_names[i], length) != 0)
            continue;
        return *digits != '-' && (*digits != '0' || key->length == length + 1)
               && parse_decimal(digits, key->length - length, &layer) && layer < layers;
    }
    return false;
}

enum error_code check_names(const struct call *call, const char *const *required,
                            const char *const *optional, int64_t layers)
{
    for (size_t i = 0; i < call->count; i++) {
        const struct json *key = call->arguments[i].name;
        if (!json_is_listed(key, required) && !json_is_listed(key, optional)
            && !is_weight(key, layers))
            return set_fault(call->fault, E_ARGUMENT, "%s takes no argument '%.*s' here",
                             call->operation, (int)(key->length < 40 ? key->length : 40),
                             key->u.text);
    }
    for (; *required != NULL; required++)
        if (find_argument(call, *required) == NULL)
            return set_fault(call->fault, E_ARGUMENT, "%s lacks the argument %s", call->operation,
                             *required);
    for (int64_t layer = 0; layer < layers; layer++)
        for (int i = 0; i < 3; i++) {
            char name[40];
            snprintf(name, sizeof name, "%s%lld", weight_names[i], (long long)layer);
            if (find_argument(call, name) == NULL)
                return set_fault(call->fault, E_ARGUMENT, "%s lacks the argument %s",
                                 call->operation, name);
        }
    return NO_ERROR;
}

enum error_code integer_argument(const struct call *call, const char *name, int64_t lo, int64_t hi,
                                 enum error_code code, int64_t *value)
{
    const struct value *given = find_argument(call, name);
    char text[TEXT_SIZE];
    if (!value_is_integer(given, lo, hi)) {
        describe_value(given, text, sizeof text);
        return set_fault(call->fault, code, "%s is %s, allowed is an integer %lld to %lld", name,
                         text, (long long)lo, (long long)hi);
    }
    *value = given->integer;
    return NO_ERROR;
}

enum error_code choice_argument(const struct call *call, const char *name,
                                const char *const *choices, int *choice)
{
    const struct value *given = find_argument(call, name);
    char text[TEXT_SIZE];
    char allowed[TEXT_SIZE] = "";
    for (*choice = 0; choices[*choice] != NULL; ++*choice)
        if (value_is_string(given, choices[*choice]))
            return NO_ERROR;
    for (int i = 0; choices[i] != NULL; i++) {
        const size_t length = strlen(allowed);
        snprintf(allowed + length, sizeof allowed - length, i > 0 ? ", %s" : "%s", choices[i]);
    }
    describe_value(given, text, sizeof text);
    return set_fault(call->fault, E_ARGUMENT, "%s is %s, allowed is one of %s", name, text,
                     allowed);
}

/* ERR-004: the type and shape that are allowed, in words. */
static void describe_wanted(const struct wanted *wanted, const int64_t *bound, char *text,
                            size_t size)
{
    static const char *const letters[] = {
        "", "T", "W", "P", "F", "T+1", "M", "N", "K", "B", "G", "at most 1048576"
    };
    size_t length = (size_t)snprintf(text, size, "%s [", dtype_name(wanted->dtype));
    if (wanted->axes == 0)
        length += (size_t)snprintf(text + length, size - length, "...");
    for (size_t axis = 0; axis < wanted->axes && length < size; axis++) {
        const int64_t want = wanted->shape[axis];
        const char *comma = axis > 0 ? ", " : "";
        if (want < 0 && bound[-want] < 0)
            length += (size_t)snprintf(text + length, size - length, "%s%s", comma,
                                       letters[-want]);
        else
            length += (size_t)snprintf(text + length, size - length, "%s%lld", comma,
                                       (long long)(want < 0 ? bound[-want] : want));
    }
    if (length < size)
        snprintf(text + length, size - length, "]");
}

static enum error_code wrong_array(const struct call *call, const struct wanted *wanted,
                                   const int64_t *bound, enum error_code code)
{
    char given[TEXT_SIZE];
    char allowed[TEXT_SIZE];
    describe_value(find_argument(call, wanted->name), given, sizeof given);
    describe_wanted(wanted, bound, allowed, sizeof allowed);
    return set_fault(call->fault, code, "%s is %s, allowed is %s", wanted->name, given, allowed);
}

/* EVAL-002: lengths that appear more than once are equal, and some are at least 1. */
static bool right_length(int64_t want, int64_t length, int64_t *bound)
{
    if (want >= 0)
        return length == want;
    if (want == DIM_TOO_LONG)
        return false;
    if (want == DIM_T_PLUS_1)
        return length - 1 == bound[-DIM_T];
    if (bound[-want] >= 0)
        return length == bound[-want];
    if (want <= DIM_LEAST_ONE && length < 1)
        return false;
    if (want == DIM_K && length > MAX_PRODUCT_LENGTH)   /* PROD-002 */
        return false;
    bound[-want] = length;
    return true;
}

static bool right_shape(const struct wanted *wanted, int64_t *bound)
{
    const struct array *array = wanted->array;
    if (wanted->axes == 0)
        return array->axes > 0;
    if (array->axes != wanted->axes)
        return false;
    for (size_t axis = 0; axis < wanted->axes; axis++)
        if (!right_length(wanted->shape[axis], array->shape[axis], bound))
            return false;
    return true;
}

/* QNT-004 and GRAD: floats are finite wherever they enter. */
static enum error_code check_finite(const struct call *call, const struct wanted *wanted)
{
    const struct array *array = wanted->array;
    if (array == NULL || array->floats == NULL)
        return NO_ERROR;
    for (int64_t i = 0; i < array->count; i++)
        if (!isfinite(array->floats[i]))
            return set_fault(call->fault, E_NONFINITE,
                             "element %lld of %s is %g, allowed is what is finite", (long long)i,
                             wanted->name, array->floats[i]);
    return NO_ERROR;
}

static enum error_code check_range(const struct call *call, const struct wanted *wanted)
{
    const struct array *array = wanted->array;
    if (array == NULL || wanted->lo >= wanted->hi)
        return NO_ERROR;
    for (int64_t i = 0; i < array->count; i++)
        if (array->integers[i] < wanted->lo || array->integers[i] > wanted->hi)
            return set_fault(call->fault, E_RANGE,
                             "element %lld of %s is %lld, allowed is %lld to %lld", (long long)i,
                             wanted->name, (long long)array->integers[i], (long long)wanted->lo,
                             (long long)wanted->hi);
    return NO_ERROR;
}

enum error_code check_arrays(const struct call *call, struct wanted *wanted, size_t count,
                             int64_t bound[DIM_COUNT])
{
    for (int i = 0; i < DIM_COUNT; i++)
        bound[i] = -1;
    for (size_t i = 0; i < count; i++) {
        struct value *value = find_argument(call, wanted[i].name);
        if (value == NULL)
            continue;
        if (value->kind != KIND_ARRAY || value->array.dtype != wanted[i].dtype)
            return wrong_array(call, &wanted[i], bound, E_DTYPE);
        wanted[i].array = &value->array;
    }
    for (size_t i = 0; i < count; i++)
        if (wanted[i].array != NULL && !right_shape(&wanted[i], bound))
            return wrong_array(call, &wanted[i], bound, E_SHAPE);
    for (size_t i = 0; i < count; i++)
        if (check_finite(call, &wanted[i]) != NO_ERROR)
            return call->fault->code;
    for (size_t i = 0; i < count; i++)
        if (check_range(call, &wanted[i]) != NO_ERROR)
            return call->fault->code;
    return NO_ERROR;
}
