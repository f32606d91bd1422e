// swiglu on the emulation against the plain formulas in double.
#include "check.h"
#include "../../kernels/swiglu.cu"

namespace {
template <class R> R sigmoid(R x) { return R(1) / (R(1) + std::exp(-x)); }
template <class R> std::vector<R> forward(const std::vector<R>& gate, const std::vector<R>& up) {
  std::vector<R> y;
  for (size_t i = 0; i < gate.size(); ++i) y.push_back(gate[i] * sigmoid(gate[i]) * up[i]);
  return y;
}
template <class R> std::pair<std::vector<R>, std::vector<R>> backward(const std::vector<R>& gate, const std::vector<R>& up, const std::vector<R>& dy) {
  std::pair<std::vector<R>, std::vector<R>> d;
  for (size_t i = 0; i < gate.size(); ++i) {
    const R s = sigmoid(gate[i]);
    d.first.push_back(dy[i] * up[i] * s * (1 + gate[i] * (1 - s)));
    d.second.push_back(dy[i] * gate[i] * s);
  }
  return d;
}

// `shift`: elements that the arguments start beside an aligned address.
template <class T>
void run(size_t n, float scale, size_t shift, void (*fore)(T*, const T*, const T*, SwigluParams),
         void (*back)(T*, T*, const T*, const T*, const T*, SwigluParams)) {
  const std::string what = std::string("swiglu ") + type_name<T>() + " " + std::to_string(n);
  const SwigluParams p{unsigned(n)};
  const auto gate = exact<T>(normal(n, 1, scale)), up = exact<T>(normal(n, 2)), dy = exact<T>(normal(n, 3));
  auto moved = [&](const std::vector<float>& v) {
    auto m = typed<T>(v);
    m.insert(m.begin(), shift, T{});
    return Buf<T>(m);
  };
  const auto bg = moved(gate), bu = moved(up), bd = moved(dy);
  const dim3 blocks((n + SWIGLU_THREADS * VEC - 1) / (SWIGLU_THREADS * VEC)), threads(SWIGLU_THREADS);
  const auto y = under_all_schedules(what, [&] {
    Buf<T> out(typed<T>(poison(n)));
    simt::launch(fore, blocks, threads, 0, out.get(), bg.get() + shift, bu.get() + shift, p);
    return bits(out.copy());
  });
  require_near_as<T>(floats(y), forward<double>(wide(gate), wide(up)), forward<float>(gate, up), what + " y");
  const auto got = under_all_schedules(what, [&] {
    Buf<T> a(typed<T>(poison(n))), b(typed<T>(poison(n)));
    simt::launch(back, blocks, threads, 0, a.get(), b.get(), bg.get() + shift, bu.get() + shift, bd.get() + shift, p);
    return std::pair(bits(a.copy()), bits(b.copy()));
  });
  const auto truth = backward<double>(wide(gate), wide(up), wide(dy));
  const auto plain = backward<float>(gate, up, dy);
  require_near_as<T>(floats(got.first), truth.first, plain.first, what + " dgate");
  require_near_as<T>(floats(got.second), truth.second, plain.second, what + " dup");
}
}  // namespace

int main() {
  const size_t cases[][2] = {{1, 0}, {7, 1}, {8, 0}, {2048, 0}, {5003, 0}, {4096, 3}};
  for (const auto& c : cases) {
    run<float>(c[0], 1, c[1], swiglu_forward_f32, swiglu_backward_f32);
    run<bf16>(c[0], 30, c[1], swiglu_forward_bf16, swiglu_backward_bf16);  // σ from 10⁻³⁰ to 1
  }
  printf("swiglu: ok, %lu switches\n", simt::stats.switches);
}
