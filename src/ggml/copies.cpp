#include "ggml/copies.h"

#include <vector>

namespace calque::ggml {

#ifdef CALQUE_GGML_X86
namespace avx2 {
const Codec* find_codec(GgmlBlock type);
}
namespace avx512 {
const Codec* find_codec(GgmlBlock type);
}
#endif

namespace {

std::vector<Copy> find_runnable_copies() {
  std::vector<Copy> copies = {{"baseline", baseline::find_codec}};
#ifdef CALQUE_GGML_X86
  if (__builtin_cpu_supports("avx2")) copies.push_back({"avx2", avx2::find_codec});
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    copies.push_back({"avx512", avx512::find_codec});
#endif
  return copies;
}

}  // namespace

std::span<const Copy> runnable_copies() {
  static const std::vector<Copy> copies = find_runnable_copies();
  return copies;
}

}  // namespace calque::ggml
