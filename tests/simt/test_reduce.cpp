// reduce on the emulation: add, scale, and the sum of squares over many tensors against sums in long double.
#include "check.h"
#include "../../kernels/reduce.cu"

namespace {
template <class X> void add(size_t n, size_t shift, void (*kernel)(float*, const X*, ReduceParams)) {
  const std::string what = std::string("reduce add ") + type_name<X>() + " " + std::to_string(n);
  const auto x = exact<X>(normal(n, 1)), y = normal(n, 2);
  auto moved = typed<X>(x);
  moved.insert(moved.begin(), shift, X{});
  const Buf<X> bx(moved);
  const auto got = under_all_schedules(what, [&] {
    Buf<float> by(y);
    simt::launch(kernel, dim3((n + REDUCE_THREADS * VEC - 1) / (REDUCE_THREADS * VEC)), dim3(REDUCE_THREADS), 0, by.get(), bx.get() + shift, ReduceParams{unsigned(n), 0});
    return bits(by.copy());
  });
  std::vector<float> want;
  for (size_t i = 0; i < n; ++i) want.push_back(y[i] + x[i]);
  require(got == bits(want), what);
}

void scale(size_t n, float a) {
  const auto x = normal(n, 1);
  const auto got = under_all_schedules("reduce scale", [&] {
    Buf<float> bx(x);
    simt::launch(reduce_scale_f32, dim3((n + REDUCE_THREADS * VEC - 1) / (REDUCE_THREADS * VEC)), dim3(REDUCE_THREADS), 0, bx.get(), ReduceParams{unsigned(n), a});
    return bits(bx.copy());
  });
  std::vector<float> want;
  for (float v : x) want.push_back(v * a);
  require(got == bits(want), "reduce scale");
}

// A sum over tensors that each start `shift` elements beside an aligned address: Σ x², or Σ x on top of `before`.
double sum(bool squares, const std::vector<size_t>& lengths, size_t shift, float poison_with = 0) {
  const double before = squares ? NAN : 0.75;  // Σ x² overwrites
  std::vector<Buf<float>> tensors;
  std::vector<uint64_t> table;
  std::vector<uint32_t> pieces;
  long double truth = squares ? 0 : before, size = squares ? 0 : before;
  for (size_t t = 0; t < lengths.size(); ++t) {
    auto x = normal(lengths[t] + shift, unsigned(t), std::ldexp(1.0f, int(t % 8) * 5));
    if (poison_with != 0 && !x.empty()) x.back() = poison_with;
    for (size_t i = shift; i < x.size(); ++i) {
      const long double term = squares ? (long double)(x[i]) * x[i] : x[i];
      truth += term, size += std::fabs(term);
    }
    tensors.emplace_back(x);
    table.insert(table.end(), {uint64_t(tensors.back().get() + shift), lengths[t]});
    for (uint32_t k = 0; size_t(k) * REDUCE_PIECE < lengths[t]; ++k) pieces.insert(pieces.end(), {uint32_t(t), k});
  }
  const unsigned n = unsigned(pieces.size() / 2);
  const Buf<uint64_t> btable(table);
  const Buf<uint32_t> bpieces(pieces);
  const std::string what = squares ? "reduce squares" : "reduce sum";
  const auto got = under_all_schedules(what, [&] {
    Buf<double> partial(n, NAN), total(1, before);
    if (n) simt::launch(squares ? reduce_squares_f32 : reduce_sum_f32, dim3(n), dim3(REDUCE_THREADS), 0, partial.get(), btable.get(), bpieces.get());
    simt::launch(squares ? reduce_squares_fold : reduce_sum_fold, dim3(1), dim3(REDUCE_FOLD), 0, total.get(), partial.get(), ReduceParams{n, 0});
    return std::vector{std::bit_cast<uint64_t>(total[0])};
  });
  const double found = std::bit_cast<double>(got[0]);
  if (poison_with == 0) {  // 64 Ki terms: 2⁻⁵³ of what was added so far for each addition, and few at a time
    require(std::fabs(found - double(truth)) <= 1e-13 * double(size), what + ": " + std::to_string(found));
  }
  return found;
}
}  // namespace

int main() {
  add<float>(1, 0, reduce_add_f32);
  add<float>(4100, 0, reduce_add_f32);
  add<bf16>(4100, 0, reduce_add_bf16);
  add<bf16>(77, 1, reduce_add_bf16);
  add<float>(2048, 1, reduce_add_f32);
  scale(3, 0.5f);
  scale(2051, -3.0f);
  for (const bool squares : {true, false}) {
    sum(squares, {}, 0);
    sum(squares, {1, 0, 9, 17000, 8, 16384, 5}, 0);
    sum(squares, {33, 2049}, 3);
    sum(squares, std::vector<size_t>(600, 2), 0);  // more pieces than threads that fold them
    const double infinite = sum(squares, {3, 40}, 0, INFINITY);
    require(std::isinf(infinite) && std::isnan(sum(squares, {3, 40}, 0, NAN)), "reduce: not finite");
  }
  printf("reduce: ok, %lu switches\n", simt::stats.switches);
}
