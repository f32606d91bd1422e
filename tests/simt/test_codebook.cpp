// codebook on the emulation against the plain formulas in double.
#include "check.h"
#include "../../kernels/codebook.cu"

namespace {
template <class R> R squared(const R* a, const R* b, size_t n) {
  R sum = 0;
  for (size_t i = 0; i < n; ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return sum;
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
  const Buf<uint32_t> bcodes(codes);
  got = under_all_schedules(what, [&] {
    Buf<float> centres(c);
    Buf<uint32_t> counts(k, ~0u), bad(1, ~0u);
    simt::launch(codebook_update_f32, dim3(k, (width + CODEBOOK_COLUMNS - 1) / CODEBOOK_COLUMNS),
                 dim3(CODEBOOK_COLUMNS), 0, centres.get(), counts.get(), bad.get(),
                 bx.get(), bcodes.get(), p);
    require(bad[0] == ~0u, what + ": nothing is bad");
    return std::pair(counts.copy(), bits(centres.copy()));
  });
  std::vector<double> sums(size_t(k) * width, 0.0), means = cd;
  std::vector<uint32_t> counts(k, 0);
  for (size_t i = 0; i < n; ++i) {
    ++counts[codes[i]];
    for (size_t d = 0; d < width; ++d) sums[codes[i] * width + d] += xd[i * width + d];
  }
  for (size_t j = 0; j < k; ++j) {
    for (size_t d = 0; counts[j] && d < width; ++d) means[j * width + d] = sums[j * width + d] / counts[j];
  }
  require(got.first == counts, what + ": counts");
  require_near(floats(got.second), means, std::vector<float>(means.begin(), means.end()), what + " centres");
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
  codes[5] = k, codes[9] = ~0u, bad[0] = ~0u;
  simt::launch(codebook_update_f32, dim3(k), dim3(CODEBOOK_COLUMNS), 0, bc.get(), counts.get(), bad.get(),
               bx.get(), codes.get(), p);
  require(bad[0] == 5, "codebook: a code that is none");
}

// Points are summed in their order, in f64: any other order of these loses the 1.
void order() {
  const CodebookParams p{4, 1, 1};
  const Buf<float> x(std::vector<float>{1e30f, -1e30f, 1.0f, 3.0f});
  const Buf<uint32_t> codes(4, 0u);
  Buf<float> centre(1, NAN);
  Buf<uint32_t> counts(1), bad(1, ~0u);
  simt::launch(codebook_update_f32, dim3(1), dim3(CODEBOOK_COLUMNS), 0, centre.get(), counts.get(),
               bad.get(), x.get(), codes.get(), p);
  require(centre[0] == 1.0f && counts[0] == 4, "codebook: the order of a mean");
}
}  // namespace

int main() {
  bad_input();
  order();
  run(1, 1, 1, 1);
  run(65, 17, 3, 1);
  run(130, 33, 70, 10);     // ragged points, coordinates and codewords
  run(40, 130, 129, 0.01f); // more than one block of columns
  printf("codebook: ok, %lu switches\n", simt::stats.switches);
}
