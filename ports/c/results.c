#include "results.h"

#include <string.h>

void start_results(struct results *results, struct arena *arena)
{
    results->arena = arena;
    results->first = NULL;
    results->last = &results->first;
}

static struct value *add_result(struct results *results, const char *name, enum kind kind)
{
    struct result *result = arena_alloc(results->arena, 1, sizeof *result);
    if (result == NULL)
        return NULL;
    result->name = name;
    result->value.kind = kind;
    *results->last = result;
    results->last = &result->next;
    return &result->value;
}

static struct array *add_shape(struct results *results, const char *name, enum dtype dtype,
                               size_t axes, const int64_t *shape)
{
    struct value *value = add_result(results, name, KIND_ARRAY);
    if (value == NULL)
        return NULL;
    value->array.dtype = dtype;
    value->array.axes = axes;
    value->array.count = checked_product(shape, axes);
    value->array.shape = arena_alloc(results->arena, (int64_t)axes, sizeof *shape);
    if (value->array.shape == NULL || value->array.count < 0)
        return NULL;
    memcpy(value->array.shape, shape, axes * sizeof *shape);
    return &value->array;
}

bool add_array(struct results *results, const char *name, enum dtype dtype, size_t axes,
               const int64_t *shape, int64_t *integers)
{
    struct array *array = add_shape(results, name, dtype, axes, shape);
    if (array == NULL)
        return false;
    array->integers = integers;
    return true;
}

bool add_floats(struct results *results, const char *name, enum dtype dtype, size_t axes,
                const int64_t *shape, double *floats)
{
    struct array *array = add_shape(results, name, dtype, axes, shape);
    if (array == NULL)
        return false;
    array->floats = floats;
    return true;
}

bool add_integer(struct results *results, const char *name, int64_t integer)
{
    struct value *value = add_result(results, name, KIND_INT);
    if (value != NULL)
        value->integer = integer;
    return value != NULL;
}

bool add_number(struct results *results, const char *name, double number)
{
    struct value *value = add_result(results, name, KIND_FLOAT);
    if (value != NULL)
        value->number = number;
    return value != NULL;
}

static void write_element(struct writer *writer, const struct array *array, int64_t at)
{
    switch (array->dtype) {
    case I64:
        write_text(writer, "\"");
        write_integer(writer, array->integers[at]);
        write_text(writer, "\"");
        break;
    case F32:
    case F64:
        write_float(writer, array->floats[at]);
        break;
    case BOOL:
        write_text(writer, array->integers[at] != 0 ? "true" : "false");
        break;
    default:
        write_integer(writer, array->integers[at]);
        break;
    }
}

static void write_array(struct writer *writer, const struct array *array)
{
    write_text(writer, "{\"data\": [");
    for (int64_t i = 0; i < array->count; i++) {
        if (i > 0)
            write_text(writer, ", ");
        write_element(writer, array, i);
    }
    write_text(writer, "], \"dtype\": ");
    write_string(writer, dtype_name(array->dtype));
    write_text(writer, ", \"shape\": [");
    for (size_t i = 0; i < array->axes; i++) {
        if (i > 0)
            write_text(writer, ", ");
        write_integer(writer, array->shape[i]);
    }
    write_text(writer, "]}");
}

void write_results(struct writer *writer, const struct results *results)
{
    write_text(writer, "{");
    for (const struct result *result = results->first; result != NULL; result = result->next) {
        if (result != results->first)
            write_text(writer, ", ");
        write_string(writer, result->name);
        write_text(writer, ": ");
        if (result->value.kind == KIND_ARRAY)
            write_array(writer, &result->value.array);
        else if (result->value.kind == KIND_INT)
            write_integer(writer, result->value.integer);
        else {
            write_text(writer, "{\"f64\": ");
            write_float(writer, result->value.number);
            write_text(writer, "}");
        }
    }
    write_text(writer, "}");
}
