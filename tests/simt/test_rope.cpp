// rope on the emulation against the plain formula in double, at positions from 0 to 4 billion.
#include "check.h"
#include "../../kernels/rope.cu"

namespace {
template <class R>
void rotate(const RopeParams& p, const std::vector<uint32_t>& position, std::vector<R>& x) {
  for (size_t t = 0; t < p.tokens; ++t)
    for (size_t i = 0; i < p.pairs; ++i) {
      const double angle = double(position[t]) * p.frequency[i];
      const R c = R(std::cos(angle)), s = R(p.sign * std::sin(angle));
      for (size_t h = 0; h < p.heads; ++h) {
        R& a = x[(t * p.heads + h) * 2 * p.pairs + i];
        R& b = x[(t * p.heads + h) * 2 * p.pairs + i + p.pairs];
        const R u = a;
        a = u * c - b * s, b = b * c + u * s;
      }
    }
}

template <class T>
void run(unsigned tokens, unsigned heads, unsigned pairs, double theta, float sign, size_t shift,
         void (*kernel)(T*, const uint32_t*, RopeParams)) {
  const std::string what = std::string("rope ") + type_name<T>() + " " + std::to_string(tokens) + "x" + std::to_string(heads) + "x" + std::to_string(2 * pairs);
  RopeParams p{{}, tokens, heads, pairs, sign};
  for (unsigned i = 0; i < pairs; ++i) p.frequency[i] = std::pow(theta, -2.0 * i / (2.0 * pairs));
  std::vector<uint32_t> position;
  for (unsigned t = 0; t < tokens; ++t) position.push_back(t % 3 == 0 ? t : t % 3 == 1 ? 100000 * t : ~0u - t);
  const auto x = exact<T>(normal(size_t(tokens) * heads * pairs * 2, 1));
  const auto got = under_all_schedules(what, [&] {
    auto moved = typed<T>(x);
    moved.insert(moved.begin(), shift, T{});
    Buf<T> y(moved);
    const Buf<uint32_t> at(position);
    simt::launch(kernel, dim3((tokens + ROPE_TOKENS - 1) / ROPE_TOKENS), dim3(ROPE_THREADS), 0, y.get() + shift, at.get(), p);
    auto out = bits(y.copy());
    out.erase(out.begin(), out.begin() + long(shift));
    return out;
  });
  auto truth = wide(x);
  auto plain = x;
  rotate(p, position, truth);
  rotate(p, position, plain);
  require_near_as<T>(floats(got), truth, plain, what);
}
}  // namespace

int main() {
  for (float sign : {1.0f, -1.0f}) {
    run<float>(1, 1, 1, 10000, sign, 0, rope_f32);
    run<float>(9, 3, 8, 10000, sign, 0, rope_f32);
    run<float>(6, 2, 64, 1e6, sign, 0, rope_f32);
    run<bf16>(5, 9, 32, 10000, sign, 0, rope_bf16);
    run<bf16>(4, 2, 64, 1e6, sign, 0, rope_bf16);
    run<bf16>(7, 2, 13, 500, sign, 0, rope_bf16);  // not whole vectors
    run<bf16>(3, 2, 16, 500, sign, 1, rope_bf16);
  }
  printf("rope: ok, %lu switches\n", simt::stats.switches);
}
