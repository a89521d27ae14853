"""The configuration in a module's ``state_dict``, and its check when one is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from torch import Tensor, nn

from revrnn.config import Config
from revrnn.errors import RevRNNError
from revrnn.parameter_files import is_bias, parameter_shapes

# Key of the configuration in a state_dict's metadata. It is not among the tensors, whose names stay
# those of nn.GRU: tools that average, shard or save tensors rely on them.
_METADATA: Final = "revrnn_config"


def _checked(metadata: Any) -> Mapping[str, Any]:
    """Return metadata, all or a module's; raise ``E_ARGUMENT`` unless they are a mapping."""
    if not isinstance(metadata, Mapping):
        given = f"a _metadata of {type(metadata).__name__}"
        raise RevRNNError("E_ARGUMENT", "state_dict", given, "mappings, as state_dict() makes")
    return metadata


class SavesConfig(nn.Module):
    """A module whose ``state_dict`` holds the configuration it was trained with."""

    config: Config
    bias: bool
    bidirectional: bool

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        metadata = getattr(destination, "_metadata", None)
        if metadata is not None:
            own = metadata.setdefault(prefix[:-1], {})
            own[_METADATA] = json.dumps(self.config.as_dict(), sort_keys=True)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: Mapping[str, Any],
        strict: bool,
        *others: Any,
    ) -> None:
        """Check the saved configuration first."""
        text = _checked(local_metadata).get(_METADATA)
        other = "" if text is None else self._other_stack(text)
        if other:
            # Reported as an unexpected key: an error if strict, else in what is returned.
            others[1].append(f"{prefix}config ({other})")
        if not self.bias:
            shapes = parameter_shapes(self.config, 2 if self.bidirectional else 1)
            for name in shapes:
                value = state_dict.get(prefix + name) if is_bias(name) else None
                if isinstance(value, Tensor) and not value.any():
                    del state_dict[prefix + name]
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, *others)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load parameters, as of any module.

        The configuration travels in the metadata of a ``state_dict``, which ``torch.save`` keeps;
        ``strict`` refuses one of another stack. A mapping without (made by hand, from another kind
        of file, or of an older version) is taken as it is. Biases of zero fit a module without
        biases.

        Raises:
            RevRNNError: ``E_ARGUMENT``, with the field in which the stacks differ, if ``strict``.
                As a part of another module, that module's ``load_state_dict`` raises PyTorch's own
                error, with the field.
        """
        metadata = getattr(state_dict, "_metadata", None)
        own = {} if metadata is None else _checked(_checked(metadata).get("", {}))
        other = self._other_stack(own.get(_METADATA)) if strict else ""
        if other:
            given, allowed = other.split("; here ")
            raise RevRNNError("E_ARGUMENT", "state_dict", given, f"{allowed}; or strict=False")
        return super().load_state_dict(state_dict, strict, assign)

    def _other_stack(self, text: Any) -> str:
        """Describe how a saved stack differs from this one, or return ``""``."""
        if text is None:
            return ""
        try:
            saved = Config.from_dict(json.loads(text)).as_dict()
        except (TypeError, ValueError) as error:
            given = f"metadata {text!r}"
            raise RevRNNError("E_ARGUMENT", "state_dict", given, "those of a module") from error
        own = self.config.as_dict()
        names = [name for name in own if saved[name] != own[name]]
        if not names:
            return ""
        was = ", ".join(f"{name}={saved[name]!r}" for name in names)
        now = ", ".join(f"{name}={own[name]!r}" for name in names)
        return f"{was}; here {now}"
