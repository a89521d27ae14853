"""The mistakes that the flags of the vectors name, as changes of source text.

They are made in the second opinion or, for gradients, in the oracle.
"""

from __future__ import annotations

# (old, new) changes of these files; where a text stands twice, both are changed.
MISTAKES: dict[str, tuple[tuple[str, str], ...]] = {
    # Numbers
    "half_even_vs_half_up": (("and below % 2 == 1", ""),),
    "half_even_vs_away": (("and below % 2 == 1", "and below >= 0"),),
    "truncation_vs_nearest": (
        ("clip(below + 1 if up else below, lo, hi)", "clip(below + (x < 0 < rest), lo, hi)"),
    ),
    "clip_vs_wrap": (
        (
            "return min(max(v, lo), hi)",
            "return (v - lo) % (hi - lo + 1) + lo if hi > 2000 else min(max(v, lo), hi)",
        ),
    ),
    "operand_range": (("-32512, 32512", "-32768, 32767"),),
    "kind_bits": (
        ('"operand": (formats.operand_bits', '"operand": (formats.weight_bits'),
        ('"weight": (formats.weight_bits', '"weight": (formats.operand_bits'),
        ('"bias": (formats.operand_bits + formats.weight_bits', '"bias": (formats.state_bits'),
        ('"state": (formats.state_bits', '"state": (formats.operand_bits + formats.weight_bits'),
        (
            "bits = self.config.formats.operand_bits + self.config.formats.weight_bits",
            "bits = self.config.formats.state_bits + 1",
        ),
    ),
    "dequantise_rounding": (
        ("float(q), -bits)", "int(q / (e := 1 << max(abs(q).bit_length() - 24, 0))) * e, -bits)"),
    ),
    "zero_sign": (("math.ldexp(float(q), -bits)", "math.ldexp(float(q), -bits) if q else -0.0"),),
    "floor_vs_truncation": (
        ("(v + (1 << (k - 1))) >> k", "int(Fraction(v + (1 << (k - 1)), 1 << k))"),
    ),
    "tie_direction": (
        ("(v + (1 << (k - 1))) >> k", "((abs(v) + (1 << (k - 1))) >> k) * (1 if v > 0 else -1)"),
    ),
    "shift_zero": (("return v if k == 0 else", "return v + 1 if k == 0 else"),),
    "shift_width": (("(v + (1 << (k - 1))) >> k", "wrap32(v + (1 << (k - 1))) >> k"),),
    "product_width": (("total += left * right", "total = wrap32(total + left * right)"),),
    "product_float32": (
        ("total += left * right", "total = int(__import__('numpy').float32(total + left * right))"),
    ),
    "byte_split": (
        ("total += left * right", "total += ((left ^ 128) - 128) * ((right ^ 128) - 128)"),
    ),
    "byte_saturation": (
        (
            "    for left, right in zip(a, w, strict=True):\n        total += left * right\n",
            "    def byte(v, high):\n"
            "        return (v + 128) >> 8 if high else v - ((v + 128) >> 8 << 8)\n"
            "    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):\n"
            "        terms = [(byte(p, i) + 128) * byte(q, j) for p, q in zip(a, w)]\n"
            "        pairs = [clip(sum(terms[n : n + 2]), -(2**15), 2**15 - 1)\n"
            "                 for n in range(0, len(terms), 2)]\n"
            "        total += (sum(pairs) - 128 * sum(byte(q, j) for q in w)) << (8 * (i + j))\n",
        ),
    ),
    "sum_parts_width": (
        ("(dot(x, layer.weight_ih[row])", "(wrap32(dot(x, layer.weight_ih[row]))"),
        ("(dot(v, layer.weight_hh[row])", "(wrap32(dot(v, layer.weight_hh[row]))"),
    ),
    "preactivation_float32": (
        ("s = self._sum(", "s = int(__import__('numpy').float32(self._sum("),
        ("+ u, x, v)", "+ u, x, v)))"),
    ),
    # Activations
    "slope_float32": (("d * f +", "int(__import__('numpy').float32(d * f)) +"),),
    "limit_float32": (
        (
            "((1 << limit) - 1) * sigma",
            "int(__import__('numpy').float32(((1 << limit) - 1) * sigma))",
        ),
    ),
    "sum_float32": (("min(abs(s)", "min(int(__import__('numpy').float32(abs(s)))"),),
    "table_end": (("min(i + 1, 1024)", "i + 1"),),
    "int32_magnitude": (("min(abs(s)", "min(s if s == -(2**31) else abs(s)"),),
    "int64_magnitude": (("min(abs(s)", "min(s if s == -(2**63) else abs(s)"),),
    "sum_width": (("    # ACT-002\n", "    s = wrap32(s)\n"),),
    "odd_symmetry": (("else -t", "else -TANH[i] + ((-d * f + (1 << (bits - 8))) >> (bits - 7))"),),
    "interpolation_rounding": (("(d * f + (1 << (bits - 8)))", "(d * f)"),),
    "sigmoid_bits": (("tanh(s, bits + 1)", "tanh(s // 2, bits)"),),
    "sigmoid_floor": (("(2**15 + tanh", "(2**15 + 1 + tanh"),),
    "forget_rounding": (("sigma + 2**4", "sigma"), ("v + (1 << (4 + limit))", "v")),
    "forget_lower": (("// 2**5, 1, z_max", "// 2**5, 0, z_max"),),
    "z_max_cap": (("1, z_max)", "1, 1024)"),),
    "limit_slope": (("((1 << limit) - 1) * sigma", "(1 << limit) * sigma"),),
    "none_vs_10": (
        ("    if limit is None:\n", "    limit = limit or 10\n    if limit is None:\n"),
    ),
    "view_rounding": (("rs(h, state_bits - view_bits)", "h >> (state_bits - view_bits)"),),
    # Buffer
    "signed_digit": (
        ("value % 1024", "abs(value) % 1024 * (1 if value > 0 else -1)"),
        ("value // 1024 * z[b][u]", "int(value / 1024) * z[b][u]"),
    ),
    "residue_lost": ((" + residues.get((b, u), 0)", ""),),
    "push_threshold": ((">= z[b][u] * 2**21", "> z[b][u] * 2**21"),),
    "threshold_z": ((">= z[b][u] * 2**21", ">= 1023 * 2**21"),),
    "pop_threshold": (("< 2**15:", "<= 2**15:"),),
    "stack_order": (
        ("sorted(low)", "sorted(low, key=lambda unit: unit[::-1])"),
        ("sorted(residues)", "sorted(residues, key=lambda unit: unit[::-1])"),
    ),
    "pop_order": (("in reversed(units)", "in units"),),
    "mask_after_push": (
        ("if mask[b] and u >= sliced:  # MUL-004, MUL-005", "if u >= sliced:"),
        (
            "if mask[b] and u >= sliced:\n                residues",
            "if u >= sliced:\n                residues",
        ),
    ),
    "slice_pushes": (
        ("if mask[b] and u >= sliced:  # MUL-004, MUL-005", "if mask[b]:"),
        (
            "if mask[b] and u >= sliced:\n                residues",
            "if mask[b]:\n                residues",
        ),
    ),
    "slice_residue": (
        (
            "if mask[b]:\n                # MUL-001",
            "if mask[b] or u < sliced:\n                # MUL-001",
        ),
        ("if mask[b] and u < sliced:", "if u < sliced:"),
    ),
    "head_width": (("* 1024 + low[b, u]  # BUF-001", "* 1024 % 2**32 + low[b, u]"),),
    "head_float": (("= n // z[b][u]", "= int(n / z[b][u])"), ("= n // 1024", "= int(n / 1024)")),
    "bigint_width": (
        ("= n // z[b][u]", "= n // z[b][u] % 2**64"),
        ("* z[b][u] + residues[b, u]  # BUF-002", "* z[b][u] % 2**64 + residues[b, u]"),
    ),
    "spill_any": (
        (
            "                for b, u in units:\n                    plane",
            "                full = [(b, u) for b, u in units if self.heads[b][u] >= 2**53]\n"
            "                for b, u in full:\n                    plane",
        ),
    ),
    "spill_inactive": (
        (
            "any(self.heads[b][u] >= 2**53 for b, u in units)",
            "any(x >= 2**53 for row in self.heads for x in row)",
        ),
    ),
    "spill_plane": (("[[0 for _ in row] for", "[list(row) for"),),
    "spill_threshold": ((">= 2**53 for", "> 2**53 for"),),
    "spill_restore": (
        (
            "            for b, u in units:\n                self.heads[b][u] = plane[b][u]",
            "            self.heads = plane",
        ),
    ),
    "flag_always": (
        ("self.flags.append(int(spill))", "self.flags += [int(spill)] if units else []"),
        ('"wordlist" and self._take', '"wordlist" and units and self._take'),
    ),
    "underflow": (('raise RevRNNError("E_UNDERFLOW"', 'return 0 and ("E_UNDERFLOW"'),),
    "pop_range": (('"wordlist" and n >= 2**63', '"wordlist" and False'),),
    # Cells
    "reset_float32": (("rs(r * v, 15)", "rs(int(__import__('numpy').float32(r * v)), 15)"),),
    "update_float32": (
        ("rs((1024 - z) * g,", "rs(int(__import__('numpy').float32((1024 - z) * g)),"),
    ),
    "cell_float32": (("tanh(c, bits)", "tanh(int(__import__('numpy').float32(c)), bits)"),),
    "group_order": (("for j in (0, 1)", "for j in [1, 0]"), ("for j in (1, 0)", "for j in [0, 1]")),
    "group_old": (
        (
            "            for j in (0, 1):  # CELL-004\n",
            "            old = list(layer.h)\n"
            "            self._update(layer, k, 0, inputs, mask)\n"
            "            new, layer.h[0] = layer.h[0], old[0]\n"
            "            self._update(layer, k, 1, inputs, mask)\n"
            "            layer.h[0] = new\n"
            "            for j in ():\n",
        ),
    ),
    "weight_rows": (("(j * count + q) * units + u", "(q * 2 + j) * units + u"),),
    "gate_order": (('"zrg"', '"rzg"'), ('"figop"', '"ifgop"'), ('"igo"', '"gio"')),
    "reset_rounding": (("rs(r * v, 15)", "(r * v >> 15)"),),
    "reset_ignored": (('"revgru" and name == "g"', '"revgru" and False'),),
    "bias_scale": (
        ("+ layer.bias[row]", "+ (layer.bias[row] << (operand_bits - self.view_bits))"),
    ),
    "view_scale": (
        ("layer.weight_hh[row]) << (operand_bits - self.view_bits))", "layer.weight_hh[row]))"),
    ),
    "hard_coded_shift": (("25 - bits", "2"), ("30 - bits", "7")),
    "z_max_default": (("default = 1024 if", "default = 1024 if True or"),),
    "p_max_default": (("min(self.z_max, 768)", "self.z_max"),),
    "p_max_of_z": (("min(self.z_max, 768)", "(768 if config.z_max is None else config.z_max)"),),
    "p_max_cap": (("if config.p_max is None else config.p_max", "if True else 0"),),
    "old_cell": (
        (
            '        if self.config.cell == "revlstm":\n            layer.c[j] = self._add',
            "        update = self._h_update(layer, j, gates)\n"
            '        if self.config.cell == "revlstm":\n            layer.c[j] = self._add',
        ),
        (
            "        update = self._h_update(layer, j, gates)\n        layer.h[j] = self._add",
            "        layer.h[j] = self._add",
        ),
    ),
    "cell_tanh_bits": (
        (
            "tanh(c, bits)",
            "tanh(c, sum((self.config.formats.operand_bits, self.config.formats.weight_bits)))",
        ),
    ),
    "undo_order": (
        (
            "        update = self._h_update(layer, j, gates)\n        layer.h[j] = self._subtract",
            "        update = self._h_update(layer, j, gates)\n"
            '        if self.config.cell == "revlstm":\n'
            "            args = (self._c_update(gates), mask, 0, [])\n"
            '            layer.c[j] = self._subtract(layer.c[j], gates.get("f"), *args)\n'
            "        layer.h[j] = self._subtract",
        ),
        (
            '        if self.config.cell == "revlstm":\n'
            "            update = self._c_update(gates)\n",
            "        if False:\n",
        ),
    ),
    "keeping_limit": (
        (
            "(s, bits, self.config.max_forget_bits",
            "(s, bits, self.config.max_forget_bits if self.config.forgetting else None",
        ),
    ),
    "wrap_vs_saturation": (
        ("wrap32(value + update[b][u])", "clip(value + update[b][u], -(2**31), 2**31 - 1)"),
        ("wrap32(value - update[b][u])", "clip(value - update[b][u], -(2**31), 2**31 - 1)"),
    ),
    # Sequences
    "gain_float32": (("rs(a * gain, 12)", "rs(int(__import__('numpy').float32(a * gain)), 12)"),),
    "mask_ignored": (
        ("if mask[b]:\n                # MUL-001", "if True:\n                # MUL-001"),
        ("if mask[b]:  # MUL-006", "if True:"),
        ("if mask[b]:\n                    products", "if True:\n                    products"),
        ("elif mask[b]:", "else:"),
        ("+ low[b, u])", "+ low.get((b, u), 0))"),
    ),
    "layer_order": (
        ("in enumerate(self.layers):", "in list(enumerate(self.layers))[::-1]:"),
        ("in reversed(list(enumerate(self.layers))):", "in list(enumerate(self.layers)):"),
    ),
    "carry_heads": (("[int(head) for head", '[2**15 if layout == "stream" else 0 for head'),),
    "layer_heads": (
        (
            "            inputs = self._inputs(k, x, gains)\n            for j in (0, 1)",
            "            inputs = self._inputs(k, x, gains)\n"
            "            own = self.__dict__.setdefault('own', [[list(row) for row in\n"
            "                self.buffer.heads] for _ in self.layers])\n"
            "            self.buffer.heads = own[k]\n"
            "            for j in (0, 1)",
        ),
    ),
    "group_heads": (
        (
            "            for j in (0, 1):  # CELL-004\n",
            "            for j in (0, 1):\n"
            "                own = self.__dict__.setdefault('own', [[list(row) for row in\n"
            "                    self.buffer.heads] for _ in (0, 1)])\n"
            "                self.buffer.heads = own[j]\n",
        ),
    ),
    "upper_input_time": (
        (
            "        for k, layer in enumerate(self.layers):  # SEQ-001\n"
            "            inputs = self._inputs(k, x, gains)\n",
            "        every = [self._inputs(k, x, gains) for k in range(len(self.layers))]\n"
            "        for k, layer in enumerate(self.layers):\n"
            "            inputs = every[k]\n",
        ),
    ),
    "upper_input_order": (
        (
            "[left + right for left, right in zip(group1",
            "[right + left for left, right in zip(group1",
        ),
    ),
    "upper_input_scale": (
        ("x_bits = operand_bits if k == 0 else self.view_bits", "x_bits = operand_bits"),
    ),
    "gain_rounding": (("rs(a * gain, 12)", "(a * gain >> 12)"),),
    "gain_clip": (("max(-32512, min(32512, rs(a * gain, 12)))", "rs(a * gain, 12)"),),
    "gain_layer": (("gains[k - 1]", "gains[-k]"),),
    "gain_step": (("gains = _gains(request, t)\n", "gains = _gains(request, 0)\n"),),
    "slice_index": (('a["slices"][t]', 'a["slices"][t + 1]'),),
    "slice_layer": (("top = k == len(self.layers) - 1", "top = k == 0"),),
    "slice_group": (("if top and j == 0", "if top and j == 1"),),
    "slice_cell_state": (
        ("self._c_update(gates), mask, 0)", "self._c_update(gates), mask, self._sliced(k, j))"),
    ),
    "output_masked": (
        (
            "outputs.append(_joined(stack.layers[-1].h))",
            "outputs.append([[v * bool(m) for v in row] for m, row in"
            ' zip(a["mask"][t], _joined(stack.layers[-1].h), strict=True)])',
        ),
    ),
    "wraps_zero": (("self.wraps += not", "self.wraps *= not"),),
    "wraps_masked": (("    self.wraps += not", "self.wraps += not"),),
    # Accounting
    "count_masked": (
        (
            "if mask[b] and u >= sliced:\n                        self",
            "if u >= sliced:\n                        self",
        ),
    ),
    "count_sliced": (
        (
            "if mask[b] and u >= sliced:\n                        self",
            "if mask[b]:\n                        self",
        ),
    ),
    "padding_counts": (("arrays * present", 'arrays * a["mask"].size'),),
    "slice_bits": (("(len(buffer.heads) + present)", "present"),),
    "head_bits": ((" + 32 * len(heads)", ""), (" + 64 * len(heads)", "")),
    "plane_bits": (
        (
            "64 * len(buffer.words) * len(heads)",
            "64 * sum(x > 0 for p in buffer.words for r in p for x in r)",
        ),
    ),
    "flag_bits": ((" + len(buffer.flags)", ""),),
}

# The same of gradients.py.
GRADIENT_MISTAKES: dict[str, tuple[tuple[str, str], ...]] = {
    "saturated_view": (("passes = view_passes(h_other", "passes = view_passes(0 * h_other"),),
    "clipped_gate": ((" * gate.passes", ""),),
    "limit_gradient": (("1 - 2.0**-n", "1.0"),),
    "masked_gradient": (("ds = np.where(self.rows[:, None], ds, 0.0)", "pass"),),
    "keeping_gradient": (("if config.forgetting else np.zeros_like(g)", ""),),
}
