"""Masks and positions of SSAMBA: what upstream's procedures guarantee, and where ours are set right."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mambasdk
from mambasdk.errors import InvalidArgumentError, ShapeError
from mambasdk_audio.families.ssamba import resample_positions, sample_mask


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 70), st.data())
def test_masks_have_what_the_procedure_gives(rows: int, columns: int, data: st.DataObject) -> None:
    patches = rows * columns
    if patches < 3:
        return
    count = data.draw(st.integers(1, patches - 2))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 1000)))
    hidden = sample_mask(3, (rows, columns), count, generator)
    assert hidden.shape == (3, count)
    assert (hidden.diff(dim=1) > 0).all()
    assert int(hidden.min()) > 0
    assert int(hidden.max()) < patches


def test_masks_are_clusters_and_the_seed_decides() -> None:
    def draw(seed: int) -> torch.Tensor:
        return sample_mask(8, (8, 64), 100, torch.Generator().manual_seed(seed))

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    # In a square of 3 to 5 most patches have a right neighbour; of 100 that lie anywhere 20 % have.
    neighbours = (draw(3).diff(dim=1) == 1).float().mean()
    assert neighbours > 0.6
    # Truncation drops the largest indices: the last row of frequencies is hidden less than the first ones.
    rows = torch.stack([draw(seed) // 64 for seed in range(60)]).flatten().bincount(minlength=8)
    assert rows[7] < 0.75 * rows[3]


def test_masks_that_cannot_be() -> None:
    for count in (0, 31, 32):
        with pytest.raises(InvalidArgumentError, match=r"expected 1 to 30"):
            sample_mask(1, (8, 4), count)


def test_only_hidden_patches_count_and_their_pixels_are_not_seen() -> None:
    torch.manual_seed(0)
    sizes = {"embed_dim": 32, "depth": 2, "input_fdim": 64, "input_tdim": 64}
    model = mambasdk.create_model("ssamba", **sizes).eval()
    x = torch.randn(2, 64, 64)
    hidden = torch.tensor([[1, 6], [3, 14]])
    changed = x.clone()
    changed[0, 32:48, 16:32] += 1  # frames 32 to 47, bins 16 to 31: patch (1, 2), which is 6
    mask = torch.zeros(2, 16, dtype=torch.bool).scatter(1, hidden, value=True)
    assert torch.equal(model.v(x, mask, model.mask_embed), model.v(changed, mask, model.mask_embed))
    assert not torch.equal(model.generative(x, hidden), model.generative(changed, hidden))
    assert not torch.equal(model.v(x), model.v(changed))
    pixels = model.patches(x)
    torch.testing.assert_close(pixels[0, 6].reshape(16, 16), x[0, 32:48, 16:32].T)


def test_pretraining_learns_both_objectives() -> None:
    torch.manual_seed(0)
    sizes = {"embed_dim": 32, "depth": 2, "input_fdim": 64, "input_tdim": 64, "drop_path_rate": 0.0}
    model = mambasdk.create_model("ssamba", **sizes)
    time, bins = torch.arange(64)[:, None], torch.arange(64)
    x = torch.stack([torch.sin(0.1 * (k + 1) * time + 0.2 * bins) for k in range(4)])
    hidden = sample_mask(4, model.config.grid, 6, torch.Generator().manual_seed(0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(60):
        contrastive, _ = model.discriminative(x, hidden)
        generative = model.generative(x, hidden)
        optimizer.zero_grad()
        (contrastive + 10 * generative).backward()
        optimizer.step()
        losses.append((float(contrastive.detach()), float(generative.detach())))
    assert losses[-1][0] < 0.5 * losses[0][0]
    assert losses[-1][1] < 0.5 * losses[0][1]


def positions(rows: int, columns: int) -> torch.Tensor:
    """One channel holds the row, one the column; the class token is -1."""
    grid = torch.stack(torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij"), -1).reshape(1, -1, 2)
    return torch.cat([-torch.ones(1, 1, 2), grid.float()], 1)


@pytest.mark.parametrize("new", [(8, 4), (8, 2), (8, 9), (12, 9), (12, 2), (3, 4), (3, 2), (5, 11)])
def test_positions_are_cut_from_the_middle_or_stretched(new: tuple[int, int]) -> None:
    found = resample_positions(positions(8, 4), (8, 4), new)
    assert found.shape == (1, 1 + new[0] * new[1], 2)
    assert (found[:, 0] == -1).all()
    grid = found[0, 1:].reshape(*new, 2)
    for axis, (old_size, size) in enumerate(zip((8, 4), new, strict=True)):
        values = grid[..., axis].movedim(axis, 0)[:, 0]
        assert torch.equal(grid[..., axis].movedim(axis, 0), values[:, None].expand(size, new[1 - axis]))
        if size <= old_size:
            first = old_size // 2 - size // 2
            assert values.tolist() == list(range(first, first + size))
        else:
            assert (values.diff() >= 0).all()
            assert values[0] == 0
            assert values[-1] == old_size - 1


@pytest.mark.parametrize("new", [(8, 4), (8, 2), (8, 9), (12, 9), (12, 2)])
def test_quirks_change_nothing_on_the_published_grids(new: tuple[int, int]) -> None:
    embedding = torch.randn(1, 33, 6)
    torch.testing.assert_close(
        resample_positions(embedding, (8, 4), new),
        resample_positions(embedding, (8, 4), new, upstream_quirks=True),
        rtol=1e-6,
        atol=1e-6,
    )


def test_quirks_where_they_show() -> None:
    embedding = positions(8, 4)
    # With fewer rows upstream keeps as many as there are columns: right only where the grid is square.
    square = resample_positions(embedding, (8, 4), (4, 4), upstream_quirks=True)
    assert torch.equal(square, resample_positions(embedding, (8, 4), (4, 4)))
    with pytest.raises(ShapeError, match="expected 3 x 4, got 4 x 4; leave upstream_quirks out"):
        resample_positions(embedding, (8, 4), (3, 4), upstream_quirks=True)
    # Resizing the time axis makes 8 rows, whatever there was.
    six = positions(6, 4)
    quirk = resample_positions(six, (6, 4), (7, 9), upstream_quirks=True)[0, 1:].reshape(7, 9, 2)
    right = resample_positions(six, (6, 4), (7, 9))[0, 1:].reshape(7, 9, 2)
    assert not torch.allclose(quirk[..., 0], right[..., 0])
    with pytest.raises(ShapeError, match="33, D"):
        resample_positions(embedding[:, 1:], (8, 4), (8, 9))
