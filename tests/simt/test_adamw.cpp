// adamw on the emulation: several steps over many tensors against the plain formula in double.
#include "check.h"
#include "../../kernels/adamw.cu"

namespace {
struct Tensor { std::vector<float> w, g, m, v; bool decay, copy; };
template <class R> struct State { std::vector<R> w, m, v; };

template <class R>
void step(const AdamwParams& p, AdamwPace pace, uint64_t t, double norm, const Tensor& x, State<R>& s) {
  const double lr = pace.rate;
  double scale = pace.grad_scale;
  if (p.clip > 0 && norm > p.clip) scale *= p.clip / norm;
  const R b1 = R(p.beta1), b2 = R(p.beta2), rate = R(lr), eps = R(p.eps), decay = x.decay ? R(p.weight_decay) : R(0);
  for (size_t i = 0; i < s.w.size(); ++i) {
    const R g = R(x.g[i]) * R(scale);
    s.m[i] = b1 * s.m[i] + (1 - b1) * g;
    s.v[i] = b2 * s.v[i] + (1 - b2) * g * g;
    const R m = s.m[i] / R(1 - std::pow(p.beta1, double(t))), v = s.v[i] / R(1 - std::pow(p.beta2, double(t)));
    s.w[i] = s.w[i] - rate * decay * s.w[i] - rate * m / (std::sqrt(v) + eps);
  }
}

// Device memory of the tensors; each begins `shift` elements beside an aligned address.
struct Memory {
  size_t shift;
  std::vector<Buf<float>> of[4];
  std::vector<Buf<bf16>> copy;
  std::vector<uint64_t> table;
  std::vector<uint32_t> pieces;
  Memory(const std::vector<Tensor>& tensors, size_t shift_) : shift(shift_) {
    for (size_t k = 0; k < tensors.size(); ++k) {
      const Tensor& x = tensors[k];
      const std::vector<float>* parts[] = {&x.w, &x.g, &x.m, &x.v};
      for (int j = 0; j < 4; ++j) {
        auto v = *parts[j];
        v.insert(v.begin(), shift, 0.0f);
        of[j].emplace_back(v);
        table.push_back(uint64_t(of[j].back().get() + shift));
      }
      copy.emplace_back(x.w.size() + shift);
      table.push_back(x.copy ? uint64_t(copy.back().get() + shift) : 0);
      table.insert(table.end(), {x.w.size(), uint64_t(x.decay)});
      for (uint32_t i = 0; size_t(i) * ADAMW_PIECE < x.w.size(); ++i) pieces.insert(pieces.end(), {uint32_t(k), i});
    }
  }
  std::vector<float> read(int j, size_t k) const {
    const auto v = of[j][k].copy();
    return {v.begin() + long(shift), v.end()};
  }
};

const AdamwParams kParams{0.9, 0.98, 0.1, 1.0, 1e-8};
// On the device before a step: so many taken and skipped, the rest of no meaning.
AdamwFactors before_step(uint64_t steps, uint64_t skipped) { return {NAN, NAN, steps, skipped, NAN, NAN, NAN, NAN, 7, 7}; }

void run(const std::vector<size_t>& lengths, size_t shift, AdamwPace pace, AdamwParams p, uint64_t before, int steps) {
  const std::string what = "adamw of " + std::to_string(lengths.size()) + " tensors";
  std::vector<Tensor> tensors;
  double norm = 0;
  for (size_t k = 0; k < lengths.size(); ++k) {
    const unsigned seed = unsigned(4 * k);
    Tensor x{normal(lengths[k], seed, 0.1f), normal(lengths[k], seed + 1, 0.01f), normal(lengths[k], seed + 2, 0.01f), normal(lengths[k], seed + 3, 0.01f), k % 2 == 0, k % 3 != 1};
    for (float& v : x.v) v *= v;
    for (float g : x.g) norm += double(g) * g;
    tensors.push_back(x);
  }
  const double squares = norm;
  norm = std::sqrt(norm) * pace.grad_scale;
  std::vector<State<float>> plain;
  std::vector<State<double>> truth;
  for (const Tensor& x : tensors) {
    plain.push_back({x.w, x.m, x.v});
    truth.push_back({wide(x.w), wide(x.m), wide(x.v)});
    for (int s = 1; s <= steps; ++s) step(p, pace, before + uint64_t(s), norm, x, plain.back()), step(p, pace, before + uint64_t(s), norm, x, truth.back());
  }
  std::vector<std::vector<float>> copies;
  const auto got = under_all_schedules(what, [&] {
    const Memory mem(tensors, shift);
    const Buf<uint64_t> table(mem.table);
    const Buf<uint32_t> pieces(mem.pieces);
    const Buf<double> total(std::vector<double>{squares}), loss(std::vector<double>{-2.5});
    const Buf<AdamwPace> paces(std::vector<AdamwPace>{pace});
    const Buf<AdamwFactors> factors(std::vector<AdamwFactors>{before_step(before, 3)});
    for (int s = 0; s < steps; ++s) {
      simt::launch(adamw_prepare, dim3(1), dim3(1), 0, factors.get(), total.get(), loss.get(), paces.get(), p);
      simt::launch(adamw_step, dim3(unsigned(mem.pieces.size() / 2)), dim3(ADAMW_THREADS), 0, table.get(), pieces.get(), factors.get(), p);
    }
    require(factors[0].steps == before + uint64_t(steps) && factors[0].skipped == 3, what + ": steps");
    require(std::fabs(factors[0].norm - norm) <= 1e-15 * norm && factors[0].loss == -2.5, what + ": norm or loss");
    std::vector<std::vector<uint32_t>> all;
    copies.clear();
    for (size_t k = 0; k < tensors.size(); ++k) {
      for (int j : {0, 2, 3}) all.push_back(bits(mem.read(j, k)));
      require(mem.read(1, k) == tensors[k].g, what + ": gradients are read");
      const auto c = from_bf16(mem.copy[k].copy());
      copies.emplace_back(c.begin() + long(shift), c.end());
    }
    return all;
  });
  for (size_t k = 0; k < tensors.size(); ++k) {
    const std::string which = what + ", tensor " + std::to_string(k);
    require_near(floats(got[3 * k]), truth[k].w, plain[k].w, which + " w");
    require_near(floats(got[3 * k + 1]), truth[k].m, plain[k].m, which + " m");
    require_near(floats(got[3 * k + 2]), truth[k].v, plain[k].v, which + " v");
    const auto want = tensors[k].copy ? round_bf16(floats(got[3 * k])) : std::vector<float>(lengths[k], 0);
    require(copies[k] == want, which + " copy");
  }
}

// A norm or a loss that is not finite: nothing changes but the count of skipped steps.
void skips(double squares, double loss) {
  const std::vector<Tensor> tensors{{normal(40, 1), normal(40, 2), normal(40, 3), std::vector<float>(40, 1.0f), true, true}};
  const Memory mem(tensors, 0);
  const Buf<uint64_t> table(mem.table);
  const Buf<uint32_t> pieces(mem.pieces);
  const Buf<double> total(std::vector<double>{squares}), losses(std::vector<double>{loss});
  const Buf<AdamwPace> pace(std::vector<AdamwPace>{{0.1f, 1.0f}});
  const Buf<AdamwFactors> factors(std::vector<AdamwFactors>{before_step(5, 2)});
  simt::launch(adamw_prepare, dim3(1), dim3(1), 0, factors.get(), total.get(), losses.get(), pace.get(), kParams);
  simt::launch(adamw_step, dim3(1), dim3(ADAMW_THREADS), 0, table.get(), pieces.get(), factors.get(), kParams);
  require(factors[0].steps == 5 && factors[0].skipped == 3 && !factors[0].live, "adamw: a step was to be skipped");
  require(mem.read(0, 0) == tensors[0].w && mem.read(2, 0) == tensors[0].m && mem.read(3, 0) == tensors[0].v, "adamw: a skipped step changed something");
}
}  // namespace

int main() {
  run({1, 9, 8192, 20000}, 0, {1e-2f, 1.0f}, kParams, 0, 3);  // clipped: the norm is about 1.7
  run({33, 2056}, 1, {1e-3f, 1.0f}, {0.9, 0.999, 0.0, 0.0, 1e-6}, 1000, 1);
  run({64}, 0, {1e-3f, 0.25f}, {0.0, 0.5, 0.3, 0.01, 1e-8}, 0, 2);  // scaled, then clipped
  skips(NAN, 1.0);
  skips(INFINITY, 1.0);
  skips(4.0, NAN);
  skips(4.0, -INFINITY);
  printf("adamw: ok, %lu switches\n", simt::stats.switches);
}
