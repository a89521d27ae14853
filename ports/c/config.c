#include "config.h"

#include <stdio.h>
#include <string.h>

#include "integers.h"

#define GIVEN_SIZE 80

/* The value that stands in an object, or a value of kind none where there is nothing. */
static bool member(const struct json *object, const char *name, struct value *value)
{
    const struct json *node = json_member(object, name);
    if (node == NULL)
        return false;
    scalar_from_json(node, value);
    return true;
}

/* ERR-002, 2: unknown names in config and formats. */
static enum error_code check_names(const struct json *object, const char *what,
                                   const char *const *names, struct fault *fault)
{
    for (const struct json *key = object->u.child; key != NULL; key = key->next->next)
        if (!json_is_listed(key, names))
            return set_fault(fault, E_ARGUMENT, "%s has no name '%.*s'", what,
                             (int)(key->length < 40 ? key->length : 40), key->u.text);
    return NO_ERROR;
}

static enum error_code wrong_value(const struct value *value, enum error_code code,
                                   const char *name, const char *allowed, struct fault *fault)
{
    char given[GIVEN_SIZE];
    describe_value(value, given, sizeof given);
    return set_fault(fault, code, "%s is %s, allowed is %s", name, given, allowed);
}

/* FMT-002 */
static enum error_code parse_bits(const struct json *object, const char *name, int lowest,
                                  int highest, int *bits, struct fault *fault)
{
    struct value value;
    char allowed[GIVEN_SIZE];
    if (object != NULL && member(object, name, &value)) {
        snprintf(allowed, sizeof allowed, "an integer %d to %d", lowest, highest);
        if (!value_is_integer(&value, lowest, highest))
            return wrong_value(&value, E_FORMAT, name, allowed, fault);
        *bits = (int)value.integer;
    } else if (*bits > highest) {
        /* A default can be wrong for what was given beside it. */
        return set_fault(fault, E_FORMAT, "%s is %d by default, allowed is %d to %d", name, *bits,
                         lowest, highest);
    }
    return NO_ERROR;
}

enum error_code parse_formats(const struct value *value, struct formats *formats,
                              struct fault *fault)
{
    static const char *const names[] = {
        "state_bits", "operand_bits", "lstm_view_bits", "weight_bits", NULL
    };
    const struct json *object = NULL;
    formats->state_bits = 23;
    formats->operand_bits = 12;
    formats->lstm_view_bits = 10;
    formats->weight_bits = 12;
    /* EVAL-003: none is as good as absent. */
    if (value != NULL && value->kind != KIND_NONE) {
        if (value->kind != KIND_OBJECT)
            return wrong_value(value, E_ARGUMENT, "formats", "an object", fault);
        object = value->json;
        if (check_names(object, "formats", names, fault) != NO_ERROR)
            return fault->code;
    }
    if (parse_bits(object, names[0], 16, 24, &formats->state_bits, fault) != NO_ERROR
        || parse_bits(object, names[1], 8, 13, &formats->operand_bits, fault) != NO_ERROR
        || parse_bits(object, names[2], 6, formats->operand_bits, &formats->lstm_view_bits,
                      fault) != NO_ERROR
        || parse_bits(object, names[3], 8, 13, &formats->weight_bits, fault) != NO_ERROR)
        return fault->code;
    return NO_ERROR;
}

/* FMT-005 */
enum error_code parse_z_max(const struct value *value, int64_t *z_max, struct fault *fault)
{
    if (!value_is_integer(value, 512, 1024))
        return wrong_value(value, E_FORMAT, "z_max", "an integer 512 to 1024", fault);
    *z_max = value->integer;
    return NO_ERROR;
}

/* FMT-007 */
static enum error_code parse_p_max(const struct json *object, struct config *config,
                                   struct fault *fault)
{
    struct value inner;
    config->p_max = config->z_max < 768 ? config->z_max : 768;
    if (!member(object, "p_max", &inner) || inner.kind == KIND_NONE)
        return NO_ERROR;
    if (config->cell != REVLSTM || !config->forgetting)
        return wrong_value(&inner, E_FORMAT, "p_max", "none without a gate p", fault);
    if (!value_is_integer(&inner, 512, 1024))
        return wrong_value(&inner, E_FORMAT, "p_max", "an integer 512 to 1024", fault);
    config->p_max = inner.integer;
    return NO_ERROR;
}

/* ACT-006 */
enum error_code parse_forget_bits(const struct value *value, int *bits, struct fault *fault)
{
    if (value->kind == KIND_NONE)
        *bits = 0;
    else if (value_is_integer(value, 1, FORGET_BITS))
        *bits = (int)value->integer;
    else
        return wrong_value(value, E_FORGET_BITS, "max_forget_bits", "null or an integer 1 to 10",
                           fault);
    return NO_ERROR;
}

/* BUF-037. That this port lacks bigint is said later, by ERR-002, 5. */
enum error_code parse_layout(const struct value *value, const char *name, enum layout *layout,
                             struct fault *fault)
{
    if (value_is_string(value, "stream"))
        *layout = LAYOUT_STREAM;
    else if (value_is_string(value, "wordlist"))
        *layout = LAYOUT_WORDLIST;
    else if (value_is_string(value, "bigint"))
        *layout = LAYOUT_BIGINT;
    else
        return wrong_value(value, E_ARGUMENT, name, "stream, wordlist or bigint", fault);
    return NO_ERROR;
}

/* The values of a configuration whose fault is E_ARGUMENT. */
static enum error_code parse_plain_values(const struct json *object, struct config *config, struct fault *fault)
{
    struct value value;
    member(object, "cell", &value);
    if (!value_is_string(&value, "revgru") && !value_is_string(&value, "revlstm"))
        return wrong_value(&value, E_ARGUMENT, "cell", "revgru or revlstm", fault);
    config->cell = value_is_string(&value, "revgru") ? REVGRU : REVLSTM;
    member(object, "input_size", &value);
    if (!value_is_integer(&value, 1, INT64_MAX))
        return wrong_value(&value, E_ARGUMENT, "input_size", "an integer of at least 1", fault);
    config->input_size = value.integer;
    if (member(object, "num_layers", &value)) {
        if (!value_is_integer(&value, 1, INT64_MAX))
            return wrong_value(&value, E_ARGUMENT, "num_layers", "an integer of at least 1",
                               fault);
        config->num_layers = value.integer;
    }
    if (member(object, "forgetting", &value)) {
        if (value.kind != KIND_BOOL)
            return wrong_value(&value, E_ARGUMENT, "forgetting", "true or false", fault);
        config->forgetting = value.integer != 0;
    }
    if (member(object, "buffer", &value))
        return parse_layout(&value, "buffer", &config->layout, fault);
    return NO_ERROR;
}

/* ERR-002, 2 */
enum error_code parse_config(const struct value *value, struct config *config, struct fault *fault)
{
    static const char *const names[] = {
        "cell", "input_size", "hidden_size", "num_layers", "max_forget_bits", "forgetting",
        "buffer", "slice_size", "z_max", "formats", "p_max", NULL
    };
    const struct json *object = value->json;
    struct value inner;
    memset(config, 0, sizeof *config);
    config->num_layers = 1;
    config->forgetting = true;
    config->layout = LAYOUT_STREAM;
    if (value->kind != KIND_OBJECT)
        return wrong_value(value, E_ARGUMENT, "config", "an object", fault);
    if (parse_formats(member(object, "formats", &inner) ? &inner : NULL, &config->formats,
                      fault) != NO_ERROR)
        return fault->code;
    if (check_names(object, "config", names, fault) != NO_ERROR)
        return fault->code;
    for (int i = 0; i < 3; i++)
        if (json_member(object, names[i]) == NULL)
            return set_fault(fault, E_ARGUMENT, "config lacks %s", names[i]);
    if (parse_plain_values(object, config, fault) != NO_ERROR)
        return fault->code;
    /* CELL-001 */
    member(object, "hidden_size", &inner);
    if (!value_is_integer(&inner, 2, INT64_MAX) || inner.integer % 2 != 0)
        return wrong_value(&inner, E_HIDDEN_SIZE, "hidden_size", "an even integer of at least 2",
                           fault);
    config->hidden_size = inner.integer;
    if (member(object, "max_forget_bits", &inner)
        && parse_forget_bits(&inner, &config->max_forget_bits, fault) != NO_ERROR)
        return fault->code;
    /* FMT-005 */
    config->z_max = config->cell == REVGRU
                        ? 1024
                        : 1023 - (((int64_t)1 << config->formats.state_bits) >> 21);
    if (member(object, "z_max", &inner) && inner.kind != KIND_NONE
        && parse_z_max(&inner, &config->z_max, fault) != NO_ERROR)
        return fault->code;
    if (parse_p_max(object, config, fault) != NO_ERROR)
        return fault->code;
    /* SEQ-007 */
    if (member(object, "slice_size", &inner)) {
        const int64_t most = config->forgetting ? config->hidden_size / 2 : 0;
        if (!value_is_integer(&inner, 0, most))
            return wrong_value(&inner, E_SLICE, "slice_size",
                               most ? "an integer 0 to hidden_size / 2" : "0", fault);
        config->slice_size = inner.integer;
    }
    return NO_ERROR;
}

int sum_bits(const struct formats *formats)
{
    return formats->operand_bits + formats->weight_bits;
}

int view_bits(const struct config *config)
{
    return config->cell == REVGRU ? config->formats.operand_bits : config->formats.lstm_view_bits;
}

int64_t gate_count(const struct config *config)
{
    if (config->cell == REVGRU)
        return 3;
    return config->forgetting ? 5 : 3;
}
