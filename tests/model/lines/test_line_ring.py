"""Claims about the one ring per line that both memories, of support codes and of logits, are made of."""

from __future__ import annotations

import torch

from model.lines.line_ring import LineMemory, LineRing
from model.lines.score_bank import ScoreBank


def test_both_memories_keep_the_same_entries_of_the_same_stream() -> None:
    generator = torch.Generator().manual_seed(0)
    memory, bank = LineMemory(lines=4, size=5, width=1, oldest=3), ScoreBank(lines=4, size=5, oldest=3)
    for _ in range(40):
        line = torch.randint(-1, 4, (17,), generator=generator)
        values = torch.randn(17, generator=generator)
        memory.observe(line, values.unsqueeze(1), torch.arange(17))
        bank.observe(line, values, values > 0, torch.ones(17, dtype=torch.bool))
        kept = memory.recall()
        logits, positive, valid = bank(torch.arange(4))
        assert torch.equal(kept.codes.view(4, 5), logits)
        assert torch.equal(kept.valid.view(4, 5), valid)
        assert torch.equal((logits > 0) & valid, positive & valid)


def test_a_ring_holds_what_one_entry_after_another_would_leave_in_it() -> None:
    ring = LineRing(lines=3, size=4, oldest=100, value=torch.tensor(0.0))
    lists: list[list[float]] = [[], [], []]
    generator = torch.Generator().manual_seed(1)
    for _ in range(30):
        line, values = torch.randint(-1, 3, (9,), generator=generator), torch.randn(9, generator=generator)
        ring.keep(line, value=values)
        for own, value in zip(line.tolist(), values.tolist(), strict=True):
            if own >= 0:
                lists[own].append(value)
        stored = ring.get_buffer("value")
        assert [sorted(row) for row in stored.tolist()] == [
            sorted(kept[-4:] + [0.0] * (4 - len(kept[-4:]))) for kept in lists
        ]


def test_an_unlabelled_logit_takes_no_place() -> None:
    bank = ScoreBank(lines=1, size=2, oldest=9)
    line, yes = torch.zeros(2, dtype=torch.int64), torch.ones(2, dtype=torch.bool)
    bank.observe(line, torch.tensor([1.0, 2.0]), yes, yes)
    bank.observe(line, torch.tensor([3.0, 4.0]), yes, ~yes)
    assert bank.logits.tolist() == [[1.0, 2.0]]
    assert bank.head.tolist() == [0]
    assert bank.age().tolist() == [[2, 2]]
