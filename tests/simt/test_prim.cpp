// The primitives of kernels/common/prim.cuh, in two small kernels that use them as large ones do: an
// attention tile (ldmatrix, mma.sync, cp.async) and a GEMM (mbarrier, TMA, wgmma).
#include "check.h"
#include "prim/mma.cu"
#include "prim/wgmma.cu"

namespace {
float to_f(uint16_t b) { return __bfloat162float({b}); }
Buf<uint16_t> random_bf16(size_t n, unsigned seed) {
  const auto v = normal(n, seed);
  Buf<uint16_t> b(n);
  for (size_t i = 0; i < n; ++i) b[i] = __float2bfloat16_rn(v[i]).x;
  return b;
}

void attention(unsigned heads, unsigned s, bool causal) {
  const size_t n = size_t(heads) * s * 64;
  const auto q = random_bf16(n, 1), k = random_bf16(n, 2), v = random_bf16(n, 3);
  const auto got = under_all_schedules("attention", [&] {
    Buf<uint16_t> o(n);
    const AttnParams p{q.get(), k.get(), v.get(), o.get(), s, causal, 1.4426950408889634f / 8, 0};
    simt::launch(attn_mma, dim3((s + 63) / 64, heads), dim3(ATTN_THREADS), 0, p);
    return o.copy();
  });
  for (unsigned h = 0; h < heads; ++h) {
    for (unsigned i = 0; i < s; ++i) {
      std::vector<double> w(s), ref(64);
      double sum = 0;
      for (unsigned j = 0; j < s && (!causal || j <= i); ++j) {
        double dot = 0;
        for (unsigned d = 0; d < 64; ++d) {
          dot += double(to_f(q[(size_t(h) * s + i) * 64 + d])) * to_f(k[(size_t(h) * s + j) * 64 + d]);
        }
        sum += w[j] = std::exp(dot / 8);
      }
      for (unsigned j = 0; j < s; ++j) {
        for (unsigned d = 0; d < 64; ++d) ref[d] += w[j] / sum * to_f(v[(size_t(h) * s + j) * 64 + d]);
      }
      for (unsigned d = 0; d < 64; ++d) {  // bf16 probabilities and output: steps of 2⁻⁸ at 1 to 4
        require(std::fabs(ref[d] - to_f(got[(size_t(h) * s + i) * 64 + d])) < 0.02, "attention");
      }
    }
  }
}

void gemm(bool nn, unsigned m, unsigned n, unsigned k) {
  const auto a = random_bf16(size_t(m) * k, 1), b = random_bf16(size_t(n) * k, 2);
  CUtensorMap ta, tb;
  const uint64_t da[] = {k, m}, sa[] = {uint64_t(k) * 2}, nt[] = {k, n}, nn_[] = {n, k}, sn[] = {uint64_t(n) * 2};
  const uint32_t box[] = {64, 64};
  require(simt::tensor_map_encode(&ta, 2, 2, a.get(), da, sa, box, simt::kSwizzle128), "tensor map a");
  require(simt::tensor_map_encode(&tb, 2, 2, b.get(), nn ? nn_ : nt, nn ? sn : sa, box, simt::kSwizzle128), "tensor map b");
  const auto got = under_all_schedules("gemm", [&] {
    Buf<float> c(size_t(m) * n, NAN);
    simt::launch(nn ? gemm_nn : gemm_nt, dim3((n + 63) / 64, (m + 63) / 64), dim3(GEMM_THREADS),
                 GEMM_SMEM_BYTES, ta, tb, GemmParams{c.get(), m, n, k, 0});
    return bits(c.copy());
  });
  const auto c = floats(got);
  for (unsigned i = 0; i < m; ++i) {
    for (unsigned j = 0; j < n; ++j) {
      double s = 0;
      for (unsigned x = 0; x < k; ++x) {
        s += double(to_f(a[size_t(i) * k + x])) * to_f(nn ? b[size_t(x) * n + j] : b[size_t(j) * k + x]);
      }
      require(std::fabs(s - c[size_t(i) * n + j]) < 1e-3, "gemm");  // f32 sums of up to 264 products
    }
  }
}
}  // namespace

int main() {
  attention(1, 64, false);
  attention(2, 77, true);  // ragged
  for (bool nn : {false, true}) gemm(nn, 72, 136, 264);  // five trips round a ring of three stages
  printf("prim: ok, ldmatrix %lu with %lu extra bank cycles\n", simt::stats.ldmatrix, simt::stats.ldmatrix_conflicts);
}
