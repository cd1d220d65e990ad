#include "ggml/types/codec.h"

namespace calque::ggml::inline CALQUE_ISA {

const Codec* find_codec(Type type) {
  constexpr decltype(&find_legacy) kFamilies[] = {find_legacy,   find_affine_k,   find_symmetric_k,
                                                  find_codebook, find_tiny_float, find_vectors};
  for (const auto find : kFamilies)
    if (const Codec* codec = find(type)) return codec;
  return nullptr;
}

}  // namespace calque::ggml::inline CALQUE_ISA
