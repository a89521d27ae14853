#include "errors.h"

#include <stdarg.h>
#include <stdio.h>

/* ERR-001 */
const char *error_name(enum error_code code)
{
    static const char *const names[] = {
        "", "E_OP", "E_ARGUMENT", "E_HIDDEN_SIZE", "E_FORGET_BITS", "E_FORMAT", "E_SLICE",
        "E_DTYPE", "E_SHAPE", "E_NONFINITE", "E_RANGE", "E_UNDERFLOW", "E_OVERFLOW", "E_REVERSAL",
        "E_UNSUPPORTED", "E_UNSUPPORTED"
    };
    return names[code];
}

enum error_code set_fault(struct fault *fault, enum error_code code, const char *format, ...)
{
    va_list arguments;
    fault->code = code;
    va_start(arguments, format);
    vsnprintf(fault->message, sizeof fault->message, format, arguments);
    va_end(arguments);
    return code;
}
