// One block's tile of a matrix product on tensor cores (sm_80 and later): bf16 in, f32 accumulators.
//
//   acc[m, n] = Σ_k A[m, k]·B[n, k]
//
// A ring of STAGES pairs of tiles is filled by cp.async; warps read them by ldmatrix and multiply with
// mma.m16n8k16. An operand lies in memory with k contiguous ("k-major", [m, k] and [n, k]) or with its
// own axis contiguous ("mn-major", [k, m] and [k, n]), and in shared memory just as it lies in global
// memory: ldmatrix.trans turns the latter while it reads.
//
// Banks      a row's 16-byte chunks are permuted by its number (SharedTile), so that the eight rows of
//            an ldmatrix and the rows that an epilogue writes fall into different banks
// Order      k ascending in steps of 16, whatever the tile's size: an element's bits depend on its own
//            row and column alone
// Elsewhere  what becomes of acc (epilogues: linear.cu, cross_entropy.cu), the primitives (prim.cuh)
#pragma once
#include "prim.cuh"

// The two halves of a packed pair.
PRIM float bf16_low(uint32_t pair) { return __uint_as_float(pair << 16); }
PRIM float bf16_high(uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }

// BM × BN of the result a block, BK of k a stage; WARPS_M × WARPS_N warps share them.
template <int BM_, int BN_, int BK_, int WARPS_M_, int WARPS_N_, int STAGES_> struct MmaTile {
  static constexpr int BM = BM_, BN = BN_, BK = BK_, STAGES = STAGES_;
  static constexpr int WARPS_M = WARPS_M_, WARPS_N = WARPS_N_, THREADS = 32 * WARPS_M * WARPS_N;
  static constexpr int WM = BM / WARPS_M, WN = BN / WARPS_N;   // a warp's share
  static constexpr int MS = WM / 16, NS = WN / 8;              // its 16 × 8 tiles
  static constexpr int A_ELEMENTS = BM * BK, B_ELEMENTS = BN * BK, STAGE_ELEMENTS = A_ELEMENTS + B_ELEMENTS;
  static constexpr int SHARED_BYTES = STAGES * STAGE_ELEMENTS * 2;
  static_assert(WM % 16 == 0 && WN % 16 == 0 && BK % 16 == 0 && STAGES >= 2);
};

// ROWS rows of COLUMNS bf16 in shared memory, 16-byte chunks permuted within their row.
template <int ROWS, int COLUMNS> struct SharedTile {
  static constexpr int CHUNKS = COLUMNS / 8;
  static_assert(CHUNKS == 4 || CHUNKS % 8 == 0, "64 bytes a row, or whole lines of 128");
  bf16* base;
  PRIM bf16* at(uint32_t row, uint32_t chunk) const {
    const uint32_t turn = CHUNKS == 4 ? row / 2 % 4 : row % 8;
    return base + row * COLUMNS + (chunk ^ turn) * 8;
  }
};

// Copies 8 elements, of which `left` lie inside the row; zeros outside, and everywhere if not `in`. ALIGNED:
// base and row length are multiples of 16 bytes, and the copy is asynchronous; else element by element, at once.
template <bool ALIGNED>
PRIM void copy_chunk(bf16* to, const bf16* from, bool in, uint32_t left) {
  if (ALIGNED) {
    cp_async_16(to, from, in ? 16 : 0);  // of no bytes the address is not looked at
  } else {
#pragma unroll
    for (uint32_t e = 0; e < 8; ++e) to[e] = in && e < left ? from[e] : __float2bfloat16_rn(0.0f);
  }
}

// Copies a ROWS × COLUMNS window of a row-major bf16 matrix by copy_chunk.
template <int ROWS, int COLUMNS, int THREADS, bool ALIGNED> struct TileLoader {
  static constexpr int CHUNKS = COLUMNS / 8, STEP = THREADS / CHUNKS, PASSES = ROWS / STEP;
  static_assert(THREADS % CHUNKS == 0 && ROWS % STEP == 0, "every thread copies as many chunks");
  const bf16* from;  // this thread's chunk in the first row that it copies
  size_t stride;     // elements a row
  uint32_t row, column, rows, columns;

  PRIM TileLoader(const bf16* base, uint32_t rows_, uint32_t columns_, uint32_t stride_, uint32_t row0,
                  uint32_t column0)
      : stride(stride_), row(row0 + threadIdx.x / CHUNKS), column(column0 + threadIdx.x % CHUNKS * 8),
        rows(rows_), columns(columns_) {
    from = base + row * stride + column;
  }
  PRIM void copy(bf16* dst) const {
    const SharedTile<ROWS, COLUMNS> tile{dst};
    const bf16* src = from;
#pragma unroll
    for (int i = 0; i < PASSES; ++i, src += STEP * stride) {
      bf16* to = tile.at(threadIdx.x / CHUNKS + i * STEP, threadIdx.x % CHUNKS);
      copy_chunk<ALIGNED>(to, src, row + i * STEP < rows && column < columns, columns - column);
    }
  }
  PRIM void next_columns() { from += COLUMNS, column += COLUMNS; }
  PRIM void next_rows() { from += ROWS * stride, row += ROWS; }
};

// An operand's loader: a window of SIDE rows or columns (m or n) × BK of k that walks along k.
// `side` and `depth` bound the two axes; `side0`, `k0` say where the window starts.
template <class T, int SIDE, bool MN, bool ALIGNED>
struct Operand : TileLoader<MN ? T::BK : SIDE, MN ? SIDE : T::BK, T::THREADS, ALIGNED> {
  using Loader = TileLoader<MN ? T::BK : SIDE, MN ? SIDE : T::BK, T::THREADS, ALIGNED>;
  PRIM Operand(const bf16* p, uint32_t side, uint32_t depth, uint32_t stride, uint32_t side0, uint32_t k0)
      : Loader(p, MN ? depth : side, MN ? side : depth, stride, MN ? k0 : side0, MN ? side0 : k0) {}
  PRIM void load(bf16* dst) {
    this->copy(dst);
    if (MN) this->next_rows();
    else this->next_columns();
  }
};

// A's fragments for 16 of k: MS tiles of 16 × 16 from row `m` of the tile on.
template <class T, bool MN> PRIM void load_a(uint32_t (&a)[T::MS][4], bf16* tile, int m, int k) {
  const uint32_t lane = threadIdx.x % 32;
#pragma unroll
  for (int i = 0; i < T::MS; ++i) {
    if constexpr (MN) {
      const SharedTile<T::BK, T::BM> s{tile};
      ldmatrix_x4_trans(a[i], s.at(k + lane / 16 * 8 + lane % 8, (m + i * 16) / 8 + lane / 8 % 2));
    } else {
      const SharedTile<T::BM, T::BK> s{tile};
      ldmatrix_x4(a[i], s.at(m + i * 16 + lane % 16, k / 8 + lane / 16));
    }
  }
}
// B's: NS tiles of 16 × 8, two an instruction, from column `n` of the tile on.
template <class T, bool MN> PRIM void load_b(uint32_t (&b)[T::NS / 2][4], bf16* tile, int n, int k) {
  const uint32_t lane = threadIdx.x % 32;
#pragma unroll
  for (int j = 0; j < T::NS / 2; ++j) {
    if constexpr (MN) {
      const SharedTile<T::BK, T::BN> s{tile};
      ldmatrix_x4_trans(b[j], s.at(k + lane / 8 % 2 * 8 + lane % 8, (n + j * 16) / 8 + lane / 16));
    } else {
      const SharedTile<T::BN, T::BK> s{tile};
      ldmatrix_x4(b[j], s.at(n + j * 16 + lane / 16 * 8 + lane % 8, k / 8 + lane / 8 % 2));
    }
  }
}

// acc += the products of one stage; fragments for the next 16 of k are read while these multiply.
template <class T, bool A_MN, bool B_MN>
PRIM void mma_stage(float (&acc)[T::MS][T::NS][4], bf16* stage) {
  const int warp = threadIdx.x / 32, m = warp / T::WARPS_N * T::WM, n = warp % T::WARPS_N * T::WN;
  uint32_t a[2][T::MS][4], b[2][T::NS / 2][4];
  load_a<T, A_MN>(a[0], stage, m, 0);
  load_b<T, B_MN>(b[0], stage + T::A_ELEMENTS, n, 0);
#pragma unroll
  for (int k = 0; k < T::BK / 16; ++k) {
    if (k + 1 < T::BK / 16) {
      load_a<T, A_MN>(a[(k + 1) % 2], stage, m, (k + 1) * 16);
      load_b<T, B_MN>(b[(k + 1) % 2], stage + T::A_ELEMENTS, n, (k + 1) * 16);
    }
#pragma unroll
    for (int i = 0; i < T::MS; ++i)
#pragma unroll
      for (int j = 0; j < T::NS; ++j) {
        mma_bf16(acc[i][j], a[k % 2][i], b[k % 2][j / 2][j % 2 * 2], b[k % 2][j / 2][j % 2 * 2 + 1]);
      }
  }
}

// acc += A·Bᵀ over `steps` stages of BK. On return the ring may be written again.
template <class T, bool A_MN, bool B_MN, class A, class B>
PRIM void mma_loop(float (&acc)[T::MS][T::NS][4], bf16* ring, A& a, B& b, uint32_t steps) {
  auto load = [&](uint32_t step) {
    bf16* stage = ring + step % T::STAGES * T::STAGE_ELEMENTS;
    a.load(stage);
    b.load(stage + T::A_ELEMENTS);
  };
#pragma unroll
  for (int s = 0; s < T::STAGES - 1; ++s) {
    if (s < int(steps)) load(s);
    cp_async_commit();  // also where nothing was copied: groups count stages
  }
  for (uint32_t i = 0; i < steps; ++i) {
    cp_async_wait<T::STAGES - 2>();
    __syncthreads();  // stage i is there for all, and all are done with the one that is filled next
    if (i + T::STAGES - 1 < steps) load(i + T::STAGES - 1);
    cp_async_commit();
    mma_stage<T, A_MN, B_MN>(acc, ring + i % T::STAGES * T::STAGE_ELEMENTS);
  }
  __syncthreads();
}

// A warp's share of the result as f32 in shared memory, chunks of four columns permuted so that neither
// the pairs that an accumulator holds nor the quads that are read back meet in a bank.
template <class T> struct WarpResult {
  static constexpr int QUADS = T::WN / 4, BYTES = T::WARPS_M * T::WARPS_N * T::WM * T::WN * 4;
  static_assert(QUADS == 4 || QUADS == 8 || QUADS == 16);
  static_assert(BYTES <= T::SHARED_BYTES, "the ring has room for the result");
  float* base;
  PRIM WarpResult(void* ring) : base(static_cast<float*>(ring) + threadIdx.x / 32 * T::WM * T::WN) {}
  PRIM float* at(uint32_t row, uint32_t quad) const {
    const uint32_t turn = QUADS == 4 ? row / 2 % 2 : row % 4;
    return base + row * T::WN + (quad ^ turn * 2) * 4;
  }
  PRIM float4 quad(uint32_t row, uint32_t q) const { return *reinterpret_cast<const float4*>(at(row, q)); }
  // Takes the accumulators of the warp; they may be read by other lanes afterwards.
  PRIM void put(const float (&acc)[T::MS][T::NS][4]) {
    const uint32_t lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < T::MS; ++i)
#pragma unroll
      for (int j = 0; j < T::NS; ++j)
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          float* to = at(i * 16 + h * 8 + lane / 4, j * 2 + lane % 4 / 2) + lane % 2 * 2;
          *reinterpret_cast<float2*>(to) = make_float2(acc[i][j][2 * h], acc[i][j][2 * h + 1]);
        }
    __syncwarp();
  }
};

// Calls f(row, column, v) for every four neighbouring columns of the block's tile, so that a warp's
// calls go along rows; the ring is overwritten.
template <class T, class F>
PRIM void each_quad(const float (&acc)[T::MS][T::NS][4], void* ring, F f) {
  constexpr uint32_t QUADS = WarpResult<T>::QUADS, ROWS = 32 / QUADS;
  WarpResult<T> result(ring);
  result.put(acc);
  const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const uint32_t m = warp / T::WARPS_N * T::WM, n = warp % T::WARPS_N * T::WN;
  for (uint32_t row = lane / QUADS; row < T::WM; row += ROWS) {
    f(m + row, n + lane % QUADS * 4, result.quad(row, lane % QUADS));
  }
}

// Which tile of the result block number `block` computes: bands of 8 tiles of m, each walked along n, so
// that blocks that run together share rows of A and of B in the L2 cache.
struct TilePlace {
  uint32_t m, n;
};
PRIM TilePlace tile_place(uint32_t block, uint32_t tiles_m, uint32_t tiles_n) {
  const uint32_t BAND = 8, band = block / (BAND * tiles_n), first = band * BAND;
  const uint32_t height = min(BAND, tiles_m - first), within = block - band * BAND * tiles_n;
  return {first + within % height, within / height};
}
