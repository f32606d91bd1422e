// cross_entropy on the emulation against the plain formulas in double: losses, gradients of the logits in
// blocks of the vocabulary, rows without a loss. The products with dz are linear's (test_linear).
#include "check.h"
#include "../../kernels/cross_entropy.cu"

namespace {
struct Case {
  unsigned rows, width, vocab, span;
  float smoothing, peak;  // peak: scale of the logits
  bool any;               // the kernels for any width
};

template <class R> struct Answer {
  std::vector<R> loss, dz;
};

template <class R>
Answer<R> reference(const Case& c, const std::vector<float>& x, const std::vector<float>& w,
                    const std::vector<uint32_t>& labels, float scale) {
  Answer<R> a;
  const R s = c.smoothing, uniform = s / R(float(c.vocab));
  for (size_t r = 0; r < c.rows; ++r) {
    std::vector<R> z(c.vocab);
    for (size_t v = 0; v < c.vocab; ++v) {
      for (size_t i = 0; i < c.width; ++i) z[v] += R(x[r * c.width + i]) * R(w[v * c.width + i]);
    }
    const R top = *std::max_element(z.begin(), z.end());
    R sum = 0, rest = 0;
    for (R v : z) sum += std::exp(v - top);
    const R lse = top + std::log(sum);
    for (R v : z) rest += lse - v;
    a.loss.push_back((R(1) - s) * (lse - z[labels[r]]) + s * rest / R(float(c.vocab)));
    for (size_t v = 0; v < c.vocab; ++v) {
      a.dz.push_back(R(scale) * (std::exp(z[v] - lse) - uniform - (v == labels[r] ? R(1) - s : R(0))));
    }
  }
  return a;
}

unsigned over(unsigned n, unsigned each) { return (n + each - 1) / each; }

// Losses and dz [R, V], computed in blocks of `block` tokens, as they stand under all schedules.
std::pair<std::vector<uint32_t>, std::vector<uint32_t>> kernels(const Case& c, const std::vector<float>& x,
                                                               const std::vector<float>& w,
                                                               const std::vector<uint32_t>& labels, float scale,
                                                               unsigned block) {
  const unsigned side = c.any ? CROSS_ENTROPY_SMALL : CROSS_ENTROPY_TILE;
  const unsigned bytes = c.any ? CROSS_ENTROPY_SMALL_BYTES : CROSS_ENTROPY_TILE_BYTES;
  const unsigned parts = over(c.vocab, c.span * side);
  const Buf<bf16> bx(to_bf16(x)), bw(to_bf16(w));
  const Buf<uint32_t> bl(labels);
  const dim3 threads(CROSS_ENTROPY_THREADS);
  return under_all_schedules("cross_entropy", [&] {
    Buf<float4> part(size_t(parts) * c.rows, make_float4(NAN, NAN, NAN, NAN));
    Buf<float2> row(c.rows, make_float2(NAN, NAN));
    Buf<float> picked(c.rows, NAN), loss(c.rows, NAN);
    CrossEntropyParams p{c.rows, c.width, c.vocab, c.span, parts, 0, 0, 0, c.smoothing, scale};
    simt::launch(c.any ? cross_entropy_stats_bf16_any : cross_entropy_stats_bf16_128x128, dim3(over(c.rows, side) * parts),
                 threads, bytes, part.get(), picked.get(), bx.get(), bw.get(), bl.get(), p);
    simt::launch(cross_entropy_loss_f32, dim3(over(c.rows, CROSS_ENTROPY_WARPS)), dim3(CROSS_ENTROPY_WARPS * 32), 0,
                 loss.get(), row.get(), part.get(), picked.get(), bl.get(), p);
    std::vector<float> all(size_t(c.rows) * c.vocab, NAN);
    for (p.first = 0; p.first < c.vocab; p.first += block) {
      p.tokens = std::min(block, c.vocab - p.first);
      p.stride = over(p.tokens, 8) * 8;
      Buf<bf16> dz(size_t(c.rows) * p.stride, bf16{0x7fff});
      simt::launch(c.any ? cross_entropy_gradient_bf16_any : cross_entropy_gradient_bf16_128x128,
                   dim3(over(c.rows, side) * over(p.tokens, side)), threads, bytes, dz.get(), row.get(), bx.get(), bw.get(),
                   bl.get(), p);
      for (size_t r = 0; r < c.rows; ++r) {
        for (size_t t = 0; t < p.stride; ++t) {
          const float v = __bfloat162float(dz[r * p.stride + t]);
          if (t < p.tokens) all[r * c.vocab + p.first + t] = v;
          else require(v == 0, "cross_entropy: the end of a row of dz is not zero");
        }
      }
    }
    return std::pair(bits(loss.copy()), bits(all));
  });
}

void run(const Case& c, unsigned block) {
  const float scale = 0.37f;
  const auto x = round_bf16(normal(size_t(c.rows) * c.width, 1, c.peak / std::sqrt(float(c.width))));
  const auto w = round_bf16(normal(size_t(c.vocab) * c.width, 2));
  std::vector<uint32_t> labels(c.rows);
  for (unsigned r = 0; r < c.rows; ++r) labels[r] = r * 2654435761u % c.vocab;
  const auto got = kernels(c, x, w, labels, scale, block);
  const auto truth = reference<double>(c, x, w, labels, scale);
  const auto plain = reference<float>(c, x, w, labels, scale);
  const std::string what = "cross_entropy " + std::to_string(c.rows) + "x" + std::to_string(c.width) + "x" + std::to_string(c.vocab);
  require_near(floats(got.first), truth.loss, plain.loss, what + " loss");
  require_near_bf16(floats(got.second), truth.dz, plain.dz, 0, what + " dz");
}

// A logit that is not finite or a label outside of the vocabulary costs its own row and no other; a row without a
// label costs nothing and moves nothing.
void faults() {
  const Case c{7, 16, 140, 1, 0.1f, 1, false};
  auto x = round_bf16(normal(7 * 16, 1));
  const auto w = round_bf16(normal(140 * 16, 2));
  const std::vector<uint32_t> labels{3, 140, 5, 139, 0, 0xfffffffeu, CROSS_ENTROPY_NONE};
  x[2 * 16 + 3] = INFINITY, x[3 * 16] = NAN;
  const auto [loss, dz] = kernels(c, x, w, labels, 1, 140);
  const auto l = floats(loss), d = floats(dz);
  require(l[6] == 0 && std::all_of(d.begin() + 6 * 140, d.end(), [](float v) { return v == 0; }), "cross_entropy: a row without a label");
  for (unsigned r = 0; r < 6; ++r) {
    const bool good = r == 0 || r == 4;
    require(std::isfinite(l[r]) == good, "cross_entropy: loss of a faulty row");
    for (unsigned v = 0; v < 140; ++v) require(std::isfinite(d[r * 140 + v]) == good, "cross_entropy: dz of a faulty row");
  }
}

// A row's bits do not depend on the others.
void same_rows() {
  const Case many{131, 40, 300, 2, 0.1f, 3, false}, one{1, 40, 300, 2, 0.1f, 3, false};
  const auto x = round_bf16(normal(131 * 40, 1)), w = round_bf16(normal(300 * 40, 2));
  const auto all = kernels(many, x, w, std::vector<uint32_t>(131, 7), 1, 256);
  const auto alone = kernels(one, {x.begin() + 130 * 40, x.end()}, w, {7}, 1, 256);
  require(all.first[130] == alone.first[0], "cross_entropy: a row's loss depends on its neighbours");
  require(std::equal(alone.second.begin(), alone.second.end(), all.second.begin() + 130 * 300), "cross_entropy: and its dz");
}
}  // namespace

int main() {
  run({130, 72, 300, 2, 0.1f, 1, false}, 128);
  run({5, 40, 261, 1, 0.0f, 20, false}, 300);
  run({1, 8, 1, 1, 0.0f, 1, false}, 8);
  run({67, 33, 131, 1, 0.05f, 1, true}, 64);
  run({3, 5, 200, 3, 0.0f, 5, true}, 136);
  faults();
  same_rows();
  require(simt::stats.ldmatrix_conflicts == 0, "ldmatrix meets bank conflicts");
  printf("cross_entropy: ok\n");
}
