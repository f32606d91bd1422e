// Hopper's primitives one by one, by the kernels that a GPU runs for the same purpose (kernels/conformance): products of
// warpgroups in every layout and width, named barriers, sums by the copy engine, registers that change hands.
#include "check.h"
#include "../../kernels/conformance/hopper_sm90.cu"

namespace {
// Small integers, whose products and sums f32 holds exactly.
Buf<bf16> integers(size_t n, unsigned seed) {
  std::mt19937 g(seed);
  Buf<bf16> x(n);
  for (size_t i = 0; i < n; ++i) x[i] = __float2bfloat16_rn(float(int(g() % 17) - 8));
  return x;
}
CUtensorMap map_of(const Buf<bf16>& x, uint64_t columns) {
  CUtensorMap m;
  const uint64_t dims[] = {columns, x.n / columns}, strides[] = {columns * 2};
  const uint32_t box[] = {64, 64};
  require(simt::tensor_map_encode(&m, 2, 2, x.get(), dims, strides, box, simt::kSwizzle128), "tensor map");
  return m;
}

void product(decltype(&conformance_wgmma_nt) kernel, unsigned n, bool a_by_columns, bool b_by_rows, const char* what) {
  const auto a = integers(64 * 64, 3), b = integers(64 * n, 4);
  const auto ma = map_of(a, 64), mb = map_of(b, b_by_rows ? n : 64);
  const auto got = floats(under_all_schedules(what, [&] {
    Buf<uint32_t> out(64 * n, 0xffffffffu);
    simt::launch(kernel, dim3(1), dim3(128), 3 * TILE_BYTES + 8, out.get(), ma, mb);
    return out.copy();
  }));
  for (unsigned i = 0; i < 64 * n; ++i) {
    float want = 0;
    for (unsigned k = 0; k < 64; ++k) {
      const unsigned row = i / n, column = i % n;
      want += __bfloat162float(a[a_by_columns ? k * 64 + row : row * 64 + k]) * __bfloat162float(b[b_by_rows ? k * n + column : column * 64 + k]);
    }
    require(got[i] == want, what);
  }
}

// A kernel that takes words and gives words; `out` holds zeros before.
template <class K> std::vector<uint32_t> words(const char* what, K kernel, unsigned threads, unsigned shared, const std::vector<uint32_t>& x) {
  return under_all_schedules(what, [&] {
    const Buf<uint32_t> in(x);
    Buf<uint32_t> out(x.size(), 0);
    simt::launch(kernel, dim3(1), dim3(threads), shared, out.get(), in.get());
    return out.copy();
  });
}
}  // namespace

int main() {
  product(conformance_wgmma_nt, 64, false, false, "wgmma nt");
  product(conformance_wgmma_nn, 64, false, true, "wgmma nn");
  product(conformance_wgmma_tn, 64, true, true, "wgmma tn");
  product(conformance_wgmma_rn, 64, false, true, "wgmma, a in registers");
  product(conformance_wgmma_nt_128, 128, false, false, "wgmma nt, 128 wide");
  product(conformance_wgmma_nn_128, 128, false, true, "wgmma nn, 128 wide");
  product(conformance_wgmma_rn_128, 128, false, true, "wgmma, a in registers, 128 wide");

  std::vector<uint32_t> x(128), y(256);
  for (uint32_t i = 0; i < 128; ++i) x[i] = i * 0x9e37 + 1;
  require(words("mbarrier", conformance_mbarrier, 64, 16 + 128, x) == x, "mbarrier");
  require(words("named barriers", conformance_named_barrier, 64, 128, x) == x, "named barriers");
  std::vector<float> sums(128);
  for (uint32_t i = 0; i < 128; ++i) sums[i] = 0.75f * float(i) - 40;
  auto twice = floats(words("bulk sums", conformance_bulk_reduce, 128, 512, bits(sums)));
  for (uint32_t i = 0; i < 128; ++i) require(twice[i] == 2 * sums[i], "bulk sums");
  for (uint32_t i = 0; i < 256; ++i) y[i] = i * 0x9e3779b1u;
  const auto z = words("setmaxnreg", conformance_setmaxnreg, 256, 0, y);
  for (uint32_t t = 0; t < 256; ++t) {
    uint32_t want = 0;
    for (uint32_t i = 0; i < 64; ++i) want += y[t] * (y[i] + i);
    require(z[t] == want, "setmaxnreg");
  }
  printf("prim_sm90: ok, %lu switches\n", simt::stats.switches);
}
