// codebook on the emulation against the plain formulas in double.
#include "check.h"
#include "../../kernels/codebook.cu"

namespace {
template <class R> R squared(const R* a, const R* b, size_t n) {
  R sum = 0;
  for (size_t i = 0; i < n; ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return sum;
}

struct Update {
  std::vector<uint32_t> counts, centres;
  uint32_t bad;
  bool operator==(const Update&) const = default;
};

// The whole update; a chunk of 32 · `rounds` points a warp.
Update update(const std::vector<float>& x, const std::vector<uint32_t>& codes, std::vector<float> c, unsigned k,
              unsigned rounds) {
  const unsigned n = unsigned(codes.size()), width = unsigned(c.size()) / k, chunk = 32 * rounds;
  const unsigned chunks = (n + chunk - 1) / chunk, most = n / CODEBOOK_PIECE + std::min(k, n);
  const CodebookUpdateParams p{n, width, k, chunk, chunks};
  const Buf<float> bx(x);
  const Buf<uint32_t> bcodes(codes);
  Buf<float> centres(c);
  Buf<uint32_t> table(size_t(k) * chunks, 0u), counts(k, ~0u), bad(1, ~0u), start(k + 1, ~0u), pieces(k + 1, ~0u), order(n, ~0u);
  Buf<double> partial(size_t(most) * width, NAN);
  const dim3 warps((chunks + CODEBOOK_WARPS - 1) / CODEBOOK_WARPS), block(CODEBOOK_COLUMNS);
  const unsigned columns = (width + CODEBOOK_COLUMNS - 1) / CODEBOOK_COLUMNS;
  simt::launch(codebook_histogram, warps, dim3(CODEBOOK_WARPS * 32), 0, table.get(), bad.get(), bcodes.get(), p);
  simt::launch(codebook_offsets, dim3(k), block, 0, table.get(), counts.get(), p);
  simt::launch(codebook_segments, dim3(1), block, 0, start.get(), pieces.get(), counts.get(), p);
  simt::launch(codebook_scatter, warps, dim3(CODEBOOK_WARPS * 32), 0, order.get(), table.get(), start.get(), bcodes.get(), p);
  simt::launch(codebook_partial_f32, dim3(most, columns), block, 0, partial.get(), bx.get(), order.get(), start.get(),
               pieces.get(), p);
  simt::launch(codebook_fold_f32, dim3(k, columns), block, 0, centres.get(), partial.get(), counts.get(), pieces.get(), p);
  return {counts.copy(), bits(centres.copy()), bad[0]};
}

void run(unsigned n, unsigned width, unsigned k, float scale) {
  const CodebookParams p{n, width, k};
  const std::string what =
      "codebook " + std::to_string(n) + "x" + std::to_string(width) + ", " + std::to_string(k);
  auto x = normal(size_t(n) * width, 1, scale), c = normal(size_t(k) * width, 2, scale);
  // Every third codeword repeats the one before it: ties, which the lower number wins.
  for (size_t j = 2; j < k; j += 3) std::copy_n(&c[(j - 1) * width], width, &c[j * width]);
  const auto xd = wide(x), cd = wide(c);
  const Buf<float> bx(x), bc(c);

  auto got = under_all_schedules(what, [&] {
    Buf<uint32_t> codes(n, 0xffffffffu);
    Buf<float> distance(n, NAN);
    Buf<uint32_t> bad(2, ~0u);
    simt::launch(codebook_assign_f32, dim3((n + CODEBOOK_TILE - 1) / CODEBOOK_TILE),
                 dim3(CODEBOOK_SIDE * CODEBOOK_SIDE), 0, codes.get(), distance.get(),
                 bad.get(), bx.get(), bc.get(), p);
    require(bad[0] == ~0u && bad[1] == ~0u, what + ": nothing is bad");
    return std::pair(codes.copy(), bits(distance.copy()));
  });
  std::vector<double> truth(n);
  std::vector<float> plain(n);
  for (size_t i = 0; i < n; ++i) {
    size_t best = 0;
    for (size_t j = 1; j < k; ++j) {
      if (squared(&xd[i * width], &cd[j * width], width) < squared(&xd[i * width], &cd[best * width], width))
        best = j;
    }
    truth[i] = squared(&xd[i * width], &cd[best * width], width);
    plain[i] = squared(&x[i * width], &c[best * width], width);
    // Another code may only stand there if in double it is as near up to rounding, and no tie's lower
    // number was passed over.
    const uint32_t code = got.first[i];
    require(code < k, what + ": a code that is none");
    const double theirs = squared(&xd[i * width], &cd[code * width], width);
    require(code == best || theirs - truth[i] <= 1e-5 * truth[i], what + ": not the nearest");
    require(code < 2 || code % 3 != 2, what + ": the higher number of a tie");
  }
  require_near(floats(got.second), truth, plain, what + " distance");

  // update: codes by chance, codeword 1 without a point where there are several.
  std::mt19937 g(3);
  std::vector<uint32_t> codes(n);
  for (auto& v : codes) {
    v = g() % k;
    if (v == 1) v = 0;
  }
  const auto moved = under_all_schedules(what, [&] { return update(x, codes, c, k, 1); });
  require(moved == update(x, codes, c, k, 32), what + ": chunks of another size, other means");
  require(moved.bad == ~0u, what + ": nothing is bad");
  std::vector<double> sums(size_t(k) * width, 0.0), means = cd;
  std::vector<uint32_t> counts(k, 0);
  for (size_t i = 0; i < n; ++i) {
    ++counts[codes[i]];
    for (size_t d = 0; d < width; ++d) sums[codes[i] * width + d] += xd[i * width + d];
  }
  for (size_t j = 0; j < k; ++j) {
    for (size_t d = 0; counts[j] && d < width; ++d) means[j * width + d] = sums[j * width + d] / counts[j];
  }
  require(moved.counts == counts, what + ": counts");
  require_near(floats(moved.centres), means, std::vector<float>(means.begin(), means.end()), what + " centres");
}

// What is not finite is named by its lowest row, and so is a code that is none.
void bad_input() {
  const unsigned n = 70, width = 3, k = 66;
  const CodebookParams p{n, width, k};
  auto x = normal(n * width, 1), c = normal(k * width, 2);
  x[69 * width] = NAN, x[68 * width + 2] = 3e38f, c[65 * width + 1] = INFINITY, c[64 * width] = NAN;
  const Buf<float> bx(x), bc(c);
  Buf<uint32_t> codes(n), bad(2, ~0u), counts(k);
  Buf<float> distance(n);
  simt::launch(codebook_assign_f32, dim3(2), dim3(CODEBOOK_SIDE * CODEBOOK_SIDE), 0, codes.get(),
               distance.get(), bad.get(), bx.get(), bc.get(), p);
  require(bad[0] == 68 && bad[1] == 64, "codebook: what is not finite");
  codes[5] = k, codes[9] = ~0u;
  require(update(x, codes.copy(), c, k, 2).bad == 5, "codebook: a code that is none");
}

// Points are summed in their order, in f64: any other order of these loses the 1.
void order() {
  const auto got = update({1e30f, -1e30f, 1.0f, 3.0f}, {0, 0, 0, 0}, {NAN}, 1, 1);
  require(floats(got.centres)[0] == 1.0f && got.counts[0] == 4, "codebook: the order of a mean");
}

// One codeword with more points than a piece, between two that have few and one that has none.
void heavy() {
  const unsigned n = 2 * CODEBOOK_PIECE + 77;
  std::vector<float> x(n);
  std::vector<uint32_t> codes(n, 2u);
  for (unsigned i = 0; i < n; ++i) x[i] = float(i % 7);
  codes[0] = 0, codes[n - 1] = 3;
  const auto got = update(x, codes, {9, 9, 9, 9}, 4, 1);  // 259 chunks: three tiles of a scan
  require(got == update(x, codes, {9, 9, 9, 9}, 4, 32), "codebook: chunks of another size, heavy");
  double sum = 0;
  for (unsigned i = 1; i + 1 < n; ++i) sum += x[i];
  require(got.counts == std::vector<uint32_t>{1, 0, n - 2, 1}, "codebook: counts of a heavy codeword");
  const std::vector<float> want{0, 9, float(sum / (n - 2)), x[n - 1]};  // small integers: exact in any order
  require(floats(got.centres) == want, "codebook: the mean of a heavy codeword");
}
}  // namespace

int main() {
  bad_input();
  order();
  heavy();
  run(1, 1, 1, 1);
  run(65, 17, 3, 1);
  run(130, 33, 70, 10);     // ragged points, coordinates and codewords
  run(40, 130, 129, 0.01f); // more than one block of columns
  printf("codebook: ok, %lu switches\n", simt::stats.switches);
}
