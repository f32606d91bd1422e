// convert on the emulation: exact, so compared bit for bit with a rounding done in double.
#include "check.h"
#include "../../kernels/convert.cu"

namespace {
// The nearest number with 8 significant bits, ties to even, by scaling.
float nearest(float x) {
  if (std::isnan(x) || std::isinf(x) || x == 0) return x;
  const int exponent = std::max(std::ilogb(x), -126) - 7;
  return float(std::ldexp(std::nearbyint(std::ldexp(double(x), -exponent)), exponent));
}

void run(size_t n, size_t at, size_t shift) {
  const std::string what = "convert " + std::to_string(n) + " at " + std::to_string(at);
  auto x = normal(n, unsigned(n));
  for (size_t i = 0; i < n; i += 5) x[i] = std::ldexp(x[i], int(i % 200) - 140);  // some below 2⁻¹²⁶
  if (n > 20) x[3] = INFINITY, x[9] = NAN, x[11] = 1 + 1.0f / 256, x[12] = 1 + 3.0f / 256, x[13] = -0.0f, x[14] = 3.3e38f;
  Buf<float> bx(n + shift);
  std::copy(x.begin(), x.end(), bx.get() + shift);
  const ConvertParams p{at, n};
  const dim3 blocks((n + CONVERT_THREADS * VEC - 1) / (CONVERT_THREADS * VEC)), threads(CONVERT_THREADS);
  std::vector<float> want(at, 7);
  for (float v : x) want.push_back(nearest(v));
  want.push_back(7);  // what lies beyond stays
  const auto down = under_all_schedules(what, [&] {
    Buf<bf16> y(to_bf16(std::vector<float>(at + n + 1, 7)));
    simt::launch(convert_f32_bf16, blocks, threads, 0, y.get(), bx.get() + shift, p);
    return bits(y.copy());
  });
  for (size_t i = 0; i < want.size(); ++i) {
    const float have = floats(down)[i];
    require(std::isnan(want[i]) ? std::isnan(have) : __float_as_uint(have) == __float_as_uint(want[i]), what + ": element " + std::to_string(i));
  }
  Buf<bf16> half(n + shift);
  std::copy_n(to_bf16(x).begin(), n, half.get() + shift);
  const auto up = under_all_schedules(what, [&] {
    Buf<float> y(at + n + 1, 7);
    simt::launch(convert_bf16_f32, blocks, threads, 0, y.get(), half.get() + shift, p);
    return bits(y.copy());
  });
  require(up == down, what + ": widening is exact");
}
}  // namespace

int main() {
  run(1, 0, 0);
  run(8, 8, 0);
  run(29, 3, 0);     // the target is not aligned
  run(2100, 0, 1);   // the source is not
  run(4096, 16, 0);
  printf("convert: ok, %lu switches\n", simt::stats.switches);
}
