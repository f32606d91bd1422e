// dropout on the emulation against a Philox written out here, whose known answers are Random123's.
#include "check.h"
#include "../../kernels/dropout.cu"

namespace {
// Draw `index` of a stream, one word at a time: round by round as the paper's figure has it.
uint32_t draw(uint64_t seed, uint64_t stream, uint64_t index) {
  uint32_t c[4] = {uint32_t(index / 4), uint32_t(index / 4 >> 32), uint32_t(stream), uint32_t(stream >> 32)};
  for (uint32_t r = 0; r < 10; ++r) {
    const uint32_t k0 = uint32_t(seed) + r * 0x9E3779B9u, k1 = uint32_t(seed >> 32) + r * 0xBB67AE85u;
    const uint64_t a = 0xD2511F53ull * c[0], b = 0xCD9E8D57ull * c[2];
    const uint32_t next[4] = {uint32_t(b >> 32) ^ c[1] ^ k0, uint32_t(b), uint32_t(a >> 32) ^ c[3] ^ k1, uint32_t(a)};
    memcpy(c, next, sizeof c);
  }
  return c[index % 4];
}

template <class T>
void run(size_t n, uint64_t offset, float p, size_t shift, void (*plain)(T*, DropoutParams),
         void (*from)(T*, const uint32_t*, DropoutParams)) {
  const std::string what = std::string("dropout ") + type_name<T>() + " " + std::to_string(n) + " from " + std::to_string(offset);
  const uint64_t seed = 0x1234567890abcdef, stream = 9ull << 33 | 5;
  const float scale = float(1 / (1 - double(p)));
  DropoutParams d{offset, {uint32_t(seed), uint32_t(seed >> 32)}, {uint32_t(stream), uint32_t(stream >> 32)},
                  uint32_t(n), uint32_t(std::ceil(double(p) * 16777216)), scale, 0};
  auto x = exact<T>(normal(n, 1));
  for (size_t i = 0; i < n; i += 7) x[i] = i % 2 ? INFINITY : NAN;
  std::vector<float> want(x);
  for (size_t i = 0; i < n; ++i) {
    const bool dropped = double(draw(seed, stream, offset + i) >> 8) / 16777216 < p;
    want[i] = dropped ? 0.0f : x[i] * scale;
  }
  want = exact<T>(want);
  const dim3 blocks((n + DROPOUT_THREADS * VEC - 1) / (DROPOUT_THREADS * VEC)), threads(DROPOUT_THREADS);
  for (bool device : {false, true}) {
    const auto got = under_all_schedules(what, [&] {
      auto moved = typed<T>(x);
      moved.insert(moved.begin(), shift, T{});
      Buf<T> b(moved);
      if (device) {
        DropoutParams e = d;
        e.key[0] = e.key[1] = e.name[0] = e.name[1] = 77;  // not what is read
        const Buf<uint32_t> words(std::vector{d.key[0], d.key[1], d.name[0], d.name[1]});
        simt::launch(from, blocks, threads, 0, b.get() + shift, words.get(), e);
      } else {
        simt::launch(plain, blocks, threads, 0, b.get() + shift, d);
      }
      auto v = untyped(b.copy());
      return bits(std::vector<float>(v.begin() + long(shift), v.end()));
    });
    for (size_t i = 0; i < n; ++i) {
      const float have = floats(got)[i];
      require(std::isnan(want[i]) ? std::isnan(have) : have == want[i], what + ": element " + std::to_string(i));
    }
  }
}
}  // namespace

int main() {
  require(draw(0, 0, 0) == 0x6627e8d5 && draw(0, 0, 3) == 0x9b00dbd8, "philox: known answers");
  const uint64_t cases[][3] = {{1, 0, 0}, {8, 3, 0}, {2061, 1, 0}, {4096, (1ull << 34) - 2, 0}, {333, 7ull << 40, 1}};
  for (const auto& c : cases) {
    run<float>(c[0], c[1], 0.2f, c[2], dropout_f32, dropout_from_f32);
    run<bf16>(c[0], c[1] + 2, 0.7f, c[2], dropout_bf16, dropout_from_bf16);
  }
  printf("dropout: ok, %lu switches\n", simt::stats.switches);
}
