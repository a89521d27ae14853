#include "revmul.h"

#include "integers.h"

/* MUL-001, MUL-004, MUL-005 */
enum error_code revmul(struct buffer *buffer, const int64_t *mask, int64_t slice, int64_t *h,
                       const int64_t *z)
{
    const int64_t count = buffer->rows * buffer->units;
    enum error_code code;
    for (int64_t i = 0; i < count; i++) {
        const bool masked = mask != NULL && mask[i / buffer->units] == 0;
        buffer->active[i] = !masked && i % buffer->units >= slice;
        buffer->digits[i] = floor_mod(h[i], 1024);
    }
    code = buffer_push(buffer, z);
    if (code != NO_ERROR)
        return code;
    for (int64_t i = 0; i < count; i++) {
        if (mask != NULL && mask[i / buffer->units] == 0)
            continue;
        h[i] = floor_shift(h[i], FORGET_BITS) * z[i]
               + (buffer->active[i] ? buffer->digits[i] : 0);
    }
    return NO_ERROR;
}

/* MUL-003, MUL-004, MUL-005 */
enum error_code revmul_inverse(struct buffer *buffer, const int64_t *mask, int64_t slice,
                               const int64_t *restore, int64_t *h, const int64_t *z)
{
    const int64_t count = buffer->rows * buffer->units;
    enum error_code code;
    for (int64_t i = 0; i < count; i++) {
        const bool masked = mask != NULL && mask[i / buffer->units] == 0;
        buffer->active[i] = !masked && i % buffer->units >= slice;
        buffer->digits[i] = floor_mod(h[i], z[i]);
    }
    code = buffer_pop(buffer, z);
    if (code != NO_ERROR)
        return code;
    for (int64_t i = 0; i < count; i++) {
        const int64_t row = i / buffer->units;
        const int64_t unit = i % buffer->units;
        if (mask != NULL && mask[row] == 0)
            continue;
        if (unit < slice)
            h[i] = restore[row * slice + unit];
        else
            h[i] = wrap32(floor_div(h[i], z[i]) * 1024 + buffer->digits[i]);
    }
    return NO_ERROR;
}
