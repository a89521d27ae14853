/* FMT-002, EVAL-003: formats and configuration. */
#ifndef REVRNN_CONFIG_H
#define REVRNN_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "buffer.h"
#include "errors.h"
#include "values.h"

enum cell { REVGRU, REVLSTM };

struct formats {
    int state_bits;
    int operand_bits;
    int lstm_view_bits;
    int weight_bits;
};

struct config {
    enum cell cell;
    int64_t input_size;
    int64_t hidden_size;
    int64_t num_layers;
    int max_forget_bits;        /* 0 for none */
    bool forgetting;
    enum layout layout;
    int64_t slice_size;
    int64_t z_max;
    int64_t p_max;              /* FMT-007 */
    struct formats formats;
};

/* What an operation demands of its configuration beyond EVAL-003. */

/* All report the first fault in the order of ERR-002. formats may be NULL: all defaults. */
enum error_code parse_formats(const struct value *value, struct formats *formats,
                              struct fault *fault);
enum error_code parse_config(const struct value *value, struct config *config, struct fault *fault);

/* FMT-005, ACT-006, BUF-037 for values beside a configuration too. */
enum error_code parse_z_max(const struct value *value, int64_t *z_max, struct fault *fault);
enum error_code parse_forget_bits(const struct value *value, int *bits, struct fault *fault);
enum error_code parse_layout(const struct value *value, const char *name, enum layout *layout,
                             struct fault *fault);

int sum_bits(const struct formats *formats);        /* R_S */
int view_bits(const struct config *config);         /* R_view, FMT-004 */
int64_t gate_count(const struct config *config);    /* N, CELL-002 */

#endif
