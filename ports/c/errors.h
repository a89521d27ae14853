/* ERR: the codes, and the fault that a call ends in. */
#ifndef REVRNN_ERRORS_H
#define REVRNN_ERRORS_H

/* ERR-001, in its order. NO_MEMORY is no code of the specification: it leaves the program as
   E_UNSUPPORTED. */
enum error_code {
    NO_ERROR,
    E_OP,
    E_ARGUMENT,
    E_HIDDEN_SIZE,
    E_FORGET_BITS,
    E_FORMAT,
    E_SLICE,
    E_DTYPE,
    E_SHAPE,
    E_NONFINITE,
    E_RANGE,
    E_UNDERFLOW,
    E_OVERFLOW,
    E_REVERSAL,
    E_UNSUPPORTED,
    NO_MEMORY
};

struct fault {
    enum error_code code;
    char message[240];
};

const char *error_name(enum error_code code);

/* Fills in the fault and gives the code back. The message is cut where it is too long. */
enum error_code set_fault(struct fault *fault, enum error_code code, const char *format, ...);

#endif
