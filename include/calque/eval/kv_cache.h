#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "calque/core/kv_scales.h"
#include "calque/core/matrix.h"
#include "calque/forward/kv_cache.h"
#include "calque/model/family.h"

namespace calque::eval {

// Imitates on whole sequences how runtimes store keys and values between steps: keys (after their
// norm and the rotary embedding) and values are rounded to a type before attention uses them,
// including those of the token itself, as in a runtime that writes its cache before reading it.
// Queries, scores and sums are not rounded. llama.cpp on a CPU also rounds queries to 8 bits; that
// is not imitated.
enum class KvType {
  kAsComputed,
  kF16,
  kFp8,   // e4m3, scale 1, saturating at 448: vLLM's `kv_cache_dtype: fp8` without scales
  kQ8_0,  // llama.cpp's `--cache-type-k q8_0`, and so on: blocks of 32 along a head
  kQ5_1,
  kQ4_0,
};

// "f16", "fp8", "q8_0", "q5_1", "q4_0"; "" is kAsComputed. Another name: Error(kConfig, "E244").
KvType kv_type_from(const std::string& name);

struct KvCacheSpec {
  std::string name;
  KvType keys = KvType::kAsComputed;
  KvType values = KvType::kAsComputed;
  std::vector<bool> layers;  // true for layers that are rounded; empty: all

  bool rounds(Index layer) const {
    return layers.empty() || layers[static_cast<std::size_t>(layer)];
  }
};

// "0-3,7" of `count` layers, one entry each; "" is all of them. Error(kConfig, "E243") for text
// that is no such list and for layers that are not there.
std::vector<bool> layers_from(const std::string& text, Index count);

// `value` to e4m3 and back: nearest, ties to even, beyond 448 is 448; not-a-numbers stay.
float rounded_to_fp8(float value);

// Error(kConfig, "E241") where a head is not a whole number of blocks.
std::shared_ptr<const forward::KvCacheRounding> make_kv_cache_rounding(
    const KvCacheSpec& spec, const model::FamilySpec& family);

// FP8 with a folder's own scales (formats::ArtifactReader::kv_scales): a row becomes
// scale * fp8(row / scale), with the scale of its layer, or of its layer's head.
std::shared_ptr<const forward::KvCacheRounding> make_scaled_fp8_cache(KvNumbersByLayer scales);

// Bytes of the cache of one sequence of `positions` tokens, scales included: what is not rounded
// counts 2 bytes an element, layers with a sliding window hold at most that many tokens.
std::uint64_t kv_cache_bytes(const KvCacheSpec& spec, const model::FamilySpec& family,
                             Index positions);

}  // namespace calque::eval
