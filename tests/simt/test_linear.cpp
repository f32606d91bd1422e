// linear on the emulation against plain loops in double: every kernel, every epilogue, splits, edges of
// every kind, no bank conflict, and one row's bits in every tile size.
#include "check.h"
#include "../../kernels/linear.cu"

namespace {
enum Layout { NT, NN, TN };
using Kernel = void (*)(void*, const void*, const float*, const bf16*, const bf16*, const LinearParams);
using Gated = void (*)(void*, const bf16*, const bf16*, const bf16*, const LinearParams);
struct Tile {
  unsigned m, n, bytes;
};
constexpr Tile LARGE{128, 128, LINEAR_LARGE_BYTES}, TALL{128, 64, LINEAR_TALL_BYTES};
constexpr Tile SMALL{64, 64, LINEAR_SMALL_BYTES}, SKINNY{16, 64, LINEAR_SKINNY_BYTES};

struct Shape {
  unsigned m, n, k, chunk, pad = 0;  // pad: elements between rows of a
  unsigned splits() const { return k ? (k + chunk - 1) / chunk : 1; }
};
LinearParams params(Layout l, const Shape& s, unsigned flags) {
  return {s.m, s.n, s.k, (l == TN ? s.m : s.k) + s.pad, l == NT ? s.k : s.n, s.chunk, s.splits(), flags};
}
std::string name(const Shape& s, unsigned flags) {
  std::string text = "linear";
  for (unsigned v : {s.m, s.n, s.k, s.chunk, flags}) text += " " + std::to_string(v);
  return text;
}
dim3 grid(const Tile& t, const Shape& s, unsigned columns) {
  return dim3((s.m + t.m - 1) / t.m * ((s.n + columns - 1) / columns), s.splits());
}
dim3 fold_grid(const Shape& s) { return dim3(s.m * ((s.n + LINEAR_THREADS - 1) / LINEAR_THREADS)); }

template <class R>
std::vector<R> reference(Layout l, const Shape& s, const std::vector<float>& a, const std::vector<float>& b,
                         const std::vector<float>& bias, const std::vector<float>& from) {
  std::vector<R> y(size_t(s.m) * s.n);
  for (size_t i = 0; i < s.m; ++i) {
    for (size_t j = 0; j < s.n; ++j) {
      R sum = 0;
      for (size_t x = 0; x < s.k; ++x) {
        sum += R(a[l == TN ? x * s.m + i : i * s.k + x]) * R(b[l == NT ? j * s.k + x : x * s.n + j]);
      }
      if (!bias.empty()) sum += R(bias[j]);
      if (!from.empty()) sum += R(from[i * s.n + j]);
      y[i * s.n + j] = sum;
    }
  }
  return y;
}

// Bytes of the result under all schedules: f32 or bf16, by the flags.
std::vector<uint32_t> launch(Kernel kernel, Layout l, const Tile& t, const Shape& s, unsigned flags,
                             const Buf<bf16>& a, const Buf<bf16>& b, const std::vector<float>& bias,
                             const std::vector<float>& from, const std::string& what) {
  const Buf<float> bb(bias), from32(from);
  const Buf<bf16> from16(to_bf16(from));
  return under_all_schedules(what, [&] {
    const size_t n = size_t(s.m) * s.n;
    Buf<float> y32(n, NAN), partial(n * s.splits(), NAN);
    Buf<bf16> y16(n, bf16{0x7fff});
    void* out = flags & LINEAR_OUT_F32 ? static_cast<void*>(y32.get()) : y16.get();
    // Where both have one type the result takes the place of what it is added to.
    const void* add = flags & LINEAR_FROM_F32 ? static_cast<const void*>(from32.get()) : from16.get();
    if (flags & LINEAR_ADD && !(flags & LINEAR_OUT_F32) == !(flags & LINEAR_FROM_F32)) {
      if (flags & LINEAR_OUT_F32) std::copy_n(from32.get(), n, y32.get());
      else std::copy_n(from16.get(), n, y16.get());
      add = out;
    }
    LinearParams p = params(l, s, s.splits() > 1 ? unsigned(LINEAR_OUT_F32) : flags);
    void* sum = s.splits() > 1 ? partial.get() : out;
    simt::launch(kernel, grid(t, s, t.n), dim3(LINEAR_THREADS), t.bytes, sum, add, bb.get(), a.get(), b.get(), p);
    if (s.splits() > 1) {
      p.flags = flags;
      simt::launch(linear_fold, fold_grid(s), dim3(LINEAR_THREADS), 0, out, add, bb.get(), partial.get(), p);
    }
    return bits(flags & LINEAR_OUT_F32 ? y32.copy() : from_bf16(y16.copy()));
  });
}

void run(Kernel kernel, Layout l, const Tile& t, Shape s, unsigned flags) {
  const auto a = round_bf16(normal(size_t(s.m) * s.k, 1)), b = round_bf16(normal(size_t(s.n) * s.k, 2));
  const auto bias = flags & LINEAR_BIAS ? normal(s.n, 3) : std::vector<float>();
  auto from = flags & LINEAR_ADD ? normal(size_t(s.m) * s.n, 4) : std::vector<float>();
  if (!(flags & LINEAR_FROM_F32)) from = round_bf16(from);
  const unsigned width = l == TN ? s.m : s.k, rows = l == TN ? s.k : s.m;
  std::vector<float> padded;
  for (unsigned r = 0; r < rows; ++r) {
    padded.insert(padded.end(), a.begin() + size_t(r) * width, a.begin() + size_t(r + 1) * width);
    padded.resize(padded.size() + s.pad);  // zeros
  }
  const auto got = launch(kernel, l, t, s, flags, Buf<bf16>(to_bf16(padded)), Buf<bf16>(to_bf16(b)), bias, from,
                          name(s, flags));
  const auto plain = reference<float>(l, s, a, b, bias, from);
  const auto truth = reference<double>(l, s, a, b, bias, from);
  if (flags & LINEAR_OUT_F32) require_near(floats(got), truth, plain, name(s, flags));
  else require_near_bf16(floats(got), truth, plain, 0, name(s, flags));
}

template <class R> R silu_of(R x) { return x / (R(1) + std::exp(-x)); }

void run_gated(Gated kernel, const Tile& t, const Shape& s) {
  const auto a = round_bf16(normal(size_t(s.m) * s.k, 1)), gate = round_bf16(normal(size_t(s.n) * s.k, 2));
  const auto up = round_bf16(normal(size_t(s.n) * s.k, 3));
  const Buf<bf16> ba(to_bf16(a)), bg(to_bf16(gate)), bu(to_bf16(up));
  const std::string what = "gated " + name(s, LINEAR_GATED);
  const auto got = under_all_schedules(what, [&] {
    const size_t n = size_t(s.m) * s.n;
    Buf<float> partial(2 * n * s.splits(), NAN);
    Buf<bf16> y(n, bf16{0x7fff});
    const bool split = s.splits() > 1;
    LinearParams p = params(NT, s, split ? unsigned(LINEAR_OUT_F32) : 0);
    void* sum = split ? static_cast<void*>(partial.get()) : y.get();
    simt::launch(kernel, grid(t, s, t.n / 2), dim3(LINEAR_THREADS), t.bytes, sum, ba.get(), bg.get(), bu.get(), p);
    p.flags = LINEAR_GATED;
    if (split) {
      simt::launch(linear_fold, fold_grid(s), dim3(LINEAR_THREADS), 0, static_cast<void*>(y.get()),
                   static_cast<const void*>(nullptr), static_cast<const float*>(nullptr), partial.get(), p);
    }
    return bits(from_bf16(y.copy()));
  });
  auto pair = [&]<class R>(R) {
    auto g = reference<R>(NT, s, a, gate, {}, {});
    const auto u = reference<R>(NT, s, a, up, {}, {});
    for (size_t i = 0; i < g.size(); ++i) g[i] = silu_of(g[i]) * u[i];
    return g;
  };
  require_near_bf16(floats(got), pair(0.0), pair(0.0f), 0, what);
}

void bias_gradient(unsigned m, unsigned n, unsigned chunk) {
  const auto dy = round_bf16(normal(size_t(m) * n, 1)), db0 = normal(n, 2);
  const Buf<bf16> bdy(to_bf16(dy));
  const unsigned groups = (m + chunk - 1) / chunk;
  const auto got = under_all_schedules("bias", [&] {
    Buf<float> partial(size_t(groups) * n, NAN), db(db0);
    const dim3 blocks(groups, (n + LINEAR_THREADS - 1) / LINEAR_THREADS);
    simt::launch(linear_backward_bias_bf16, blocks, dim3(LINEAR_THREADS), 0, partial.get(), bdy.get(),
                 LinearParams{m, n, 0, 0, 0, chunk, 1, 0});
    const LinearParams p{1, n, 0, 0, 0, 0, groups, LINEAR_OUT_F32 | LINEAR_ADD | LINEAR_FROM_F32};
    simt::launch(linear_fold, dim3(blocks.y), dim3(LINEAR_THREADS), 0, static_cast<void*>(db.get()),
                 static_cast<const void*>(db.get()), static_cast<const float*>(nullptr), partial.get(), p);
    return bits(db.copy());
  });
  std::vector<float> plain = db0;
  std::vector<double> truth = wide(db0);
  for (size_t i = 0; i < dy.size(); ++i) plain[i % n] += dy[i], truth[i % n] += dy[i];
  require_near(floats(got), truth, plain, "bias gradient");
}

// The first rows of a product have the same bits in every kernel, whatever stands below them.
void same_rows() {
  const unsigned m = 131, n = 72, k = 136;
  const Buf<bf16> a(to_bf16(normal(size_t(m) * k, 1))), b(to_bf16(normal(size_t(n) * k, 2)));
  const auto all = launch(linear_nt_bf16_128x128, NT, LARGE, {m, n, k, k}, LINEAR_OUT_F32, a, b, {}, {}, "all rows");
  struct {
    Kernel kernel;
    Tile tile;
    unsigned rows;
  } others[] = {{linear_nt_bf16_128x64, TALL, m}, {linear_nt_bf16_64x64, SMALL, 50},
                {linear_nt_bf16_16x64, SKINNY, 3}, {linear_nt_bf16_any, SMALL, 65}};
  for (const auto& [kernel, tile, rows] : others) {
    const Buf<bf16> part(std::vector<bf16>(a.get(), a.get() + size_t(rows) * k));
    const auto some = launch(kernel, NT, tile, {rows, n, k, k}, LINEAR_OUT_F32, part, b, {}, {}, "some rows");
    require(std::equal(some.begin(), some.end(), all.begin()), "a row's bits depend on its neighbours");
  }
}
}  // namespace

int main() {
  const unsigned add = LINEAR_ADD, from32 = LINEAR_FROM_F32, out32 = LINEAR_OUT_F32, with_bias = LINEAR_BIAS;
  run(linear_nt_bf16_128x128, NT, LARGE, {130, 136, 72, 72}, 0);
  run(linear_nt_bf16_128x128, NT, LARGE, {9, 131, 160, 160}, out32 | with_bias);
  run(linear_nt_bf16_128x64, NT, TALL, {131, 72, 40, 40}, with_bias);
  run(linear_nt_bf16_64x64, NT, SMALL, {65, 68, 264, 264}, out32 | add | from32);
  run(linear_nt_bf16_64x64, NT, SMALL, {50, 66, 264, 128}, out32 | add | from32);
  run(linear_nt_bf16_16x64, NT, SKINNY, {17, 72, 520, 520}, 0);
  run(linear_nt_bf16_16x64, NT, SKINNY, {3, 40, 392, 128}, with_bias);
  run(linear_nt_bf16_any, NT, SMALL, {66, 67, 131, 131}, with_bias);
  run(linear_nt_bf16_any, NT, SMALL, {1, 1, 1, 1}, out32);
  run(linear_nt_bf16_any, NT, SMALL, {5, 7, 0, 0}, out32 | add | from32);
  run(linear_nn_bf16_128x128, NN, LARGE, {130, 136, 72, 72}, add);
  run(linear_nn_bf16_128x64, NN, TALL, {9, 72, 104, 104}, add | from32);
  run(linear_nn_bf16_64x64, NN, SMALL, {66, 72, 200, 200}, 0);
  run(linear_nn_bf16_64x64, NN, SMALL, {20, 72, 200, 64}, add);
  run(linear_nn_bf16_any, NN, SMALL, {66, 67, 70, 70}, 0);
  run(linear_nn_bf16_64x64, NN, SMALL, {9, 72, 131, 131, 5}, 0);
  run(linear_tn_bf16_64x64, TN, SMALL, {67, 24, 90, 90, 5}, out32 | add | from32);
  run(linear_tn_bf16_128x128, TN, LARGE, {136, 8, 77, 77}, out32 | add | from32);
  run(linear_tn_bf16_64x64, TN, SMALL, {72, 64, 333, 128}, out32 | add | from32);
  run(linear_tn_bf16_any, TN, SMALL, {67, 5, 130, 64}, out32 | add | from32);
  run_gated(linear_gated_bf16_128x128, LARGE, {130, 72, 72, 72});
  run_gated(linear_gated_bf16_64x64, SMALL, {65, 36, 136, 136});
  run_gated(linear_gated_bf16_64x64, SMALL, {10, 40, 136, 64});
  run_gated(linear_gated_bf16_16x64, SKINNY, {5, 34, 264, 128});
  run_gated(linear_gated_bf16_any, SMALL, {3, 33, 71, 71});
  bias_gradient(300, 130, 128);
  bias_gradient(1, 1, 128);
  same_rows();
  require(simt::stats.ldmatrix_conflicts == 0, "ldmatrix meets bank conflicts");
  printf("linear: ok, %lu ldmatrix without a bank conflict\n", simt::stats.ldmatrix);
}
