"""Translation models: what they compute, in both frameworks."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from experiment_cases import NMT_WORDS, small, some_pairs
from revrnn.experiments import torch_framework
from revrnn.experiments.nmt.batches import Batch, make_batch, training_order
from revrnn.experiments.nmt.corpus import Pair
from revrnn.experiments.nmt.model import Sentences
from revrnn.experiments.nmt.savings import savings
from revrnn.experiments.nmt.search import greedy
from revrnn.experiments.nmt.trainer import Trainer, mean_loss
from revrnn.experiments.runs import Arrays

CONTEXTS = ("full", "emb", "2h", "emb+2h", "emb+full")


def tensors(pairs: list[Pair]) -> Any:
    """Return a batch as PyTorch wants it."""
    return torch_framework.tensors(Sentences.of(make_batch(pairs)))


def by_autograd(trainer: Trainer, batch: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return loss and gradients through the modules' calls, without streaming."""
    model, params = trainer.model, dict(trainer.training.names)  # type: ignore[attr-defined]
    drop = torch_framework.Dropout()
    x = model.embed_source(params, batch.source, drop)
    outputs, final = model.encoder.module(x, mask=batch.source_mask)
    seen = model.settings.attended
    parts = [x] if seen.embeddings else []
    if seen.units != 0:
        parts.append(outputs[:, :, : seen.units])
    given = model.embed_target(params, batch.inputs, drop)
    outputs, _ = model.decoder.module(given, final, mask=batch.target_mask)
    scores = model.scores(params, outputs, parts, batch.source_mask, drop)
    mean = torch_framework.cross_entropy(scores, batch.targets) / batch.target_mask.sum()
    grads = torch.autograd.grad(mean, list(params.values()))
    return mean.detach(), dict(zip(params, grads, strict=True))


@pytest.mark.parametrize("cell", ["revgru", "revlstm"])
@pytest.mark.parametrize("context", CONTEXTS)
def test_gradients_by_reversal_are_those_of_the_whole_model(cell: str, context: str) -> None:
    settings = small(cell=cell, context=context, chunk_size=3, num_layers=2)
    trainer, pairs = Trainer(settings, NMT_WORDS, NMT_WORDS), some_pairs(4)
    batch = tensors(pairs)
    grads, trained = trainer.training.gradients(trainer.model.gradients, None, batch)
    loss, all_wanted = by_autograd(trainer, batch)
    assert torch.isclose(trained.loss, loss, rtol=1e-6)
    assert set(grads) == set(all_wanted)
    for name, wanted in all_wanted.items():
        worst = np.abs(grads[name] - wanted.numpy()).max()
        assert worst <= 1e-5 * wanted.abs().max() + 1e-9, name
    whole = make_batch(pairs)
    assert np.isclose(trainer.evaluate(whole) / whole.words, float(loss), rtol=1e-5)


@pytest.mark.parametrize("cell", ["revlstm", "lstm"])
def test_padding_counts_nothing(cell: str) -> None:
    """Two sentences of unequal length together are the two alone: loss, gradient, translation."""
    settings = small(cell=cell, context="full", max_length=5)
    trainer = Trainer(settings, NMT_WORDS, NMT_WORDS)
    pairs = [Pair((4, 5, 6, 7, 8), (9, 10)), Pair((8,), (9, 10, 11, 4))]
    both, alone = make_batch(pairs), [make_batch([pair]) for pair in pairs]
    assert np.isclose(trainer.evaluate(both), sum(map(trainer.evaluate, alone)), rtol=1e-5)

    def gradients(batch: Batch) -> Arrays:
        sentences = Sentences.of(batch)
        return trainer.training.gradients(trainer.model.gradients, None, sentences)[0]

    wanted = [(gradients(batch), batch.words / both.words) for batch in alone]
    for name, value in gradients(both).items():
        total = sum(own[name] * weight for own, weight in wanted)
        assert np.allclose(value, total, atol=1e-6), name
    stepper, state = trainer.stepper(both)
    sentences = greedy(stepper, state, 2, 5)
    for batch, sentence in zip(alone, sentences, strict=True):
        assert greedy(*trainer.stepper(batch), 1, 5) == [sentence]


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("cell", ["revgru", "gru"])
def test_shapes_of_contexts(cell: str, context: str) -> None:
    trainer = Trainer(small(cell=cell, context=context), NMT_WORDS, NMT_WORDS)
    batch = tensors(some_pairs(3))
    state = trainer.training.call(trainer.model.first, batch)
    assert [list(part.shape) for part in state.parts] == [
        [len(batch.source), 3, size] for size in trainer.settings.context_sizes()
    ]
    final = state.carried if cell == "revgru" else state.carried[0]
    assert final.shape == (1, 3, 8)


def test_attention_is_what_it_should_be() -> None:
    settings = small(cell="gru", embedding_size=2, hidden_size=3, context="emb+full")
    model = Trainer(settings, NMT_WORDS, NMT_WORDS).model
    torch.manual_seed(0)
    params = {name: torch.randn(model.shapes[f"attention.{name}"]) for name in ("score", "combine")}
    outputs, parts = torch.randn(2, 2, 3), [torch.randn(5, 2, 2), torch.randn(5, 2, 3)]
    mask = torch.tensor([[True] * 5, [True, True, True, False, False]]).T
    named = {f"attention.{name}": value for name, value in params.items()}
    attended, shares = model.attend(named, outputs, parts, mask)
    context = torch.cat(parts, 2)
    for row, length in ((0, 5), (1, 3)):
        for step in range(2):
            h, s = outputs[step, row], context[:length, row]
            weights = torch.exp(s @ params["score"] @ h)
            seen = (weights / weights.sum()) @ s
            wanted = torch.tanh(params["combine"] @ torch.cat([seen, h]))
            assert torch.allclose(attended[step, row], wanted, atol=1e-5)
    assert torch.allclose(shares.sum(2), torch.ones(2, 2))
    assert bool((shares[1, :, 3:] == 0).all())


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["revgru", "lstm"])
def test_training_learns_to_copy(cell: str) -> None:
    settings = small(
        cell=cell,
        embedding_size=16,
        hidden_size=32,
        context="emb+8h",
        batch_size=32,
        learning_rate=0.02,
        clip=1.0,
        max_length=10,
    )
    trainer = Trainer(settings, NMT_WORDS, NMT_WORDS)
    pairs, update = some_pairs(320), 0
    before = mean_loss(trainer, pairs[:64], 32)
    for epoch in range(8):
        for numbers in training_order(pairs, 32, 0, epoch):
            trainer.step(make_batch([pairs[i] for i in numbers]), update, 0.02)
            update += 1
    assert before > 2.3
    assert mean_loss(trainer, pairs[:64], 32) < 0.4 * before


def test_frameworks_agree() -> None:
    """Loss and translation are equal from the same parameters, but for rounding.

    JAX fills the batch up with steps and with a row; there is no trace of them.
    """
    settings = small(cell="revgru", context="emb+2h", max_length=6)
    first = Trainer(settings, NMT_WORDS, NMT_WORDS)
    second = Trainer(dataclasses.replace(settings, framework="jax"), NMT_WORDS, NMT_WORDS)
    assert first.parameters().keys() == second.parameters().keys()
    for name, value in first.parameters().items():
        assert np.array_equal(value, second.parameters()[name])
    batch = make_batch(some_pairs(3))
    losses = [trainer.step(batch, 0, 0.05) for trainer in (first, second)]
    assert np.isclose(losses[0], losses[1], rtol=1e-5)
    for name, value in first.parameters().items():
        # Adam's first step is ± the learning rate, wherever a gradient is not nearly 0.
        near = np.isclose(value, second.parameters()[name], atol=1e-3)
        assert near.mean() > 0.95, name
    second.set_parameters(first.parameters())
    losses = [trainer.evaluate(batch) for trainer in (first, second)]
    assert np.isclose(losses[0], losses[1], rtol=1e-5)
    sentences = [greedy(*t.stepper(batch), 3, 6) for t in (first, second)]
    assert sentences[0] == sentences[1]


@pytest.mark.parametrize("context", ["emb+2h", "full"])
def test_savings_count_what_is_kept(context: str) -> None:
    settings = small(context=context)
    parameters = Trainer(settings, NMT_WORDS, NMT_WORDS).parameters()
    batch = make_batch(some_pairs(6))
    wide = batch.padded(16, 8)
    encoder, decoder = savings(settings, parameters, [batch], "stream")
    steps = int(batch.source_mask.sum())
    assert encoder.plain_bits == 32 * 8 * steps
    assert decoder.plain_bits == 32 * 8 * batch.words
    slices = 32 * 2 * (steps + 6) if context == "emb+2h" else 0
    assert encoder.stored_bits >= slices + 32 * 4 * 6
    assert (encoder.stored_bits - slices - 32 * 4 * 6) % 16 == 0
    assert encoder.attended_bits == (32 * 8 * steps if context == "full" else 0)
    assert encoder.embedding_bits == (32 * 6 * steps if context == "emb+2h" else 0)
    assert decoder.attended_bits == decoder.embedding_bits == 0
    assert encoder.with_context < encoder.stored
    assert encoder.slice_bits == slices
    assert decoder.slice_bits == 0
    assert encoder.ideal is not None
    assert encoder.ideal_with_slices is not None
    assert encoder.stored <= encoder.ideal_with_slices <= encoder.ideal
    assert (encoder.ideal_with_slices < encoder.ideal) == (slices > 0)
    # Padding, of rows too, changes neither plain nor forgotten bits.
    for saving, like in zip(
        savings(settings, parameters, [wide], "stream"), (encoder, decoder), strict=True
    ):
        assert saving.plain_bits == like.plain_bits
        assert np.isclose(saving.ideal_bits, like.ideal_bits, rtol=1e-6)
    other = savings(settings, parameters, [batch], "wordlist")
    assert other[0].stored_bits != encoder.stored_bits
