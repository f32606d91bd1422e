// relu on the emulation: exact, so compared bit for bit.
#include "check.h"
#include "../../kernels/relu.cu"

namespace {
template <class T>
void run(size_t n, size_t shift, void (*fore)(T*, ReluParams), void (*back)(T*, const T*, ReluParams)) {
  const std::string what = std::string("relu ") + type_name<T>() + " " + std::to_string(n);
  const ReluParams p{unsigned(n)};
  auto x = exact<T>(normal(n, 1)), dy = exact<T>(normal(n, 2));
  if (n > 9) x[3] = 0, x[4] = -0.0f, x[5] = NAN, x[6] = -INFINITY, dy[3] = NAN;
  const dim3 blocks((n + RELU_THREADS * VEC - 1) / (RELU_THREADS * VEC)), threads(RELU_THREADS);
  auto moved = [&](const std::vector<float>& v) {
    auto m = typed<T>(v);
    m.insert(m.begin(), shift, T{});
    return m;
  };
  const auto y = under_all_schedules(what, [&] {
    Buf<T> b(moved(x));
    simt::launch(fore, blocks, threads, 0, b.get() + shift, p);
    auto v = untyped(b.copy());
    return bits(std::vector<float>(v.begin() + long(shift), v.end()));
  });
  const Buf<T> by(moved(x));
  const auto d = under_all_schedules(what, [&] {
    Buf<T> b(moved(dy));
    simt::launch(back, blocks, threads, 0, b.get() + shift, by.get() + shift, p);
    auto v = untyped(b.copy());
    return bits(std::vector<float>(v.begin() + long(shift), v.end()));
  });
  for (size_t i = 0; i < n; ++i) {
    const float have = floats(y)[i], want = x[i] < 0 ? 0.0f : x[i];
    require(std::isnan(want) ? std::isnan(have) : __float_as_uint(have) == __float_as_uint(want), what + " y " + std::to_string(i));
    require(floats(d)[i] == (x[i] > 0 ? dy[i] : 0.0f), what + " dy " + std::to_string(i));
  }
}
}  // namespace

int main() {
  const size_t cases[][2] = {{1, 0}, {8, 0}, {2055, 0}, {4096, 0}, {77, 1}};
  for (const auto& c : cases) {
    run<float>(c[0], c[1], relu_forward_f32, relu_backward_f32);
    run<bf16>(c[0], c[1], relu_forward_bf16, relu_backward_bf16);
  }
  printf("relu: ok, %lu switches\n", simt::stats.switches);
}
