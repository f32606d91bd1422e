// What the Hopper kernels share: tiles that the copy engine lays down and warpgroups multiply, the ring that they go through, and
// the order in which persistent blocks work off a list. Elsewhere: hardware verbs (prim.cuh), fragments (attend.cuh).
//
// A tile of R rows and D columns lies by 64 columns: D / 64 boxes of R rows of 128 bytes, whose 16-byte pieces are exchanged
// by the row's number modulo 8. So it serves both as an operand with k along its rows and as one with k down its columns.
#pragma once
#include "attend.cuh"

constexpr uint32_t BOX = 64, WARPGROUP = 128;

// A place in a ring of STAGES: which stage, and the parity of its round.
template <uint32_t STAGES> struct Place {
  uint32_t stage, parity;
  PRIM explicit Place(uint32_t step) : stage(step % STAGES), parity(step / STAGES % 2) {}
};

// Starts the copy of a tile of ROWS rows and D columns from (row, column) of a matrix on; `bar` learns of its bytes.
// The map's boxes are ROWS × BOX.
template <int D, uint32_t ROWS> PRIM void load_tile(bf16* tile, const CUtensorMap* map, uint64_t* bar, uint32_t row, uint32_t column) {
#pragma unroll
  for (uint32_t c = 0; c < D; c += BOX) tma_load_2d(tile + c * ROWS, map, bar, int(column + c), int(row));
}

// By one warp: zeros from row `left` of a tile on, whatever the copy engine brought there. Follow with fence_proxy_async.
template <int D, uint32_t ROWS> PRIM void clear_behind(bf16* tile, uint32_t left) {
  const uint32_t rows = ROWS - left;
  for (uint32_t i = lane_id(); i < rows * (D / 8); i += WARP) {
    const uint32_t row = left + i / 8 % rows, part = i / 8 / rows;  // of a row of zeros the order of pieces is the same
    *reinterpret_cast<uint4*>(tile + (part * ROWS + row) * BOX + i % 8 * 8) = make_uint4(0, 0, 0, 0);
  }
}

// The 16 columns from `column` on of a tile's rows as an operand with k along the rows, from row 0 on.
template <uint32_t ROWS> PRIM uint64_t along_rows(const bf16* tile, uint32_t column) {
  return wgmma_desc(tile + column / BOX * ROWS * BOX + column % BOX, 16, 1024);
}
// The 16 rows from `row` on as an operand with k down the columns; more than 64 columns lie in the next box.
template <uint32_t ROWS> PRIM uint64_t down_columns(const bf16* tile, uint32_t row) {
  return wgmma_desc(tile + row * BOX, ROWS * BOX * 2, 1024);
}

// d += or ← a·bᵀ over D columns: 64 rows of tile a (of ROWS_A), N rows of tile b. In flight.
template <int D, int N, uint32_t ROWS_A, uint32_t ROWS_B> PRIM void issue_rows_by_rows(float (&d)[N / 2], const bf16* a, const bf16* b) {
  hold(d);
  wgmma_fence();
#pragma unroll
  for (uint32_t x = 0; x < D; x += 16) wgmma_ss<N, 0, 0>(d, along_rows<ROWS_A>(a, x), along_rows<ROWS_B>(b, x), x > 0);
  wgmma_commit();
}
// d += w·b: weights of K columns in registers, K rows of tile b. In flight.
template <int D, int K> PRIM void issue_weighted(float (&d)[D / 2], uint32_t (&w)[K / 4], const bf16* b) {
  hold(d);
  hold(w);
  wgmma_fence();
#pragma unroll
  for (uint32_t j = 0; j < K; j += 16) wgmma_rs<D, 1>(d, w + j / 4, down_columns<K>(b, j), 1);
  wgmma_commit();
}
// A thread's share of 64 × N as a left operand in bf16.
template <int N> PRIM void as_operand(uint32_t (&w)[N / 2], const float (&x)[N]) {
#pragma unroll
  for (int i = 0; i < N / 2; ++i) w[i] = pack_bf16(x[2 * i], x[2 * i + 1]);
}

// Which keys of a tile of queries a thread's two rows see while they go by: from `low` to `high`, and all of a prompt's that
// the tile shares. `latest`, `earliest`, `last`: the greatest low, the least high and the greatest of the warpgroup's 64 rows.
struct KeysSeen {
  uint32_t low[2], high[2], latest, earliest, last;

  // `row`: the thread's first row of the tile. `branches`: for each row of q where its answer begins, or null: there are none.
  template <class Tile> PRIM KeysSeen(const Tile& t, uint32_t group, uint32_t row, const uint32_t* branches) {
    const auto branch = [&](uint32_t r) { return branches ? branches[t.query + min(r, t.queries - 1)] - t.key : 0; };
    const uint32_t before = t.keys - t.queries;
    earliest = before + group * BOX, latest = branch(group * BOX + BOX - 1), last = before + min(group * BOX + BOX, t.queries) - 1;
#pragma unroll
    for (uint32_t h = 0; h < 2; ++h) low[h] = branch(row + 8 * h), high[h] = before + row + 8 * h;
  }

  // −∞ into the scores of round i that do not count.
  template <uint32_t COLUMNS> PRIM void mask(float (&s)[COLUMNS / 2], const Rounds<COLUMNS>& rounds, uint32_t i) const {
    const uint32_t first = rounds.first(i), end = rounds.end(i);
    const bool in_prompt = rounds.in_prompt(i);
    if (in_prompt ? first + COLUMNS <= end : first + COLUMNS - 1 <= earliest && first >= latest) return;
#pragma unroll
    for (uint32_t h = 0; h < 2; ++h) {
      const uint32_t from = in_prompt ? 0 : low[h], span = (in_prompt ? end - 1 : high[h]) - from;
      // Of a key in front of `from` the distance wraps.
#pragma unroll
      for (uint32_t x = 2 * h; x < COLUMNS / 2; x += 4) {
        const uint32_t distance = first + x / 4 * 8 + lane_id() % 4 * 2 - from;
        if (distance > span) s[x] = -INFINITY;
        if (distance + 1 > span) s[x + 1] = -INFINITY;
      }
    }
  }
};

// Zeros into `rows` rows of D from `y` on, `stride` apart, by `threads` threads of which this is number `thread`.
template <int D> PRIM void clear_rows(bf16* y, size_t stride, uint32_t rows, uint32_t thread, uint32_t threads) {
  for (uint32_t i = thread; i < rows * (D / 8); i += threads) {
    *reinterpret_cast<uint4*>(y + i / (D / 8) * stride + i % (D / 8) * 8) = make_uint4(0, 0, 0, 0);
  }
}

// f(tile, rest) for the entries of this block, of a list whose longest come first: `entries` = tiles × `each`. Every other
// round goes backwards, so that a block which had a longer entry gets a shorter one.
template <class Tile, class F> PRIM void each_entry(const Tile* tiles, uint32_t entries, uint32_t each, F f) {
  for (uint32_t round = 0, at = 0; at < entries; ++round, at += gridDim.x) {
    const uint32_t i = at + (round % 2 ? gridDim.x - 1 - blockIdx.x : blockIdx.x);
    if (i >= entries) return;
    f(tiles[i / each], i % each);
  }
}
