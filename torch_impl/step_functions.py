"""What functions of PyTorch do with steps, by name: the tables of :mod:`.mixing`."""

from __future__ import annotations

from typing import Any, Final


def name_of(func: Any) -> str:
    """Return what a function that a mode was given is called, without underscores."""
    name = str(getattr(func, "__name__", ""))
    if name == "__get__":  # of an attribute
        name = str(getattr(func.__self__, "__name__", ""))
    return name.strip("_")


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Functions of each element alone (with broadcasting), and those that make an array of its like.
POINTWISE: Final = _names(
    """
    abs absolute add addcdiv addcmul alpha_dropout asin atan bfloat16 bool ceil celu clamp
    clamp_max clamp_min clip clone contiguous copysign cos cosh cpu cuda data detach div
    divide double dropout elu eq erf erfc exp exp2 expm1 fill float float_power floor fmod
    full_like ge gelu greater gt half hardsigmoid hardswish hardtanh huber_loss iadd idiv
    imul int isfinite isinf isnan isub itruediv le leaky_relu lerp less log log10 log1p log2
    logaddexp logical_and logical_not logical_or logit logsigmoid long lt masked_fill
    maximum minimum mish mul multiply nan_to_num ne neg negative ones_like positive pow
    rand_like randn_like reciprocal relu relu6 remainder requires_grad round rpow rsqrt rsub
    rtruediv selu sigmoid sign silu sin sinh softplus softsign sqrt square sub subtract tan
    tanh tanhshrink to true_divide truediv trunc type type_as where xlogy zeros_like and or
    xor invert rmul radd rdiv dropout1d feature_dropout
    """
)
# Of these, what may scale by the number of a chunk's steps.
FACTORS: Final = _names(
    "div divide idiv imul itruediv mul multiply rdiv rmul rtruediv true_divide truediv"
)
# Of these, what a mean or a sum over the steps may go through.
LINEAR: Final = _names(
    """
    add bfloat16 clamp clamp_min clip clone contiguous cpu cuda data detach div divide
    double float half iadd idiv imul isub itruediv maximum mul multiply neg radd rmul rsub
    sub subtract to true_divide truediv type type_as view reshape squeeze unsqueeze sum mean
    """
)
TWO_SCALARS: Final = _names(
    """
    add div divide iadd idiv isub itruediv radd rsub sub subtract true_divide truediv
    """
)
# Of the linear ones, what is for counts alone: of a loss it is no sum.
LIMITS: Final = _names("clamp clamp_min clip maximum")
# Along one axis, whose place among the arguments is given; each other axis is kept apart.
ALONG: Final = {
    "softmax": 1,
    "log_softmax": 1,
    "softmin": 1,
    "cumsum": 1,
    "cumprod": 1,
    "cummax": 1,
    "cummin": 1,
    "logcumsumexp": 1,
    "normalize": 2,
    "sort": 1,
    "argsort": 1,
    "flip": 1,
    "roll": 2,
    "topk": 2,
    "chunk": 2,
    "split": 2,
    "tensor_split": 2,
    "narrow": 1,
}
DEFAULTS: Final = {
    "normalize": 1,
    "sort": -1,
    "argsort": -1,
    "topk": -1,
    "chunk": 0,
    "split": 0,
    "tensor_split": 0,
}
# Of these, what puts steps elsewhere or takes some; others make steps depend on one another.
_MOVES: Final = _names("flip sort argsort roll topk chunk split tensor_split narrow")
CERTAIN: Final = frozenset(ALONG) - _MOVES
# Over some axes: sums, and others that are no mean or sum over the steps.
SUMS: Final = _names(
    """
    sum mean nansum nanmean count_nonzero
    """
)
OVER: Final = _names(
    """
    all amax amin any argmax argmin logsumexp max min norm vector_norm prod std var median
    """
)
# Parts along one axis, which they have no longer.
TAKES: Final = _names("unbind select")
RESHAPES: Final = _names(
    """
    flatten reshape squeeze unflatten unsqueeze view
    """
)
PERMUTES: Final = _names(
    """
    adjoint movedim moveaxis mT permute swapaxes T t transpose
    """
)
LOSSES: Final = _names(
    """
    binary_cross_entropy binary_cross_entropy_with_logits cross_entropy gaussian_nll_loss
    hinge_embedding_loss huber_loss kl_div l1_loss mse_loss nll_loss poisson_nll_loss smooth_l1_loss
    soft_margin_loss
    """
)
# What tells Python how many steps there are.
LENGTHS: Final = _names("len shape size")
# Arrays that have one number, or random ones, in all places.
MAKES: Final = _names("full ones rand randn zeros")
# What takes numbers out of PyTorch, to come back unseen.
TAKES_NUMBERS: Final = _names("item tolist numpy float int array dlpack")
# An array that is neither outputs nor targets, and as long as a chunk.
OTHER: Final = "another array"
# What is no function's, but Python's choice by the number of steps: ``if len(outputs) > 2``.
FEW: Final = "a choice by the number of steps"
# Steps chosen by numbers that do not fit a chunk: the first five of four.
BEYOND: Final = "a choice of steps by fixed numbers"
# What has steps added up, taken as a constant: a loss may then be 1 whatever its parts are.
DETACHED: Final = "detach() of what is added up"
# Numbers that Python makes part of a loss.
TAKEN: Final = "numbers of the chunk taken out of PyTorch (item(), float(), if)"
# What functions are called in messages.
NAMES: Final = {"getitem": "indexing", "setitem": "assignment to parts"}
